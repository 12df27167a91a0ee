//! The `resnet` program: parse, run, exit code.

use resnet::config::help;
use resnet::{commands, error, libtorch, ui};
use std::panic;
use std::process::ExitCode;

fn main() -> ExitCode {
    libtorch::set_up_allocator();
    let cli = help::parse().unwrap_or_else(|error| ui::refuse(&error));
    // tch panics if an operation of libtorch fails, for example because there is too little memory.
    panic::set_hook(Box::new(|info| {
        if let Some(message) = error::store_panic(info) {
            ui::error(&message);
        }
    }));
    match panic::catch_unwind(|| commands::run(&cli)) {
        Ok(Ok(())) => match ui::lost_output() {
            None => ExitCode::SUCCESS,
            Some(reason) => {
                ui::error(&format!("cannot write to stdout: {reason}"));
                ExitCode::FAILURE
            }
        },
        Ok(Err(failure)) => {
            if !failure.is::<error::Interrupted>() {
                ui::error(&error::one_line(&failure));
            }
            ExitCode::from(error::exit_code(&failure))
        }
        Err(_) => {
            if let Some(message) = error::take_panic() {
                ui::error(&message);
            }
            ExitCode::FAILURE
        }
    }
}

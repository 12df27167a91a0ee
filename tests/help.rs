//! What `--help` and the completions say, of every subcommand.

#![allow(clippy::unwrap_used, reason = "clippy takes no helper for a part of a test")]

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};
use resnet::cli::Cli;

/// Both helps of a command and of all commands below it.
fn helps(command: &mut Command) -> Vec<String> {
    let mut texts = vec![command.render_help().to_string(), command.render_long_help().to_string()];
    texts.extend(command.get_subcommands_mut().flat_map(helps));
    texts
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "resnet", &mut script);
    String::from_utf8(script).unwrap()
}

/// A link of the documentation, or a path of Rust.
fn leaks(line: &str) -> bool {
    let in_a_word = |at: usize| {
        let around = [line[..at].chars().next_back(), line[at + 2..].chars().next()];
        around.iter().all(|character| character.is_some_and(char::is_alphanumeric))
    };
    line.contains("[`") || line.match_indices("::").any(|(at, _)| in_a_word(at))
}

#[test]
fn no_link_of_the_documentation_leaks_into_help_or_completions() {
    let mut texts = helps(&mut Cli::command());
    assert!(texts.len() >= 26, "{}", texts.len());
    texts.extend(Shell::value_variants().iter().map(|&shell| completions(shell)));
    for line in texts.iter().flat_map(|text| text.lines()) {
        assert!(!leaks(line), "{line}");
    }
    assert!(leaks("See [`Precision::Fp32`]") && leaks("a std::io error") && !leaks("'::shell'"));
}

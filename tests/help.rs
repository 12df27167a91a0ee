//! The help texts and the shell completions of every subcommand.

#![allow(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

use clap::{Command, ValueEnum};
use clap_complete::{Shell, generate};
use resnet::config::help;

/// The short and the long help of a command and of all its subcommands.
fn helps(command: &mut Command) -> Vec<String> {
    let mut texts = vec![command.render_help().to_string(), command.render_long_help().to_string()];
    texts.extend(command.get_subcommands_mut().flat_map(helps));
    texts
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut help::command(), "resnet", &mut script);
    String::from_utf8(script).unwrap()
}

/// Whether a line contains a link of rustdoc or a path of Rust.
fn leaks(line: &str) -> bool {
    let in_a_word = |at: usize| {
        let around = [line[..at].chars().next_back(), line[at + 2..].chars().next()];
        around.iter().all(|character| character.is_some_and(char::is_alphanumeric))
    };
    line.contains("[`") || line.match_indices("::").any(|(at, _)| in_a_word(at))
}

#[test]
fn help_and_completions_contain_no_rustdoc_links_or_rust_paths() {
    let mut texts = helps(&mut help::command());
    assert!(texts.len() >= 26, "{}", texts.len());
    texts.extend(Shell::value_variants().iter().map(|&shell| completions(shell)));
    for line in texts.iter().flat_map(|text| text.lines()) {
        assert!(!leaks(line), "{line}");
    }
    assert!(leaks("See [`Precision::Fp32`]") && leaks("a std::io error") && !leaks("'::shell'"));
}

/// Each default is the value in the resolved configuration. If a default depends on other settings, the help
/// describes it in words.
#[test]
fn the_help_of_each_setting_states_its_default() {
    let mut command = help::command();
    for (name, defaults) in [
        (
            "train",
            vec![
                "[default: 18]",
                "[default: 64; 16 for three stages]",
                "[default: projection]",
                "[default: fashion-mnist]",
                "[default: flip; flip,crop for cifar10 and cifar100; none for mnist, kmnist and synthetic]",
                "[default: 10]",
                "[default: 0.05]",
                "[default: 256]",
                "[default: cosine]",
                "[default: a third of the run]",
                "[default: 0.1]",
                "[default: true for sgd with momentum]",
                "[default: 0.0005]",
                "[default: no clipping]",
                "[default: auto]",
                "[default: 3]",
            ],
        ),
        ("shapes", vec!["[default: 18]", "[default: 96]", "[default: projection]"]),
        ("bench", vec!["[default: 18]", "[default: 96]", "[default: projection]"]),
    ] {
        let command = command.find_subcommand_mut(name).unwrap();
        let text = command.render_help().to_string();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for default in defaults {
            assert!(text.contains(default), "no {default} in the help of {name}: {text}");
        }
        for flag in command.get_arguments() {
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.matches("[default: ").count() <= 1, "{help}");
        }
    }
}

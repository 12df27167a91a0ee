//! The scripts that complete the program's commands, flags and values in a shell.

mod common;

use common::resnet;
use std::process::Command;

fn script(shell: &str) -> String {
    resnet(&format!("completions {shell}"), &[]).success()
}

#[test]
fn each_shell_gets_its_own_script() {
    for (shell, own) in [
        ("bash", "complete -F _resnet "),
        ("zsh", "#compdef resnet"),
        ("fish", "complete -c resnet "),
        ("elvish", "set edit:completion:arg-completer[resnet]"),
        ("powershell", "Register-ArgumentCompleter -Native -CommandName 'resnet'"),
    ] {
        assert!(script(shell).contains(own), "{shell}");
    }
}

/// If bash is not installed, the test prints this and passes without a check.
#[test]
fn bash_completes_the_names_of_data_sets() {
    if Command::new("bash").arg("--version").output().is_err() {
        println!("not checked: no bash");
        return;
    }
    // Completes the last word of a command line.
    let complete = |words: &[&str]| {
        let ask = "eval \"$0\"; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                   _resnet resnet \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
                   echo \"${COMPREPLY[@]}\"";
        let mut bash = Command::new("bash");
        bash.args(["-c", ask, &script("bash")]).args(words);
        common::Ran::from(bash.output().unwrap()).success().trim().to_owned()
    };
    assert_eq!(complete(&["resnet", "train", "--dataset", "cifar"]), "cifar10 cifar100");
    for command in ["fetch", "verify", "path"] {
        assert_eq!(complete(&["resnet", "data", command, "k"]), "kmnist", "{command}");
    }
}

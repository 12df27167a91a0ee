//! The flags of every subcommand, read from clap. So a new flag is tested without a change here.

use clap::{Arg, Command, CommandFactory};
use resnet::cli::Cli;
use std::any::TypeId;
use std::path::PathBuf;

/// A subcommand without subcommands of its own.
#[derive(Debug, Clone)]
pub struct Subcommand {
    /// What the user types, such as `data fetch`.
    pub words: String,
    /// Its flags, including the global ones.
    pub flags: Vec<Flag>,
}

/// A flag of a subcommand.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Its names, such as `--depth` and `-d`. The long one comes first.
    pub names: Vec<String>,
    /// The kind of value that it takes.
    pub value: Value,
}

/// The kind of value that a flag takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Nothing,
    /// One of these words.
    Word(Vec<String>),
    /// A number.
    Number,
    /// A path.
    Path,
    /// Some other text, such as a device or a time.
    Text,
}

/// All subcommands.
pub fn subcommands() -> Vec<Subcommand> {
    let mut cli = Cli::command();
    cli.build();
    let mut found = Vec::new();
    collect(&cli, "", &mut found);
    found
}

fn collect(command: &Command, words: &str, found: &mut Vec<Subcommand>) {
    let mut is_last = true;
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        collect(below, format!("{words} {}", below.get_name()).trim(), found);
        is_last = false;
    }
    if is_last {
        let flags = command.get_arguments().filter(|argument| !argument.is_positional());
        found.push(Subcommand { words: words.to_owned(), flags: flags.map(flag).collect() });
    }
}

fn flag(argument: &Arg) -> Flag {
    let long = argument.get_long_and_visible_aliases().unwrap_or_default();
    let short = argument.get_short_and_visible_aliases().unwrap_or_default();
    let names = long.into_iter().map(|name| format!("--{name}"));
    let names = names.chain(short.into_iter().map(|name| format!("-{name}"))).collect();
    Flag { names, value: value(argument) }
}

fn value(argument: &Arg) -> Value {
    let of = argument.get_value_parser().type_id();
    let words = argument.get_possible_values();
    if !argument.get_action().takes_values() {
        Value::Nothing
    } else if !words.is_empty() {
        Value::Word(words.iter().map(|word| word.get_name().to_owned()).collect())
    } else if [TypeId::of::<f64>(), TypeId::of::<usize>(), TypeId::of::<u64>()]
        .iter()
        .any(|number| of == *number)
    {
        Value::Number
    } else if of == TypeId::of::<PathBuf>() {
        Value::Path
    } else {
        Value::Text
    }
}

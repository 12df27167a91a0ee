//! The command line with the default of each setting in its help text. The defaults come from the resolved
//! configuration, so that no help text repeats them.

use super::Config;
use super::derived::RULES;
use super::settings::each;
use crate::cli::{Cli, Options};
use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser};
use std::collections::BTreeMap;
use toml::Value;

/// Parses the command line of this process.
///
/// # Errors
/// clap refuses the command line, or the user asked for `--help` or `--version`.
pub fn parse() -> Result<Cli, clap::Error> {
    match Cli::try_parse() {
        // Only help texts need the defaults. Other commands start without resolving a configuration for them.
        Err(error) if is_help(&error) => {
            let matches = command().try_get_matches()?;
            Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))
        }
        parsed => parsed,
    }
}

fn is_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// The program's command line.
pub fn command() -> Command {
    // Without flags, the configuration is always valid.
    let defaults = default_texts().unwrap_or_default();
    let of_section = |name: &str| -> BTreeMap<&str, &str> {
        let section = defaults.iter().filter_map(|(setting, text)| {
            let (section, key) = setting.split_once('.')?;
            (name.is_empty() || section == name).then_some((key, text.as_str()))
        });
        section.collect()
    };
    let with = |command: Command, defaults: BTreeMap<&str, &str>| {
        command.mut_args(|flag| match flag.get_long().and_then(|key| defaults.get(key)) {
            Some(text) => with_default(flag, text),
            None => flag,
        })
    };
    Cli::command()
        .mut_subcommand("train", |train| with(train, of_section("")))
        .mut_subcommand("shapes", |shapes| with(shapes, of_section("network")))
        .mut_subcommand("gradients", |gradients| with(gradients, of_section("network")))
        .mut_subcommand("find-lr", |find_lr| with(find_lr, of_section("")))
        .mut_subcommand("data", |data| {
            data.mut_subcommand("show", |show| with(show, of_section("")))
        })
        .mut_subcommand("bench", |bench| with(bench, of_section("network")))
}

/// The default of each setting in words: `section.key` → default.
fn default_texts() -> Result<BTreeMap<String, String>> {
    let config = Config::load(None, &Options::default())?;
    let values = config.to_table();
    let mut texts: BTreeMap<String, String> =
        each(&values).map(|(name, value)| (name, text(value))).collect();
    // The default schedule does not have this setting.
    texts.insert("train.step-factor".to_owned(), config.recipe.step_factor.to_string());
    texts.extend(RULES.iter().map(|rule| (rule.name.to_owned(), rule.default.to_owned())));
    Ok(texts)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn with_default(flag: Arg, default: &str) -> Arg {
    let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
    flag.help(format!("{help} [default: {default}]"))
}

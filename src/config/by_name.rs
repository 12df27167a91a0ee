//! The settings of a run by name, for people and for other programs.

use super::Config;
use super::settings::{each, value};
use crate::cli::Options;
use anyhow::Result;
use toml::{Table, Value};

impl Config {
    /// All settings, as `section.key` and the value.
    pub fn by_name(&self) -> Vec<(String, Value)> {
        owned(&self.to_table())
    }

    /// The settings that the user chose and that differ from the defaults, as `section.key` and the value.
    ///
    /// # Errors
    /// The defaults never cause an error.
    pub fn unusual(&self) -> Result<Vec<(String, Value)>> {
        let usual = Self::load(None, &Options::default())?.to_table();
        let mut chosen = owned(&self.settings.chosen);
        chosen.retain(|(name, chosen)| value(&usual, name) != Some(chosen));
        Ok(chosen)
    }
}

fn owned(settings: &Table) -> Vec<(String, Value)> {
    each(settings).map(|(name, value)| (name, value.clone())).collect()
}

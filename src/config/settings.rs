//! The settings of a run as TOML tables of sections. A setting is named `section.key`, such as `train.lr`.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// All settings of a run that have a value. A setting is either chosen or derived.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Settings from flags, from a file, and defaults that depend on no other setting.
    pub chosen: Table,
    /// Settings that nobody chose and whose value follows from other settings.
    pub derived: Table,
}

impl Settings {
    /// Settings that are all chosen.
    pub fn of_choices(chosen: Table) -> Self {
        Self { chosen, derived: Table::new() }
    }

    /// The value of a setting.
    pub fn value(&self, name: &str) -> Option<&Value> {
        value(&self.chosen, name).or_else(|| value(&self.derived, name))
    }

    /// The value of a setting, or of a whole section, as a `T`.
    ///
    /// # Errors
    /// The setting has no value, or a value of another type.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.read_if_set(name)?.with_context(|| format!("no value for {name}"))
    }

    /// The value of a setting, or of a whole section, as a `T`, if it has one.
    ///
    /// # Errors
    /// The value has another type.
    pub fn read_if_set<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let found = match name.contains('.') {
            true => self.value(name).cloned(),
            false => self.all().remove(name),
        };
        found.map(|value| value.try_into().with_context(|| name.to_owned())).transpose()
    }

    /// The keys of all sections as one `T`, which ignores the keys that it does not have. No two sections have
    /// the same key.
    ///
    /// # Errors
    /// A value has another type.
    pub fn read_keys<T: DeserializeOwned>(&self) -> Result<T> {
        let sections = self.all().into_iter().filter_map(|(_, section)| match section {
            Value::Table(keys) => Some(keys),
            _ => None,
        });
        sections.flatten().collect::<Table>().try_into().context("settings")
    }

    /// All settings in one table.
    pub fn all(&self) -> Table {
        overlay(self.chosen.clone(), self.derived.clone())
    }

    /// Replaces the value of a setting; a derived one stays derived.
    pub fn set(&mut self, name: &str, new: Value) {
        if value(&self.derived, name).is_some() {
            insert(&mut self.derived, name, new);
        } else {
            insert(&mut self.chosen, name, new);
        }
    }

    /// Adds a default to the chosen settings, if the setting has no value.
    pub fn add_default(&mut self, name: &str, default: Value) {
        if self.value(name).is_none() {
            insert(&mut self.chosen, name, default);
        }
    }

    /// Adds a value to the derived settings, if the setting has none.
    pub fn add_derived(&mut self, name: &str, derived: Value) {
        if self.value(name).is_none() {
            insert(&mut self.derived, name, derived);
        }
    }
}

/// The options that are set, as a table of sections.
///
/// # Errors
/// Options never cause an error.
pub fn to_table(options: &impl Serialize) -> Result<Table> {
    Table::try_from(options).context("configuration")
}

/// A whole number as a value of TOML, in which it has at most 63 bits.
pub fn integer(number: usize) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

/// The value of a setting in a table of sections.
pub fn value<'a>(settings: &'a Table, name: &str) -> Option<&'a Value> {
    let (section, key) = name.split_once('.')?;
    settings.get(section)?.get(key)
}

/// The names and values of all settings in a table of sections.
pub fn each(settings: &Table) -> impl Iterator<Item = (String, &Value)> {
    settings.iter().flat_map(|(section, keys)| {
        let keys = keys.as_table().into_iter().flatten();
        keys.map(move |(key, value)| (format!("{section}.{key}"), value))
    })
}

/// Sets a setting in a table of sections.
pub fn insert(settings: &mut Table, name: &str, value: Value) {
    if let Some((section, key)) = name.split_once('.')
        && let Value::Table(keys) = settings.entry(section).or_insert_with(|| Table::new().into())
    {
        keys.insert(key.to_owned(), value);
    }
}

/// Removes a setting from a table of sections, and returns its value.
pub fn remove(settings: &mut Table, name: &str) -> Option<Value> {
    let (section, key) = name.split_once('.')?;
    settings.get_mut(section)?.as_table_mut()?.remove(key)
}

/// The settings of both tables. If both have a value for a setting, the value in `top` is used.
pub fn overlay(mut base: Table, top: Table) -> Table {
    for (section, keys) in top {
        match (base.get_mut(&section), keys) {
            (Some(Value::Table(below)), Value::Table(above)) => below.extend(above),
            (_, keys) => {
                base.insert(section, keys);
            }
        }
    }
    base
}

//! Settings that follow from others where nobody chose them. They are told apart in what is saved of a run, so
//! that whoever changes the others gets what follows from those (docs/decisions/0019).

use anyhow::Result;
use toml::{Table, Value};

/// A setting, as `section.key`, and what it follows from: keys, or words where no key says it.
const DERIVED: [(&str, &[&str]); 10] = [
    ("network.block", &["depth or blocks"]),
    ("network.width", &["the number of stages"]),
    ("network.stem", &["the number of stages"]),
    ("network.channels", &["dataset"]),
    ("network.classes", &["dataset"]),
    ("data.augment", &["dataset"]),
    ("train.nesterov", &["momentum"]),
    ("train.step-every", &["epochs"]),
    ("train.warmup-epochs", &["schedule", "epochs"]),
    ("train.precision", &["the device"]),
];

const HEADER: &str = "\
# The settings of this run: a valid --config. A line behind a # follows from other settings,
# and is decided anew where they change.
";

/// The settings of a resolved configuration that follow from others, since nobody chose them.
pub fn of(chosen: &Table, resolved: &Table) -> Vec<String> {
    let names = DERIVED.iter().map(|(name, _)| *name);
    let is_derived = |name: &&str| value(resolved, name).is_some() && value(chosen, name).is_none();
    names.filter(is_derived).map(str::to_owned).collect()
}

/// Takes those of the derived settings away that follow from a setting that changes, to be decided anew.
pub fn forget(settings: &mut Table, derived: &[String], changes: &Table) {
    let changes = |key: &&str| changes.keys().any(|name| name.ends_with(&format!(".{key}")));
    let follows = DERIVED.iter().filter(|(_, from)| from.iter().any(changes));
    for (name, _) in follows.filter(|(name, _)| derived.iter().any(|other| other == name)) {
        if let Some((section, key)) = name.split_once('.')
            && let Some(Value::Table(keys)) = settings.get_mut(section)
        {
            keys.remove(key);
        }
    }
}

/// The value of the setting `section.key`.
pub fn value<'a>(settings: &'a Table, name: &str) -> Option<&'a Value> {
    let (section, key) = name.split_once('.')?;
    settings.get(section)?.get(key)
}

/// A config file of these settings, in which those that are derived are comments.
///
/// # Errors
/// None that a resolved configuration can cause.
pub fn file(settings: &Table, derived: &[String]) -> Result<String> {
    let mut text = HEADER.to_owned();
    for (section, keys) in settings {
        text.push_str(&format!("\n[{section}]\n"));
        for (key, value) in keys.as_table().into_iter().flatten() {
            let line = toml::to_string(&Table::from_iter([(key.clone(), value.clone())]))?;
            let name = format!("{section}.{key}");
            let row = DERIVED.iter().find(|(other, _)| *other == name);
            match row.filter(|_| derived.contains(&name)) {
                Some((_, from)) => text.push_str(&format!(
                    "# {}  (follows from {})\n",
                    line.trim_end(),
                    from.join(" and ")
                )),
                None => text.push_str(&line),
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_settings_are_comments_and_the_rest_is_a_config_file() {
        let settings: Table =
            toml::from_str("[network]\nblocks = [1, 1]\nwidth = 16\n[train]\nlr = 0.5\n").unwrap();
        let text = file(&settings, &["network.width".to_owned()]).unwrap();
        assert!(text.contains("\n# width = 16  (follows from the number of stages)\n"), "{text}");
        let chosen: Table = toml::from_str(&text).unwrap();
        let expected: Table =
            toml::from_str("[network]\nblocks = [1, 1]\n[train]\nlr = 0.5\n").unwrap();
        assert_eq!(chosen, expected);
        assert_eq!(of(&chosen, &settings), ["network.width"]);
    }
}

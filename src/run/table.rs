//! `metrics.csv`: the epochs of `metrics.jsonl` as a table, for spreadsheets. All its lines follow from that file.

use crate::train::event::EpochFigures;
use anyhow::Result;
use serde_json::Value;

/// The name of the file in a run's folder.
pub const TABLE_FILE: &str = "metrics.csv";

/// The columns. Their names are the keys of an epoch's JSON object.
const COLUMNS: [&str; 14] = [
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "test_images",
    "validation_loss",
    "validation_accuracy",
    "validation_images",
    "images_per_second",
    "seconds",
    "evaluation_seconds",
];

/// The lines of the table: a header, and a line for each epoch.
///
/// # Errors
/// Figures never cause an error.
pub fn lines<'a>(epochs: impl Iterator<Item = &'a EpochFigures>) -> Result<Vec<String>> {
    let header = line(COLUMNS.map(str::to_owned));
    std::iter::once(header).chain(epochs.map(row)).collect()
}

/// The line of an epoch. A figure that the epoch does not have is an empty field.
///
/// # Errors
/// Figures never cause an error.
pub fn row(figures: &EpochFigures) -> Result<String> {
    let values = serde_json::to_value(figures)?;
    line(COLUMNS.map(|name| match values.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(value) => value.to_string(),
    }))
}

fn line(fields: [String; COLUMNS.len()]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&fields)?;
    let text = String::from_utf8(writer.into_inner()?)?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_all_keys_of_an_epoch_in_their_order() {
        let text = r#"{"epoch":1,"step":235,"lr":0.05,"train_loss":1.5,"train_accuracy":0.5,"test_loss":0.6,"test_accuracy":0.8,"test_images":7,"validation_loss":0.7,"validation_accuracy":0.75,"validation_images":9,"images_per_second":171.0,"seconds":1e-7,"evaluation_seconds":2.5}"#;
        let figures: EpochFigures = serde_json::from_str(text).unwrap();
        let value = serde_json::to_value(&figures).unwrap();
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, COLUMNS);
        let [header, row] = &lines([figures].iter()).unwrap()[..] else { panic!("two lines") };
        assert_eq!(*header, COLUMNS.join(","));
        assert_eq!(row, "1,235,0.05,1.5,0.5,0.6,0.8,7,0.7,0.75,9,171.0,1e-7,2.5");
    }
}

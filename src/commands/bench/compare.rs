//! An earlier measurement to compare with.

use super::work::Work;
use crate::error::usage;
use crate::files;
use anyhow::Result;
use serde_json::Value;
use std::path::Path;

/// The largest file of earlier measurements, in bytes: more than a thousand results.
const LARGEST_FILE: u64 = 1 << 20;

/// An earlier measurement of the same work.
#[derive(Debug)]
pub struct Earlier {
    /// Images per second.
    pub images_per_second: f64,
    /// The precision and the device, as text.
    pub conditions: String,
}

impl Earlier {
    /// Reads the last line of a file that `resnet bench --json` wrote.
    ///
    /// # Errors
    /// A usage error if the file is not such a file, or if it is a measurement of other work.
    pub fn read(path: &Path, work: &Work) -> Result<Self> {
        let wrong = |what: &str| {
            let path = path.display();
            usage(format!("--compare {path}: {what}; expected the output of resnet bench --json"))
        };
        let text =
            files::read_text(path, LARGEST_FILE).map_err(|error| wrong(&error.to_string()))?;
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let earlier: Value =
            serde_json::from_str(last).map_err(|error| wrong(&error.to_string()))?;
        let work = serde_json::to_value(work)?;
        for (key, value) in work.as_object().into_iter().flatten() {
            let found = earlier.get(key).unwrap_or(&Value::Null);
            if found != value {
                return Err(wrong(&format!(
                    "its {key} is {found}, but this measurement has {value}"
                )));
            }
        }
        let rate = earlier.get("images_per_second").and_then(Value::as_f64);
        let rate = rate.filter(|rate| *rate > 0.0);
        let images_per_second = rate.ok_or_else(|| wrong("it has no images_per_second"))?;
        let text = |key| earlier.get(key).and_then(Value::as_str).unwrap_or("unknown");
        let recompute = earlier.get("recompute").and_then(Value::as_bool).unwrap_or_default();
        let recompute = if recompute { ", recomputed" } else { "" };
        let conditions = format!("{}, {}{recompute}", text("precision"), text("device"));
        Ok(Self { images_per_second, conditions })
    }
}

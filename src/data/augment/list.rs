//! The list of changes that a user writes, such as `flip,crop:2,erase:0.25`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The largest number of pixels by which `crop` moves an image, if the user gives no number.
const CROP_PADDING: f64 = 4.0;

/// A random change to training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// One of 14 changes of geometry or colour, of a random strength (Müller and Hutter 2021, TrivialAugment).
    Trivial,
    /// Rotated around the middle by up to this number of degrees.
    Rotate,
    /// Enlarged or reduced by up to this fraction.
    Scale,
    /// Mirrored left to right, with probability ½.
    Flip,
    /// Mirrored left to right in every second epoch; in the first epoch with probability ½ (Jordan 2024, section 3.6).
    AlternatingFlip,
    /// Moved by up to this number of pixels; the pixels that become free at the border are black (He et al. 2016,
    /// section 4.2).
    Crop,
    /// Moved by up to this number of pixels; the pixels that become free show the image's border mirrored.
    ReflectCrop,
    /// Added to another image of the batch (Zhang et al. 2018). The number is the α of the Beta distribution.
    Mixup,
    /// A rectangle is replaced by that of another image of the batch (Yun et al. 2019). The number is the α of the Beta
    /// distribution.
    Cutmix,
    /// A rectangle is erased with this probability (Zhong et al. 2020).
    Erase,
    /// A square of this number of pixels is erased (DeVries and Taylor 2017).
    Cutout,
}

/// How a change is written, and which numbers it takes.
struct Word {
    change: Change,
    name: &'static str,
    /// The number after the word and a colon; `None` if the word has no number.
    number: Option<Number>,
}

/// The numbers that may follow a word.
struct Number {
    /// Whether the number counts pixels, and so is a whole one.
    whole: bool,
    /// All numbers above 0 and up to this one are possible.
    largest: f64,
    /// The number if the user gives none; `None` if the user must give one.
    default: Option<f64>,
}

const fn word(change: Change, name: &'static str) -> Word {
    Word { change, name, number: None }
}

const fn fraction(change: Change, name: &'static str, largest: f64, default: Option<f64>) -> Word {
    Word { change, name, number: Some(Number { whole: false, largest, default }) }
}

const fn pixels(change: Change, name: &'static str, default: Option<f64>) -> Word {
    Word { change, name, number: Some(Number { whole: true, largest: 10_000.0, default }) }
}

/// The words, in the order in which the changes are made.
const WORDS: [Word; 11] = [
    word(Change::Trivial, "trivial"),
    fraction(Change::Rotate, "rotate", 180.0, None),
    fraction(Change::Scale, "scale", 0.9, None),
    word(Change::Flip, "flip"),
    word(Change::AlternatingFlip, "alternating-flip"),
    pixels(Change::Crop, "crop", Some(CROP_PADDING)),
    pixels(Change::ReflectCrop, "reflect-crop", Some(CROP_PADDING)),
    fraction(Change::Mixup, "mixup", 100.0, Some(0.2)),
    fraction(Change::Cutmix, "cutmix", 100.0, Some(1.0)),
    fraction(Change::Erase, "erase", 1.0, Some(0.25)),
    pixels(Change::Cutout, "cutout", None),
];

/// Changes that exclude each other.
const EXCLUSIVE: [[Change; 2]; 2] =
    [[Change::Flip, Change::AlternatingFlip], [Change::Crop, Change::ReflectCrop]];

impl Change {
    /// How the change is written.
    fn word(self) -> Option<&'static Word> {
        WORDS.iter().find(|word| word.change == self)
    }
}

impl Word {
    /// The change with its number, from the text after the word's colon.
    fn read(&self, text: Option<&str>) -> Result<(Change, f64), String> {
        let name = self.name;
        match (&self.number, text) {
            (None, None) => Ok((self.change, 0.0)),
            (None, Some(_)) => Err(format!("{name} takes no number")),
            (Some(Number { default: Some(default), .. }), None) => Ok((self.change, *default)),
            (Some(number), text) => {
                let found = text.and_then(|text| text.trim().parse::<f64>().ok());
                let fits = |value: &f64| {
                    (0.0..=number.largest).contains(value)
                        && *value > 0.0
                        && (!number.whole || value.fract() == 0.0)
                };
                let value = found.filter(fits).ok_or_else(|| {
                    let kind = if number.whole { "a whole number" } else { "a number" };
                    format!(
                        "{name} needs {kind} above 0, at most {}, such as {name}:{}",
                        number.largest,
                        number.example()
                    )
                })?;
                Ok((self.change, value))
            }
        }
    }

    fn write(&self, value: f64) -> String {
        match &self.number {
            Some(number) if number.default != Some(value) => format!("{}:{value}", self.name),
            _ => self.name.to_owned(),
        }
    }
}

impl Number {
    fn example(&self) -> f64 {
        self.default.unwrap_or(self.largest.min(if self.whole { 8.0 } else { self.largest / 10.0 }))
    }
}

/// The changes that a user chose, each at most once, with its number (0 if it has none). They are made in the order of
/// [`Change`], whatever the order in which they were written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Augment(Vec<(Change, f64)>);

impl Augment {
    /// No change.
    pub const NONE: Self = Self(Vec::new());

    /// The changes with their numbers, in the order in which they are made.
    pub fn changes(&self) -> impl Iterator<Item = (Change, f64)> {
        self.0.iter().copied()
    }

    /// The number of a change; `None` if the list does not have the change.
    pub fn number(&self, change: Change) -> Option<f64> {
        self.0.iter().find(|(found, _)| *found == change).map(|(_, number)| *number)
    }

    /// Whether some changes mix images, and with them their classes.
    pub fn mixes(&self) -> bool {
        [Change::Mixup, Change::Cutmix].into_iter().any(|change| self.number(change).is_some())
    }
}

/// A list of changes without numbers, each with its default.
impl From<&[Change]> for Augment {
    fn from(changes: &[Change]) -> Self {
        let default = |change: Change| {
            change.word().and_then(|word| word.number.as_ref()?.default).unwrap_or(0.0)
        };
        Self(changes.iter().map(|&change| (change, default(change))).collect())
    }
}

impl FromStr for Augment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self::NONE);
        }
        let mut changes = Vec::new();
        for part in text.split(',') {
            let (name, number) = match part.split_once(':') {
                Some((name, number)) => (name, Some(number)),
                None => (part, None),
            };
            let word = WORDS.iter().find(|word| word.name == name.trim()).ok_or_else(|| {
                let names: Vec<&str> = WORDS.iter().map(|word| word.name).collect();
                format!("expected none or a list of {}", names.join(", "))
            })?;
            changes.push(word.read(number)?);
        }
        changes.sort_by_key(|(change, _)| *change);
        for pair in changes.windows(2) {
            if let [(first, _), (second, _)] = pair
                && (first == second || EXCLUSIVE.contains(&[*first, *second]))
            {
                let name =
                    |change| WORDS.iter().find(|word| word.change == change).map_or("", |w| w.name);
                return Err(format!("{} and {} exclude each other", name(*first), name(*second)));
            }
        }
        Ok(Self(changes))
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self
            .changes()
            .filter_map(|(change, number)| change.word().map(|word| word.write(number)));
        match words.collect::<Vec<String>>().as_slice() {
            [] => f.write_str("none"),
            words => f.write_str(&words.join(",")),
        }
    }
}

/// A list in a file: a text as in the flag, or an array of its words.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of changes, such as \"flip,crop:2\" or [\"flip\", \"crop:2\"]"
)]
enum Written {
    Text(String),
    Words(Vec<String>),
}

impl TryFrom<Written> for Augment {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Text(text) => text.parse(),
            Written::Words(words) if words.is_empty() => Ok(Self::NONE),
            Written::Words(words) => words.join(",").parse(),
        }
    }
}

impl From<Augment> for String {
    fn from(augment: Augment) -> Self {
        augment.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Augment>().unwrap_err()
    }

    #[test]
    fn a_list_is_written_in_the_order_of_its_changes_and_read_back() {
        for (text, written) in [
            ("none", "none"),
            ("flip", "flip"),
            ("flip,crop", "flip,crop"),
            ("crop:4, flip", "flip,crop"),
            ("erase:0.5,crop:2,flip", "flip,crop:2,erase:0.5"),
            (
                "alternating-flip,reflect-crop:2,cutout:8",
                "alternating-flip,reflect-crop:2,cutout:8",
            ),
            (
                "cutmix,mixup:0.4,trivial,rotate:10,scale:0.1",
                "trivial,rotate:10,scale:0.1,mixup:0.4,cutmix",
            ),
        ] {
            let augment: Augment = text.parse().unwrap();
            assert_eq!(augment.to_string(), written);
            assert_eq!(written.parse::<Augment>().unwrap(), augment);
        }
        assert_eq!(Augment::from(&[Change::Flip, Change::Crop][..]), "flip,crop".parse().unwrap());
    }

    #[test]
    fn a_file_may_have_a_text_or_an_array() {
        #[derive(Deserialize)]
        struct File {
            augment: Augment,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.augment);
        let expected: Augment = "flip,crop:2".parse().unwrap();
        assert_eq!(read("augment = \"flip,crop:2\"").unwrap(), expected);
        assert_eq!(read("augment = [\"crop:2\", \"flip\"]").unwrap(), expected);
        assert_eq!(read("augment = []").unwrap(), Augment::NONE);
        assert!(read("augment = 3").unwrap_err().to_string().contains("such as"));
    }

    #[test]
    fn what_is_not_possible_is_refused_with_what_is() {
        assert!(error("blur").starts_with("expected none or a list of trivial, rotate, "));
        assert!(error("").starts_with("expected none"));
        assert_eq!(error("flip:2"), "flip takes no number");
        assert_eq!(
            error("cutout"),
            "cutout needs a whole number above 0, at most 10000, such as cutout:8"
        );
        assert_eq!(
            error("crop:1.5"),
            "crop needs a whole number above 0, at most 10000, such as crop:4"
        );
        for text in ["erase:0", "erase:-1", "erase:nan", "erase:1.5", "erase:x", "erase:"] {
            assert_eq!(
                error(text),
                "erase needs a number above 0, at most 1, such as erase:0.25",
                "{text}"
            );
        }
        assert_eq!(
            error("rotate:200"),
            "rotate needs a number above 0, at most 180, such as rotate:18"
        );
        assert_eq!(error("flip,alternating-flip"), "flip and alternating-flip exclude each other");
        assert_eq!(error("crop,crop:2"), "crop and crop exclude each other");
    }
}

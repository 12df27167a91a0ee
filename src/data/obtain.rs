//! Getting the files of a data set onto this machine.

use super::catalog::{DatasetInfo, Part};
use super::download::Downloader;
use super::{Source, Split, locate, verify};
use crate::error::one_line;
use crate::ui::Ui;
use anyhow::{Result, anyhow, bail};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where the images of a data set come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Files in this folder.
    Folder(PathBuf),
    /// The program makes them itself.
    BuiltIn,
}

impl Origin {
    /// The folder with the files; `None` if the program makes the images itself.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::BuiltIn => None,
        }
    }
}

impl fmt::Display for Origin {
    /// Written after the title of the data set: `in /folder`, or `made by the program`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "in {}", folder.display()),
            Self::BuiltIn => f.write_str("made by the program"),
        }
    }
}

/// Where the images of some splits come from. Files that are not on this machine yet are downloaded.
///
/// # Errors
/// - The user named a folder that cannot be the folder of the data sets.
/// - Files are missing and cannot be downloaded.
/// - Files are missing, and another file of the data set is damaged. The damaged file is not replaced.
///
/// The message names the folder or file, what is wrong and the remedy.
pub fn obtain(dataset: &DatasetInfo, splits: &[Split], source: &Source, ui: &Ui) -> Result<Origin> {
    if dataset.is_built_in() {
        return Ok(Origin::BuiltIn);
    }
    let parts = dataset.parts(splits);
    if let Some(located) = locate::find(dataset, &parts, source)? {
        return Ok(Origin::Folder(located.folder));
    }
    // Only `resnet data fetch` replaces files that are there.
    match damage(dataset, &parts, &locate::download_folder(dataset, source)?) {
        Some(error) => Err(with_remedy(&error, dataset, source)),
        None => download(dataset, &parts, source, ui).map(Origin::Folder),
    }
}

/// Downloads the missing and the damaged files of a data set. Returns where its images come from.
///
/// An intact copy is not downloaded again. If the user named a folder, the copy must be in that folder;
/// otherwise it may also be in the system's folder. A named folder that does not exist is created.
///
/// # Errors
/// A file cannot be downloaded or written, or no mirror has the published file.
pub fn fetch(dataset: &DatasetInfo, source: &Source, ui: &Ui) -> Result<Origin> {
    if dataset.is_built_in() {
        return Ok(Origin::BuiltIn);
    }
    source.check_no_file()?;
    let parts = dataset.parts(&Split::BOTH);
    let folder = locate::download_folder(dataset, source)?;
    let to_be_made = source.folder.as_ref().is_some_and(|folder| !folder.path().exists());
    let located = if to_be_made { None } else { locate::find(dataset, &parts, source)? };
    let folder = located.as_ref().map_or(&folder, |located| &located.folder);
    match damage(dataset, &parts, folder).as_ref().map(one_line) {
        None if located.is_some() => return Ok(Origin::Folder(folder.clone())),
        None => {}
        Some(damage) if source.offline => bail!("{damage}; --offline forbids a download"),
        Some(damage) => ui.warn(format!("{damage}; downloading the published file")),
    }
    download(dataset, &parts, source, ui).map(Origin::Folder)
}

/// The error, followed by the command that gets the published files.
pub(super) fn with_remedy(
    error: &anyhow::Error,
    dataset: &DatasetInfo,
    source: &Source,
) -> anyhow::Error {
    let fetch = locate::fetch_command(dataset, source);
    anyhow!("{}; `{fetch}` gets the published files", one_line(error))
}

/// What is wrong with the first damaged file in a folder; `None` if none is damaged.
fn damage(dataset: &DatasetInfo, parts: &[Part], folder: &Path) -> Option<anyhow::Error> {
    let present = parts.iter().filter_map(|part| Some((part, locate::find_part(folder, part)?)));
    present.map(|(part, found)| verify::read(dataset, part, &found)).find_map(Result::err)
}

/// Downloads the missing and the damaged parts. Returns the folder that holds them.
fn download(dataset: &DatasetInfo, parts: &[Part], source: &Source, ui: &Ui) -> Result<PathBuf> {
    if source.offline {
        return Err(locate::missing(dataset, parts, source));
    }
    let folder = locate::download_folder(dataset, source)?;
    Downloader::new(dataset)?.fetch(parts, &folder, ui)?;
    Ok(folder)
}

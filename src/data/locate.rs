//! Finding the files of data sets on this machine.
//!
//! If the user names a folder, only that folder is searched, and downloads go there. Otherwise the
//! platform's cache folder is searched first, and the folder of the system's packages second; downloads go
//! to the cache folder. In each of these folders, a data set has a subfolder with its name. Its files are
//! compressed as published, or unpacked.

use super::catalog::{DatasetInfo, Part};
use super::{NamedFolder, Source};
use crate::error::usage;
use crate::ui::quoted;
use anyhow::{Context, Result, anyhow};
use etcetera::BaseStrategy;
use std::path::{Path, PathBuf};

/// Where the packages of Linux distributions put data sets.
const SYSTEM_FOLDER: &str = "/usr/share/datasets";

/// A published file on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Compressed, as published.
    Packed(PathBuf),
    /// Unpacked: the path of each of [`Part::members`].
    Unpacked(Vec<PathBuf>),
}

/// A folder that holds all needed files of a data set.
#[derive(Debug)]
pub struct Located {
    /// The folder.
    pub folder: PathBuf,
    /// The files, in the order of the parts that were asked for.
    pub files: Vec<Found>,
}

/// The folder that downloads of a data set go to. It need not exist.
///
/// # Errors
/// The user named no folder, and the platform has no cache folder.
pub fn download_folder(dataset: &DatasetInfo, source: &Source) -> Result<PathBuf> {
    let base = match &source.folder {
        Some(folder) => folder.path().to_owned(),
        None => etcetera::choose_base_strategy()
            .context("no cache folder on this platform: name a folder with --data-dir")?
            .cache_dir()
            .join("resnet/datasets"),
    };
    Ok(base.join(dataset.name))
}

/// The folders that may hold a data set, in the order of the search.
fn folders(dataset: &DatasetInfo, source: &Source) -> Vec<PathBuf> {
    let own = download_folder(dataset, source).ok();
    let system = Path::new(SYSTEM_FOLDER).join(dataset.name);
    own.into_iter().chain(source.folder.is_none().then_some(system)).collect()
}

/// The first folder that holds all parts.
///
/// # Errors
/// A usage error if the folder that the user named does not exist, is not a folder, or holds the files of
/// the data set directly.
pub fn find(dataset: &DatasetInfo, parts: &[Part], source: &Source) -> Result<Option<Located>> {
    source.check()?;
    let found = folders(dataset, source).into_iter().find_map(|folder| find_in(&folder, parts));
    match &source.folder {
        Some(folder) if found.is_none() && find_in(folder.path(), parts).is_some() => {
            let name = dataset.name;
            Err(usage(format!(
                "{folder}: the files of {name} are directly in it; expected the folder above, with {name}/ in it"
            )))
        }
        _ => Ok(found),
    }
}

/// The parts in a folder; `None` if one of them is missing.
pub fn find_in(folder: &Path, parts: &[Part]) -> Option<Located> {
    let files: Option<Vec<Found>> = parts.iter().map(|part| find_part(folder, part)).collect();
    Some(Located { folder: folder.to_owned(), files: files? })
}

/// Finds a part in a folder. The compressed file is preferred to unpacked ones, because the checksum of each
/// compressed file is known. Anything with the name of the file counts, even a FIFO or a folder: reading
/// it is an error that says what it is.
pub fn find_part(folder: &Path, part: &Part) -> Option<Found> {
    let packed = folder.join(part.file.name);
    if packed.exists() {
        return Some(Found::Packed(packed));
    }
    let unpacked: Option<Vec<PathBuf>> = part
        .members
        .iter()
        .map(|member| {
            // Some people unpack an archive with its inner folder, others without it.
            let path = Path::new(member.path);
            let names = [Some(path.as_os_str()), path.file_name()];
            names.into_iter().flatten().map(|name| folder.join(name)).find(|path| path.exists())
        })
        .collect();
    unpacked.map(Found::Unpacked)
}

/// The command that downloads a data set into the folder that is searched first.
pub fn fetch_command(dataset: &DatasetInfo, source: &Source) -> String {
    let name = dataset.name;
    match &source.folder {
        Some(NamedFolder::Flag(folder)) => {
            format!("resnet data fetch {name} --data-dir {}", quoted(folder))
        }
        Some(NamedFolder::Variable(_)) | None => format!("resnet data fetch {name}"),
    }
}

/// The error for a data set that is in none of the folders.
pub fn missing(dataset: &DatasetInfo, parts: &[Part], source: &Source) -> anyhow::Error {
    let looked: Vec<String> = folders(dataset, source)
        .iter()
        .filter_map(|folder| {
            let lacks: Vec<&str> = parts
                .iter()
                .filter(|part| find_part(folder, part).is_none())
                .map(|part| part.file.name)
                .collect();
            match lacks.len() {
                // Nothing is missing in this folder: the download goes to another one.
                0 => None,
                all if all == parts.len() => Some(folder.display().to_string()),
                _ => Some(format!("{} (lacks {})", folder.display(), lacks.join(", "))),
            }
        })
        .collect();
    let (name, fetch) = (dataset.name, fetch_command(dataset, source));
    let remedy = if source.offline {
        format!(
            "--offline forbids a download: run `{fetch}` while connected, or name the folder \
             that contains `{name}/` with --data-dir"
        )
    } else {
        format!("`{fetch}` downloads it")
    };
    let missing = match &source.folder {
        Some(folder) => format!("{folder}: {name} is not there"),
        None => format!("{name} is not on this machine"),
    };
    anyhow!("{missing}, looked in {}; {remedy}", looked.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::super::{Split, catalog};
    use super::*;
    use std::fs;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn the_users_folder_is_where_downloads_go() {
        let source = Source { folder: Some(NamedFolder::Flag("d".into())), offline: false };
        let folder = download_folder(catalog::find("mnist").unwrap(), &source).unwrap();
        assert_eq!(folder, Path::new("d/mnist"));
    }

    #[test]
    fn compressed_files_are_preferred_to_unpacked_ones() {
        let folder = tempfile::tempdir().unwrap();
        let parts = catalog::find("mnist").unwrap().parts(&[Split::Test]);
        assert_eq!(find_part(folder.path(), &parts[0]), None);
        let unpacked = folder.path().join("t10k-images-idx3-ubyte");
        touch(&unpacked);
        assert_eq!(find_part(folder.path(), &parts[0]), Some(Found::Unpacked(vec![unpacked])));
        let packed = folder.path().join("t10k-images-idx3-ubyte.gz");
        touch(&packed);
        assert_eq!(find_part(folder.path(), &parts[0]), Some(Found::Packed(packed)));
        assert!(find_in(folder.path(), &parts).is_none(), "the labels are missing");
    }

    #[test]
    fn unpacked_archives_may_lack_their_inner_folder() {
        let folder = tempfile::tempdir().unwrap();
        let parts = catalog::find("cifar100").unwrap().parts(&Split::BOTH);
        let train = folder.path().join("train.bin");
        let test = folder.path().join("cifar-100-binary/test.bin");
        touch(&train);
        assert_eq!(find_part(folder.path(), &parts[0]), None);
        touch(&test);
        assert_eq!(find_part(folder.path(), &parts[0]), Some(Found::Unpacked(vec![train, test])));
    }

    #[test]
    fn what_is_missing_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let mnist = catalog::find("mnist").unwrap();
        let parts = mnist.parts(&[Split::Test]);
        let named = NamedFolder::Flag(folder.path().to_owned());
        let mut source = Source { folder: Some(named), offline: true };
        touch(&folder.path().join("mnist/t10k-images-idx3-ubyte"));
        let error = missing(mnist, &parts, &source).to_string();
        assert!(error.starts_with("--data-dir "), "{error}");
        assert!(error.contains("mnist (lacks t10k-labels-idx1-ubyte.gz); "), "{error}");
        assert!(!error.contains(SYSTEM_FOLDER), "{error}");
        assert!(error.contains("--offline"), "{error}");
        source.offline = false;
        let error = missing(mnist, &parts, &source).to_string();
        assert!(error.contains("`resnet data fetch mnist --data-dir "), "{error}");
    }
}

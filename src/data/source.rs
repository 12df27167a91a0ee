//! Where the program searches for data sets: the user's choice.

use crate::error::usage;
use anyhow::Result;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Environment variable with the folder of the data sets. It is used if `--data-dir` is not given.
pub const FOLDER_VARIABLE: &str = "RESNET_DATA";

/// Where to search for data sets.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The folder that the user named: no other folder is searched. If `None`, the folders of the
    /// platform's cache and of the system's packages are searched.
    pub folder: Option<NamedFolder>,
    /// Never connect to a server.
    pub offline: bool,
}

/// A folder that the user named; it holds a folder for each data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedFolder {
    /// With `--data-dir`.
    Flag(PathBuf),
    /// With [`FOLDER_VARIABLE`].
    Variable(PathBuf),
}

impl Source {
    /// From the flags, or from the environment if `--data-dir` is not given.
    pub fn new(data_dir: Option<PathBuf>, offline: bool) -> Self {
        Self { folder: choose(data_dir, std::env::var_os(FOLDER_VARIABLE)), offline }
    }

    /// Refuses a named folder that does not exist.
    ///
    /// # Errors
    /// A usage error that says how it was named.
    pub fn check(&self) -> Result<()> {
        match &self.folder {
            Some(folder) if !folder.path().exists() => Err(usage(format!(
                "{folder}: there is no such folder; expected the folder of the data sets, which `resnet data fetch` creates"
            ))),
            _ => self.check_no_file(),
        }
    }

    /// Refuses a named path that exists and is not a folder. It need not exist.
    ///
    /// # Errors
    /// A usage error that says how it was named.
    pub fn check_no_file(&self) -> Result<()> {
        match &self.folder {
            Some(folder) if folder.path().exists() && !folder.path().is_dir() => {
                Err(usage(format!("{folder}: is no folder; expected the folder of the data sets")))
            }
            _ => Ok(()),
        }
    }
}

/// The flag, or else the variable. An empty variable counts as unset.
fn choose(flag: Option<PathBuf>, variable: Option<OsString>) -> Option<NamedFolder> {
    let variable = || variable.filter(|path| !path.is_empty()).map(PathBuf::from);
    flag.map(NamedFolder::Flag).or_else(|| variable().map(NamedFolder::Variable))
}

impl NamedFolder {
    /// The folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Flag(path) | Self::Variable(path) => path,
        }
    }
}

impl fmt::Display for NamedFolder {
    /// As the user wrote it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(path) => write!(f, "--data-dir {}", path.display()),
            Self::Variable(path) => write!(f, "{FOLDER_VARIABLE}={}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_beats_the_variable_and_an_empty_variable_is_none() {
        let named = |flag: Option<&str>, variable: Option<&str>| {
            choose(flag.map(PathBuf::from), variable.map(OsString::from)).map(|f| f.to_string())
        };
        assert_eq!(named(Some("a"), Some("b")).as_deref(), Some("--data-dir a"));
        assert_eq!(named(None, Some("b")).as_deref(), Some("RESNET_DATA=b"));
        assert_eq!(named(None, Some("")), None);
        assert_eq!(named(None, None), None);
    }
}

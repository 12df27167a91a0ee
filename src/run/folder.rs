//! A run's folder and its configuration file. A run claims its folder before it does anything else, so that two runs
//! never share a folder.

use crate::checkpoint::{CHECKPOINTS, LAST};
use crate::config::Config;
use crate::error::usage;
use crate::files::{OWN_FILE, numbered, write_atomically};
use crate::model::Spec;
use anyhow::{Context, Result, anyhow, bail};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// This file is locked as long as a process trains in the folder. It holds the number of that process.
const LOCK_FILE: &str = ".lock";
/// The settings of a run. The file exists from the start of the run.
pub const CONFIG_FILE: &str = "config.toml";

/// The folder of a run that this process trains.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Whether the folder was made for this run.
    made: bool,
    /// The lock file. The system unlocks it when the process ends, also after a crash.
    lock: RefCell<File>,
}

impl RunFolder {
    /// Claims a folder for a new run of a network: the one that the user chose, or a new one in `runs`.
    ///
    /// # Errors
    /// A usage error if the chosen folder is not empty; another error if it cannot be made or written to.
    pub fn begin(chosen: Option<&Path>, spec: &Spec) -> Result<Self> {
        match chosen {
            Some(path) => Self::create(path),
            None => Self::create_dated(&format!("resnet{}", spec.depth())),
        }
    }

    /// Claims the new or empty folder that the user chose.
    fn create(path: &Path) -> Result<Self> {
        if is_used(path)? {
            let holds = if path.join(CHECKPOINTS).join(LAST).exists() {
                format!("holds a run (--resume {} continues it)", path.display())
            } else if path.join(CONFIG_FILE).is_file() {
                // If another process has just begun this run, the error of `lock` says so.
                drop(lock(path)?);
                "holds a run without a checkpoint, which cannot continue: delete it, or choose another"
                    .to_owned()
            } else {
                "is not empty".to_owned()
            };
            return Err(usage(format!(
                "--run-dir {}: {holds}; expected a new or empty folder",
                path.display()
            )));
        }
        let made = !path.exists();
        fs::create_dir_all(path)
            .with_context(|| format!("--run-dir {}: cannot make the folder", path.display()))?;
        Self::claim(path.to_owned(), made)
    }

    /// Makes a new folder `runs/<network>-<date-time>`, with a number at the end if another run began in the same
    /// second.
    fn create_dated(network: &str) -> Result<Self> {
        let time = jiff::ZonedDateTime::now().strftime("%Y%m%d-%H%M%S");
        let name = format!("{network}-{time}");
        let runs = Path::new("runs");
        let made = fs::create_dir_all(runs).and_then(|()| {
            for path in numbered(&name).map(|name| runs.join(name)) {
                match fs::create_dir(&path) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    made => return made.map(|()| path),
                }
            }
            Err(io::Error::from(ErrorKind::AlreadyExists))
        });
        let path =
            made.context("cannot make a folder for the run in ./runs; choose with --run-dir")?;
        Self::claim(path, true)
    }

    /// Claims the folder of a run that continues.
    ///
    /// # Errors
    /// Another process trains in the folder, or it cannot be written to.
    pub fn reopen(path: &Path) -> Result<Self> {
        Self::claim(path.to_owned(), false)
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that the folder belongs to this run before something is written to it. If the folder was removed, it
    /// is made and locked again.
    ///
    /// # Errors
    /// The folder cannot be made, or another process trains in it now.
    pub fn ensure(&self) -> Result<()> {
        let there = fs::symlink_metadata(self.path.join(LOCK_FILE)).ok();
        let held = self.lock.borrow().metadata().ok();
        let file = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        if there.is_some() && there.map(file) == held.map(file) {
            return Ok(());
        }
        fs::create_dir_all(&self.path)
            .with_context(|| format!("cannot make {}", self.path.display()))?;
        // After the start, this is an error of the run, and not a usage error.
        *self.lock.borrow_mut() = lock(&self.path).map_err(|error| anyhow!("{error:#}"))?;
        Ok(())
    }

    /// Writes the run's settings into its folder.
    ///
    /// # Errors
    /// The folder is read-only, gone or full.
    pub fn write_config(&self, config: &Config) -> Result<()> {
        write_config(&self.path, config)
    }

    /// Whether the run's settings are in its folder.
    pub fn has_config(&self) -> bool {
        self.path.join(CONFIG_FILE).exists()
    }

    fn claim(path: PathBuf, made: bool) -> Result<Self> {
        let lock = RefCell::new(lock(&path)?);
        Ok(Self { path, made, lock })
    }
}

/// Writes settings into a folder.
///
/// # Errors
/// The folder is read-only, gone or full.
pub fn write_config(run_dir: &Path, config: &Config) -> Result<()> {
    write_atomically(&run_dir.join(CONFIG_FILE), config.to_file()?.as_bytes())
}

/// Whether a process trains in a run's folder.
pub fn is_in_use(folder: &Path) -> bool {
    let opened = File::options().read(true).custom_flags(OWN_FILE).open(folder.join(LOCK_FILE));
    // The shared lock is released at once, when the file is closed.
    opened.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK_FILE);
    let mut options = File::options();
    // An existing file can be anything, and only a lock file may be overwritten.
    let opened = options.read(true).write(true).create(true).truncate(false).custom_flags(OWN_FILE);
    let mut file = opened.open(&path).with_context(|| match path.is_symlink() {
        true => format!("{}: is a link; expected a run's own file: delete it", path.display()),
        false => format!("cannot write {}", path.display()),
    })?;
    let mut process = String::new();
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file
        || (&file).take(LONGEST_LOCK).read_to_string(&mut process).is_err()
        || !process.trim_end().bytes().all(|byte| byte.is_ascii_digit())
        || process.len() as u64 == LONGEST_LOCK
    {
        bail!("{}: is not the lock of a run; give it another name", path.display());
    }
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            return Err(usage(format!(
                "{}: process {} trains in this folder; wait for it, stop it, or choose another folder",
                folder.display(),
                process.trim()
            )));
        }
        // Some network file systems have no locks. There, the run continues without a lock.
        Err(TryLockError::Error(_)) | Ok(()) => {}
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// The maximum length of a lock file in bytes. Every process number is shorter.
const LONGEST_LOCK: u64 = 32;

impl Drop for RunFolder {
    /// Removes the lock file and the new folder if the run failed before it began.
    fn drop(&mut self) {
        if !self.has_config() {
            let _ = fs::remove_file(self.path.join(LOCK_FILE));
            if self.made {
                let _ = fs::remove_dir(&self.path);
            }
        }
    }
}

/// Whether there is something at `path` that a new run would overwrite or write into.
fn is_used(path: &Path) -> Result<bool> {
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.with_context(|| path.display().to_string())?;
                if entry.file_name() != OsStr::new(LOCK_FILE) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(usage(format!(
            "--run-dir {}: {error}; expected a new or empty folder",
            path.display()
        ))),
    }
}

//! Downloading from mirrors. A file gets its final name only when it is complete and verified.

mod transfer;

use super::catalog::{DatasetInfo, Part};
use super::{locate, verify};
use crate::error::usage;
use crate::files::{self, OWN_FILE};
use crate::ui::Ui;
use anyhow::{Context, Result, anyhow};
use indicatif::DecimalBytes;
use reqwest::Url;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use transfer::{Failure, Transfer};

/// Environment variable with a base URL that is tried before the published mirrors. The URL of a file is
/// `<base>/<file name>`. `{dataset}` in the base URL stands for the name of the data set.
pub const MIRROR_VARIABLE: &str = "RESNET_MIRROR";

/// Retries are counted from zero again after a round that downloaded at least this number of bytes.
const PROGRESS_BYTES: u64 = 1 << 20;

/// How long to wait for a mirror, and how often to ask again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Number of rounds over the mirrors after the first one. They are for failures that may be temporary.
    pub retries: u32,
    /// Pause before the first retry. Each later pause is twice as long.
    pub first_pause: Duration,
    /// Longest time to connect.
    pub connect: Duration,
    /// A transfer that receives no byte for this time has stalled.
    pub stall: Duration,
    /// Bytes per second. A transfer that is slower than this for the time `stall` has stalled too.
    pub least_rate: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 3,
            first_pause: Duration::from_millis(500),
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            least_rate: 1000,
        }
    }
}

/// Fetches the files of one data set.
#[derive(Debug)]
pub struct Downloader<'a> {
    dataset: &'a DatasetInfo,
    mirrors: Vec<Url>,
    patience: Patience,
    transfer: Transfer,
}

impl<'a> Downloader<'a> {
    /// A downloader from the user's mirror, if one is set, and then the published ones.
    ///
    /// # Errors
    /// A usage error if [`MIRROR_VARIABLE`] does not hold a URL.
    pub fn new(dataset: &'a DatasetInfo) -> Result<Self> {
        let own = std::env::var(MIRROR_VARIABLE).ok().filter(|base| !base.is_empty());
        let own = own.map(|base| own_mirror(&base, dataset)).transpose()?;
        let published = dataset.mirrors.iter().filter_map(|base| Url::parse(base).ok());
        Self::with(dataset, own.into_iter().chain(published).collect(), Patience::default())
    }

    /// A downloader from these base URLs (each ending in `/`), in this order.
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn with(dataset: &'a DatasetInfo, mirrors: Vec<Url>, patience: Patience) -> Result<Self> {
        Ok(Self { dataset, mirrors, patience, transfer: Transfer::new(&patience)? })
    }

    /// Downloads the parts that are missing or damaged in a folder.
    ///
    /// # Errors
    /// The folder cannot be written, or no mirror has the published file. A file that had this name before
    /// is then unchanged.
    pub fn fetch(&self, parts: &[Part], folder: &Path, ui: &Ui) -> Result<()> {
        fs::create_dir_all(folder).map_err(|error| write_error(folder, &error))?;
        let lock = Lock::take(folder, ui)?;
        for part in parts {
            // Checked under the lock: another process may have downloaded it in the meantime.
            let present = locate::find_part(folder, part);
            if present.is_some_and(|found| verify::read(self.dataset, part, &found).is_ok()) {
                continue;
            }
            let path = folder.join(part.file.name);
            let partial = lock.partial(&path);
            self.fetch_part(part, &partial, ui).inspect_err(|_| {
                if !lock.exclusive {
                    let _ = fs::remove_file(&partial);
                }
            })?;
            fs::rename(&partial, &path).map_err(|error| write_error(&path, &error))?;
            // Some systems cannot open a folder. On these systems the file is complete too.
            let _ = files::sync_folder(folder);
        }
        Ok(())
    }

    /// Downloads the verified bytes of a file to `partial`, from the first mirror that has them. The mirrors
    /// are tried in turn. Those with a temporary failure are tried again after a pause.
    fn fetch_part(&self, part: &Part, partial: &Path, ui: &Ui) -> Result<()> {
        let mut failures: Vec<Option<Failure>> = self.mirrors.iter().map(|_| None).collect();
        let mut longest = length(partial);
        let mut retries = 0;
        loop {
            for (mirror, failure) in self.mirrors.iter().zip(&mut failures) {
                if matches!(failure, Some(Failure::Refused(_))) {
                    continue;
                }
                if failure.is_none() {
                    let (name, bytes) = (part.file.name, DecimalBytes(part.file.bytes));
                    let host = mirror.host_str().unwrap_or_default();
                    ui.say(format!("downloading {name} ({bytes}) from {host}"));
                }
                let other = match self.try_mirror(mirror, part, partial, ui) {
                    Ok(()) => return Ok(()),
                    Err(Failure::Local(error)) => return Err(error),
                    Err(other) => other,
                };
                // The same failure is not reported twice.
                if failure.as_ref().is_none_or(|before| before.to_string() != other.to_string()) {
                    ui.warn(format!("{}{}: {other}", shown(mirror), part.file.name));
                }
                *failure = Some(other);
            }
            let reached = length(partial);
            if reached >= longest + PROGRESS_BYTES {
                (longest, retries) = (reached, 0);
            }
            let may_pass =
                failures.iter().any(|failure| matches!(failure, Some(Failure::Passing(_))));
            if !may_pass || retries == self.patience.retries {
                return Err(self.give_up(part, partial, &failures));
            }
            let pause = self.patience.first_pause.saturating_mul(1 << retries.min(8));
            ui.say(format!("trying again in {} s", pause.as_secs_f32()));
            thread::sleep(pause);
            retries += 1;
        }
    }

    fn try_mirror(&self, mirror: &Url, part: &Part, partial: &Path, ui: &Ui) -> Attempt {
        let url = mirror.join(part.file.name).map_err(|error| Failure::Refused(error.into()))?;
        let resumed = length(partial) > 0;
        self.transfer.run(url, partial, part, ui)?;
        verify::packed(self.dataset, part, partial).map(drop).map_err(|error| {
            // A wrong file must not be resumed. A resumed file may be wrong only because two mirrors
            // compressed the same bytes differently, so this mirror is tried again.
            let _ = fs::remove_file(partial);
            if resumed { Failure::Passing(error) } else { Failure::Refused(error) }
        })
    }

    fn give_up(&self, part: &Part, partial: &Path, failures: &[Option<Failure>]) -> anyhow::Error {
        let tried: Vec<String> = self
            .mirrors
            .iter()
            .zip(failures)
            .filter_map(|(mirror, failure)| {
                Some(format!("{} ({})", shown(mirror), failure.as_ref()?))
            })
            .collect();
        let folder = partial.parent().unwrap_or(partial).display();
        anyhow!(
            "cannot download {} of {}, tried {}; check the connection, set {MIRROR_VARIABLE} to a \
             base URL that has the file, or put the file into {folder}",
            part.file.name,
            self.dataset.name,
            tried.join(", ")
        )
    }
}

/// The result of trying one mirror.
type Attempt = Result<(), Failure>;

fn own_mirror(base: &str, dataset: &DatasetInfo) -> Result<Url> {
    let wrong = || {
        let shown = match base.rsplit_once('@') {
            Some((_, host)) => format!("…@{host}"),
            None => base.to_owned(),
        };
        usage(format!(
            "{MIRROR_VARIABLE} is `{shown}`: expected a base URL such as \
             https://example.org/{{dataset}}"
        ))
    };
    let mut base_url = base.replace("{dataset}", dataset.name);
    if !base_url.ends_with('/') {
        base_url.push('/');
    }
    let url = Url::parse(&base_url).map_err(|_| wrong())?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(wrong()) }
}

/// A mirror for messages: without the user's name and password.
fn shown(mirror: &Url) -> Url {
    let mut shown = mirror.clone();
    let _ = shown.set_username("").and_then(|()| shown.set_password(None));
    shown
}

/// The lock of a folder: only one process at a time downloads into it.
#[derive(Debug)]
struct Lock {
    /// Whether the lock keeps other processes out. Some network file systems have no locks. Each process
    /// then has partial files of its own, which no other process can resume.
    exclusive: bool,
    /// Locked until it is closed. The end of the process closes it too.
    _file: File,
}

impl Lock {
    fn take(folder: &Path, ui: &Ui) -> Result<Self> {
        let path = folder.join(".lock");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OWN_FILE)
            .open(&path)
            .map_err(|error| write_error(&path, &error))?;
        let exclusive = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                ui.say(format!("waiting for another download into {}", folder.display()));
                file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
                true
            }
            Err(TryLockError::Error(_)) => false,
        };
        Ok(Self { exclusive, _file: file })
    }

    fn partial(&self, path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        if !self.exclusive {
            name.push(format!(".{}", std::process::id()));
        }
        name.push(".part");
        name.into()
    }
}

/// The length of a partial file. It is 0 if there is none, or if this program did not make it: a link, or a
/// file with several hard links.
fn length(path: &Path) -> u64 {
    let own = |metadata: &fs::Metadata| metadata.is_file() && metadata.nlink() == 1;
    fs::symlink_metadata(path).ok().filter(own).map_or(0, |metadata| metadata.len())
}

fn write_error(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let reason = match error.kind() {
        _ if error.raw_os_error() == Some(libc::ELOOP) => "it is a link".to_owned(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "no space is left".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        _ => error.to_string(),
    };
    anyhow!("cannot write {}: {reason}; name another folder with --data-dir", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::catalog;
    use super::*;
    use crate::error::exit_code;

    #[test]
    fn the_users_mirror_is_a_base_url() {
        let mnist = catalog::find("mnist").unwrap();
        let mirror = |base: &str| own_mirror(base, mnist).map(String::from);
        assert_eq!(mirror("http://host/a").unwrap(), "http://host/a/");
        assert_eq!(mirror("https://host/{dataset}/").unwrap(), "https://host/mnist/");
        for wrong in ["host/a", "ftp://host/a", "me:secret@host/a", "ftp://me:secret@host/a"] {
            let error = mirror(wrong).unwrap_err();
            assert_eq!(exit_code(&error), 2);
            assert!(error.to_string().starts_with("RESNET_MIRROR is `"), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_full_disk_and_a_read_only_folder_are_named() {
        let message = |kind: ErrorKind| write_error(Path::new("d/f"), &kind.into()).to_string();
        let full = "cannot write d/f: no space is left; name another folder with --data-dir";
        assert_eq!(message(ErrorKind::StorageFull), full);
        assert!(message(ErrorKind::ReadOnlyFilesystem).contains("read-only"));
    }

    #[test]
    fn where_locks_do_not_work_partial_files_are_not_shared() {
        let lock = Lock { exclusive: false, _file: tempfile::tempfile().unwrap() };
        let partial = lock.partial(Path::new("d/f.gz"));
        assert_eq!(partial, Path::new(&format!("d/f.gz.{}.part", std::process::id())));
    }
}

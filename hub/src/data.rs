//! The data folder: created with mode 0700, and locked by one hub at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::{DATABASE, SERVICE_CONNECTION_STRING};

/// How long a start waits for the lock: a restart must not fail because the previous process is
/// still writing.
const LOCK_DEADLINE: Duration = Duration::from_secs(3);

/// Poll interval while waiting for the lock.
const LOCK_RETRY: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    #[error("cannot create the data folder {}; choose another with --data", .path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("the data folder {} is not writable; choose another with --data", .path.display())]
    NotWritable { path: PathBuf, source: io::Error },
    #[error(
        "another door-hub is running on the data folder {}; stop it, or choose another with --data",
        .path.display()
    )]
    InUse { path: PathBuf },
    /// Others than the owner have access to a key or to the database.
    #[error("{} has mode {mode:04o}; expected 0600", .path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The data folder, locked for this process as long as the lock exists.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    lock: Arc<Flock<File>>,
}

/// Files that hold keys or data, and the ends of the names of those that commands write.
const PRIVATE_FILES: [&str; 6] = [
    DATABASE,
    "hub.db-wal",
    "hub.db-shm",
    "ca.key",
    "server.key",
    SERVICE_CONNECTION_STRING,
];
const PRIVATE_ENDS: [&str; 2] = [".connection-string", ".token"];

/// The private files in `folder` that others have access to, each with its mode.
pub(crate) fn exposed_files(folder: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut exposed: Vec<(String, u32)> = names
        .filter(|name| {
            PRIVATE_FILES.contains(&name.as_str())
                || PRIVATE_ENDS.iter().any(|end| name.ends_with(end))
        })
        .filter_map(|name| {
            let mode = fs::metadata(folder.join(&name)).ok()?.permissions().mode() & 0o777;
            (mode & 0o077 != 0).then_some((name, mode))
        })
        .collect();
    exposed.sort();
    exposed
}

impl DataDirectory {
    /// Creates the folder if it is missing and locks it. Blocks for [`LOCK_DEADLINE`] at most.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let make = DirBuilder::new().recursive(true).mode(0o700).create(path);
        make.map_err(|source| DataError::Create {
            path: path.to_owned(),
            source,
        })?;
        let not_writable = |source| DataError::NotWritable {
            path: path.to_owned(),
            source,
        };
        let open = || {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(path.join("hub.lock"))
        };
        let mut file = open().map_err(not_writable)?;
        let deadline = Instant::now() + LOCK_DEADLINE;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    return Ok(Self {
                        path: path.to_owned(),
                        lock: Arc::new(lock),
                    });
                }
                Err((again, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                    file = again;
                    std::thread::sleep(LOCK_RETRY);
                }
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(DataError::InUse {
                        path: path.to_owned(),
                    });
                }
                Err((_, error)) => return Err(not_writable(error.into())),
            }
        }
    }

    /// Rejects a folder in which others have access to a private file.
    pub(crate) fn check_modes(&self) -> Result<(), DataError> {
        match exposed_files(&self.path).into_iter().next() {
            Some((name, mode)) => Err(DataError::Mode {
                path: self.file(&name),
                mode,
            }),
            None => Ok(()),
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file of mode 0600, unless it has this content already.
    pub(crate) fn write_secret(&self, name: &str, text: &str) -> Result<PathBuf, DataError> {
        let path = self.file(name);
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            return Ok(path);
        }
        match crate::pki::write_file(&path, text, 0o600) {
            Ok(()) => Ok(path),
            Err(source) => Err(DataError::Write { path, source }),
        }
    }

    /// A handle that keeps the folder locked; for the component that writes last.
    pub(crate) fn lock(&self) -> impl Send + 'static {
        Arc::clone(&self.lock)
    }
}

/// Syncs the folder of `path`, so that a new name survives a power failure.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    // A bare file name is in the current folder.
    let named = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(named.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_and_its_secrets_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let data = DataDirectory::open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let secret = data.write_secret("secret", "text").unwrap();
        assert_eq!(
            fs::metadata(secret).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn only_one_hub_at_a_time_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(folder.path()).unwrap();
        assert!(matches!(
            DataDirectory::open(folder.path()),
            Err(DataError::InUse { .. })
        ));
        drop(first);
        DataDirectory::open(folder.path()).unwrap();
    }

    #[test]
    fn a_file_instead_of_the_folder_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let error = DataDirectory::open(&path).unwrap_err();
        assert!(
            error.to_string().contains("file; choose another"),
            "{error}"
        );
    }
}

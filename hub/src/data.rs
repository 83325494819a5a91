//! The data folder: made for its owner alone, and held by one hub at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How long a start waits for the hub before it to let go: a restart must not fail because the old
/// process is still writing.
const LOCK_DEADLINE: Duration = Duration::from_secs(3);

/// How long it waits between two tries.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// It is not there and cannot be made.
    #[error("cannot make the data folder {}; --data names another", .path.display())]
    Make {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is there and cannot be written to.
    #[error("the data folder {} is not writable; --data names another", .path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another hub uses it.
    #[error("another door-hub is running on the data folder {}; stop it, or give this one another --data", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file in it cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The folder, locked for this process as long as the lock lives.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    lock: Arc<Flock<File>>,
}

impl DataDirectory {
    /// Makes the folder if need be and takes it. Blocks for a few seconds at most.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let make = DirBuilder::new().recursive(true).mode(0o700).create(path);
        make.map_err(|source| DataError::Make {
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

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that only the owner can read, unless it says that already.
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

    /// The lock, for whoever writes last.
    pub(crate) fn lock(&self) -> impl Send + 'static {
        Arc::clone(&self.lock)
    }
}

/// Makes sure that a new name outlives a power cut.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    // A bare name is one in the folder where the program runs.
    let named = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(named.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_folder_is_for_its_owner_alone() {
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
    fn two_hubs_cannot_have_it_and_the_next_one_can() {
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
    fn a_file_in_its_place_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let error = DataDirectory::open(&path).unwrap_err();
        assert!(error.to_string().contains("file; --data"), "{error}");
    }
}

//! A hub in one file: its database as it is at one moment, its certificates, keys and settings; and
//! the way back.
//!
//! The archive is a tar file of mode 0600. Its first entry lists the others with their lengths and
//! SHA-256, so that a restore can tell a whole archive from a torn one before it puts anything into
//! place.

mod archive;
mod restore;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::{ConfigError, ConfigFile, FILE_NAME};
use crate::data::sync_folder_of;
use crate::store::{self, StoreError};
use crate::{AFTER_DATABASE, DATABASE, SERVICE_CONNECTION_STRING};

pub use restore::restore;

/// What every backup has, if the folder has it. A hub with a certificate of its operator's has no
/// authority.
const FILES: [&str; 5] = [
    "ca.pem",
    "ca.key",
    "server.pem",
    "server.key",
    SERVICE_CONNECTION_STRING,
];

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// The files in the archive, by their names in the data folder.
    pub files: Vec<String>,
    /// Files that the settings name and that are not in it, because they are outside the data
    /// folder.
    pub left_out: Vec<PathBuf>,
}

/// Why there is no backup, or no restored folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive would overwrite a file.
    #[error("{} is there already; --force overwrites it", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The archive would replace a folder, a device or a pipe.
    #[error("{} is not a regular file; expected one, or a new name", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The settings cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be copied or read.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// The folder to restore into is in use for something.
    #[error("{} is not empty; a restore makes the folder, or takes an empty one", .path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The archive is not a whole backup.
    #[error("{} is not a usable backup: {reason}", .path.display())]
    Unusable {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl BackupError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}

/// Backs up the hub in `folder`, which may be running, to `file`: whole or not at all. `settings`
/// is the settings file, if it is not the folder's own.
///
/// # Errors
///
/// When the folder is not a hub's, or the archive cannot be written; then `file` is as it was.
pub fn backup(
    folder: &Path,
    settings: Option<&Path>,
    file: &Path,
    force: bool,
) -> Result<BackedUp, BackupError> {
    let file = &free_or_replaceable(file, force)?;
    // An archive of what has lost something would take the place of a better one.
    store::refuse_older(&folder.join(DATABASE), &AFTER_DATABASE)?;
    let workshop = Workshop::beside(file)?;
    let database = workshop.path.join(DATABASE);
    // SQLite fills an empty file and leaves it the mode that it has.
    create(&database)?;
    store::copy(&folder.join(DATABASE), &database)?;
    let mut sources = vec![(DATABASE.to_owned(), database)];
    for name in FILES {
        let path = folder.join(name);
        if path.exists() {
            sources.push((name.to_owned(), path));
        }
    }
    let folder = std::path::absolute(folder).map_err(BackupError::file("read", folder))?;
    let own_settings = folder.join(FILE_NAME);
    let mut left_out = Vec::new();
    if let Some(path) = settings.or(own_settings.exists().then_some(own_settings.as_path())) {
        sources.push((FILE_NAME.to_owned(), path.to_owned()));
        for named in ConfigFile::read(path)?.files() {
            match named.strip_prefix(&folder).ok().and_then(Path::to_str) {
                Some(name) => sources.push((name.to_owned(), named)),
                None => left_out.push(named),
            }
        }
    }
    sources.sort();
    sources.dedup();
    let archive = workshop.path.join("archive");
    archive::write(create(&archive)?, &archive, &sources)?;
    put(&archive, file, force)?;
    sync_folder_of(file).map_err(BackupError::file("write", file))?;
    Ok(BackedUp {
        files: sources.into_iter().map(|(name, _)| name).collect(),
        left_out,
    })
}

/// Where the archive goes: a name that is free, or the regular file that it replaces.
fn free_or_replaceable(file: &Path, force: bool) -> Result<PathBuf, BackupError> {
    let path = || file.to_owned();
    match fs::symlink_metadata(file) {
        Err(_) => Ok(path()),
        Ok(_) if !force => Err(BackupError::Exists { path: path() }),
        Ok(_) if !file.is_file() => Err(BackupError::NotAFile { path: path() }),
        // What a link leads to is replaced, and not the link.
        Ok(_) => fs::canonicalize(file).map_err(BackupError::file("write", file)),
    }
}

/// Gives the archive its name, which somebody may have taken meanwhile.
fn put(archive: &Path, file: &Path, force: bool) -> Result<(), BackupError> {
    let failed = BackupError::file("write", file);
    if !force {
        match fs::hard_link(archive, file) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BackupError::Exists {
                    path: file.to_owned(),
                });
            }
            // A file system without hard links.
            Err(_) => {}
        }
    }
    fs::rename(archive, file).map_err(failed)
}

/// A folder for half-done work, on the file system where the whole will be, for its owner alone.
/// Removed when dropped.
struct Workshop {
    path: PathBuf,
}

impl Workshop {
    fn beside(target: &Path) -> Result<Self, BackupError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        let path = target.with_file_name(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(BackupError::file("make", &path))?;
        Ok(Self { path })
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // It has been moved into place, or what is left of it is of no use.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Makes a file for its owner alone.
fn create(path: &Path) -> Result<File, BackupError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(BackupError::file("make", path))
}

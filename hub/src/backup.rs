//! Backup of a hub to one file (a consistent copy of the database, certificates, keys and
//! settings), and restore.
//!
//! The archive is a tar file of mode 0600. Its first entry lists the others with their lengths and
//! SHA-256, so that a restore can reject a truncated or damaged archive before it moves anything
//! into place.

mod archive;
mod restore;

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::config::{ConfigError, ConfigFile, FILE_NAME};
use crate::data::sync_parent;
use crate::store::{self, StoreError};
use crate::{AFTER_DATABASE, DATABASE, SERVICE_CONNECTION_STRING};

pub use restore::restore;

/// Files that every backup includes if they exist. A hub that serves a certificate of its operator
/// has no authority of its own.
const BACKUP_FILES: [&str; 5] = [
    "ca.pem",
    "ca.key",
    "server.pem",
    "server.key",
    SERVICE_CONNECTION_STRING,
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSummary {
    /// The files in the archive, by their names in the data folder.
    pub files: Vec<String>,
    /// Files that the settings name but the archive does not hold, because they are outside the
    /// data folder.
    pub skipped: Vec<PathBuf>,
}

/// Why a backup or a restore failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    #[error("cannot {action} {}", .path.display())]
    File {
        /// `create`, `read` or `write`.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} already exists; use --force to overwrite it", .path.display())]
    Exists { path: PathBuf },
    /// The archive would replace a folder, a device or a pipe.
    #[error("{} is not a regular file; expected a regular file or a new name", .path.display())]
    NotAFile { path: PathBuf },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    #[error("{} is not empty; a restore needs an empty or a new folder", .path.display())]
    NotEmpty { path: PathBuf },
    /// The archive is not a complete backup.
    #[error("{} is not a usable backup: {reason}", .path.display())]
    Unusable { path: PathBuf, reason: String },
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

/// Backs up the hub in `folder`, which may be running, to `file`. `settings` is the settings file
/// if it is not the folder's own. On an error `file` is unchanged.
pub fn backup(
    folder: &Path,
    settings: Option<&Path>,
    file: &Path,
    force: bool,
) -> Result<BackupSummary, BackupError> {
    let file = &resolve_target(file, force)?;
    // Prevent that a backup of a database that has lost data replaces a better backup.
    store::check_for_loss(&folder.join(DATABASE), &AFTER_DATABASE)?;
    let staging = StagingDirectory::next_to(file)?;
    let database = staging.path.join(DATABASE);
    // SQLite fills an existing empty file and keeps its mode.
    create(&database)?;
    store::copy(&folder.join(DATABASE), &database)?;
    let mut sources = vec![(DATABASE.to_owned(), database)];
    for name in BACKUP_FILES {
        let path = folder.join(name);
        if path.exists() {
            sources.push((name.to_owned(), path));
        }
    }
    let folder = std::path::absolute(folder).map_err(BackupError::file("read", folder))?;
    let own_settings = folder.join(FILE_NAME);
    let mut skipped = Vec::new();
    if let Some(path) = settings.or(own_settings.exists().then_some(own_settings.as_path())) {
        sources.push((FILE_NAME.to_owned(), path.to_owned()));
        for named in ConfigFile::read(path)?.files() {
            match named.strip_prefix(&folder).ok().and_then(Path::to_str) {
                Some(name) => sources.push((name.to_owned(), named)),
                None => skipped.push(named),
            }
        }
    }
    sources.sort();
    sources.dedup();
    let archive = staging.path.join("archive");
    archive::write(create(&archive)?, &archive, &sources)?;
    move_into_place(&archive, file, force)?;
    sync_parent(file).map_err(BackupError::file("write", file))?;
    Ok(BackupSummary {
        files: sources.into_iter().map(|(name, _)| name).collect(),
        skipped,
    })
}

/// The path to write the archive to: a new name, or the regular file to overwrite.
fn resolve_target(file: &Path, force: bool) -> Result<PathBuf, BackupError> {
    let path = || file.to_owned();
    match fs::symlink_metadata(file) {
        Err(_) => Ok(path()),
        Ok(_) if !force => Err(BackupError::Exists { path: path() }),
        Ok(_) if !file.is_file() => Err(BackupError::NotAFile { path: path() }),
        // Replace the target of a symbolic link, not the link.
        Ok(_) => fs::canonicalize(file).map_err(BackupError::file("write", file)),
    }
}

/// Moves the archive into place; without `force` it fails if the name was taken in the meantime.
fn move_into_place(archive: &Path, file: &Path, force: bool) -> Result<(), BackupError> {
    let failed = BackupError::file("write", file);
    if !force {
        match fs::hard_link(archive, file) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BackupError::Exists {
                    path: file.to_owned(),
                });
            }
            // The file system has no hard links.
            Err(_) => {}
        }
    }
    fs::rename(archive, file).map_err(failed)
}

/// A staging folder of mode 0700 on the target's file system, so that the result can be renamed
/// into place. Removed on drop.
struct StagingDirectory {
    path: PathBuf,
    /// Held until the drop: the mark of a folder that is in use.
    _lock: Flock<File>,
}

impl StagingDirectory {
    /// Creates the folder, and removes those that killed commands with the same target have left:
    /// they hold keys.
    fn next_to(target: &Path) -> Result<Self, BackupError> {
        let mut prefix = OsString::from(".");
        prefix.push(target.file_name().unwrap_or_default());
        prefix.push(".");
        let parent = target.parent().filter(|path| !path.as_os_str().is_empty());
        remove_abandoned(parent.unwrap_or(Path::new(".")), &prefix);
        let mut name = prefix;
        name.push(format!("{}.partial", std::process::id()));
        let path = target.with_file_name(name);
        let created = DirBuilder::new().mode(0o700).create(&path);
        created.map_err(BackupError::file("create", &path))?;
        let lock = lock(&path).map_err(BackupError::file("create", &path))?;
        Ok(Self { path, _lock: lock })
    }
}

fn lock(folder: &Path) -> io::Result<Flock<File>> {
    let locked = Flock::lock(File::open(folder)?, FlockArg::LockExclusiveNonblock);
    locked.map_err(|(_, error)| error.into())
}

/// Removes the staging folders in `parent` whose names begin with `prefix` and that no running
/// command has locked.
fn remove_abandoned(parent: &Path, prefix: &OsStr) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
        let process = rest.and_then(|rest| rest.strip_suffix(b".partial"));
        if process.is_some_and(|process| process.iter().all(u8::is_ascii_digit))
            && lock(&entry.path()).is_ok()
        {
            // What cannot be removed is left to the operator.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for StagingDirectory {
    fn drop(&mut self) {
        // It was renamed into place, or its content is useless.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Creates a file of mode 0600.
fn create(path: &Path) -> Result<File, BackupError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
        .open(path)
        .map_err(BackupError::file("create", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: the name of a folder, whether a command has it locked, and whether the next
    /// command with the target `hub.tar` removes it.
    #[test]
    fn removes_what_a_killed_command_has_left() {
        for (name, in_use, removed) in [
            (".hub.tar.17.partial", false, true),
            (".hub.tar.17.partial", true, false),
            (".hub.tar.old.partial", false, false),
            (".other.tar.17.partial", false, false),
            ("hub.tar.17.partial", false, false),
        ] {
            let parent = tempfile::tempdir().unwrap();
            let left = parent.path().join(name);
            fs::create_dir(&left).unwrap();
            fs::write(left.join("ca.key"), "secret").unwrap();
            let lock = in_use.then(|| lock(&left).unwrap());
            let staging = StagingDirectory::next_to(&parent.path().join("hub.tar")).unwrap();
            assert_eq!(!left.exists(), removed, "{name} {in_use}");
            drop((lock, staging));
        }
    }
}

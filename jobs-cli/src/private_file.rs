//! Files with secrets: created with mode 0600, replaced atomically, and refused when others may
//! read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fs4::FileExt;
use iothub_protocol::text_file::{TextFileError, decode};

/// Why a private file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivateFileError {
    /// Others may read it.
    #[error(
        "{} holds a secret and others may read it (mode {mode:04o}), expected mode 0600: \
         chmod 600 {}",
        .path.display(), .path.display()
    )]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// `read`, `create`, `write`, `lock`.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// Reads a file that only its owner may read, with a decoder of
/// [`text_file`](iothub_protocol::text_file).
pub(crate) fn read_with(
    path: &Path,
    decode: fn(Vec<u8>) -> Result<String, TextFileError>,
) -> Result<String, PrivateFileError> {
    let io = |source| PrivateFileError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io)?;
    check_mode(path, &file)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io)?;
    decode(bytes).map_err(|error| io(io::Error::other(error)))
}

/// Reads a text file that only its owner may read.
pub(crate) fn read(path: &Path) -> Result<String, PrivateFileError> {
    read_with(path, decode)
}

/// Creates a file that must not exist.
pub(crate) fn create(path: &Path, text: &str) -> Result<(), PrivateFileError> {
    write_new(path, text).map_err(|source| PrivateFileError::Io {
        action: "create",
        path: path.to_owned(),
        source,
    })
}

/// Writes or replaces a file atomically: a reader sees the old or the new text, never a part. A
/// symbolic link stays one.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), PrivateFileError> {
    let path = followed(path);
    let temporary = beside(&path, &format!("{}.new", std::process::id()));
    let written = write_new(&temporary, text)
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| sync_folder_of(&path));
    written.map_err(|source| {
        // Best effort: the error above is the one to report.
        drop(fs::remove_file(&temporary));
        PrivateFileError::Io {
            action: "write",
            path,
            source,
        }
    })
}

/// Waits until no other process holds the lock of a file that is read, changed and replaced. The
/// lock is a file of its own, because `replace` replaces the other, and lasts until it is dropped.
pub(crate) fn lock(path: &Path) -> Result<File, PrivateFileError> {
    let path = followed(path);
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder).map_err(|source| PrivateFileError::Io {
            action: "create",
            path: folder.to_owned(),
            source,
        })?;
    }
    let lock = beside(&path, "lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    private_mode(&mut options);
    let locked = options.open(&lock).and_then(|file| {
        FileExt::lock(&file)?;
        Ok(file)
    });
    locked.map_err(|source| PrivateFileError::Io {
        action: "lock",
        path: lock,
        source,
    })
}

/// The file that a path leads to through symbolic links, whether or not it exists.
fn followed(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), fs::read_link(path)) {
        (Ok(file), _) => file,
        // A loop of links is another error.
        (Err(error), Ok(to)) if error.kind() == io::ErrorKind::NotFound => {
            followed(&path.parent().unwrap_or(Path::new("")).join(to))
        }
        _ => path.to_owned(),
    }
}

/// `PATH.ENDING`
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{ending}"));
    PathBuf::from(beside)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    create_with(path, |file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync_folder_of(path)
    })
}

/// Makes a new name durable (power loss).
#[cfg(unix)]
fn sync_folder_of(path: &Path) -> io::Result<()> {
    // A bare name is in the current folder.
    let named = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(named.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "folders are synced on Unix only")]
fn sync_folder_of(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Creates a file with the output of `write`; on an error the file is removed.
fn create_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private_mode(&mut options);
    let mut file = options.open(path)?;
    write(&mut file).inspect_err(|_| {
        // Best effort: the write error is the one to report.
        drop(fs::remove_file(path));
    })
}

/// Only the owner may read a file that these options create.
#[cfg_attr(not(unix), expect(unused_variables, reason = "Unix only"))]
fn private_mode(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File) -> Result<(), PrivateFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(|source| PrivateFileError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    match metadata.permissions().mode() & 0o777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => Err(PrivateFileError::TooOpen {
            path: path.to_owned(),
            mode,
        }),
    }
}

#[cfg(not(unix))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "permissions are judged on Unix only"
)]
fn check_mode(_: &Path, _: &File) -> Result<(), PrivateFileError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_created_file_has_mode_0600_and_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, "one").unwrap();
        replace(&path, "two").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode, read(&path).unwrap().as_str()), (0o600, "two"));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.contains("mode 0640") && error.contains("chmod 600"),
            "{error}"
        );
    }

    #[test]
    fn a_partly_written_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let full = create_with(&path, |file| {
            file.write_all(b"on")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(!path.exists());
    }

    #[test]
    fn an_existing_file_is_not_overwritten_by_create() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, "one").unwrap();
        assert!(create(&path, "two").is_err());
        assert_eq!(read(&path).unwrap(), "one");
    }
}

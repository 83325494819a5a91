//! Files as a door needs them: written beside the old one or over it, set aside when damaged, read
//! only if reading cannot block.
//!
//! It knows no content and no name of a file. Above it are the state file, the event log and the
//! readers of keys and certificates.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use iothub_protocol::text_file::TextFileError;
use jiff::Timestamp;
use log::warn;

use crate::fail_point;

/// Suffix of a file that was set aside, followed by the time.
pub(crate) const DAMAGED: &str = ".damaged-";

/// A damaged file and where it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    /// The file kept for inspection; `None` if even renaming failed.
    pub kept_as: Option<PathBuf>,
    pub reason: String,
}

/// Replaces a file: the new one is written beside it, synced, and renamed over it. On a full disk
/// the old one is overwritten instead, which a power cut may tear.
///
/// The rename survives a power cut after [`sync_directory`]. A test can end the process at
/// `points`: before the write, after it, and at the end.
pub(crate) fn replace(
    path: &Path,
    bytes: &[u8],
    sync: fn(&File) -> io::Result<()>,
    points: [&'static str; 3],
) -> io::Result<()> {
    let [before, written, replaced] = points;
    fail_point::reach(before);
    let fresh = path.with_extension("new");
    make_way(path, &fresh);
    let result = File::create(&fresh).and_then(|mut file| {
        file.write_all(bytes)?;
        sync(&file)
    });
    fail_point::reach(written);
    let result = result.and_then(|()| fs::rename(&fresh, path));
    if result.is_err() {
        // A partial file only takes room.
        let _ = fs::remove_file(&fresh);
    }
    let result = match result {
        Err(error) if is_full(&error) => write_over(path, bytes).map_err(|_| error),
        done => done,
    };
    fail_point::reach(replaced);
    result
}

/// Sets aside a directory in place of a file to be written, which would block it forever.
fn make_way(path: &Path, fresh: &Path) {
    for path in [path, fresh] {
        if path.is_dir() {
            let Damage { kept_as, .. } = set_aside(path, String::new());
            let kept = kept_as.unwrap_or_default();
            let path = path.display();
            warn!(
                "{path}: expected a file, found a folder; set aside as {}",
                kept.display()
            );
        }
    }
}

/// Overwrites the file in place.
pub(crate) fn write_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Renames a damaged file out of the way.
pub(crate) fn set_aside(path: &Path, reason: String) -> Damage {
    let kept = free_name(path).filter(|kept| fs::rename(path, kept).is_ok());
    Damage {
        file: path.to_path_buf(),
        kept_as: kept,
        reason,
    }
}

/// Saves these bytes beside a file whose complete part stays in use.
pub(crate) fn keep_bytes(path: &Path, bytes: &[u8], reason: String) -> Damage {
    let kept = free_name(path).filter(|kept| {
        let written = fs::write(kept, bytes);
        if written.is_err() {
            // A partial copy is useless and takes room.
            let _ = fs::remove_file(kept);
        }
        written.is_ok()
    });
    Damage {
        file: path.to_path_buf(),
        kept_as: kept,
        reason,
    }
}

/// An unused name beside `path` with the present time.
fn free_name(path: &Path) -> Option<PathBuf> {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    (0..1000)
        .map(|n| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!("{DAMAGED}{stamp}"));
            if n > 0 {
                name.push(format!("-{n}"));
            }
            PathBuf::from(name)
        })
        .find(|candidate| fs::symlink_metadata(candidate).is_err())
}

/// Makes renames and removals in `directory` survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates a directory with mode 0700, and those above it.
pub(crate) fn make_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Reads a text file of the operator that only the hub needs, with one of the decoders of
/// [`text_file`](iothub_protocol::text_file).
pub(crate) fn read_text(
    path: &Path,
    decode: fn(Vec<u8>) -> Result<String, TextFileError>,
) -> io::Result<String> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    decode(read_plain(path)?).map_err(invalid)
}

/// Reads a file. Reading a pipe would block the start of the door.
fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        let error = "not a plain file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
    }
    fs::read(path)
}

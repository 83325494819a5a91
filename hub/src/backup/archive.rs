//! The archive format: a tar file whose first entry lists the others.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use super::{BackupError, create};

/// Name of the first entry.
const MANIFEST: &str = "door-hub-backup.json";

/// Maximum size of the manifest in bytes; it holds a few dozen names.
const MAX_MANIFEST: u64 = 64 * 1024;

/// Version of the archive format.
const FORMAT: u32 = 1;

/// Content of the first entry.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// The version of the door-hub that wrote it.
    version: String,
    created: String,
    files: Vec<ManifestEntry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ManifestEntry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// Writes the files, each under its name, to `file`, which is at `path`, and syncs it to disk.
pub(super) fn write(
    file: File,
    path: &Path,
    sources: &[(String, PathBuf)],
) -> Result<(), BackupError> {
    let mut opened = Vec::new();
    for (name, source) in sources {
        let failed = |error| BackupError::file("read", source)(error);
        let mut file = File::open(source).map_err(failed)?;
        let (bytes, sha256) = copy(&mut file, &mut io::sink()).map_err(failed)?;
        let name = name.clone();
        opened.push((
            source,
            ManifestEntry {
                name,
                bytes,
                sha256,
            },
        ));
    }
    let (sources, files): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created: Timestamp::now().to_string(),
        files,
    };
    let write = || -> io::Result<()> {
        let mut builder = Builder::new(BufWriter::new(file));
        let text = serde_json::to_vec_pretty(&manifest)?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        append(&mut builder, MANIFEST, length, text.as_slice())?;
        for (source, listed) in sources.into_iter().zip(&manifest.files) {
            // Limited to the listed length: if the file was replaced in the meantime, the archive
            // stays well-formed and its reader rejects it by the SHA-256.
            let file = File::open(source)?.take(listed.bytes);
            append(&mut builder, &listed.name, listed.bytes, file)?;
        }
        let file = builder.into_inner()?.into_inner()?;
        file.sync_all()
    };
    write().map_err(BackupError::file("write", path))
}

fn append(
    builder: &mut Builder<impl Write>,
    name: &str,
    length: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o600);
    header.set_entry_type(EntryType::Regular);
    builder.append_data(&mut header, name, content)
}

/// Unpacks the archive at `path` into `folder`, which is empty, checks each file against the
/// manifest, and returns the names of the files.
pub(super) fn unpack(path: &Path, folder: &Path) -> Result<Vec<String>, BackupError> {
    let unusable = |reason: String| BackupError::Unusable {
        path: path.to_owned(),
        reason,
    };
    let torn = |error: io::Error| unusable(error.to_string());
    let file = File::open(path).map_err(BackupError::file("read", path))?;
    let mut archive = Archive::new(BufReader::new(file));
    let mut entries = archive.entries().map_err(torn)?;
    let first = entries.next().transpose().map_err(torn)?;
    let manifest = match first {
        Some(entry) if entry.path_bytes() == MANIFEST.as_bytes() => read_manifest(entry),
        _ => Err(format!("its first entry is not {MANIFEST}")),
    };
    let manifest = manifest.map_err(unusable)?;
    for listed in &manifest.files {
        let name = &listed.name;
        let entry = entries.next().transpose().map_err(torn)?;
        let mut entry =
            entry.ok_or_else(|| unusable(format!("it is truncated before `{name}`")))?;
        if entry.path_bytes() != name.as_bytes() || !entry.header().entry_type().is_file() {
            return Err(unusable(format!("its next entry is not `{name}`")));
        }
        let target = folder.join(name);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(BackupError::file("create", parent))?;
        }
        let mut file = create(&target)?;
        let (bytes, sha256) = copy(&mut entry, &mut file).map_err(torn)?;
        if (bytes, &sha256) != (listed.bytes, &listed.sha256) {
            return Err(unusable(format!(
                "`{name}` does not have the listed length and SHA-256"
            )));
        }
        file.sync_all()
            .map_err(BackupError::file("write", &target))?;
    }
    if entries.next().is_some() {
        return Err(unusable(
            "it holds more files than its manifest lists".to_owned(),
        ));
    }
    Ok(manifest.files.into_iter().map(|file| file.name).collect())
}

fn read_manifest(entry: impl Read) -> Result<Manifest, String> {
    let manifest: Manifest = serde_json::from_reader(entry.take(MAX_MANIFEST))
        .map_err(|error| format!("{MANIFEST}: {error}"))?;
    if manifest.format != FORMAT {
        let (found, version) = (manifest.format, manifest.version);
        return Err(format!(
            "door-hub {version} wrote it in format {found}; this door-hub reads format {FORMAT}"
        ));
    }
    let plain = |name: &str| {
        let mut components = Path::new(name).components().peekable();
        components.peek().is_some()
            && components.all(|component| matches!(component, Component::Normal(_)))
    };
    match manifest.files.iter().find(|file| !plain(&file.name)) {
        Some(file) => Err(format!(
            "`{}` is not a relative path below a data folder",
            file.name
        )),
        None => Ok(manifest),
    }
}

/// Copies everything; returns the number of bytes and their SHA-256 in hexadecimal.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, String)> {
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        bytes += u64::try_from(count).unwrap_or_default();
    }
    let sha256 = digest.finish();
    let hex = sha256.as_ref().iter().map(|byte| format!("{byte:02x}"));
    Ok((bytes, hex.collect()))
}

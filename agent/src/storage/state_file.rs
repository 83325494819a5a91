//! The state file: what a door must remember over a power cut, kept twice.
//!
//! Two files, `state.0` and `state.1`, hold the two newest generations. A save replaces the older one: written beside it, fsynced, renamed
//! over it, the directory fsynced. So whatever moment the power fails at, one whole generation is on disk. A file is one line that tells
//! the format, length and CRC-32 of the rest, then JSON. A file that does not check out is renamed to `*.damaged-<n>`, reported, and never
//! read again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// First word of a state file, with the version of its layout.
const MAGIC: &str = "door-agent-state-1";

/// A file that was found damaged, and where it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file that could not be read.
    pub file: PathBuf,
    /// Where it was kept for a person to look at; `None` when even renaming failed.
    pub kept_as: Option<PathBuf>,
    /// What was wrong with it.
    pub reason: String,
}

/// The two slots of one door's directory.
#[derive(Debug)]
pub(super) struct StateFile {
    directory: PathBuf,
    /// Number of the newest generation on disk; the next one is written to the slot of the other parity.
    generation: u64,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Envelope<T> {
    generation: u64,
    content: T,
}

impl StateFile {
    /// Reads the newest whole generation below `directory`, which must exist.
    ///
    /// # Errors
    /// Only when a slot exists and cannot be read at all; a slot that is read and found damaged is set aside and reported.
    pub(super) fn open<T: DeserializeOwned>(
        directory: &Path,
    ) -> io::Result<(Self, Option<T>, Vec<Damage>)> {
        let mut newest: Option<Envelope<T>> = None;
        let mut damages = Vec::new();
        for slot in 0..2 {
            let path = slot_path(directory, slot);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match decode::<T>(&bytes) {
                Ok(found)
                    if newest
                        .as_ref()
                        .is_some_and(|n| n.generation >= found.generation) => {}
                Ok(found) => newest = Some(found),
                Err(reason) => damages.push(set_aside(&path, reason)),
            }
        }
        let generation = newest.as_ref().map_or(0, |n| n.generation);
        let file = Self {
            directory: directory.to_path_buf(),
            generation,
        };
        Ok((file, newest.map(|n| n.content), damages))
    }

    /// Makes `content` the newest generation; when this returns `Ok`, it survives a power cut.
    pub(super) fn save<T: Serialize>(&mut self, content: &T) -> io::Result<()> {
        let generation = self.generation + 1;
        let bytes = encode(generation, content)?;
        let path = slot_path(&self.directory, generation % 2);
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        sync_directory(&self.directory)?;
        self.generation = generation;
        Ok(())
    }
}

/// Renames a damaged file out of the way and says so.
pub(crate) fn set_aside(path: &Path, reason: String) -> Damage {
    let kept_as = (0..1000)
        .map(|n| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".damaged-{n}"));
            PathBuf::from(name)
        })
        .find(|candidate| !candidate.exists())
        .filter(|candidate| fs::rename(path, candidate).is_ok());
    Damage {
        file: path.to_path_buf(),
        kept_as,
        reason,
    }
}

/// Makes renames and removals in `directory` survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn slot_path(directory: &Path, parity: u64) -> PathBuf {
    directory.join(format!("state.{parity}"))
}

fn encode<T: Serialize>(generation: u64, content: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(&Envelope {
        generation,
        content,
    })?;
    let mut bytes = format!("{MAGIC} {} {:08x}\n", body.len(), crc32fast::hash(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Envelope<T>, String> {
    let end = bytes
        .iter()
        .take(100)
        .position(|byte| *byte == b'\n')
        .ok_or("no header line")?;
    let header = std::str::from_utf8(&bytes[..end]).map_err(|_| "header is not text")?;
    let body = &bytes[end + 1..];
    let mut words = header.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(format!("does not start with {MAGIC}"));
    }
    let length: usize = words
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or("no length in the header")?;
    let checksum = words
        .next()
        .and_then(|word| u32::from_str_radix(word, 16).ok())
        .ok_or("no checksum in the header")?;
    if body.len() != length {
        return Err(format!(
            "{} bytes where the header announces {length}",
            body.len()
        ));
    }
    if crc32fast::hash(body) != checksum {
        return Err("checksum does not match".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| format!("not the expected content: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(directory: &Path) -> (StateFile, Option<Content>, Vec<Damage>) {
        StateFile::open(directory).unwrap()
    }

    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Content {
        held: String,
    }

    fn content(text: &str) -> Content {
        Content {
            held: text.to_owned(),
        }
    }

    #[test]
    fn the_newest_generation_is_restored() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, nothing, _) = open(directory.path());
        assert_eq!(nothing, None);
        for text in ["one", "two", "three"] {
            file.save(&content(text)).unwrap();
        }
        let (_, restored, damages) = open(directory.path());
        assert_eq!(restored, Some(content("three")));
        assert_eq!(damages, []);
    }

    #[test]
    fn a_damaged_newest_generation_is_kept_aside_and_the_one_before_restored() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, _, _) = open(directory.path());
        file.save(&content("one")).unwrap();
        file.save(&content("two")).unwrap();
        let newest = directory.path().join("state.0");
        let mut bytes = fs::read(&newest).unwrap();
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        fs::write(&newest, &bytes).unwrap();

        let (mut file, restored, damages) = open(directory.path());
        assert_eq!(restored, Some(content("one")));
        assert_eq!(damages.len(), 1);
        assert_eq!(damages[0].reason, "checksum does not match");
        let kept = damages[0].kept_as.as_ref().unwrap();
        assert_eq!(fs::read(kept).unwrap(), bytes);
        assert!(!newest.exists());

        file.save(&content("three")).unwrap();
        let (_, restored, damages) = open(directory.path());
        assert_eq!(restored, Some(content("three")));
        assert_eq!(damages, []);
    }

    #[test]
    fn a_file_left_by_a_save_that_was_cut_short_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, _, _) = open(directory.path());
        file.save(&content("one")).unwrap();
        fs::write(directory.path().join("state.new"), b"door-agent-st").unwrap();
        let (mut file, restored, damages) = open(directory.path());
        assert_eq!(restored, Some(content("one")));
        assert_eq!(damages, []);
        file.save(&content("two")).unwrap();
        assert_eq!(open(directory.path()).1, Some(content("two")));
    }

    #[test]
    fn both_slots_damaged_means_nothing_restored_and_two_reports() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, _, _) = open(directory.path());
        file.save(&content("one")).unwrap();
        file.save(&content("two")).unwrap();
        for slot in 0..2 {
            fs::write(slot_path(directory.path(), slot), b"").unwrap();
        }
        let (_, restored, damages) = open(directory.path());
        assert_eq!(restored, None);
        assert_eq!(damages.len(), 2);
    }

    proptest! {
        #[test]
        fn a_cut_or_flipped_file_is_never_taken_for_whole(cut in 0usize..90, flip in 0usize..90, bit in 0u8..8) {
            let bytes = encode(7, &content("locked")).unwrap();
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(decode::<Content>(&bytes[..cut]).is_err());
            let mut flipped = bytes.clone();
            let place = flip.min(bytes.len() - 1);
            flipped[place] ^= 1 << bit;
            // Only the case of a checksum digit can change without changing its meaning.
            if let Ok(found) = decode::<Content>(&flipped) {
                prop_assert_eq!(found.content, content("locked"));
            }
        }
    }
}

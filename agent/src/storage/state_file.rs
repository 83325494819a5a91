//! The state file: what a door must remember across a power cut, stored twice.
//!
//! Two files, `state.0` and `state.1`, hold the two newest generations. A save replaces the older
//! one: written beside it, fsynced, renamed over it, the directory fsynced. So whenever the power
//! fails, one complete generation is on disk. The first line of a file holds the format, length and
//! CRC-32 of the rest, which is JSON. A file that fails the check, or is not a file, is renamed to
//! `*.damaged-<time>`, reported, and never read again.
//!
//! A damaged or missing file may have been newer than the remaining one: then the door is in doubt,
//! see [`StateFile::doubt`].
//!
//! On a full disk without room for a file beside the older one, that one is overwritten in place.
//! The newer one stays complete meanwhile, and if the older one is torn the next start detects it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fail_point;
use crate::files::{DAMAGED, Damage, replace, set_aside, sync_directory};

/// First word of a state file, with the version of its layout.
const MAGIC: &str = "door-agent-state-1";

/// No door saves this often: a higher generation is damage, and would overflow on the next save.
const MAX_GENERATION: u64 = u64::MAX / 2;

/// The two slots of one door's directory.
#[derive(Debug)]
pub(super) struct StateFile {
    directory: PathBuf,
    /// Highest generation known to have been on disk.
    generation: u64,
    /// The slot of the newest complete generation; the next save goes to the other one.
    newest: u64,
    /// Whether both slots have the same generation.
    is_same: bool,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Envelope<T> {
    generation: u64,
    content: T,
}

/// Content of the slots of a directory.
struct Slots<T> {
    /// The complete ones with their slot, newest first.
    whole: Vec<(u64, Envelope<T>)>,
    /// The damaged ones with the reason.
    damaged: Vec<(PathBuf, String)>,
}

impl<T: DeserializeOwned> Slots<T> {
    fn read(directory: &Path) -> Self {
        let mut whole = Vec::new();
        let mut damaged = Vec::new();
        for slot in 0..2 {
            let path = slot_path(directory, slot);
            let found = match fs::read(&path) {
                Ok(bytes) => decode::<T>(&bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Err(error.to_string()),
            };
            match found {
                Ok(found) => whole.push((slot, found)),
                Err(reason) => damaged.push((path, reason)),
            }
        }
        whole.sort_by_key(|(_, envelope)| std::cmp::Reverse(envelope.generation));
        Self { whole, damaged }
    }
}

/// The newest complete content below `directory`, which a running agent may use; sets nothing
/// aside.
pub(super) fn peek<T: DeserializeOwned>(directory: &Path) -> Option<T> {
    let newest = Slots::read(directory).whole.into_iter().next();
    newest.map(|(_, envelope)| envelope.content)
}

impl StateFile {
    /// A file in a directory that cannot be read.
    pub(super) fn unread(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            generation: 0,
            newest: 0,
            is_same: false,
        }
    }

    /// Reads the complete generations below `directory`, newest first. A damaged or unreadable slot
    /// is set aside and reported.
    pub(super) fn open<T: DeserializeOwned>(directory: &Path) -> (Self, Vec<T>, Vec<Damage>) {
        let Slots { whole, damaged } = Slots::<T>::read(directory);
        let damaged = damaged.into_iter();
        let damages = damaged.map(|(path, reason)| set_aside(&path, reason));
        let newest = whole.first();
        let generation = newest.map_or(0, |(_, newest)| newest.generation);
        let file = Self {
            directory: directory.to_path_buf(),
            generation,
            newest: newest.map_or(0, |(slot, _)| *slot),
            is_same: whole.len() == 2 && whole[0].1.generation == whole[1].1.generation,
        };
        let contents = whole.into_iter().map(|(_, envelope)| envelope.content);
        (file, contents.collect(), damages.collect())
    }

    /// Why a newer generation than the newest complete one may be lost: a slot is `damaged`,
    /// missing or a copy of the other, or the event ledger has `noted` a higher generation. The
    /// next save continues after that one.
    pub(super) fn doubt(&mut self, damaged: &[Damage], noted: Option<u64>) -> Option<String> {
        let newest = self.generation;
        let noted = noted.filter(|noted| *noted > newest);
        self.generation = noted
            .filter(|noted| *noted <= MAX_GENERATION)
            .unwrap_or(newest);
        if let Some(Damage { file, reason, .. }) = damaged.first() {
            return Some(format!("{}: {reason}", file.display()));
        }
        let folder = self.directory.display();
        if let Some(noted) = noted {
            return Some(format!(
                "{folder}: generation {noted} of the state was saved, but the newest one left is \
                 {newest}"
            ));
        }
        // The first save writes both slots.
        if newest > 1 && !self.has_both() {
            return Some(format!("{folder}: one of its two state files is missing"));
        }
        if self.is_same {
            return Some(format!(
                "{folder}: both state files have generation {newest}"
            ));
        }
        // A start that was killed had set both aside.
        let damaged = newest == 0 && self.has_set_aside();
        damaged.then(|| format!("{folder}: its state files are damaged and set aside"))
    }

    /// Whether the directory contains a slot that was set aside.
    fn has_set_aside(&self) -> bool {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            (0..2).any(|slot| name.starts_with(&format!("state.{slot}{DAMAGED}")))
        })
    }

    /// Whether both slots exist: then the next save has room even on a full disk, in place of the
    /// older one.
    pub(super) fn has_both(&self) -> bool {
        (0..2).all(|slot| slot_path(&self.directory, slot).exists())
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The file of the newest generation, and that of the one before it.
    pub(super) fn paths(&self) -> [PathBuf; 2] {
        [self.newest, 1 - self.newest].map(|slot| slot_path(&self.directory, slot))
    }

    /// Saves `content` as the newest generation; after `Ok` it survives a power cut.
    pub(super) fn save<T: Serialize>(&mut self, content: &T) -> io::Result<()> {
        let generation = self.generation + 1;
        let slot = 1 - self.newest;
        let bytes = encode(generation, content)?;
        let path = slot_path(&self.directory, slot);
        let points = ["state-before", "state-written", "state-renamed"];
        replace(&path, &bytes, File::sync_all, points)?;
        sync_directory(&self.directory)?;
        fail_point::reach("state-saved");
        self.generation = generation;
        self.newest = slot;
        self.is_same = false;
        Ok(())
    }
}

fn slot_path(directory: &Path, parity: u64) -> PathBuf {
    directory.join(format!("state.{parity}"))
}

pub(super) fn encode<T: Serialize>(generation: u64, content: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(&Envelope {
        generation,
        content,
    })?;
    let mut bytes = format!("{}\n", header_of(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn header_of(body: &[u8]) -> String {
    format!("{MAGIC} {} {:08x}", body.len(), crc32fast::hash(body))
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
            "found {} bytes after the header, expected {length}",
            body.len()
        ));
    }
    if crc32fast::hash(body) != checksum {
        return Err("checksum does not match".to_owned());
    }
    if header != header_of(body) {
        return Err(format!(
            "invalid header {header:?}, expected {:?}",
            header_of(body)
        ));
    }
    let found: Envelope<T> = serde_json::from_slice(body)
        .map_err(|error| format!("not the expected content: {error}"))?;
    if found.generation > MAX_GENERATION {
        let generation = found.generation;
        return Err(format!(
            "generation {generation}, expected at most {MAX_GENERATION}"
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(directory: &Path) -> (StateFile, Option<Content>, Vec<Damage>) {
        let (file, contents, damages) = StateFile::open(directory);
        (file, contents.into_iter().next(), damages)
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
    fn a_damaged_newest_generation_is_kept_aside_and_the_previous_one_restored() {
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
    fn a_file_left_by_an_interrupted_save_is_ignored() {
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

    #[test]
    fn anything_in_place_of_a_slot_is_kept_aside_under_a_unique_name() {
        let directory = tempfile::tempdir().unwrap();
        let slot = slot_path(directory.path(), 1);
        let mut kept = Vec::new();
        for n in 0..3 {
            if n == 1 {
                fs::create_dir(&slot).unwrap();
            } else {
                fs::write(&slot, format!("door-agent-state-{n} 3 00000000\n{{}}")).unwrap();
            }
            let (mut file, restored, damages) = open(directory.path());
            assert_eq!(restored, None);
            assert_eq!(damages.len(), 1, "{damages:?}");
            kept.push(damages[0].kept_as.clone().unwrap());
            file.save(&content("one")).unwrap();
            fs::remove_file(&slot).unwrap();
        }
        for (n, kept) in kept.iter().enumerate() {
            let name = kept.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with("state.1.damaged-2"), "{name}");
            assert_eq!(kept.is_dir(), n == 1);
        }
        let text = fs::read_to_string(&kept[2]).unwrap();
        assert!(text.starts_with("door-agent-state-2"), "{text}");
    }

    #[test]
    fn a_slot_overwritten_in_place_is_restored_or_if_torn_the_other_one() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, _, _) = open(directory.path());
        file.save(&content("a longer one")).unwrap();
        file.save(&content("two")).unwrap();
        let bytes = encode(3, &content("three")).unwrap();
        let older = slot_path(directory.path(), 1);
        for cut in 0..bytes.len() {
            crate::files::write_over(&older, &bytes[..cut]).unwrap();
            let (_, restored, damages) = open(directory.path());
            assert_eq!(restored, Some(content("two")), "cut at {cut}");
            fs::rename(damages[0].kept_as.as_ref().unwrap(), &older).unwrap();
        }
        crate::files::write_over(&older, &bytes).unwrap();
        assert_eq!(open(directory.path()).1, Some(content("three")));
    }

    proptest! {
        #[test]
        fn a_truncated_or_flipped_file_is_never_accepted(
            cut in 0usize..90,
            flip in 0usize..90,
            bit in 0u8..8,
        ) {
            let bytes = encode(7, &content("locked")).unwrap();
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(decode::<Content>(&bytes[..cut]).is_err());
            let mut flipped = bytes.clone();
            let place = flip.min(bytes.len() - 1);
            flipped[place] ^= 1 << bit;
            prop_assert!(decode::<Content>(&flipped).is_err());
        }
    }
}

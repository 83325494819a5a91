//! Opens the log: whatever state the files are in, every complete record is found, and what is
//! missing is counted once.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::ledger::Ledger;
use super::loss::Losses;
use super::segment::{Header, OpenedSegment, Segment, Stored, split_mid};
use super::{EventLog, segment_path};
use crate::files::{Damage, keep_bytes, set_aside, sync_directory};

/// Shorter than any record: the rest of a segment whose creation was interrupted by a power cut.
const LEFTOVER: u64 = 128;

impl EventLog {
    /// Opens the log below `directory`, creating it if needed. Unreadable files are set aside; if
    /// the directory is unusable, each record tries again.
    pub(crate) fn open(directory: &Path, boot: &str, limit_bytes: u64) -> (Self, Vec<Damage>) {
        let mut log = Self::unread(directory, boot, limit_bytes);
        // On failure the first record retries, and its caller gets the error.
        let _ = log.attach();
        let damages = log.take_damages();
        (log, damages)
    }

    /// A log whose files the first record reads.
    pub(crate) fn unread(directory: &Path, boot: &str, limit_bytes: u64) -> Self {
        Self {
            directory: directory.to_path_buf(),
            boot: boot.to_owned(),
            next_seq: 1,
            limit_bytes,
            attached: false,
            damages: Vec::new(),
            segments: VecDeque::new(),
            unacknowledged: 1,
            lost: 0,
            reported: 0,
            losses: Losses::default(),
            ledger: Ledger::default(),
            generation: None,
        }
    }

    /// Damages found since the last call.
    pub(crate) fn take_damages(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damages)
    }

    /// Reads the files unless that is done already.
    pub(super) fn attach(&mut self) -> io::Result<()> {
        if self.attached {
            return Ok(());
        }
        self.make_directory()?;
        let files = segment_files(&self.directory)?;
        let ledger = Ledger::read(&self.directory);
        let mut segments: VecDeque<Segment> = VecDeque::new();
        for (path, first) in files {
            let end = segments.back().map_or(0, Segment::end);
            // An interrupted merge: the first segment contains the records of both.
            if first < end && segments.back().is_some_and(Segment::has_holes) {
                let _ = fs::remove_file(&path);
                continue;
            }
            if first < end {
                let reason = format!("its records up to {} are in another file", end - 1);
                self.damages.push(set_aside(&path, reason));
                continue;
            }
            let reported = segments.back().map_or(0, Segment::reported);
            segments.extend(self.read_segment(&path, first, reported));
        }
        self.adopt(ledger, segments);
        self.attached = true;
        Ok(())
    }

    fn make_directory(&mut self) -> io::Result<()> {
        match fs::metadata(&self.directory) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => {
                let reason = "not a directory".to_owned();
                self.damages.push(set_aside(&self.directory, reason));
            }
            Err(_) => {}
        }
        fs::create_dir_all(&self.directory)
    }

    /// The segments in a file: itself, none, or several if it is damaged in the middle.
    fn read_segment(&mut self, path: &Path, first: u64, reported: u64) -> Vec<Segment> {
        let length = fs::metadata(path).map_or(0, |found| found.len());
        match Segment::open(path, first) {
            Ok(OpenedSegment::Whole(segment)) => vec![segment],
            Ok(OpenedSegment::Torn(mut segment, tail)) => {
                let reason = format!("{} bytes at its end are not a complete record", tail.len());
                self.damages.push(keep_bytes(path, &tail, reason));
                // If this fails, it is repeated before the next record.
                let _ = segment.cut_tail();
                vec![segment]
            }
            Ok(OpenedSegment::Damaged { records, .. })
                if records.is_empty() && length < LEFTOVER =>
            {
                // It blocks the name of the next segment, and never had a record.
                let _ = fs::remove_file(path);
                Vec::new()
            }
            Ok(OpenedSegment::Damaged { reason, records }) => {
                match rebuild(&self.directory, &records, reported) {
                    Ok(rebuilt) => {
                        self.damages.push(set_aside(path, reason));
                        rebuilt.into_iter().filter_map(put_in_place).collect()
                    }
                    Err(error) => {
                        self.damages.push(Damage {
                            file: path.to_path_buf(),
                            kept_as: Some(path.to_path_buf()),
                            reason: format!("{reason}; it cannot be repaired: {error}"),
                        });
                        Vec::new()
                    }
                }
            }
            Err(error) => {
                self.damages.push(set_aside(path, error.to_string()));
                Vec::new()
            }
        }
    }

    /// Determines what is missing and the next position and sequence number.
    fn adopt(&mut self, ledger: Option<Ledger>, segments: VecDeque<Segment>) {
        let known = ledger.is_some();
        let mut ledger = ledger.unwrap_or_default();
        self.generation = self.generation.max(ledger.generation);
        let oldest = segments.front().map(|segment| segment.first);
        // Without a ledger the whole log is sent again, with the same message ids.
        let begin = match oldest {
            Some(oldest) if !known => oldest,
            _ => ledger.acknowledged + 1,
        };
        let mut expected = begin;
        let mut gaps: Vec<Range<u64>> = Vec::new();
        for segment in &segments {
            if segment.first > expected {
                gaps.push(expected..segment.first);
            }
            expected = expected.max(segment.end());
        }
        // The ledger may be ahead: the power may have failed before an acknowledged report was
        // durable.
        let reported = segments.back().map_or(ledger.lost, Segment::reported);
        self.reported = reported.max(ledger.reported);
        if ledger.lost > self.reported {
            self.losses.add_unknown();
        }
        let mut missing = 0;
        for gap in &gaps {
            let uncounted = ledger.uncounted(gap);
            if uncounted > 0 {
                self.losses.add_gap(gap, &segments);
            }
            missing += uncounted;
        }
        // Includes what could not be written while the log was not open.
        self.lost += ledger.lost.max(self.reported) + missing;
        self.unacknowledged = oldest.map_or(begin, |oldest| begin.max(oldest));
        self.next_seq = self.sequence_after(&ledger, &segments);
        let changed = missing > 0 || !known;
        ledger.gaps = gaps;
        self.ledger = ledger;
        self.segments = segments;
        if changed {
            // If this fails, the next acknowledgement writes it.
            let _ = self.write_ledger(true);
        }
    }

    /// The next sequence number of this boot.
    fn sequence_after(&self, ledger: &Ledger, segments: &VecDeque<Segment>) -> u64 {
        let mut next = 1;
        let mut advance = |boot: &str, seq: u64| {
            if boot == self.boot {
                next = next.max(seq);
            }
        };
        if let Some((boot, seq)) = &ledger.sequence {
            advance(boot, *seq);
        }
        if let Some(newest) = segments.back() {
            advance(&newest.header.boot, newest.header.next_seq);
            let last = newest.len().checked_sub(1);
            if let Some(Ok(record)) = last.map(|last| newest.read(last)) {
                let (boot, seq) = split_mid(&record.mid);
                advance(boot, seq + 1);
            }
        }
        next
    }
}

/// Writes records to new segments, one per contiguous run of positions, under temporary names.
fn rebuild(
    directory: &Path,
    records: &[(u64, Stored)],
    mut reported: u64,
) -> io::Result<Vec<Segment>> {
    let mut rebuilt: Vec<Segment> = Vec::new();
    let mut write = || {
        for (position, record) in records {
            let follows = |run: &Segment| run.end() + record.span == *position + 1;
            if !rebuilt.last().is_some_and(follows) {
                let first = *position + 1 - record.span;
                let path = segment_path(directory, first).with_extension("new");
                // May be left over from an interrupted start.
                let _ = fs::remove_file(&path);
                let (boot, next_seq) = split_mid(&record.mid);
                let header = Header {
                    boot: boot.to_owned(),
                    next_seq,
                    reported,
                };
                rebuilt.push(Segment::create(&path, first, header)?);
            }
            let run = rebuilt.last_mut().expect("one was just begun");
            run.append(record)?;
            reported += record.lost;
        }
        rebuilt.iter().try_for_each(Segment::sync)
    };
    let written = write();
    if written.is_err() {
        for run in &rebuilt {
            let _ = fs::remove_file(&run.path);
        }
    }
    written.map(|()| rebuilt)
}

/// Renames a rebuilt segment to its final name; `None` if that fails.
fn put_in_place(mut segment: Segment) -> Option<Segment> {
    let path = segment.path.with_extension("log");
    fs::rename(&segment.path, &path).ok()?;
    segment.path = path;
    let directory = segment.path.parent()?;
    // At worst a power cut undoes the rename, and the records count as lost.
    let _ = sync_directory(directory);
    Some(segment)
}

/// The segment files of a directory, with the positions in their names, oldest first.
pub(super) fn segment_files(directory: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let first = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            files.extend(first.map(|first| (path, first)));
        }
    }
    files.sort_by_key(|(_, first)| *first);
    Ok(files)
}

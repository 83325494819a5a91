//! The event log: every event of a door, on disk until the hub has acknowledged it.
//!
//! Owned by the storage thread; nobody else touches the files. Records are numbered twice: by *position*, which counts since the log began and
//! orders sending, and by *sequence*, which starts at 1 with each boot id and has no gaps; `<boot id>-<sequence>` is the message id the hub
//! sees. The log is bounded by bytes: when it is full its oldest segment goes, and one record tells how many events went with it. A tail torn
//! by a power cut is cut off; a file damaged elsewhere is kept aside and reported.

mod segment;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::storage::{Damage, set_aside, sync_directory};
use segment::{Header, Segment, Stored, Tail};

/// How many segments the byte bound is divided into: what is lost at once when the log is full.
const SEGMENTS: u64 = 8;
/// Kind of the record that tells of lost ones.
const EVENTS_LOST: &str = "eventsLost";
/// File that holds the position up to which the hub has acknowledged.
const ACKNOWLEDGED: &str = "acknowledged";

/// A record on its way to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Its place in the log; hand it back to acknowledge everything up to and including it.
    pub position: u64,
    /// The message id, `<boot id>-<sequence>`.
    pub mid: String,
    /// The message body, a JSON object.
    pub body: Vec<u8>,
}

/// What a record says, before the log gives it its sequence number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Wall time of the event in RFC 3339, when there was any.
    pub(crate) at: Option<String>,
    /// How far that time can be trusted.
    pub(crate) clock: String,
    pub(crate) kind: String,
    /// `door`, `building`, `floor` and whatever the kind brings, in this order.
    pub(crate) fields: Map<String, Value>,
}

#[derive(Debug)]
pub(crate) struct EventLog {
    directory: PathBuf,
    boot: String,
    next_seq: u64,
    limit_bytes: u64,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    /// First position not yet acknowledged.
    unacknowledged: u64,
    /// Events dropped that no record tells of yet.
    lost: u64,
}

impl EventLog {
    /// Opens the log below `directory`, making it when there is none.
    pub(crate) fn open(
        directory: &Path,
        boot: &str,
        limit_bytes: u64,
    ) -> io::Result<(Self, Vec<Damage>)> {
        fs::create_dir_all(directory)?;
        let acknowledged = read_acknowledged(directory);
        let mut damages = Vec::new();
        let mut lost = 0;
        let mut expected = acknowledged + 1;
        let mut segments: VecDeque<Segment> = VecDeque::new();
        for (path, first) in segment_files(directory)? {
            let (segment, tail) = match Segment::open(&path, first)? {
                Ok(found) => found,
                Err(reason) => {
                    damages.push(set_aside(&path, reason));
                    continue;
                }
            };
            // The gap to the segment before is what damage has cost, told in the next loss record.
            lost += first.saturating_sub(expected);
            expected = expected.max(segment.end());
            if let Tail::Torn(bytes) = tail {
                damages.push(keep_copy(
                    &path,
                    format!("{bytes} bytes at its end are no whole record"),
                ));
                segment.cut_tail()?;
            }
            segments.push_back(segment);
        }
        let mut log = Self {
            directory: directory.to_path_buf(),
            boot: boot.to_owned(),
            next_seq: 1,
            limit_bytes,
            unacknowledged: acknowledged + 1,
            segments,
            lost,
        };
        log.resume_sequence()?;
        Ok((log, damages))
    }

    /// Position of the newest record, 0 when there never was one.
    pub(crate) fn newest(&self) -> u64 {
        self.segments
            .back()
            .map_or(0, Segment::end)
            .saturating_sub(1)
    }

    /// Position up to which everything is acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.unacknowledged - 1
    }

    /// Appends a record and tells its sequence number; it is on disk for certain only after [`EventLog::sync`].
    ///
    /// # Errors
    /// When it cannot be written: then it counts as lost, and the next record that can be written tells so.
    pub(crate) fn append(&mut self, entry: Entry) -> io::Result<u64> {
        let result = self.make_room().and_then(|()| {
            if self.lost > 0 {
                let mut fields: Map<_, _> = entry
                    .fields
                    .iter()
                    .filter(|(key, _)| ["door", "building", "floor"].contains(&key.as_str()))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                fields.insert("lost".to_owned(), self.lost.into());
                let report = Entry {
                    kind: EVENTS_LOST.to_owned(),
                    fields,
                    ..entry.clone()
                };
                self.write(report, self.lost)?;
                self.lost = 0;
            }
            self.write(entry, 0)
        });
        if result.is_err() {
            self.lost += 1;
        }
        result
    }

    /// Counts events that never reached the log, for the next loss record.
    pub(crate) fn count_lost(&mut self, events: u64) {
        self.lost += events;
    }

    /// Makes everything appended so far survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.segments.back().map_or(Ok(()), Segment::sync)
    }

    /// Up to `limit` records after `position`, oldest first.
    pub(crate) fn read_after(&self, position: u64, limit: usize) -> io::Result<Vec<LogRecord>> {
        let from = (position + 1).max(self.unacknowledged);
        let mut records = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.end() > from) {
            let skip = usize::try_from(from.saturating_sub(segment.first)).unwrap_or(usize::MAX);
            for index in skip..segment.len() {
                if records.len() == limit {
                    return Ok(records);
                }
                let stored = segment.read(index)?;
                records.push(LogRecord {
                    position: segment.first + index as u64,
                    mid: stored.mid,
                    body: stored.body,
                });
            }
        }
        Ok(records)
    }

    /// Removes everything up to and including `position`.
    ///
    /// The new position is not fsynced: after a power cut some records are sent again, under the message id they had.
    pub(crate) fn acknowledge(&mut self, position: u64) -> io::Result<()> {
        if position < self.unacknowledged {
            return Ok(());
        }
        self.unacknowledged = position.min(self.newest()) + 1;
        while self.segments.len() > 1
            && self
                .segments
                .front()
                .is_some_and(|oldest| oldest.end() <= self.unacknowledged)
        {
            self.remove_oldest()?;
        }
        let path = self.directory.join(ACKNOWLEDGED);
        let fresh = path.with_extension("new");
        fs::write(&fresh, format!("{}\n", self.acknowledged()))?;
        fs::rename(&fresh, &path)
    }

    /// Finds where the sequence of this boot goes on, and makes sure that there is a segment to write to.
    fn resume_sequence(&mut self) -> io::Result<()> {
        let Some(newest) = self.segments.back() else {
            return self.begin_segment(self.unacknowledged);
        };
        // Positions never run backwards, whatever the acknowledged file says.
        self.unacknowledged = self.unacknowledged.min(newest.end());
        let (boot, seq) = match newest.len().checked_sub(1) {
            Some(last) => split_mid(&newest.read(last)?.mid),
            None => (newest.header.boot.clone(), newest.header.next_seq - 1),
        };
        if boot == self.boot {
            self.next_seq = seq + 1;
        }
        Ok(())
    }

    /// Starts a new segment when the current one is full, and drops the oldest while the log is over its bound.
    fn make_room(&mut self) -> io::Result<()> {
        let share = self.limit_bytes / SEGMENTS;
        if let Some(end) = self
            .segments
            .back()
            .filter(|newest| newest.bytes() >= share && newest.len() > 0)
            .map(Segment::end)
        {
            self.sync()?;
            self.begin_segment(end)?;
        }
        while self.segments.len() > 1
            && self.segments.iter().map(Segment::bytes).sum::<u64>() > self.limit_bytes - share
        {
            let oldest = &self.segments[0];
            let end = oldest.end();
            self.lost += oldest.events_from(self.unacknowledged);
            self.remove_oldest()?;
            self.unacknowledged = self.unacknowledged.max(end);
        }
        Ok(())
    }

    fn begin_segment(&mut self, first: u64) -> io::Result<()> {
        let header = Header {
            boot: self.boot.clone(),
            next_seq: self.next_seq,
        };
        let segment = Segment::create(&self.directory, first, header)?;
        sync_directory(&self.directory)?;
        self.segments.push_back(segment);
        Ok(())
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        if let Some(oldest) = self.segments.pop_front() {
            fs::remove_file(&oldest.path)?;
        }
        Ok(())
    }

    fn write(&mut self, entry: Entry, lost: u64) -> io::Result<u64> {
        let mut body = Map::new();
        body.insert("seq".to_owned(), self.next_seq.into());
        body.insert("boot".to_owned(), self.boot.as_str().into());
        body.insert("at".to_owned(), entry.at.into());
        body.insert("clock".to_owned(), entry.clock.into());
        body.insert("kind".to_owned(), entry.kind.into());
        for (key, value) in entry.fields {
            body.entry(key).or_insert(value);
        }
        let stored = Stored {
            mid: format!("{}-{}", self.boot, self.next_seq),
            lost,
            body: serde_json::to_vec(&body)?,
        };
        let newest = self
            .segments
            .back_mut()
            .expect("a log that was opened has a segment to write to");
        newest.append(&stored)?;
        self.next_seq += 1;
        Ok(self.next_seq - 1)
    }
}

/// The segment files of a directory with the position their names give, oldest first.
fn segment_files(directory: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
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

/// An absent or damaged file means that all of the log is sent again, under the message ids it had.
fn read_acknowledged(directory: &Path) -> u64 {
    fs::read_to_string(directory.join(ACKNOWLEDGED))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Keeps a copy of a file whose whole part stays in use.
fn keep_copy(path: &Path, reason: String) -> Damage {
    let mut kept = path.as_os_str().to_owned();
    kept.push(".damaged");
    let kept = PathBuf::from(kept);
    let kept_as = fs::copy(path, &kept).is_ok().then_some(kept);
    Damage {
        file: path.to_path_buf(),
        kept_as,
        reason,
    }
}

fn split_mid(mid: &str) -> (String, u64) {
    match mid.rsplit_once('-') {
        Some((boot, seq)) => (boot.to_owned(), seq.parse().unwrap_or(0)),
        None => (mid.to_owned(), 0),
    }
}

#[cfg(test)]
mod tests;

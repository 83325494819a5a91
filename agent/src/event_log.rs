//! The event log: all events of a door, on disk until the hub has acknowledged them.
//!
//! Only the storage thread accesses the files. A record has two numbers: its *position* counts
//! since the log began and orders sending; its *sequence* starts at 1 with each boot id and has no
//! gaps, and `<boot id>-<sequence>` is the message id that the hub sees. The log is bounded in
//! bytes: when it is full, less important records are dropped first (`thin`), and a record explains
//! each hole. A tail torn by a power cut is cut off; a file with other damage is kept aside and
//! reported.
//!
//! Why: docs/decisions/0014-delivery-is-the-agents-job.md.

mod ledger;
mod loss;
mod open;
mod segment;
mod thin;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use door_core::DoorEvent;
use log::{error, warn};

use crate::files::{Damage, set_aside, sync_directory};
use ledger::Ledger;
use loss::Losses;
use segment::{Header, Segment, Stored};
use thin::{SegmentDraft, Thinned};

/// Number of segments that share the byte bound: a full log rewrites or drops one segment at a
/// time.
const SEGMENTS: u64 = 8;

/// A record to send to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Position in the log; pass it back to acknowledge everything up to and including it.
    pub position: u64,
    /// The message id, `<boot id>-<sequence>`.
    pub mid: String,
    /// The message body, a JSON object.
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct EventLog {
    directory: PathBuf,
    boot: String,
    next_seq: u64,
    limit_bytes: u64,
    /// Whether the files were read; nothing can be appended before.
    attached: bool,
    /// Damages found since the last [`EventLog::take_damages`].
    damages: Vec<Damage>,
    /// Oldest first; records are appended to the last one.
    segments: VecDeque<Segment>,
    /// First position not yet acknowledged.
    unacknowledged: u64,
    /// Events lost since the log began.
    lost: u64,
    /// How many of them have been reported by records.
    reported: u64,
    /// Details of the unreported ones, as far as this run knows them.
    losses: Losses,
    /// The ledger as it should be on disk, except the sequence.
    ledger: Ledger,
    /// Generation of the newest state file known from the ledger or the caller.
    generation: Option<u64>,
}

impl EventLog {
    /// Position of the newest record, 0 before the first one.
    pub(crate) fn newest(&self) -> u64 {
        self.next_position() - 1
    }

    /// Position up to which everything is acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.unacknowledged - 1
    }

    /// Numbers an event and appends it; it is durable only after [`EventLog::sync`].
    ///
    /// # Errors
    /// When it cannot be written; it then counts as lost, and the next record that can be written
    /// is preceded by a report of the loss.
    pub(crate) fn append(&mut self, event: &mut DoorEvent) -> io::Result<()> {
        let result = self.try_append(event);
        if result.is_err() {
            self.count_lost(BTreeMap::from([(event.kind.to_string(), 1)]));
        }
        result
    }

    fn try_append(&mut self, event: &mut DoorEvent) -> io::Result<()> {
        self.attach()?;
        self.make_room()?;
        let unreported = self.lost.saturating_sub(self.reported);
        if unreported > 0 {
            let report = self.losses.report(unreported, &self.boot, self.next_seq);
            self.write(&mut event.clone().with_kind(&report), unreported)?;
            self.reported += unreported;
            self.losses = Losses::default();
        }
        self.write(event, 0)
    }

    /// Checks whether a record could be written now, and saves the ledger.
    pub(crate) fn check_writable(&mut self) -> io::Result<()> {
        self.attach()?;
        self.make_room()?;
        self.write_ledger(true)
    }

    /// Counts events that never reached the log, by kind, for the next loss record.
    pub(crate) fn count_lost(&mut self, kinds: BTreeMap<String, u64>) {
        self.lost += kinds.values().sum::<u64>();
        self.losses.add_kinds(kinds);
    }

    /// Makes all appended records survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.segments.back().map_or(Ok(()), Segment::sync)
    }

    /// Up to `limit` records after `position`, oldest first. An unreadable one is skipped and
    /// counts as lost.
    pub(crate) fn read_after(&mut self, position: u64, limit: usize) -> Vec<LogRecord> {
        let from = (position + 1).max(self.unacknowledged);
        let mut records = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.end() > from) {
            for index in segment.index_of(from)..segment.len() {
                if records.len() == limit {
                    return records;
                }
                let position = segment.position(index);
                match segment.read(index) {
                    Ok(stored) => records.push(LogRecord {
                        position,
                        mid: stored.mid,
                        body: stored.body,
                    }),
                    Err(problem) => {
                        let gap = position..position + 1;
                        let uncounted = self.ledger.uncounted(&gap);
                        if uncounted > 0 {
                            error!("an event has become unreadable and counts as lost: {problem}");
                            self.lost += uncounted;
                            self.losses.add_gap(&gap, &self.segments);
                            self.ledger.gaps.push(gap);
                        }
                    }
                }
            }
        }
        records
    }

    /// Removes everything up to and including `position`.
    ///
    /// The new position is not fsynced: after a power cut some records are sent again with the same
    /// message ids.
    pub(crate) fn acknowledge(&mut self, position: u64) -> io::Result<()> {
        if position < self.unacknowledged {
            return Ok(());
        }
        self.unacknowledged = position.min(self.newest()) + 1;
        // Saved before anything is removed: what is missing from the ledger would count as lost.
        self.write_ledger(false)?;
        while self.segments.len() > 1
            && self
                .segments
                .front()
                .is_some_and(|oldest| oldest.end() <= self.unacknowledged)
        {
            self.remove_oldest()?;
        }
        Ok(())
    }

    /// The newest state file named by the ledger; `None` if that is absent, damaged or of an
    /// earlier version.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// Records the newest state file in the ledger. Not fsynced until the next fsynced record.
    pub(crate) fn note_generation(&mut self, generation: u64) -> io::Result<()> {
        self.generation = Some(generation);
        self.attach()?;
        self.write_ledger(false)
    }

    /// Position of the next record.
    fn next_position(&self) -> u64 {
        let end = self.segments.back().map_or(0, Segment::end);
        end.max(self.unacknowledged)
    }

    /// Updates and writes the ledger.
    fn write_ledger(&mut self, synced: bool) -> io::Result<()> {
        self.ledger.acknowledged = self.acknowledged();
        self.ledger.lost = self.lost;
        self.ledger.generation = self.generation;
        let acknowledged = self.segments.iter().rev();
        let mut acknowledged = acknowledged.filter(|segment| segment.first < self.unacknowledged);
        if let Some(segment) = acknowledged.next() {
            self.ledger.reported = segment.reported_before(self.unacknowledged);
        }
        self.ledger.sequence = Some((self.boot.clone(), self.next_seq));
        let unacknowledged = self.unacknowledged;
        self.ledger.gaps.retain(|gap| gap.end > unacknowledged);
        self.ledger.write(&self.directory, synced)
    }

    /// Thins the log while it is over its bound, drops the oldest segment if that does not help,
    /// and begins a new segment if the last one is full or missing.
    fn make_room(&mut self) -> io::Result<()> {
        let share = self.limit_bytes / SEGMENTS;
        while self.segments.len() > 1
            && self.segments.iter().map(Segment::bytes).sum::<u64>() > self.limit_bytes - share
        {
            if self.thin_one() {
                continue;
            }
            let oldest = &self.segments[0];
            let end = oldest.end();
            self.lost += oldest.events_from(self.unacknowledged);
            let from = oldest.first.max(self.unacknowledged);
            let records = oldest.index_of(from)..oldest.len();
            let records = records.filter_map(|index| oldest.read(index).ok());
            self.losses
                .add_dropped(&(from..end), records, &self.segments);
            self.unacknowledged = self.unacknowledged.max(end);
            // The ledger first, so that nothing is counted twice; on a full disk there may be room
            // for it only afterwards.
            let noted = self.write_ledger(true);
            self.remove_oldest()?;
            noted.or_else(|_| self.write_ledger(true))?;
        }
        let next = self.next_position();
        let fits = |newest: &Segment| {
            newest.end() == next && (newest.bytes() < share || newest.len() == 0)
        };
        if !self.segments.back().is_some_and(fits) {
            self.sync()?;
            self.begin_segment(next)?;
        }
        Ok(())
    }

    /// Rewrites the oldest segment that can still be thinned; false if there is none.
    fn thin_one(&mut self) -> bool {
        let closed = self.segments.len() - 1;
        for level in [Thinned::Minor, Thinned::Everything] {
            let candidates = self.segments.iter().take(closed);
            let found = candidates
                .enumerate()
                .find(|(_, segment)| segment.thinned < level);
            let Some((index, _)) = found else {
                continue;
            };
            // Not retried after a failure: on a full disk dropping segments makes room.
            self.segments[index].thinned = level;
            if let Err(error) = self.thin(index, level) {
                let path = self.segments[index].path.display();
                warn!("{path}: cannot rewrite it to make room: {error}");
            }
            return true;
        }
        false
    }

    /// Rewrites a segment, merged with the one before it if that is small, unless the result would
    /// not be smaller.
    fn thin(&mut self, index: usize, level: Thinned) -> io::Result<()> {
        let share = self.limit_bytes / SEGMENTS;
        let joins = |before: &Segment| {
            before.bytes() < share / 2 && before.end() == self.segments[index].first
        };
        let merges = index > 0 && joins(&self.segments[index - 1]);
        let from = index - usize::from(merges);
        let (first, end) = (self.segments[from].first, self.segments[index].end());
        let mut draft = SegmentDraft::default();
        for segment in self.segments.range(from..=index) {
            for record in segment.index_of(self.unacknowledged)..segment.len() {
                draft.take(segment.position(record), segment.read(record)?, level);
            }
        }
        let path = self.segments[from].path.clone();
        let fresh_path = path.with_extension("new");
        // May be left over from an interrupted rewrite.
        let _ = fs::remove_file(&fresh_path);
        let header = self.segments[from].header.clone();
        let mut fresh = Segment::create(&fresh_path, first, header)?;
        let old = self.segments.range(from..=index).map(Segment::bytes);
        let old: u64 = old.sum();
        let written = draft
            .into_records()
            .into_iter()
            .try_for_each(|(position, record)| {
                let span = position + 1 - fresh.end();
                fresh.append(&Stored { span, ..record })
            });
        let is_better = fresh.end() == end && fresh.bytes() < old;
        let replaced = written.and_then(|()| {
            if is_better {
                fresh.sync()?;
                fs::rename(&fresh_path, &path)?;
            }
            Ok(is_better)
        });
        if !matches!(replaced, Ok(true)) {
            let _ = fs::remove_file(&fresh_path);
            return replaced.map(drop);
        }
        fresh.path = path;
        fresh.thinned = level;
        self.segments[from] = fresh;
        sync_directory(&self.directory)?;
        if merges {
            if let Some(merged) = self.segments.remove(index) {
                // If this fails, the next start removes it.
                let _ = fs::remove_file(merged.path);
            }
        }
        Ok(())
    }

    fn begin_segment(&mut self, first: u64) -> io::Result<()> {
        let path = segment_path(&self.directory, first);
        let header = Header {
            boot: self.boot.clone(),
            next_seq: self.next_seq,
            reported: self.reported,
        };
        let segment = match Segment::create(&path, first, header.clone()) {
            // An unreadable file was left there: it must not be overwritten.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let reason = "a new file of this name is needed".to_owned();
                self.damages.push(set_aside(&path, reason));
                Segment::create(&path, first, header)?
            }
            made => made?,
        };
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

    fn write(&mut self, event: &mut DoorEvent, lost: u64) -> io::Result<()> {
        event.seq = self.next_seq;
        event.boot.clone_from(&self.boot);
        let stored = Stored {
            mid: format!("{}-{}", self.boot, self.next_seq),
            lost,
            span: 1,
            body: event.to_json(),
        };
        let newest = self
            .segments
            .back_mut()
            .expect("make_room has begun a segment");
        newest.append(&stored)?;
        self.next_seq += 1;
        Ok(())
    }
}

fn segment_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.log"))
}

#[cfg(test)]
mod tests;

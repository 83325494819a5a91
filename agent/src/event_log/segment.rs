//! One file of the event log: frames of `[length u32][crc32 u32][payload]`, little endian.
//!
//! The first frame is the header, every other one a record. A record's payload is one line
//! `<mid>[ <lost>[ <span>]]` followed by the message body, so that sending a record or counting
//! dropped ones needs no JSON parser. `span` is the number of positions that the record covers,
//! with the dropped ones before it; it defaults to 1.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::thin::Thinned;

/// Bytes before a payload.
const FRAME_HEADER: usize = 8;
/// Largest payload read from or written to a file. A message to the hub may have 256 KiB; those of
/// the agent are far smaller.
pub(super) const MAX_PAYLOAD: usize = 64 * 1024;

/// Follows the boot id in the message id of a record that explains a hole:
/// `<boot id>-lost<count>-<from>-<to>`.
pub(super) const HOLE_MID: &str = "-lost";

/// First frame of a segment: boot and next sequence number at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) boot: String,
    pub(super) next_seq: u64,
    /// Lost events reported by the records before this segment, since the log began.
    #[serde(default, rename = "told")] // codespell:ignore told
    pub(super) reported: u64,
}

/// A record as stored in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) mid: String,
    /// How many records this one reports as lost (0 for an ordinary record).
    pub(super) lost: u64,
    /// Positions that it covers: its own, the last, and those of records dropped before it.
    pub(super) span: u64,
    pub(super) body: Vec<u8>,
}

/// An open segment. Positions count records since the log began; the file is named by its first.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) first: u64,
    pub(super) header: Header,
    /// Position of each record, and offset of its frame.
    records: Vec<(u64, u32)>,
    /// Position after the last record.
    end: u64,
    /// Position and count of each record that reports losses.
    losses: Vec<(u64, u64)>,
    /// How far it was thinned, as far as this run knows.
    pub(super) thinned: Thinned,
    bytes: u32,
    file: Access,
    /// Bytes after the last complete record are still to be cut off.
    has_torn_tail: bool,
}

/// How the file is open. A read-only disk can still be read.
#[derive(Debug)]
enum Access {
    Whole(File),
    ReadOnly(File),
}

/// Condition of a segment's file.
#[derive(Debug)]
pub(super) enum OpenedSegment {
    /// It ends with a complete record.
    Whole(Segment),
    /// These bytes follow its last complete record and contain no other one.
    Torn(Segment, Vec<u8>),
    /// It is damaged before its end; these records are complete, each with its position.
    Damaged {
        reason: String,
        records: Vec<(u64, Stored)>,
    },
}

impl Segment {
    /// Creates the file and writes its header, fsynced (the caller fsyncs the directory). On
    /// failure a partial file is removed.
    pub(super) fn create(path: &Path, first: u64, header: Header) -> io::Result<Self> {
        let created = Self::create_new(path, first, header);
        if created
            .as_ref()
            .is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists)
        {
            // On a full disk it only takes room; if this fails too, the next start finds it torn.
            let _ = fs::remove_file(path);
        }
        created
    }

    fn create_new(path: &Path, first: u64, header: Header) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        let frame = frame(&serde_json::to_vec(&header)?)?;
        file.write_all(&frame)?;
        file.sync_all()?;
        Ok(Self {
            path: path.to_path_buf(),
            first,
            header,
            records: Vec::new(),
            end: first,
            losses: Vec::new(),
            thinned: Thinned::default(),
            bytes: to_offset(frame.len())?,
            file: Access::Whole(file),
            has_torn_tail: false,
        })
    }

    /// Opens and reads a segment.
    ///
    /// # Errors
    /// When the file cannot be read at all.
    pub(super) fn open(path: &Path, first: u64) -> io::Result<OpenedSegment> {
        let bytes = fs::read(path)?;
        let header = next_frame(&bytes, 0).ok_or_else(|| "no complete header".to_owned());
        let header = header.and_then(|(payload, end)| {
            let header = serde_json::from_slice::<Header>(payload);
            let header = header.map_err(|error| format!("header: {error}"))?;
            Ok((header, end))
        });
        let (header, start) = match header {
            Ok(found) => found,
            Err(reason) => {
                let records = salvage(&bytes, 0, first, None);
                return Ok(OpenedSegment::Damaged { reason, records });
            }
        };
        let mut segment = Self {
            path: path.to_path_buf(),
            first,
            header,
            records: Vec::new(),
            end: first,
            losses: Vec::new(),
            thinned: Thinned::default(),
            bytes: to_offset(start)?,
            file: Access::open(path)?,
            has_torn_tail: false,
        };
        let mut whole = Vec::new();
        let mut at = start;
        while let Some((record, end)) = record_at(&bytes, at) {
            segment.add(&record);
            segment.bytes = to_offset(end)?;
            whole.push((segment.end - 1, record));
            at = end;
        }
        if at == bytes.len() {
            return Ok(OpenedSegment::Whole(segment));
        }
        // If the first record is damaged, the header reveals its number.
        let begin = format!(
            "{}-{}",
            segment.header.boot,
            segment.header.next_seq.saturating_sub(1)
        );
        let before = match whole.last() {
            Some((position, record)) => (*position, record.mid.as_str()),
            None => (first.saturating_sub(1), begin.as_str()),
        };
        let before = Some(before);
        let beyond = salvage(&bytes, at, segment.end(), before);
        if beyond.is_empty() {
            segment.has_torn_tail = true;
            return Ok(OpenedSegment::Torn(segment, bytes[at..].to_vec()));
        }
        whole.extend(beyond);
        Ok(OpenedSegment::Damaged {
            reason: format!("no complete record at byte {at}, but others follow"),
            records: whole,
        })
    }

    fn add(&mut self, record: &Stored) {
        self.end += record.span;
        let position = self.end - 1;
        if record.lost > 0 {
            self.losses.push((position, record.lost));
        }
        self.records.push((position, self.bytes));
    }

    /// Lost events reported up to the end of this segment, since the log began.
    pub(super) fn reported(&self) -> u64 {
        self.reported_before(self.end())
    }

    /// Lost events reported before this position, since the log began.
    pub(super) fn reported_before(&self, position: u64) -> u64 {
        let here = self.losses.iter().filter(|(at, _)| *at < position);
        self.header.reported + here.map(|(_, lost)| lost).sum::<u64>()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn position(&self, index: usize) -> u64 {
        self.records[index].0
    }

    /// Index of the first record at or after a position.
    pub(super) fn index_of(&self, position: u64) -> usize {
        self.records.partition_point(|(at, _)| *at < position)
    }

    /// Whether it covers positions of dropped records.
    pub(super) fn has_holes(&self) -> bool {
        self.end - self.first > self.records.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.bytes)
    }

    /// Position after the last record.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Appends a record; the caller decides when to sync. A partial write is cut off again.
    pub(super) fn append(&mut self, record: &Stored) -> io::Result<()> {
        let mut payload = record.mid.clone().into_bytes();
        if record.lost > 0 || record.span > 1 {
            payload.extend_from_slice(format!(" {}", record.lost).as_bytes());
        }
        if record.span > 1 {
            payload.extend_from_slice(format!(" {}", record.span).as_bytes());
        }
        payload.push(b'\n');
        payload.extend_from_slice(&record.body);
        let frame = frame(&payload)?;
        if self.has_torn_tail {
            self.cut_tail()?;
        }
        let start = u64::from(self.bytes);
        let file = self.file.for_writing(&self.path)?;
        file.seek(SeekFrom::Start(start))?;
        if let Err(error) = file.write_all(&frame) {
            self.has_torn_tail = true;
            // If this fails too, it is repeated before the next record.
            let _ = self.cut_tail();
            return Err(error);
        }
        self.add(record);
        self.bytes += to_offset(frame.len())?;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.get().sync_data()
    }

    /// Cuts off the bytes after the last complete record.
    pub(super) fn cut_tail(&mut self) -> io::Result<()> {
        let end = u64::from(self.bytes);
        let file = self.file.for_writing(&self.path)?;
        file.set_len(end)?;
        file.sync_all()?;
        self.has_torn_tail = false;
        Ok(())
    }

    /// The record at `index` in this segment.
    pub(super) fn read(&self, index: usize) -> io::Result<Stored> {
        let (position, start) = self.records[index];
        let end = self.records.get(index + 1);
        let end = end.map_or(self.bytes, |(_, start)| *start);
        let mut bytes = vec![0; (end - start) as usize];
        let mut file = self.file.get();
        file.seek(SeekFrom::Start(u64::from(start)))?;
        file.read_exact(&mut bytes)?;
        record_at(&bytes, 0)
            .map(|(record, _)| record)
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "{}: record {} has changed on disk",
                        self.path.display(),
                        position
                    ),
                )
            })
    }

    /// How many events are lost if this segment is dropped while everything below `unacknowledged`
    /// is acknowledged.
    pub(super) fn events_from(&self, unacknowledged: u64) -> u64 {
        let from = self.first.max(unacknowledged);
        let reports = self.losses.iter().filter(|(position, _)| *position >= from);
        let (reports, reported) =
            reports.fold((0, 0), |(count, sum), (_, lost)| (count + 1, sum + lost));
        // A loss report is not an event itself: it stands for those it reports.
        self.end.saturating_sub(from).saturating_sub(reports) + reported
    }
}

impl Access {
    fn open(path: &Path) -> io::Result<Self> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Ok(Self::Whole(file)),
            Err(_) => Ok(Self::ReadOnly(File::open(path)?)),
        }
    }

    fn get(&self) -> &File {
        match self {
            Self::Whole(file) | Self::ReadOnly(file) => file,
        }
    }

    /// The file opened for writing; retries one that was opened while the disk was read-only.
    fn for_writing(&mut self, path: &Path) -> io::Result<&mut File> {
        if let Self::ReadOnly(_) = self {
            *self = Self::Whole(OpenOptions::new().read(true).write(true).open(path)?);
        }
        match self {
            Self::Whole(file) | Self::ReadOnly(file) => Ok(file),
        }
    }
}

/// All complete records at or after byte `from`, at any offset, with their positions.
///
/// Within a boot positions advance in step with sequence numbers, so a missing record leaves its
/// position empty.
fn salvage(
    bytes: &[u8],
    from: usize,
    next: u64,
    before: Option<(u64, &str)>,
) -> Vec<(u64, Stored)> {
    let mut found: Vec<(u64, Stored)> = Vec::new();
    let mut at = from;
    while at < bytes.len() {
        let Some((record, end)) = record_at(bytes, at) else {
            at += 1;
            continue;
        };
        let last = found
            .last()
            .map(|(position, record)| (*position, record.mid.as_str()));
        let position = match last.or(before) {
            None => next + record.span - 1,
            Some((position, last)) => position + steps(last, &record.mid).max(record.span),
        };
        found.push((position, record));
        at = end;
    }
    found
}

/// Distance from one record to a later one.
fn steps(from: &str, to: &str) -> u64 {
    let ((from_boot, from), (to_boot, to)) = (split_mid(from), split_mid(to));
    if from_boot == to_boot {
        to.saturating_sub(from).max(1)
    } else {
        // A boot begins with 1. How many records the earlier boot lost at its end is unknown.
        to.max(1)
    }
}

/// Boot id and sequence number of a message id.
pub(super) fn split_mid(mid: &str) -> (&str, u64) {
    match mid.rsplit_once('-') {
        Some((boot, seq)) => {
            let boot = boot.split_once(HOLE_MID).map_or(boot, |(boot, _)| boot);
            (boot, seq.parse().unwrap_or(0))
        }
        None => (mid, 0),
    }
}

fn frame(payload: &[u8]) -> io::Result<Vec<u8>> {
    if payload.len() > MAX_PAYLOAD {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "an event of {} bytes exceeds {MAX_PAYLOAD} bytes",
                payload.len()
            ),
        ));
    }
    let mut frame = Vec::with_capacity(FRAME_HEADER + payload.len());
    frame.extend_from_slice(&to_offset(payload.len())?.to_le_bytes());
    frame.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// The payload of the frame at `at` and the offset of the next one; `None` if there is no complete
/// frame with a matching checksum.
fn next_frame(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let header = bytes.get(at..at + FRAME_HEADER)?;
    let length = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(header[4..].try_into().ok()?);
    if length > MAX_PAYLOAD {
        return None;
    }
    let start = at + FRAME_HEADER;
    let payload = bytes.get(start..start + length)?;
    (crc32fast::hash(payload) == checksum).then_some((payload, start + length))
}

/// The record whose frame is at byte `at`, and the offset of the next one.
fn record_at(bytes: &[u8], at: usize) -> Option<(Stored, usize)> {
    let (payload, end) = next_frame(bytes, at)?;
    Some((parse_record(payload)?, end))
}

fn parse_record(payload: &[u8]) -> Option<Stored> {
    let end = payload.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&payload[..end]).ok()?;
    let mut words = line.split(' ');
    let mid = words.next()?;
    let mut number = |absent| words.next().map_or(Some(absent), |word| word.parse().ok());
    let lost = number(0)?;
    let span: u32 = u32::try_from(number(1)?).ok().filter(|span| *span > 0)?;
    Some(Stored {
        mid: mid.to_owned(),
        lost,
        span: span.into(),
        body: payload[end + 1..].to_vec(),
    })
}

fn to_offset(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "event log file exceeds 4 GiB"))
}

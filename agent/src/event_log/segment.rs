//! One file of the event log: frames of `[length u32][crc32 u32][payload]`, little endian.
//!
//! The first frame is the header, every other one a record. A record's payload is one line `<mid>[ <lost>]` and then the message body, so that
//! nothing needs to parse JSON to send it or to count what a dropped segment held.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Bytes before a payload.
const FRAME_HEADER: usize = 8;
/// Largest payload taken from or written to a file. A message to the hub may have 256 KiB; ours stay far below.
pub(super) const MAX_PAYLOAD: usize = 64 * 1024;

/// First frame of a segment: where the sequence stands when it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) boot: String,
    pub(super) next_seq: u64,
}

/// One record as it is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) mid: String,
    /// How many records this one reports as lost (0 for every ordinary record).
    pub(super) lost: u64,
    pub(super) body: Vec<u8>,
}

/// An open segment. Positions count records since the log began; the file's name is its first.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) first: u64,
    pub(super) header: Header,
    /// Where each record's frame starts.
    offsets: Vec<u32>,
    /// Index of each record that reports losses, with how many.
    losses: Vec<(usize, u64)>,
    bytes: u32,
    file: File,
}

/// What reading a segment found after its last whole record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// The file ends where a record ends.
    Clean,
    /// This many bytes follow that are no whole record.
    Torn(u64),
}

impl Segment {
    /// Makes the file and writes its header, fsynced (the caller fsyncs the directory).
    pub(super) fn create(directory: &Path, first: u64, header: Header) -> io::Result<Self> {
        let path = directory.join(format!("{first:020}.log"));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        let frame = frame(&serde_json::to_vec(&header)?)?;
        file.write_all(&frame)?;
        file.sync_all()?;
        Ok(Self {
            path,
            first,
            header,
            offsets: Vec::new(),
            losses: Vec::new(),
            bytes: to_offset(frame.len())?,
            file,
        })
    }

    /// Reads a segment. `Ok(Err(reason))` when not even its header is whole.
    pub(super) fn open(path: &Path, first: u64) -> io::Result<Result<(Self, Tail), String>> {
        let bytes = fs::read(path)?;
        let Some((payload, mut at)) = next_frame(&bytes, 0) else {
            return Ok(Err("no whole header".to_owned()));
        };
        let header: Header = match serde_json::from_slice(payload) {
            Ok(header) => header,
            Err(error) => return Ok(Err(format!("header: {error}"))),
        };
        let mut offsets = Vec::new();
        let mut losses = Vec::new();
        while let Some((payload, end)) = next_frame(&bytes, at) {
            let Some(record) = parse_record(payload) else {
                break;
            };
            if record.lost > 0 {
                losses.push((offsets.len(), record.lost));
            }
            offsets.push(to_offset(at)?);
            at = end;
        }
        let tail = match bytes.len() - at {
            0 => Tail::Clean,
            torn => Tail::Torn(torn as u64),
        };
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let segment = Self {
            path: path.to_path_buf(),
            first,
            header,
            offsets,
            losses,
            bytes: to_offset(at)?,
            file,
        };
        Ok(Ok((segment, tail)))
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.bytes)
    }

    /// Position after the last record.
    pub(super) fn end(&self) -> u64 {
        self.first + self.offsets.len() as u64
    }

    /// Appends a record; the caller decides when to sync. What a failed write left behind is cut off again.
    pub(super) fn append(&mut self, record: &Stored) -> io::Result<()> {
        let mut payload = record.mid.clone().into_bytes();
        if record.lost > 0 {
            payload.extend_from_slice(format!(" {}", record.lost).as_bytes());
        }
        payload.push(b'\n');
        payload.extend_from_slice(&record.body);
        let frame = frame(&payload)?;
        self.file.seek(SeekFrom::Start(u64::from(self.bytes)))?;
        if let Err(error) = self.file.write_all(&frame) {
            self.cut_tail()?;
            return Err(error);
        }
        if record.lost > 0 {
            self.losses.push((self.offsets.len(), record.lost));
        }
        self.offsets.push(self.bytes);
        self.bytes += to_offset(frame.len())?;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Cuts whatever follows the last whole record.
    pub(super) fn cut_tail(&self) -> io::Result<()> {
        self.file.set_len(u64::from(self.bytes))?;
        self.file.sync_all()
    }

    /// The record at `index` within this segment.
    pub(super) fn read(&self, index: usize) -> io::Result<Stored> {
        let start = self.offsets[index];
        let end = self.offsets.get(index + 1).copied().unwrap_or(self.bytes);
        let mut bytes = vec![0; (end - start) as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(u64::from(start)))?;
        file.read_exact(&mut bytes)?;
        next_frame(&bytes, 0)
            .and_then(|(payload, _)| parse_record(payload))
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "{}: record {} changed on disk",
                        self.path.display(),
                        self.first + index as u64
                    ),
                )
            })
    }

    /// How many events vanish when this segment is dropped while everything below `unacknowledged` is already acknowledged.
    pub(super) fn events_from(&self, unacknowledged: u64) -> u64 {
        let skip = usize::try_from(unacknowledged.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let reports = self.losses.iter().filter(|(index, _)| *index >= skip);
        let (reports, reported) =
            reports.fold((0, 0), |(count, sum), (_, lost)| (count + 1, sum + lost));
        // A loss report is no event of its own: it stands for those it tells of.
        (self.len().saturating_sub(skip) as u64).saturating_sub(reports) + reported
    }
}

fn frame(payload: &[u8]) -> io::Result<Vec<u8>> {
    if payload.len() > MAX_PAYLOAD {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("an event of {} bytes is too large", payload.len()),
        ));
    }
    let mut frame = Vec::with_capacity(FRAME_HEADER + payload.len());
    frame.extend_from_slice(&to_offset(payload.len())?.to_le_bytes());
    frame.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// The payload of the frame at `at` and where the next one starts; `None` when no whole, matching frame is there.
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

fn parse_record(payload: &[u8]) -> Option<Stored> {
    let end = payload.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&payload[..end]).ok()?;
    let (mid, lost) = match line.split_once(' ') {
        Some((mid, lost)) => (mid, lost.parse().ok()?),
        None => (line, 0),
    };
    Some(Stored {
        mid: mid.to_owned(),
        lost,
        body: payload[end + 1..].to_vec(),
    })
}

fn to_offset(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "event log file above 4 GiB"))
}

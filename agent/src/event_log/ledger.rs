//! Counters of the log: how far the hub has acknowledged, how many events were lost, and the next
//! sequence number.
//!
//! One line, replaced as a whole: `<acknowledged> <lost> <reported> <boot> <next sequence>
//! <from>-<to>... state=<generation> crc=<CRC-32 of what precedes it>`. The ranges are positions of
//! lost records that are counted already. `state` is the newest state file that was on disk when
//! the line was written: if a later start finds none as new, one is lost. A file with only the
//! first number, or without `state`, was written by an earlier version.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::files::replace;

/// Name of the file.
pub(super) const LEDGER: &str = "acknowledged";

const STATE: &str = " state=";
const CRC: &str = " crc=";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Position up to which everything is acknowledged or dropped.
    pub(super) acknowledged: u64,
    /// Events lost since the log began.
    pub(super) lost: u64,
    /// How many of them acknowledged records have reported.
    pub(super) reported: u64,
    /// Boot id and its next sequence number.
    pub(super) sequence: Option<(String, u64)>,
    /// Positions of lost records that are counted already.
    pub(super) gaps: Vec<Range<u64>>,
    /// Generation of the newest state file.
    pub(super) generation: Option<u64>,
}

impl Ledger {
    /// Parses the file; `None` if it is absent or damaged.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(directory.join(LEDGER)).ok()?;
        // Without its line feed it is incomplete.
        let line = text.strip_suffix('\n')?;
        let Some((log, state)) = line.split_once(STATE) else {
            return Self::parse(line);
        };
        let (generation, crc) = state.split_once(CRC)?;
        if crc != checksum(line.strip_suffix(crc)?) {
            return None;
        }
        Some(Self {
            generation: Some(generation.parse().ok()?),
            ..Self::parse(log)?
        })
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let acknowledged = words.next()?.parse().ok()?;
        let Some(lost) = words.next() else {
            return Some(Self {
                acknowledged,
                ..Self::default()
            });
        };
        let lost = lost.parse().ok()?;
        let reported = words.next()?.parse().ok()?;
        let sequence = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let gaps = words.map(|word| {
            let (from, to) = word.split_once('-')?;
            Some(from.parse().ok()?..to.parse().ok()?)
        });
        Some(Self {
            acknowledged,
            lost,
            reported,
            sequence: Some(sequence),
            gaps: gaps.collect::<Option<_>>()?,
            generation: None,
        })
    }

    /// Replaces the file; with `synced` it survives a power cut.
    pub(super) fn write(&self, directory: &Path, synced: bool) -> io::Result<()> {
        let (boot, seq) = self.sequence.clone().unwrap_or_default();
        let mut line = format!(
            "{} {} {} {boot} {seq}",
            self.acknowledged, self.lost, self.reported
        );
        for gap in &self.gaps {
            line.push_str(&format!(" {}-{}", gap.start, gap.end));
        }
        if let Some(generation) = self.generation {
            line.push_str(&format!("{STATE}{generation}{CRC}"));
            line.push_str(&checksum(&line));
        }
        line.push('\n');
        let path = directory.join(LEDGER);
        let sync: fn(&File) -> io::Result<()> = match synced {
            true => File::sync_data,
            false => |_| Ok(()),
        };
        // If a power cut tears it, it counts as absent: some events are then sent again.
        let points = ["ledger-before", "ledger-written", "ledger-renamed"];
        replace(&path, line.as_bytes(), sync, points)
    }

    /// How many of these positions are not counted yet.
    pub(super) fn uncounted(&self, gap: &Range<u64>) -> u64 {
        let counted = self.gaps.iter().map(|known| {
            let (from, to) = (known.start.max(gap.start), known.end.min(gap.end));
            to.saturating_sub(from)
        });
        (gap.end - gap.start).saturating_sub(counted.sum())
    }
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_read_back_also_in_its_earlier_formats() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger {
            acknowledged: 12,
            lost: 3,
            reported: 2,
            sequence: Some(("boot-1".to_owned(), 14)),
            gaps: vec![20..22, 30..31],
            generation: Some(57),
        };
        ledger.write(directory.path(), true).unwrap();
        assert_eq!(Ledger::read(directory.path()), Some(ledger.clone()));
        assert_eq!(ledger.uncounted(&(19..23)), 2);
        assert_eq!(ledger.uncounted(&(30..31)), 0);
        fs::write(directory.path().join(LEDGER), "7\n").unwrap();
        let earlier = Ledger {
            acknowledged: 7,
            ..Ledger::default()
        };
        assert_eq!(Ledger::read(directory.path()), Some(earlier));
        // Written by 0.1.
        fs::write(
            directory.path().join(LEDGER),
            "12 3 2 boot-1 14 20-22 30-31\n",
        )
        .unwrap();
        let of_0_1 = Ledger {
            generation: None,
            ..ledger
        };
        assert_eq!(Ledger::read(directory.path()), Some(of_0_1));
        for damaged in [
            "",
            "7",
            "\0\0\0",
            "7 x 1 b 1\n",
            "7 1 0 b\n",
            "7 1 0 b 2 9\n",
            "7 1 0 b 2 state=5\n",
            "7 1 0 b 2 state=5 crc=00000000\n",
        ] {
            fs::write(directory.path().join(LEDGER), damaged).unwrap();
            assert_eq!(Ledger::read(directory.path()), None, "{damaged:?}");
        }
    }

    #[test]
    fn each_flipped_bit_of_a_ledger_with_a_generation_is_detected() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger {
            acknowledged: 12,
            sequence: Some(("boot-1".to_owned(), 14)),
            gaps: vec![20..22, 30..31],
            generation: Some(57),
            ..Ledger::default()
        };
        ledger.write(directory.path(), false).unwrap();
        let path = directory.path().join(LEDGER);
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            assert_eq!(Ledger::read(directory.path()), None, "bit {bit}");
        }
    }
}

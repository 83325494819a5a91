//! Details of lost events that are not reported yet: their sequence numbers and kinds.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use door_core::{DoorEvent, EventKind};

use super::segment::{HOLE_MID, Segment, Stored, split_mid};

/// Boot id and sequence number.
type Number = (String, u64);

#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Of events that had sequence numbers: from the first to the last hole.
    numbered: Option<Hole>,
    /// Whether some lost events never had a sequence number: the report takes their place.
    unnumbered: bool,
    /// Counts by kind, as far as known: the kinds of damaged records are not.
    kinds: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Hole {
    positions: Range<u64>,
    /// First and last lost number; `None` if neither neighbour reveals it.
    from: Option<Number>,
    to: Option<Number>,
}

impl Losses {
    /// Adds events that never had a sequence number.
    pub(super) fn add_kinds(&mut self, kinds: BTreeMap<String, u64>) {
        self.unnumbered |= !kinds.is_empty();
        self.count(kinds);
    }

    fn count(&mut self, kinds: impl IntoIterator<Item = (String, u64)>) {
        for (kind, count) in kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
    }

    /// Adds losses of an earlier run, of which only the count was saved.
    pub(super) fn add_unknown(&mut self) {
        self.add_hole(0..0, None, None);
    }

    /// Adds unreadable records: their numbers follow from the records before and after them.
    pub(super) fn add_gap(&mut self, gap: &Range<u64>, segments: &VecDeque<Segment>) {
        let after = segments
            .iter()
            .find_map(|segment| number_from(segment, gap.end));
        let before = segments
            .iter()
            .rev()
            .find_map(|segment| number_before(segment, gap.start));
        let length = gap.end - gap.start;
        let from = match (before, &after) {
            (Some((boot, seq)), _) => Some((boot, seq + 1)),
            // Positions advance in step with sequence numbers.
            (None, Some((boot, seq))) => seq
                .checked_sub(length)
                .filter(|from| *from > 0)
                .map(|from| (boot.clone(), from)),
            (None, None) => None,
        };
        // If the next record is the first of its boot, the hole ends in an earlier boot.
        let to = after
            .filter(|(_, seq)| *seq > 1)
            .map(|(boot, seq)| (boot, seq - 1));
        let is_hole = match (&from, &to) {
            (Some((boot, from)), Some((same, to))) => boot != same || from <= to,
            _ => true,
        };
        // Without its header a damaged file may have shifted positions: then neither is known.
        let (from, to) = if is_hole { (from, to) } else { (None, None) };
        self.add_hole(gap.clone(), from, to);
    }

    /// Adds records that are dropped although they are readable.
    pub(super) fn add_dropped(
        &mut self,
        dropped: &Range<u64>,
        records: impl Iterator<Item = Stored>,
        segments: &VecDeque<Segment>,
    ) {
        for record in records {
            if let Ok(EventKind::EventsLost { kinds, .. }) = serde_json::from_slice(&record.body) {
                self.count(kinds);
                continue;
            }
            let event = serde_json::from_slice::<DoorEvent>(&record.body);
            self.count(event.map(|event| (event.kind.to_string(), 1)));
        }
        self.add_gap(dropped, segments);
    }

    fn add_hole(&mut self, positions: Range<u64>, from: Option<Number>, to: Option<Number>) {
        let Some(known) = &mut self.numbered else {
            self.numbered = Some(Hole {
                positions,
                from,
                to,
            });
            return;
        };
        if positions.start < known.positions.start {
            known.positions.start = positions.start;
            known.from = from;
        }
        if positions.end > known.positions.end {
            known.positions.end = positions.end;
            known.to = to;
        }
    }

    /// The report of `lost` events, which has number `seq` of `boot`.
    pub(super) fn report(&self, lost: u64, boot: &str, seq: u64) -> EventKind {
        let here = || Some((boot.to_owned(), seq));
        let (from, to) = match &self.numbered {
            None if self.unnumbered => (here(), here()),
            None => (None, None),
            Some(hole) if self.unnumbered => (hole.from.clone(), here()),
            Some(hole) => (hole.from.clone(), hole.to.clone()),
        };
        let other = |number: &Option<Number>| {
            let boot_of = number.as_ref().map(|(of, _)| of.clone());
            boot_of.filter(|of| of != boot)
        };
        EventKind::EventsLost {
            lost,
            from_boot: other(&from),
            to_boot: other(&to),
            from: from.map(|(_, seq)| seq),
            to: to.map(|(_, seq)| seq),
            kinds: self.kinds.clone(),
        }
    }
}

/// The number of the first readable record at or after a position.
fn number_from(segment: &Segment, position: u64) -> Option<Number> {
    if segment.end() < position {
        return None;
    }
    let mut rest = segment.index_of(position)..segment.len();
    match rest.find_map(|index| segment.read(index).ok()) {
        Some(record) => {
            let (boot, seq) = split_mid(&record.mid);
            Some((boot.to_owned(), first_number(&record.mid).unwrap_or(seq)))
        }
        None if segment.len() == 0 && segment.first >= position => {
            Some((segment.header.boot.clone(), segment.header.next_seq))
        }
        None => None,
    }
}

/// The number of the last readable record before a position.
fn number_before(segment: &Segment, position: u64) -> Option<Number> {
    let mut rest = (0..segment.index_of(position)).rev();
    let record = rest.find_map(|index| segment.read(index).ok())?;
    let (boot, seq) = split_mid(&record.mid);
    Some((boot.to_owned(), seq))
}

/// The first number covered by a record that explains a hole, from its message id.
fn first_number(mid: &str) -> Option<u64> {
    let (_, hole) = mid.split_once(HOLE_MID)?;
    hole.split('-').nth(1)?.parse().ok()
}

//! Details of lost events that are not reported yet: their sequence numbers and kinds.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use serde_json::{Map, Value};

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
            let body: Map<String, Value> = serde_json::from_slice(&record.body).unwrap_or_default();
            match body.get("kinds").and_then(Value::as_object) {
                Some(kinds) => self.count(
                    kinds
                        .iter()
                        .filter_map(|(kind, count)| Some((kind.clone(), count.as_u64()?))),
                ),
                None if record.lost > 0 => {}
                None => {
                    let kind = body.get("kind").and_then(Value::as_str);
                    self.count(kind.map(|kind| (kind.to_owned(), 1)));
                }
            }
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

    /// Adds the members of a report with number `seq` of `boot`.
    pub(super) fn explain(&self, boot: &str, seq: u64, fields: &mut Map<String, Value>) {
        let here = || Some((boot.to_owned(), seq));
        let (from, to) = match &self.numbered {
            None if self.unnumbered => (here(), here()),
            None => (None, None),
            Some(hole) if self.unnumbered => (hole.from.clone(), here()),
            Some(hole) => (hole.from.clone(), hole.to.clone()),
        };
        for (key, boot_key, number) in [("from", "fromBoot", from), ("to", "toBoot", to)] {
            if let Some((of, number)) = number {
                fields.insert(key.to_owned(), number.into());
                if of != boot {
                    fields.insert(boot_key.to_owned(), of.into());
                }
            }
        }
        if !self.kinds.is_empty() {
            let kinds = self.kinds.clone();
            fields.insert("kinds".to_owned(), kinds.into_iter().collect());
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

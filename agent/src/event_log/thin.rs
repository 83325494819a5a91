//! Thinning of a full log: which records are dropped first, and the record that explains the hole.
//!
//! Changes of door and lock state are dropped before alarms and commands; those are dropped only
//! when nothing else is left. The segment is rewritten without them. In place of the last one of
//! each boot it gets an `eventsLost` with the range of sequence numbers and the counts by kind: no
//! hole in the sequence stays unexplained.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::EVENTS_LOST;
use super::segment::{HOLE_MID, Stored};

/// The kinds that are dropped first.
const MINOR: [&str; 4] = ["doorState", "lockState", "requestToExit", "localGrant"];

/// How far a segment has been thinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Thinned {
    #[default]
    Nothing,
    Minor,
    Everything,
}

/// The records of a segment to be written, each with its position.
#[derive(Debug, Default)]
pub(super) struct SegmentDraft {
    kept: Vec<(u64, Stored)>,
    holes: BTreeMap<String, Hole>,
}

/// The dropped records of one boot.
#[derive(Debug)]
struct Hole {
    /// Sequence numbers, inclusive; some records in between may be kept.
    from: u64,
    to: u64,
    lost: u64,
    kinds: BTreeMap<String, u64>,
    /// Position and body of the last dropped record.
    position: u64,
    body: Map<String, Value>,
}

impl SegmentDraft {
    /// Adds a record; call in the order of positions.
    pub(super) fn take(&mut self, position: u64, record: Stored, level: Thinned) {
        let Some((boot, hole)) = drop_of(position, &record, level) else {
            self.kept.push((position, record));
            return;
        };
        match self.holes.get_mut(&boot) {
            Some(known) => known.absorb(hole),
            None => drop(self.holes.insert(boot, hole)),
        }
    }

    /// The kept records and the explanations of the holes, in order.
    pub(super) fn into_records(self) -> Vec<(u64, Stored)> {
        let mut records = self.kept;
        for (boot, hole) in self.holes {
            records.push((hole.position, hole.explain(&boot)));
        }
        records.sort_by_key(|(position, _)| *position);
        records
    }
}

/// Boot and hole of a record that is to be dropped; `None` if it is kept.
fn drop_of(position: u64, record: &Stored, level: Thinned) -> Option<(String, Hole)> {
    // A report of events without sequence numbers cannot be merged into a range.
    if record.lost > 0 {
        return None;
    }
    let body: Map<String, Value> = serde_json::from_slice(&record.body).ok()?;
    let number = |key: &str| body.get(key).and_then(Value::as_u64);
    let boot = body.get("boot")?.as_str()?.to_owned();
    let kind = body.get("kind")?.as_str()?;
    let seq = number("seq")?;
    let (from, lost, kinds) = if kind == EVENTS_LOST {
        let kinds = body.get("kinds")?.as_object()?.iter();
        let kinds = kinds.filter_map(|(kind, count)| Some((kind.clone(), count.as_u64()?)));
        (number("from")?, number("lost")?, kinds.collect())
    } else if level == Thinned::Everything || MINOR.contains(&kind) {
        (seq, 1, BTreeMap::from([(kind.to_owned(), 1)]))
    } else {
        return None;
    };
    let hole = Hole {
        from,
        to: seq,
        lost,
        kinds,
        position,
        body,
    };
    Some((boot, hole))
}

impl Hole {
    fn absorb(&mut self, later: Self) {
        self.from = self.from.min(later.from);
        self.to = later.to;
        self.lost += later.lost;
        for (kind, count) in later.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.position = later.position;
        self.body = later.body;
    }

    fn explain(self, boot: &str) -> Stored {
        let mut body = Map::new();
        body.insert("seq".to_owned(), self.to.into());
        for key in ["boot", "at", "clock"] {
            if let Some(value) = self.body.get(key) {
                body.insert(key.to_owned(), value.clone());
            }
        }
        body.insert("kind".to_owned(), EVENTS_LOST.into());
        for key in ["door", "building", "floor"] {
            if let Some(value) = self.body.get(key) {
                body.insert(key.to_owned(), value.clone());
            }
        }
        body.insert("lost".to_owned(), self.lost.into());
        body.insert("from".to_owned(), self.from.into());
        body.insert("to".to_owned(), self.to.into());
        body.insert("kinds".to_owned(), self.kinds.into_iter().collect());
        Stored {
            // Unique: differs from that of any record the hub may have, and of a smaller hole here.
            mid: format!("{boot}{HOLE_MID}{}-{}-{}", self.lost, self.from, self.to),
            lost: 0,
            span: 1,
            body: Value::Object(body).to_string().into_bytes(),
        }
    }
}

//! Thinning of a full log: which records are dropped first, and the record that explains the hole.
//!
//! Changes of door and lock state are dropped before alarms and commands; those are dropped only
//! when nothing else is left. The segment is rewritten without them. In place of the last one of
//! each boot it gets an `eventsLost` with the range of sequence numbers and the counts by kind: no
//! hole in the sequence stays unexplained.

use std::collections::BTreeMap;

use door_core::{DoorEvent, EventKind, EventName};

use super::segment::{HOLE_MID, Stored};

/// The kinds that are dropped first.
const MINOR: [EventName; 4] = [
    EventName::DoorState,
    EventName::LockState,
    EventName::RequestToExit,
    EventName::LocalGrant,
];

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
    /// The first sequence number; some records from there to the last one may be kept.
    from: u64,
    lost: u64,
    kinds: BTreeMap<String, u64>,
    /// The last dropped event and its position.
    position: u64,
    last: DoorEvent,
}

impl SegmentDraft {
    /// Adds a record; call in the order of positions.
    pub(super) fn take(&mut self, position: u64, record: Stored, level: Thinned) {
        let Some(hole) = drop_of(position, &record, level) else {
            self.kept.push((position, record));
            return;
        };
        match self.holes.get_mut(&hole.last.boot) {
            Some(known) => known.absorb(hole),
            None => drop(self.holes.insert(hole.last.boot.clone(), hole)),
        }
    }

    /// The kept records and the explanations of the holes, in order.
    pub(super) fn into_records(self) -> Vec<(u64, Stored)> {
        let mut records = self.kept;
        for hole in self.holes.into_values() {
            records.push((hole.position, hole.explain()));
        }
        records.sort_by_key(|(position, _)| *position);
        records
    }
}

/// The hole of a record that is to be dropped; `None` if it is kept.
fn drop_of(position: u64, record: &Stored, level: Thinned) -> Option<Hole> {
    // A report of events without sequence numbers cannot be merged into a range.
    if record.lost > 0 {
        return None;
    }
    let last: DoorEvent = serde_json::from_slice(&record.body).ok()?;
    let (from, lost, kinds) = match serde_json::from_slice(&record.body) {
        Ok(EventKind::EventsLost {
            from, lost, kinds, ..
        }) if !kinds.is_empty() => (from?, lost, kinds),
        Ok(EventKind::EventsLost { .. }) => return None,
        _ if level == Thinned::Everything || MINOR.iter().any(|minor| last.kind == *minor) => {
            (last.seq, 1, BTreeMap::from([(last.kind.to_string(), 1)]))
        }
        _ => return None,
    };
    Some(Hole {
        from,
        lost,
        kinds,
        position,
        last,
    })
}

impl Hole {
    fn absorb(&mut self, later: Self) {
        self.from = self.from.min(later.from);
        self.lost += later.lost;
        for (kind, count) in later.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.position = later.position;
        self.last = later.last;
    }

    fn explain(self) -> Stored {
        let Self {
            from,
            lost,
            kinds,
            last,
            ..
        } = self;
        let to = last.seq;
        // Unique: differs from that of any record the hub may have, and of a smaller hole here.
        let mid = format!("{}{HOLE_MID}{lost}-{from}-{to}", last.boot);
        let kind = EventKind::EventsLost {
            lost,
            from: Some(from),
            from_boot: None,
            to: Some(to),
            to_boot: None,
            kinds,
        };
        Stored {
            mid,
            lost: 0,
            span: 1,
            body: last.with_kind(&kind).to_json(),
        }
    }
}

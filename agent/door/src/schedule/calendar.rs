//! A week in its zone: the level of each moment.

use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::span::{blocks, bounds, day_of, spans, wall};
use super::week::{Otherwise, Week, Window, WindowId};
use crate::contract::Want;

/// How far [`Calendar::next_change`] looks, in steps of [`STEP`].
const STEPS: usize = 50;
const STEP: SignedDuration = SignedDuration::from_hours(8 * 24);

/// A week in its zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    week: Week,
    zone: TimeZone,
}

/// One time of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// The window.
    pub window: WindowId,
    /// Its first moment.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

/// What a week wants at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// What slot 16 gets before a first person came in; `None` leaves it empty, so that the
    /// relinquish default holds.
    pub want: Option<Want>,
    /// The window that the moment is in; of several the one that decides, then the latest.
    pub window: Option<Occurrence>,
    /// The window's start ended what somebody left open.
    pub takes_over: bool,
    /// The window that a grant at the reader releases: a present one, or one that is near enough.
    pub first_person_in: Option<Occurrence>,
}

impl Level {
    /// What slot 16 gets when a first person came in for the window that began, or begins, at
    /// `opened`.
    #[must_use]
    pub fn after_first_person(&self, opened: Option<Timestamp>) -> Option<Want> {
        let present = self
            .first_person_in
            .filter(|_| self.window == self.first_person_in);
        match present.is_some_and(|window| opened == Some(window.from)) {
            true => Some(Want::Released),
            false => self.want,
        }
    }
}

impl Calendar {
    /// A checked week, and the zone of its name.
    #[must_use]
    pub fn new(week: Week, zone: TimeZone) -> Self {
        Self { week, zone }
    }

    /// The week.
    #[must_use]
    pub fn week(&self) -> &Week {
        &self.week
    }

    /// The zone.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What the week wants at a moment.
    #[must_use]
    pub fn level(&self, at: Timestamp) -> Level {
        self.level_among(&self.occurrences(at, at), at)
    }

    /// The next moment at which the level is another, and that level; `None` if there is none
    /// within 400 days.
    #[must_use]
    pub fn next_change(&self, at: Timestamp) -> Option<(Timestamp, Level)> {
        let level = self.level(at);
        let mut from = at;
        for _ in 0..STEPS {
            let to = from.checked_add(STEP).ok()?;
            let near = self.occurrences(from, to);
            let mut times: Vec<Timestamp> = Vec::new();
            for (occurrence, window) in &near {
                let lead = window.first_person_in.unwrap_or_default();
                times.extend([occurrence.from, occurrence.until]);
                times.extend(occurrence.from.checked_sub(lead).ok());
            }
            times.retain(|time| from < *time && *time <= to);
            times.sort_unstable();
            let changes = times
                .into_iter()
                .map(|time| (time, self.level_among(&near, time)));
            if let Some(change) = changes.into_iter().find(|(_, next)| *next != level) {
                return Some(change);
            }
            from = to;
        }
        None
    }

    /// Windows between two moments that do not happen, since a clock change leaves nothing of them.
    #[must_use]
    pub fn left_out(&self, from: Timestamp, to: Timestamp) -> Vec<Occurrence> {
        let mut all: Vec<_> = self
            .with_empty(from, to)
            .into_iter()
            .map(|(one, _)| one)
            .collect();
        all.retain(|one| one.from >= one.until && (from..to).contains(&one.from));
        all
    }

    fn level_among(&self, near: &[(Occurrence, &Window)], at: Timestamp) -> Level {
        let present = || {
            let is_present = |(one, _): &&(Occurrence, &Window)| one.from <= at && at < one.until;
            near.iter().filter(is_present)
        };
        // What locks decides, then what releases without a person.
        let decides = present().max_by_key(|(one, window)| {
            let rank = match (window.want, window.takes_over, window.first_person_in) {
                (Want::Locked, true, _) => 3,
                (Want::Locked, ..) => 2,
                (Want::Released, _, None) => 1,
                (Want::Released, ..) => 0,
            };
            (rank, one.from)
        });
        let can_be_opened = near.iter().filter(|(one, window)| {
            let lead = window.first_person_in;
            lead.is_some_and(|lead| one.from.saturating_sub(lead).is_ok_and(|from| from <= at))
                && at < one.until
        });
        let otherwise = match self.week.otherwise {
            Otherwise::Locked => Some(Want::Locked),
            Otherwise::Default => None,
        };
        Level {
            want: decides.map_or(otherwise, |(_, window)| match window.first_person_in {
                None => Some(window.want),
                Some(_) => otherwise,
            }),
            window: decides.map(|(one, _)| *one),
            takes_over: decides.is_some_and(|(_, window)| window.takes_over),
            first_person_in: can_be_opened
                .map(|(one, _)| *one)
                .min_by_key(|one| one.from),
        }
    }

    /// The times of windows from some days before to some days after: a window has at most 24
    /// hours, its lead too, and a zone may skip or repeat a day.
    fn occurrences(&self, from: Timestamp, to: Timestamp) -> Vec<(Occurrence, &Window)> {
        let mut all = self.with_empty(from, to);
        all.retain(|(one, _)| one.from < one.until);
        all
    }

    /// Like [`Calendar::occurrences`], with those of which a clock change leaves nothing.
    fn with_empty(&self, from: Timestamp, to: Timestamp) -> Vec<(Occurrence, &Window)> {
        let day = |at: Timestamp| day_of(self.zone.to_datetime(at).date());
        let spans = spans(&self.week, day(from) - 3..=day(to) + 3, true);
        let mut occurrences = Vec::new();
        for block in blocks(&spans) {
            // A time that comes twice: what locks is longer, what releases shorter. Inside of a
            // block there is no boundary, so nothing is shorter there.
            let is_released = block[0].window.want == Want::Released;
            let (first, last) = bounds(block);
            let (Some(first_at), Some(last_at)) = (
                self.instant(first, is_released),
                self.instant(last, !is_released),
            ) else {
                continue;
            };
            for span in block {
                let (Some(from), Some(until)) =
                    (self.instant(span.from, false), self.instant(span.to, true))
                else {
                    continue;
                };
                let occurrence = Occurrence {
                    window: span.id,
                    from: if span.from == first {
                        first_at
                    } else {
                        from.max(first_at)
                    },
                    until: if span.to == last {
                        last_at
                    } else {
                        until.min(last_at)
                    },
                };
                occurrences.push((occurrence, span.window));
            }
        }
        occurrences
    }

    /// The moment at which the wall clock shows a time: the first after the gap if it never does;
    /// if it does twice, the later one or the earlier.
    fn instant(&self, minute: i64, later: bool) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(wall(minute)?);
        match ambiguous.offset() {
            AmbiguousOffset::Gap { after, .. } => {
                let before = ambiguous.earlier().ok()?;
                let mut changes = self.zone.following(before);
                let change = changes.find(|change| change.offset() == after)?;
                Some(change.timestamp())
            }
            _ if later => ambiguous.later().ok(),
            _ => ambiguous.earlier().ok(),
        }
    }
}

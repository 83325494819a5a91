//! The assigned week of a door: what slot 16 gets now.
//!
//! Without a trusted clock, in doubt and in mode `secure` it is locked. While the clock is disputed
//! it is locked if either clock says so. Mode `maintenance` keeps what it was, so that no bolt
//! moves under the hands of a mechanic.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::agenda::Moment;
use super::calendar::{Calendar, Level};
use super::clock::Span;
use super::week::{AssignedWeek, Otherwise};
use crate::authority::AuthorityArray;
use crate::contract::{Mode, Slot, Want};

/// When to look again for a change, if none is near: before [`Calendar::next_change`] could have
/// seen one.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_hours(300 * 24);

/// The week of a door.
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    saved: SavedWeek,
    /// `None` if this version cannot read it: then the door is locked.
    calendar: Option<Calendar>,
    /// The present stretches, one for each clock.
    known: Vec<Stretch>,
}

/// The week on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedWeek {
    pub(super) week: AssignedWeek,
    /// Released windows count if they begin after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Moment>,
    /// Begin of the window for which a first person came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opened: Option<Timestamp>,
    /// What slot 16 has got last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Want>,
}

/// Times with the same level.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: Timestamp,
    until: Timestamp,
    level: Level,
    next: Option<Level>,
}

/// The week of a door, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeekReport {
    /// Its name; absent if this version cannot read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its digest.
    pub digest: String,
    /// What slot 16 gets now; absent if the relinquish default holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<Want>,
    /// When the week changes next; absent without a trusted clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NextChange>,
}

/// A change of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextChange {
    /// When.
    pub at: Timestamp,
    /// What slot 16 gets from then on, before a first person came in; absent if the relinquish
    /// default will hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<Want>,
}

/// What the week wants now.
pub(super) struct WeekLook {
    pub(super) want: Option<Want>,
    pub(super) until: Option<Timestamp>,
    /// Begin of a present window that ends what somebody left open.
    pub(super) takes_over: Option<Timestamp>,
    /// The saved part has changed.
    pub(super) changed: bool,
}

impl Assigned {
    pub(super) fn restore(saved: SavedWeek) -> Self {
        Self {
            calendar: saved.week.calendar().ok(),
            saved,
            known: Vec::new(),
        }
    }

    /// A week that is assigned now. A door that it finds locked begins with the next window, unless
    /// the order says otherwise.
    pub(super) fn new(week: AssignedWeek, before: Option<&Self>, now: Moment) -> Self {
        let last = before.and_then(|before| before.saved.last);
        let at_once = week.now || last == Some(Want::Released);
        Self::restore(SavedWeek {
            week,
            since: (!at_once).then_some(now),
            opened: None,
            last,
        })
    }

    pub(super) fn saved(&self) -> &SavedWeek {
        &self.saved
    }

    pub(super) fn name(&self) -> Option<&str> {
        Some(&self.calendar.as_ref()?.week().name)
    }

    pub(super) fn report(&self, span: Option<Span>) -> WeekReport {
        let span = span.filter(|span| span.is_certain);
        let present = span.and_then(|span| {
            let mut known = self.known.iter();
            known.find(|stretch| stretch.from <= span.earliest && span.earliest < stretch.until)
        });
        WeekReport {
            name: self.name().map(str::to_owned),
            digest: self.saved.week.digest.clone(),
            want: self.saved.last,
            next: present.and_then(|stretch| {
                Some(NextChange {
                    at: stretch.until,
                    want: stretch.next?.want,
                })
            }),
        }
    }

    /// Pins the moment of the assignment, once a trusted time is known.
    pub(super) fn pin(&mut self, latest: Timestamp) -> bool {
        let unknown = self.saved.since.as_mut().filter(|it| it.latest.is_none());
        unknown.map(|it| it.latest = Some(latest)).is_some()
    }

    pub(super) fn since(&mut self) -> Option<&mut Moment> {
        self.saved.since.as_mut()
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Timestamp> {
        self.known.iter().map(|stretch| stretch.until)
    }

    fn stretch(&mut self, at: Timestamp) -> Option<Stretch> {
        let calendar = self.calendar.as_ref()?;
        let is_present = |stretch: &&Stretch| stretch.from <= at && at < stretch.until;
        if let Some(known) = self.known.iter().find(is_present) {
            return Some(*known);
        }
        let next = calendar.next_change(at);
        let again = at.saturating_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX);
        let stretch = Stretch {
            from: at,
            until: next.map_or(again, |(until, _)| until),
            level: calendar.level(at),
            next: next.map(|(_, level)| level),
        };
        if self.known.len() > 1 {
            self.known.remove(0);
        }
        self.known.push(stretch);
        Some(stretch)
    }

    /// What slot 16 gets by a clock that shows `at`.
    fn want(&mut self, at: Timestamp) -> Option<Want> {
        let Some(Stretch { level, .. }) = self.stretch(at) else {
            return Some(Want::Locked);
        };
        let want = level.after_first_person(self.saved.opened);
        let begins_later = |since: Moment| {
            let present = level.window;
            present.is_none_or(|window| since.is_before(window.from, Want::Released))
        };
        let counts = self.saved.since.is_none_or(begins_later);
        match (want, self.calendar.as_ref()?.week().otherwise) {
            (Some(Want::Released), Otherwise::Locked) if !counts => Some(Want::Locked),
            (Some(Want::Released), Otherwise::Default) if !counts => None,
            (want, _) => want,
        }
    }

    /// Somebody was let in by the reader and opened the door; returns whether a window waited for
    /// that.
    pub(super) fn first_person(&mut self, span: Option<Span>) -> bool {
        let Some(span) = span.filter(|span| span.is_certain) else {
            return false;
        };
        let [one, other] = [span.earliest, span.latest].map(|at| {
            let window = self.stretch(at)?.level.first_person_in?;
            Some(window.from)
        });
        let opened = one.filter(|_| one == other);
        let changed = opened.is_some() && self.saved.opened != opened;
        self.saved.opened = opened.or(self.saved.opened);
        changed
    }

    pub(super) fn look(
        &mut self,
        span: Option<Span>,
        unread: bool,
        array: &AuthorityArray,
    ) -> WeekLook {
        let before = (self.saved.opened, self.saved.last);
        let mode = array.displaced_mode().unwrap_or(array.mode());
        let is_safe = unread || array.in_doubt().is_some() || mode == Mode::Secure;
        let certain = span.filter(|span| span.is_certain && !is_safe);
        let hold = array.get(Slot::OperatorHold).map(|entry| entry.want);
        if certain.is_none() || array.mode() == Mode::Lockdown || hold == Some(Want::Locked) {
            self.saved.opened = None;
        }
        let mut look = WeekLook {
            want: Some(Want::Locked),
            until: None,
            takes_over: None,
            changed: false,
        };
        if let Some(Span {
            earliest, latest, ..
        }) = certain
        {
            let wants = [earliest, latest].map(|at| self.want(at));
            let both = |want| wants.iter().all(|one| *one == want);
            let is_frozen = mode == Mode::Maintenance;
            look.want = match wants {
                _ if is_frozen => self.saved.last,
                wants if wants.contains(&Some(Want::Locked)) => Some(Want::Locked),
                _ if both(Some(Want::Released)) => Some(Want::Released),
                _ => None,
            };
            let levels = [earliest, latest].map(|at| self.stretch(at));
            let present = levels[0].and_then(|stretch| stretch.level.window);
            look.until = levels[0].and_then(|stretch| {
                let window = present.filter(|window| earliest < window.until);
                let next = stretch.next.map(|_| stretch.until);
                window.map(|window| window.until).or(next)
            });
            let taking = levels
                .into_iter()
                .flatten()
                .filter(|it| it.level.takes_over);
            let starts = taking.filter_map(|it| Some(it.level.window?.from));
            look.takes_over = starts.max().filter(|_| !is_frozen);
        }
        self.saved.last = look.want;
        look.changed = before != (self.saved.opened, self.saved.last);
        look
    }
}

/// The releases that a window which began at `start` ends: those from before it that have no end.
pub(super) fn left_open(
    start: Timestamp,
    array: &AuthorityArray,
    moments: &BTreeMap<Slot, Moment>,
) -> Vec<Slot> {
    let of_persons = [Slot::OperatorGrant, Slot::OperatorHold, Slot::Passage];
    let stored = array.stored().filter(|(slot, entry)| {
        let moment = moments.get(slot);
        of_persons.contains(slot)
            && entry.want == Want::Released
            && entry.expiry.is_none()
            && moment.is_none_or(|moment| moment.is_before(start, Want::Locked))
    });
    stored.map(|(slot, _)| slot).collect()
}

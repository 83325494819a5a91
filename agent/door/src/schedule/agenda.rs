//! What is timed: which entries speak now, what became of each, and when to look again.
//!
//! Each slot keeps the moment of its last change by a person; an entry speaks only if it begins
//! later. Such a moment is known as well as the clock was: what is unknown never loosens a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::assigned::{Assigned, SavedWeek, WeekReport, left_open};
use super::clock::{DoorClock, SavedClock, Span};
use super::timed::{EntryId, TimedEntry};
use super::week::AssignedWeek;
use crate::authority::{AuthorityArray, Entry, Expiry, Refusal};
use crate::contract::{Proof, ReplyError, Secured, Slot, Want, words};
use crate::event::EventKind;
use crate::time::{BootId, BootTime, ClockQuality, Now};

/// Interval of saves while anything is timed: a start without a clock begins at most this late.
pub(crate) const SAVE_INTERVAL: Duration = Duration::from_secs(15 * 60);

words! {
    /// What became of a timed entry.
    #[derive(Default)]
    pub enum TimedState {
        /// It has not begun.
        #[default]
        Armed = "armed",
        /// It speaks.
        Holding = "holding",
        /// It has ended, or the door was off all the time.
        Over = "over",
        /// It has begun and does not speak; see `why`.
        Overruled = "overruled",
    }
}

/// The progress of a timed entry, as reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it is.
    pub state: TimedState,
    /// Why it does not speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When it began to speak, by the door's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Whether `at` can be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockQuality>,
    /// What the sensors showed.
    #[serde(flatten)]
    pub result: Option<TimedResult>,
}

/// What the sensors showed once the strike had moved, or could have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedResult {
    /// Whether the door was secured.
    pub secured: Secured,
    /// How that is known.
    pub proof: Proof,
    /// The wanted state was reached, as by a call that is answered with 200.
    pub reached: bool,
    /// Why it cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ReplyError>,
}

impl Progress {
    /// Whether it says that the door does, or is about to do, as ordered.
    #[must_use]
    pub fn is_as_ordered(&self) -> bool {
        match self.state {
            TimedState::Armed => true,
            TimedState::Overruled => false,
            TimedState::Holding => self.result.as_ref().is_none_or(|result| result.reached),
            TimedState::Over => self.result.as_ref().is_some_and(|result| result.reached),
        }
    }
}

/// A timed entry and its progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedReport {
    /// What it wants.
    #[serde(flatten)]
    pub entry: Arc<TimedEntry>,
    /// What became of it.
    #[serde(flatten)]
    pub progress: Progress,
}

/// When a person last changed a slot, as well as the clock knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// `None`: at any time.
    earliest: Option<Timestamp>,
    /// `None`: not known yet; the first trusted time will be later.
    pub(super) latest: Option<Timestamp>,
}

impl Moment {
    fn of(span: Option<Span>) -> Self {
        Self {
            earliest: span.map(|span| span.earliest),
            latest: span.filter(|span| span.is_certain).map(|span| span.latest),
        }
    }

    /// The clock that may have shown it was off by this much.
    pub(super) fn widen(&mut self, step: SignedDuration) {
        let stepped = |at: Timestamp| at.saturating_add(step).unwrap_or(at);
        self.earliest = self.earliest.map(|at| at.min(stepped(at)));
        self.latest = self.latest.map(|at| at.max(stepped(at)));
    }

    /// It is not later than `now`, which is certain; returns whether that is new.
    pub(super) fn limit(&mut self, now: Timestamp) -> bool {
        let before = *self;
        self.earliest = self.earliest.filter(|at| *at <= now);
        self.latest = self.latest.map(|at| at.min(now));
        *self != before
    }

    /// This moment as known now. A change cannot lie ahead: the clock that showed it was wrong, so
    /// an entry of any begin may be later. A trusted clock showed both: a step of it that is
    /// disputed may be the wrong one.
    fn as_of(self, present: Span) -> Self {
        if present.is_certain {
            return self;
        }
        let earliest = self.earliest.filter(|at| *at <= present.earliest);
        Self { earliest, ..self }
    }

    /// Whether an entry that begins at `from` comes after this change for certain; a lock needs
    /// only to be possibly later.
    pub(super) fn is_before(&self, from: Timestamp, want: Want) -> bool {
        match want {
            Want::Locked => self.earliest.is_none_or(|earliest| earliest < from),
            Want::Released => self.latest.is_some_and(|latest| latest < from),
        }
    }
}

/// The timed entries of a door, its clock, and the persons' changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agenda {
    clock: DoorClock,
    timed: BTreeMap<EntryId, TimedReport>,
    week: Option<Assigned>,
    /// `$version` of the latest change of `timed` and `week`.
    version: u64,
    moments: BTreeMap<Slot, Moment>,
    /// The entries may be outdated: until the twin has been read nothing releases.
    unread: bool,
}

/// The agenda on disk, beside the slots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SavedAgenda {
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<SavedClock>,
    pub(crate) timed: BTreeMap<EntryId, TimedReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    week: Option<SavedWeek>,
    pub(crate) version: u64,
    moments: BTreeMap<Slot, Moment>,
    unread: bool,
}

impl SavedAgenda {
    pub(crate) fn week(&self) -> Option<&AssignedWeek> {
        self.week.as_ref().map(|saved| &saved.week)
    }

    /// The agenda for a start that may have lost a newer one: persons may have changed any slot
    /// since, and entries may have been removed.
    pub(crate) fn in_doubt(self) -> Self {
        Self {
            unread: true,
            ..self.with_unknown_moments()
        }
    }

    /// Persons may have changed any slot until now.
    pub(crate) fn with_unknown_moments(mut self) -> Self {
        for slot in [Slot::OperatorGrant, Slot::OperatorHold, Slot::Passage] {
            let moment = self.moments.entry(slot).or_insert(Moment::of(None));
            moment.latest = None;
        }
        self
    }
}

/// Consequences of a look, apart from the overlay.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// What the week has done.
    pub(crate) events: Vec<EventKind>,
    /// The entries with another state; see [`Agenda::event`].
    pub(crate) changed: Vec<EntryId>,
    /// The saved part has changed.
    pub(crate) save: bool,
    /// An entry began to speak.
    pub(crate) started: bool,
}

impl Agenda {
    pub(crate) fn restore(saved: &SavedAgenda, boot: &BootId, at: BootTime, now: &Now) -> Self {
        let clock = saved.clock;
        let clock = clock.map(|clock| DoorClock::restore(clock, boot, at, now));
        Self {
            clock: clock.unwrap_or_default(),
            timed: saved.timed.clone(),
            week: saved.week.clone().map(Assigned::restore),
            version: saved.version,
            moments: saved.moments.clone(),
            unread: saved.unread,
        }
    }

    /// The agenda to save; `superseded` are slots that changes will have changed once on disk.
    pub(crate) fn to_saved(
        &self,
        at: BootTime,
        superseded: &BTreeMap<Slot, Moment>,
    ) -> SavedAgenda {
        let mut moments = self.moments.clone();
        moments.extend(superseded);
        SavedAgenda {
            clock: self.clock.to_saved(at),
            timed: self.timed.clone(),
            week: self.week.as_ref().map(|week| week.saved().clone()),
            version: self.version,
            moments,
            unread: self.unread,
        }
    }

    /// The present moment, for [`Agenda::supersede`].
    pub(crate) fn moment(&self, at: BootTime) -> Moment {
        Moment::of(self.clock.span(at))
    }

    /// The present second, while it is certain.
    pub(crate) fn present(&self, at: BootTime) -> Option<Timestamp> {
        let span = self.clock.span(at);
        let span = span.filter(|span| span.is_certain && !self.clock.is_disputed())?;
        Timestamp::from_second(span.latest.as_second()).ok()
    }

    /// A person has changed these slots.
    pub(crate) fn supersede(&mut self, slots: BTreeSet<Slot>, moment: Moment) {
        let slots = slots.into_iter();
        self.moments.extend(slots.map(|slot| (slot, moment)));
    }

    /// The moments that the clock has shown.
    fn moments_mut(&mut self) -> impl Iterator<Item = &mut Moment> {
        let week = self.week.iter_mut().filter_map(Assigned::since);
        self.moments.values_mut().chain(week)
    }

    /// Takes what the twin desires; returns whether that is new, and the events of it.
    pub(crate) fn desire(
        &mut self,
        timed: &BTreeMap<EntryId, Arc<TimedEntry>>,
        week: Option<&AssignedWeek>,
        version: u64,
        at: BootTime,
    ) -> (bool, Vec<EventKind>) {
        let mut events = Vec::new();
        let mut changed = std::mem::take(&mut self.unread);
        self.timed.retain(|id, TimedReport { entry, progress }| {
            let stays = timed.contains_key(id);
            changed |= !stays;
            if !stays && progress.state != TimedState::Over {
                events.push(entry.disarmed(id));
            }
            stays
        });
        for (id, entry) in timed {
            let known = self.timed.get(id);
            if known.is_none_or(|known| known.entry != *entry) {
                changed = true;
                let loosened = known.filter(
                    |TimedReport {
                         entry: old,
                         progress,
                     }| {
                        let ends = |entry: &TimedEntry| entry.until.unwrap_or(Timestamp::MAX);
                        old.want == Want::Locked
                            && progress.state != TimedState::Over
                            && (entry.want != old.want
                                || entry.from > old.from
                                || ends(entry) < ends(old))
                    },
                );
                events.extend(loosened.map(|known| known.entry.disarmed(id)));
                let new = TimedReport {
                    entry: Arc::clone(entry),
                    progress: Progress::default(),
                };
                self.timed.insert(id.clone(), new);
            }
        }
        if self.week.as_ref().map(|known| &known.saved().week) != week {
            changed = true;
            let now = self.moment(at);
            let before = self.week.take();
            let week = week.map(|week| Assigned::new(week.clone(), before.as_ref(), now));
            events.push(EventKind::ScheduleChanged {
                name: week
                    .as_ref()
                    .and_then(|week| week.name().map(str::to_owned)),
                digest: week.as_ref().map(|week| week.saved().week.digest.clone()),
            });
            self.week = week;
        }
        changed |= self.version != version;
        self.version = version;
        (changed, events)
    }

    pub(crate) fn timed(&self) -> &BTreeMap<EntryId, TimedReport> {
        &self.timed
    }

    /// The week, if there is one.
    pub(crate) fn week(&self, at: BootTime) -> Option<WeekReport> {
        let week = self.week.as_ref()?;
        Some(week.report(self.clock.span(at)))
    }

    /// When a person last changed a slot above the week, if there is a week and that is known. A
    /// time that lies ahead is wrong.
    pub(crate) fn silenced_since(&self, slot: Slot, at: BootTime) -> Option<Timestamp> {
        self.week.as_ref()?;
        let holds = |timed: &&TimedReport| {
            timed.progress.state == TimedState::Holding && timed.entry.slot() == slot
        };
        if self.timed.values().find(holds).is_some() {
            return None;
        }
        let moment = self.moments.get(&slot)?.as_of(self.clock.span(at)?);
        moment.earliest.filter(|at| moment.latest == Some(*at))
    }

    /// Somebody was let in by the reader and opened the door; returns whether the week waited for
    /// that.
    pub(crate) fn first_person(&mut self, at: BootTime) -> bool {
        let span = self.clock.span(at);
        self.week
            .as_mut()
            .is_some_and(|week| week.first_person(span))
    }

    pub(crate) fn clock(&self) -> &DoorClock {
        &self.clock
    }

    /// Whether something will begin or end.
    pub(crate) fn is_live(&self) -> bool {
        let mut timed = self.timed.values();
        self.week.is_some() || timed.any(|timed| timed.progress.state != TimedState::Over)
    }

    pub(crate) fn poll_timeout(&self, after: BootTime) -> Option<BootTime> {
        let timed = self.timed.values();
        let times = timed.flat_map(|timed| [Some(timed.entry.from), timed.entry.until]);
        let week = self.week.iter().flat_map(Assigned::deadlines);
        self.clock.deadlines(after, times.flatten().chain(week))
    }

    /// Computes what the entries want now, and puts it over the slots.
    pub(crate) fn look(&mut self, now: &Now, array: &mut AuthorityArray) -> Look {
        let mut look = Look::default();
        if let Some(step) = self.clock.follow(now) {
            self.moments_mut().for_each(|moment| moment.widen(step));
            look.save = true;
        }
        let span = self.clock.span(now.boottime);
        let changed = array.take_superseded();
        self.supersede(changed, Moment::of(span));
        if let Some(Span { latest, .. }) = span.filter(|span| span.is_certain) {
            for moment in self.moments.values_mut().filter(|it| it.latest.is_none()) {
                moment.latest = Some(latest);
                look.save = true;
            }
            look.save |= self.week.as_mut().is_some_and(|week| week.pin(latest));
            if !self.clock.is_disputed() {
                for moment in self.moments_mut() {
                    look.save |= moment.limit(latest);
                }
            }
        }
        let mut overlay = BTreeMap::new();
        // Locks first: they silence releases.
        for want in [Want::Locked, Want::Released] {
            let ids: Vec<_> = self.timed.keys().cloned().collect();
            for id in ids {
                if self.timed[&id].entry.want != want {
                    continue;
                }
                let judged = self.judge(&id, span, array);
                if let (Judged::Speaks, Some(span)) = (&judged, span) {
                    look.save |= self.speak(&id, span, array, &mut overlay);
                }
                self.note(&id, judged, span, &mut look);
            }
        }
        let overlay = overlay.into_iter().map(|(slot, id)| {
            let TimedEntry { want, until, .. } = *self.timed[&id].entry;
            let ends =
                until.map(|until| Expiry::scheduled(until, self.clock.when(now.boottime, until)));
            let command_id = id.as_str().parse().ok();
            (
                slot,
                Entry {
                    command_id,
                    ..Entry::new(want, ends)
                },
            )
        });
        let mut overlay: BTreeMap<_, _> = overlay.collect();
        if let Some((want, ends)) = self.look_at_week(now, span, array, &mut look) {
            let entry = Entry::new(want, ends);
            overlay.entry(Slot::Schedule).or_insert(entry);
        }
        array.set_overlay(overlay);
        look
    }

    /// What slot 16 gets from the week, and until when.
    fn look_at_week(
        &mut self,
        now: &Now,
        span: Option<Span>,
        array: &mut AuthorityArray,
        look: &mut Look,
    ) -> Option<(Want, Option<Expiry>)> {
        let seen = self.week.as_mut()?.look(span, self.unread, array);
        look.save |= seen.changed;
        let left = seen
            .takes_over
            .map(|start| left_open(start, array, &self.moments));
        for slot in left.unwrap_or_default() {
            let command_id = array.get(slot).and_then(|entry| entry.command_id.clone());
            array.relinquish(slot);
            look.events.push(EventKind::TakenOver { slot, command_id });
            look.save = true;
        }
        let at = now.boottime;
        let until = seen.until.filter(|until| *until < Timestamp::MAX);
        let ends = until.map(|until| Expiry::scheduled(until, self.clock.when(at, until)));
        Some((seen.want?, ends))
    }

    fn judge(&self, id: &EntryId, span: Option<Span>, array: &AuthorityArray) -> Judged {
        let entry = &self.timed[id].entry;
        let Some(span) = span else {
            return Judged::Armed;
        };
        let is_over = |at| entry.until.is_some_and(|until| until <= at);
        let is_inside = |at| entry.from <= at && !is_over(at);
        let [one, other] = [span.earliest, span.latest].map(is_inside);
        let is_due = match entry.want {
            Want::Locked => one || other,
            Want::Released => span.earliest >= entry.from,
        };
        if is_over(span.earliest) {
            return Judged::Over;
        }
        if !is_due {
            return Judged::Armed;
        }
        let slot = entry.slot();
        let moment = self.moments.get(&slot);
        let is_called = array.stored().any(|(stored, held)| {
            stored == slot
                && held.want == entry.want
                && held
                    .command_id
                    .as_ref()
                    .is_some_and(|it| it.as_str() == id.as_str())
        });
        let refusal = array.refuses_unlock().map(Refusal::text);
        let why = match entry.want {
            Want::Released if !span.is_certain => Some("no clock is trusted"),
            Want::Released if !(one && other) => Some("the clock was stepped"),
            Want::Released if self.unread => Some("the twin has not been read since the doubt"),
            Want::Released if refusal.is_some() => refusal,
            _ if is_called => return Judged::Called,
            _ if moment.is_none_or(|it| it.as_of(span).is_before(entry.from, entry.want)) => None,
            _ => Some("its slot was changed later"),
        };
        why.map_or(Judged::Speaks, |why| Judged::Overruled(why.to_owned()))
    }

    /// The entry speaks: it replaces what its slot had before, and a lock releases, as a call does.
    /// A lock that a person gave stays below. Returns whether that changed anything.
    fn speak(
        &mut self,
        id: &EntryId,
        span: Span,
        array: &mut AuthorityArray,
        overlay: &mut BTreeMap<Slot, EntryId>,
    ) -> bool {
        let TimedEntry { want, from, .. } = *self.timed[id].entry;
        let slot = self.timed[id].entry.slot();
        let mut changed = false;
        match slot {
            Slot::OperatorHold => {
                let moment = self.moments.get(&Slot::OperatorGrant).copied();
                if moment.is_none_or(|it| it.as_of(span).is_before(from, Want::Locked)) {
                    changed = array.clear(Slot::OperatorGrant).is_some();
                    let latest = match moment {
                        Some(Moment { latest, .. }) => latest.map(|latest| latest.max(from)),
                        None => Some(from),
                    };
                    let earliest = Some(from);
                    // Not for a change that lies ahead: of two locks each would replace the
                    // moment of the other.
                    if moment.is_none_or(|it| it.is_before(from, Want::Locked)) {
                        let moment = Moment { earliest, latest };
                        let before = self.moments.insert(Slot::OperatorGrant, moment);
                        changed |= before != Some(moment);
                    }
                }
                let released =
                    |(held, entry): (Slot, &Entry)| held == slot && entry.want == Want::Released;
                if array.stored().any(released) {
                    array.clear(slot);
                    changed = true;
                }
            }
            Slot::OperatorGrant => changed = array.clear(slot).is_some(),
            _ => {}
        }
        // Of two in one slot the later begin speaks, at the same one the lock.
        let rank = |id: &EntryId| {
            let entry = &self.timed[id].entry;
            (entry.from, entry.want == Want::Locked)
        };
        if overlay
            .get(&slot)
            .is_none_or(|present| rank(present) < (from, want == Want::Locked))
        {
            overlay.insert(slot, id.clone());
        }
        changed
    }

    /// Notes the state of an entry.
    fn note(&mut self, id: &EntryId, judged: Judged, span: Option<Span>, look: &mut Look) {
        let Some(TimedReport { entry, progress }) = self.timed.get_mut(id) else {
            return;
        };
        let (state, why) = match judged {
            Judged::Armed => (TimedState::Armed, None),
            Judged::Speaks | Judged::Called => (TimedState::Holding, None),
            Judged::Over => (TimedState::Over, None),
            Judged::Overruled(why) => (TimedState::Overruled, Some(why)),
        };
        if (progress.state, &progress.why) == (state, &why) {
            return;
        }
        look.save = true;
        look.changed.push(id.clone());
        match state {
            TimedState::Armed => *progress = Progress::default(),
            TimedState::Holding => {
                look.started = true;
                progress.result = None;
                if progress.at.is_none() {
                    progress.at = span.map(|span| match entry.want {
                        Want::Locked => span.latest,
                        Want::Released => span.earliest,
                    });
                    progress.clock = Some(match span.is_some_and(|span| span.is_certain) {
                        true => ClockQuality::Synchronized,
                        false => ClockQuality::Unsynchronized,
                    });
                }
            }
            TimedState::Over | TimedState::Overruled => {}
        }
        progress.state = state;
        progress.why = why;
    }

    /// The event of an entry's state; an armed one has none.
    pub(crate) fn event(&self, id: &EntryId) -> Option<EventKind> {
        let TimedReport { entry, progress } = self.timed.get(id)?;
        let (id, want) = (id.clone(), entry.want);
        Some(match progress.state {
            TimedState::Armed => return None,
            TimedState::Holding => EventKind::TimedStarted {
                id,
                want,
                slot: entry.slot(),
                by: entry.by.clone(),
                reason: entry.reason.clone(),
            },
            TimedState::Over => {
                let missed = progress.at.is_none();
                EventKind::TimedEnded { id, want, missed }
            }
            TimedState::Overruled => {
                let why = progress.why.clone().unwrap_or_default();
                EventKind::Overruled { id, want, why }
            }
        })
    }

    /// Whether an entry speaks that has not reached what it wants.
    pub(crate) fn awaits_proof(&self) -> bool {
        self.unproven().next().is_some()
    }

    fn unproven(&self) -> impl Iterator<Item = &TimedReport> {
        self.timed.values().filter(|TimedReport { progress, .. }| {
            let reached = progress
                .result
                .as_ref()
                .is_some_and(|result| result.reached);
            progress.state == TimedState::Holding && !reached
        })
    }

    /// Whether an entry speaks whose result is not known yet.
    pub(crate) fn awaits_result(&self) -> bool {
        self.unproven().any(|timed| timed.progress.result.is_none())
    }

    /// Notes what the sensors show for each want; returns whether that is new.
    pub(crate) fn prove(&mut self, proven: impl Fn(Want) -> Option<TimedResult>) -> bool {
        let mut changed = false;
        for TimedReport { entry, progress } in self.timed.values_mut() {
            let known = progress.result.as_ref().map(|result| result.reached);
            if progress.state != TimedState::Holding || known == Some(true) {
                continue;
            }
            let result = proven(entry.want);
            let result = result.filter(|result| known.is_none() || result.reached);
            if result.is_some() {
                progress.result = result;
                changed = true;
            }
        }
        changed
    }
}

/// What an entry does at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Judged {
    Armed,
    Speaks,
    /// A call with its id that wants the same fills its slot instead.
    Called,
    Over,
    Overruled(String),
}

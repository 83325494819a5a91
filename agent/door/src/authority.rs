//! The priority array (after BACnet's) that decides the wanted state of the strike.
//!
//! The lowest occupied slot number wins. An entry may expire. When all slots are empty, the
//! relinquish default applies.
//!
//! Why: docs/decisions/0003-authority-array.md.

mod doubt;
mod lockdown;
mod mode;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::contract::{CommandId, HeldBy, Lockdown, Mode, Slot, SlotState, Want, duration};
use crate::time::{BootTime, Now};
pub(crate) use doubt::Doubt;
pub(crate) use lockdown::AppliedLockdown;
pub(crate) use mode::{BaseMode, Refusal};

/// When an entry ends.
///
/// `ends`, on the boot clock, is what counts. If a wall time governs, `ends` is computed from it
/// once, as soon as the clock can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    pub(crate) ends: BootTime,
    pub(crate) until: Option<Timestamp>,
    pub(crate) governs: ExpiryClock,
    /// `ends` has been computed from the governing wall time by a trusted clock. From then on
    /// later steps of the wall clock are ignored.
    pub(crate) pinned: bool,
}

/// The reported end is recomputed only if it is off by more than this, which indicates a step of
/// the wall clock.
pub(crate) const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(2);

/// Which clock an expiry follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ExpiryClock {
    /// A duration from acceptance.
    Boottime,
    /// A point in time, as soon as a trusted clock is available.
    Wall,
}

impl Expiry {
    /// Ends `length` from now.
    #[must_use]
    pub fn after(length: Duration, now: &Now) -> Self {
        Self {
            ends: now.boottime + length,
            until: now.wall_after(length),
            governs: ExpiryClock::Boottime,
            pinned: false,
        }
    }

    /// Ends at `until`, or after `fallback` while no clock is trusted.
    #[must_use]
    pub fn at(until: Timestamp, fallback: Duration, now: &Now) -> Self {
        let left = now.until(until);
        Self {
            ends: now.boottime + left.unwrap_or(fallback),
            until: Some(until),
            governs: ExpiryClock::Wall,
            pinned: left.is_some(),
        }
    }

    /// Ends at `until`, as the clock of the schedule decides: probably at `ends`.
    pub(crate) fn scheduled(until: Timestamp, ends: BootTime) -> Self {
        Self {
            ends,
            until: Some(until),
            governs: ExpiryClock::Wall,
            pinned: true,
        }
    }

    /// Wall time of the end, if known.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Boot-clock time of the end.
    #[must_use]
    pub fn ends(&self) -> BootTime {
        self.ends
    }

    fn follow_clock(&mut self, now: &Now) {
        match (self.governs, self.until) {
            (ExpiryClock::Wall, Some(until)) if !self.pinned => {
                if let Some(left) = now.until(until) {
                    // Temporary entries are limited to `duration::MAX`: a later end comes from a
                    // clock that was wrong.
                    if left <= duration::MAX {
                        self.ends = now.boottime + left;
                    }
                    self.pinned = true;
                }
            }
            (ExpiryClock::Boottime, until) => {
                let end = now.wall_after(self.ends.since(now.boottime));
                let stepped = |end: Timestamp| {
                    until.is_none_or(|until| end.duration_since(until).abs() > CLOCK_STEP)
                };
                // Not at every step, or the reported time would change all the time.
                self.until = end.filter(|end| stepped(*end)).or(until);
            }
            (ExpiryClock::Wall, _) => {}
        }
    }
}

/// An occupied slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The wanted state.
    pub want: Want,
    /// When it ends; `None` until it is relinquished or replaced.
    pub expiry: Option<Expiry>,
    /// Id of the command that filled it.
    pub command_id: Option<CommandId>,
    /// A grant for one passage: it ends early once somebody has passed through.
    pub one_passage: bool,
}

impl Entry {
    /// An entry without a command id.
    pub(crate) fn new(want: Want, expiry: Option<Expiry>) -> Self {
        Self {
            want,
            expiry,
            command_id: None,
            one_passage: false,
        }
    }

    fn until(&self) -> Option<Timestamp> {
        self.expiry.and_then(|expiry| expiry.until)
    }
}

/// The slots, and the mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityArray {
    entries: BTreeMap<Slot, Entry>,
    /// What the schedule wants now; it covers an entry of the same slot and is never saved.
    overlay: BTreeMap<Slot, Entry>,
    /// Slots that a person has changed since [`AuthorityArray::take_superseded`].
    superseded: BTreeSet<Slot>,
    relinquish_default: Want,
    /// The mode apart from lockdown, which is slot 5.
    base: BaseMode,
    /// The desired mode that was last applied.
    desired: Option<Mode>,
    /// The desired mode before the desired lockdown.
    desired_before: Option<Mode>,
    /// The desired mode that was read last, if it could not be saved.
    unstored: Option<Option<Mode>>,
    /// The lockdown in slot 5, over the mode.
    lockdown: Option<Lockdown>,
    /// When the latest lockdown in slot 5 was ordered; `None` if that is unknown.
    lockdown_at: Option<Timestamp>,
    /// The first trusted time since; `None` until then.
    lockdown_by: Option<Timestamp>,
    /// Mode `lockdown` is set: slot 5 stays filled after `lockdown`.
    mode_lockdown: bool,
    /// The desired lockdown that was last applied.
    desired_lockdown: Option<AppliedLockdown>,
    doubt: Option<Doubt>,
}

impl AuthorityArray {
    pub(crate) fn new(relinquish_default: Want) -> Self {
        Self {
            entries: BTreeMap::new(),
            overlay: BTreeMap::new(),
            superseded: BTreeSet::new(),
            relinquish_default,
            base: BaseMode::default(),
            desired: None,
            desired_before: None,
            unstored: None,
            lockdown: None,
            lockdown_at: None,
            lockdown_by: None,
            mode_lockdown: false,
            desired_lockdown: None,
            doubt: None,
        }
    }

    /// The wanted state of the strike.
    #[must_use]
    pub fn want(&self) -> Want {
        self.winner()
            .map_or(self.relinquish_default, |(_, entry)| entry.want)
    }

    /// The deciding slot; `None` when all are empty.
    #[must_use]
    pub fn winner(&self) -> Option<(Slot, &Entry)> {
        self.entries().next()
    }

    /// The occupied slots, highest priority first.
    pub fn entries(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        let slots = Slot::ALL.into_iter();
        slots.filter_map(|slot| Some((slot, self.get(slot)?)))
    }

    /// The same without the schedule.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        self.entries.iter().map(|(slot, entry)| (*slot, entry))
    }

    /// The occupied slots as `getState` shows them.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotState> {
        let state = |(slot, entry): (Slot, &Entry)| SlotState {
            slot,
            want: entry.want,
            source: slot.source(),
            until: entry.until(),
            command_id: entry.command_id.clone(),
        };
        self.entries().map(state).collect()
    }

    /// The entry of a slot.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&Entry> {
        self.overlay.get(&slot).or_else(|| self.entries.get(&slot))
    }

    /// Puts what the schedule wants now over the slots.
    pub(crate) fn set_overlay(&mut self, overlay: BTreeMap<Slot, Entry>) {
        self.overlay = overlay;
    }

    /// A person changes these slots: what the schedule wanted of them before is over.
    pub(crate) fn supersede(&mut self, slots: &[Slot]) {
        self.superseded.extend(slots);
        self.overlay.retain(|slot, _| !slots.contains(slot));
    }

    /// The slots that a person has changed since the last call.
    pub(crate) fn take_superseded(&mut self) -> BTreeSet<Slot> {
        std::mem::take(&mut self.superseded)
    }

    /// The wanted state when all slots are empty.
    #[must_use]
    pub fn relinquish_default(&self) -> Want {
        self.relinquish_default
    }

    /// The deciding slot as reported.
    #[must_use]
    pub fn held_by(&self) -> Option<HeldBy> {
        self.winner().map(|(slot, entry)| HeldBy {
            slot,
            // While a button is pressed, the end of its release moves with every reading.
            until: entry.until().filter(|_| !slot.is_at_the_door()),
            since: None,
        })
    }

    /// The deciding slot, if it is above `slot` and wants something else than `want`.
    #[must_use]
    pub(crate) fn overridden(&self, slot: Slot, want: Want) -> Option<HeldBy> {
        self.winner()
            .filter(|(winner, entry)| *winner < slot && entry.want != want)
            .and_then(|_| self.held_by())
    }

    /// Wall time of the end of the operator's lock hold.
    #[must_use]
    pub fn locked_until(&self) -> Option<Timestamp> {
        self.get(Slot::OperatorHold)
            .filter(|entry| entry.want == Want::Locked)
            .and_then(Entry::until)
    }

    pub(crate) fn fill(&mut self, slot: Slot, entry: Entry) {
        self.entries.insert(slot, entry);
    }

    /// Ends an entry at `expiry` if it would end later; returns whether it did.
    pub(crate) fn shorten(&mut self, slot: Slot, expiry: Expiry) -> bool {
        let later = |entry: &&mut Entry| entry.expiry.is_none_or(|ends| ends.ends > expiry.ends);
        let entry = self.entries.get_mut(&slot).filter(later);
        entry.map(|entry| entry.expiry = Some(expiry)).is_some()
    }

    pub(crate) fn clear(&mut self, slot: Slot) -> Option<Entry> {
        self.entries.remove(&slot)
    }

    /// Recomputes ends that depend on the wall clock; returns whether any changed.
    pub(crate) fn follow_clock(&mut self, now: &Now) -> bool {
        let expiries = self.entries.values_mut();
        let mut changed = false;
        for expiry in expiries.filter_map(|entry| entry.expiry.as_mut()) {
            let before = *expiry;
            expiry.follow_clock(now);
            changed |= *expiry != before;
        }
        changed
    }

    /// Removes expired entries and returns their slots.
    pub(crate) fn expire(&mut self, now: &Now) -> Vec<Slot> {
        let mut expired = Vec::new();
        self.follow_clock(now);
        self.entries.retain(|slot, entry| {
            let over = entry
                .expiry
                .is_some_and(|expiry| expiry.ends <= now.boottime);
            if over {
                expired.push(*slot);
            }
            !over
        });
        expired
    }

    pub(crate) fn poll_timeout(&self) -> Option<BootTime> {
        self.entries
            .values()
            .filter_map(|entry| entry.expiry.map(|expiry| expiry.ends))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{BootId, ClockQuality, at};

    const SECOND: Duration = Duration::from_secs(1);

    fn now(boottime: u64, wall: Option<&str>) -> Now {
        Now {
            boottime: at(boottime),
            boot_id: BootId::new("a"),
            wall: wall.map(|text| text.parse().unwrap()),
            quality: match wall {
                Some(_) => ClockQuality::Synchronized,
                None => ClockQuality::Unsynchronized,
            },
        }
    }

    #[test]
    fn the_lowest_occupied_slot_wins_and_the_default_holds_when_all_are_empty() {
        let mut array = AuthorityArray::new(Want::Locked);
        assert_eq!((array.want(), array.held_by()), (Want::Locked, None));
        for (slot, want) in [
            (Slot::OperatorHold, Want::Locked),
            (Slot::OperatorGrant, Want::Released),
            (Slot::FireRelease, Want::Released),
        ] {
            array.fill(slot, Entry::new(want, None));
            assert_eq!(array.want(), want);
            assert_eq!(array.held_by().map(|held| held.slot), Some(slot));
        }
        array.clear(Slot::FireRelease);
        array.clear(Slot::OperatorGrant);
        assert_eq!(array.want(), Want::Locked);
    }

    #[test]
    fn a_duration_counts_on_the_boot_clock_whatever_the_wall_clock_does() {
        let mut array = AuthorityArray::new(Want::Released);
        let start = now(100, Some("2026-11-23T22:00:00Z"));
        let expiry = Expiry::after(SECOND * 600, &start);
        assert_eq!(
            expiry.until(),
            Some("2026-11-23T22:10:00Z".parse().unwrap())
        );
        array.fill(Slot::OperatorHold, Entry::new(Want::Locked, Some(expiry)));
        assert_eq!(array.expire(&now(699, Some("2031-01-01T00:00:00Z"))), []);
        assert_eq!(array.expire(&now(700, None)), [Slot::OperatorHold]);
    }

    #[test]
    fn a_point_in_time_follows_a_trusted_clock_and_falls_back_without_one() {
        let until = "2026-11-23T22:10:00Z".parse().unwrap();
        let mut array = AuthorityArray::new(Want::Released);
        let expiry = Expiry::at(until, SECOND * 600, &now(100, None));
        array.fill(Slot::OperatorHold, Entry::new(Want::Locked, Some(expiry)));
        assert_eq!(array.poll_timeout(), Some(at(700)));
        // The clock is set: seven of the ten minutes had passed before the command arrived.
        assert_eq!(array.expire(&now(110, Some("2026-11-23T22:07:10Z"))), []);
        assert_eq!(array.poll_timeout(), Some(at(280)));
        // From here on steps of the wall clock have no effect, whatever their size and direction.
        assert_eq!(array.expire(&now(111, Some("2036-11-23T22:10:00Z"))), []);
        assert_eq!(array.expire(&now(112, Some("1970-01-01T00:00:00Z"))), []);
        assert_eq!(array.expire(&now(279, None)), []);
        assert_eq!(
            array.expire(&now(280, Some("1970-01-01T00:02:48Z"))),
            [Slot::OperatorHold]
        );
    }

    #[test]
    fn the_reported_end_follows_only_steps_of_the_clock_above_2_seconds() {
        let expiry = Expiry::after(SECOND * 600, &now(100, Some("2026-11-23T22:00:00Z")));
        for (wall_after_10s, until) in [
            ("2026-11-23T22:00:08Z", "2026-11-23T22:10:00Z"),
            ("2026-11-23T22:00:12Z", "2026-11-23T22:10:00Z"),
            ("2026-11-23T22:00:07Z", "2026-11-23T22:09:57Z"),
            ("2026-11-23T22:00:13Z", "2026-11-23T22:10:03Z"),
        ] {
            let mut expiry = expiry;
            expiry.follow_clock(&now(110, Some(wall_after_10s)));
            let expected = until.parse().unwrap();
            assert_eq!(expiry.until(), Some(expected), "{wall_after_10s}");
            assert_eq!(expiry.ends(), at(700));
        }
    }

    #[test]
    fn only_a_slot_that_a_command_fills_is_reported_with_its_end() {
        let expiry = Expiry::after(SECOND * 600, &now(100, Some("2026-11-23T22:00:00Z")));
        for slot in Slot::ALL {
            let mut array = AuthorityArray::new(Want::Locked);
            array.fill(slot, Entry::new(Want::Released, Some(expiry)));
            let until = expiry.until().filter(|_| slot.number() > 3);
            assert_eq!(
                array.held_by(),
                Some(HeldBy {
                    slot,
                    until,
                    since: None
                })
            );
        }
    }

    #[test]
    fn an_entry_is_shortened_only_if_it_would_end_later() {
        let expiry = |seconds: u32| Expiry::after(SECOND * seconds, &now(100, None));
        for (ends, is_shortened) in [
            (Some(expiry(9)), false),
            (Some(expiry(10)), false),
            (Some(expiry(11)), true),
            (None, true),
        ] {
            let mut array = AuthorityArray::new(Want::Locked);
            array.fill(Slot::OperatorGrant, Entry::new(Want::Released, ends));
            let shortened = array.shorten(Slot::OperatorGrant, expiry(10));
            assert_eq!(shortened, is_shortened, "{ends:?}");
            let expected = if is_shortened { Some(expiry(10)) } else { ends };
            assert_eq!(array.get(Slot::OperatorGrant).unwrap().expiry, expected);
        }
    }
}

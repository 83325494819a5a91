//! The priority array (after BACnet's): who decides what the strike should do.
//!
//! The lowest occupied slot wins; an entry may expire; when all are empty the relinquish default
//! holds.

mod doubt;
mod mode;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Fitted;
use crate::contract::{CommandId, HeldBy, Mode, SlotState, Source, duration};
use crate::time::Now;
pub(crate) use doubt::Doubt;
pub(crate) use mode::{BaseMode, Refusal};

/// What the strike should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Want {
    /// Held against entry.
    Locked,
    /// Free to open.
    Released,
}

impl Want {
    /// As it is written and told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Released => "released",
        }
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in the array, by priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Slot {
    /// Fire release input; latched until reset at the door.
    FireRelease,
    /// Request to exit; nothing remote can disable it.
    RequestToExit,
    /// An existing reader or keypad, service at the door.
    LocalGrant,
    /// Mode `lockdown`: locked against entry. The slots above, filled at the door, still win.
    Lockdown,
    /// `unlockDoor` with a time.
    OperatorGrant,
    /// `lockDoor`, or `unlockDoor` without a time.
    OperatorHold,
    /// Mode `passage`: released for all.
    Passage,
}

impl Slot {
    /// Every slot, highest priority first.
    pub const ALL: [Self; 7] = [
        Self::FireRelease,
        Self::RequestToExit,
        Self::LocalGrant,
        Self::Lockdown,
        Self::OperatorGrant,
        Self::OperatorHold,
        Self::Passage,
    ];

    /// Its priority; 1 is the highest.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::FireRelease => 1,
            Self::RequestToExit => 2,
            Self::LocalGrant => 3,
            Self::Lockdown => 5,
            Self::OperatorGrant => 7,
            Self::OperatorHold => 8,
            Self::Passage => 9,
        }
    }

    /// Who brings about what it decides.
    #[must_use]
    pub fn source(self) -> Source {
        match self {
            Self::FireRelease => Source::Fire,
            Self::RequestToExit => Source::Rex,
            Self::LocalGrant => Source::Local,
            Self::Lockdown | Self::OperatorGrant | Self::OperatorHold | Self::Passage => {
                Source::Remote
            }
        }
    }

    /// Filled by an input at the door: never blocked, never written to disk except for the fire
    /// latch.
    pub(crate) fn is_at_the_door(self) -> bool {
        self <= Self::LocalGrant
    }

    /// The input that fills it, by the key of its table; `None` for what commands fill.
    #[must_use]
    pub fn input(self) -> Option<&'static str> {
        match self {
            Self::FireRelease => Some("fire"),
            Self::RequestToExit => Some("rex"),
            Self::LocalGrant => Some("grant"),
            Self::Lockdown | Self::OperatorGrant | Self::OperatorHold | Self::Passage => None,
        }
    }

    /// Whether the input that fills it is fitted; what commands fill needs none.
    pub(crate) fn is_fitted(self, fitted: Fitted) -> bool {
        match self {
            Self::FireRelease => fitted.fire,
            Self::RequestToExit => fitted.rex,
            Self::LocalGrant => fitted.grant,
            Self::Lockdown | Self::OperatorGrant | Self::OperatorHold | Self::Passage => true,
        }
    }

    /// Whether its entry is there again after a restart. A press of a button is over by then.
    #[must_use]
    pub fn outlasts_restart(self) -> bool {
        !self.is_at_the_door() || self == Self::FireRelease
    }
}

impl From<Slot> for u8 {
    fn from(slot: Slot) -> Self {
        slot.number()
    }
}

impl TryFrom<u8> for Slot {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::ALL
            .into_iter()
            .find(|slot| slot.number() == number)
            .ok_or_else(|| format!("{number} is no slot of the authority array"))
    }
}

/// When an entry ends.
///
/// `ends` is on the boot clock and is what counts from step to step; where a wall time governs, it
/// is set anew whenever the clock can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    pub(crate) ends: Duration,
    pub(crate) until: Option<Timestamp>,
    pub(crate) governs: Governs,
    /// A trusted clock has told how long it is until the wall time that governs: from then on the
    /// boot clock counts, whatever steps the wall clock makes.
    pub(crate) pinned: bool,
}

/// How far the wall time of an end may be off before it is set anew: what a step of the clock is
/// told by.
const STEP: SignedDuration = SignedDuration::from_secs(2);

/// Which clock an expiry follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Governs {
    /// A length of time from acceptance.
    Boottime,
    /// A point in time, whenever a trusted clock can tell it.
    Wall,
}

impl Expiry {
    /// `length` from now.
    #[must_use]
    pub fn after(length: Duration, now: &Now) -> Self {
        Self {
            ends: now.boottime.saturating_add(length),
            until: now.wall_after(length),
            governs: Governs::Boottime,
            pinned: false,
        }
    }

    /// At `until`; after `fallback` as long as no trusted clock can tell.
    #[must_use]
    pub fn at(until: Timestamp, fallback: Duration, now: &Now) -> Self {
        let told = now.until(until);
        Self {
            ends: now.boottime.saturating_add(told.unwrap_or(fallback)),
            until: Some(until),
            governs: Governs::Wall,
            pinned: told.is_some(),
        }
    }

    /// The wall time of its end, when known.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Boot-clock time of its end.
    #[must_use]
    pub fn ends(&self) -> Duration {
        self.ends
    }

    fn follow_clock(&mut self, now: &Now) {
        match (self.governs, self.until) {
            (Governs::Wall, Some(until)) if !self.pinned => {
                if let Some(left) = now.until(until) {
                    // Nothing temporary lasts longer: an end beyond that was told by a clock that
                    // was wrong.
                    if left <= duration::MAX {
                        self.ends = now.boottime.saturating_add(left);
                    }
                    self.pinned = true;
                }
            }
            (Governs::Boottime, until) => {
                let told = now.wall_after(self.ends.saturating_sub(now.boottime));
                let stepped = |told: Timestamp| {
                    until.is_none_or(|until| told.duration_since(until).abs() > STEP)
                };
                // Not at every step: what is reported would change all the time.
                self.until = told.filter(|told| stepped(*told)).or(until);
            }
            (Governs::Wall, _) => {}
        }
    }
}

/// An occupied slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it asks for.
    pub want: Want,
    /// When it ends; `None`: not before it is relinquished or replaced.
    pub expiry: Option<Expiry>,
    /// The command that filled it.
    pub command_id: Option<CommandId>,
    /// A grant for one passage: it ends early once somebody has gone through.
    pub one_passage: bool,
}

impl Entry {
    /// An entry that nobody named.
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

/// The array, and the mode that decides with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityArray {
    entries: BTreeMap<Slot, Entry>,
    relinquish_default: Want,
    /// The mode, lockdown apart, which is slot 5.
    base: BaseMode,
    /// The desired mode that was last applied.
    desired: Option<Mode>,
    /// The one before it, while a lockdown is desired.
    desired_before: Option<Mode>,
    doubt: Option<Doubt>,
}

impl AuthorityArray {
    pub(crate) fn new(relinquish_default: Want) -> Self {
        Self {
            entries: BTreeMap::new(),
            relinquish_default,
            base: BaseMode::default(),
            desired: None,
            desired_before: None,
            doubt: None,
        }
    }

    /// What the strike should be.
    #[must_use]
    pub fn want(&self) -> Want {
        self.winner()
            .map_or(self.relinquish_default, |(_, entry)| entry.want)
    }

    /// The slot that decides; `None` when all are empty.
    #[must_use]
    pub fn winner(&self) -> Option<(Slot, &Entry)> {
        self.entries
            .iter()
            .next()
            .map(|(slot, entry)| (*slot, entry))
    }

    /// The occupied slots, highest priority first.
    pub fn entries(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        self.entries.iter().map(|(slot, entry)| (*slot, entry))
    }

    /// The same, as they are told.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotState> {
        let told = |(slot, entry): (Slot, &Entry)| SlotState {
            slot,
            want: entry.want,
            source: slot.source(),
            until: entry.until(),
            command_id: entry.command_id.clone(),
        };
        self.entries().map(told).collect()
    }

    /// What a slot holds.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(&slot)
    }

    /// What holds when all slots are empty.
    #[must_use]
    pub fn relinquish_default(&self) -> Want {
        self.relinquish_default
    }

    /// The slot that decides, as it is reported.
    #[must_use]
    pub fn held_by(&self) -> Option<HeldBy> {
        self.winner().map(|(slot, entry)| HeldBy {
            slot,
            // The end of a button's release moves on for as long as it is pressed.
            until: entry.until().filter(|_| !slot.is_at_the_door()),
        })
    }

    /// The slot above `slot` that decides otherwise than `want`.
    #[must_use]
    pub(crate) fn overridden(&self, slot: Slot, want: Want) -> Option<HeldBy> {
        self.winner()
            .filter(|(winner, entry)| *winner < slot && entry.want != want)
            .and_then(|_| self.held_by())
    }

    /// Until when the operator's lock hold lasts.
    #[must_use]
    pub fn locked_until(&self) -> Option<Timestamp> {
        self.get(Slot::OperatorHold)
            .filter(|entry| entry.want == Want::Locked)
            .and_then(Entry::until)
    }

    pub(crate) fn fill(&mut self, slot: Slot, entry: Entry) {
        self.entries.insert(slot, entry);
    }

    /// Lets an entry end at `expiry` if it would end later; true when it would.
    pub(crate) fn shorten(&mut self, slot: Slot, expiry: Expiry) -> bool {
        let later = |entry: &&mut Entry| entry.expiry.is_none_or(|ends| ends.ends > expiry.ends);
        let entry = self.entries.get_mut(&slot).filter(later);
        entry.map(|entry| entry.expiry = Some(expiry)).is_some()
    }

    pub(crate) fn clear(&mut self, slot: Slot) -> Option<Entry> {
        self.entries.remove(&slot)
    }

    /// Sets anew what the wall clock has told of ends. True when that changes anything.
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

    /// Removes what has ended.
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

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        self.entries
            .values()
            .filter_map(|entry| entry.expiry.map(|expiry| expiry.ends))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{BootId, ClockQuality};

    const SECOND: Duration = Duration::from_secs(1);

    fn now(boottime: u64, wall: Option<&str>) -> Now {
        Now {
            boottime: SECOND * u32::try_from(boottime).unwrap(),
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
    fn a_length_of_time_counts_on_the_boot_clock_whatever_the_wall_clock_does() {
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
        assert_eq!(array.poll_timeout(), Some(SECOND * 700));
        // The clock is set: seven minutes of the ten had already gone when the command came.
        assert_eq!(array.expire(&now(110, Some("2026-11-23T22:07:10Z"))), []);
        assert_eq!(array.poll_timeout(), Some(SECOND * 280));
        // From here on a step changes nothing, by years and in whichever direction.
        assert_eq!(array.expire(&now(111, Some("2036-11-23T22:10:00Z"))), []);
        assert_eq!(array.expire(&now(112, Some("1970-01-01T00:00:00Z"))), []);
        assert_eq!(array.expire(&now(279, None)), []);
        assert_eq!(
            array.expire(&now(280, Some("1970-01-01T00:02:48Z"))),
            [Slot::OperatorHold]
        );
    }

    #[test]
    fn a_want_is_spelled_locked_or_released() {
        for (want, text) in [(Want::Locked, "locked"), (Want::Released, "released")] {
            assert_eq!(want.as_str(), text);
            assert_eq!(want.to_string(), text);
            assert_eq!(serde_json::to_string(&want).unwrap(), format!("{text:?}"));
        }
    }

    #[test]
    fn the_slots_at_the_door_name_the_input_that_fills_them() {
        let inputs = Slot::ALL.map(|slot| (slot.number(), slot.input()));
        assert_eq!(
            inputs,
            [
                (1, Some("fire")),
                (2, Some("rex")),
                (3, Some("grant")),
                (5, None),
                (7, None),
                (8, None),
                (9, None),
            ]
        );
    }

    #[test]
    fn a_slot_is_spelled_by_its_number() {
        for slot in Slot::ALL {
            let text = serde_json::to_string(&slot).unwrap();
            assert_eq!(text, slot.number().to_string());
            assert_eq!(serde_json::from_str::<Slot>(&text).unwrap(), slot);
        }
        assert!(serde_json::from_str::<Slot>("4").is_err());
    }
}

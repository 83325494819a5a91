//! The state that survives a restart: slots, mode, applied desired properties and command ids. The
//! level of a pin is never saved.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::authority::{
    AppliedLockdown, AuthorityArray, BaseMode, Doubt, Entry, Expiry, ExpiryClock,
};
use crate::config::{Fitted, Overrides, Setting};
use crate::contract::{CommandId, Lockdown, Mode, Raised, Slot, Want};
use crate::desired::{DesiredDoor, DesiredLockdown, DesiredMode};
use crate::door::AcceptedCommand;
use crate::event::DropReason;
use crate::schedule::{EntryId, SavedAgenda, TimedReport};
use crate::time::{BootId, BootTime, Now, milliseconds};

/// The door's state on disk, as JSON. A field added by a later version must have a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedDoor {
    /// The boot during which it was saved.
    pub(crate) boot_id: BootId,
    /// When it was saved, on the clock of that boot.
    #[serde(rename = "savedAtMs", with = "milliseconds")]
    pub(crate) saved_at: BootTime,
    pub(crate) slots: Vec<SavedEntry>,
    /// The mode apart from lockdown, which is slot 5.
    #[serde(default)]
    pub(crate) mode: BaseMode,
    /// The desired mode that was last applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) desired_mode: Option<Mode>,
    /// The desired mode before the desired lockdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) desired_mode_before: Option<Mode>,
    /// The lockdown in slot 5; without one, mode `lockdown` has filled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lockdown: Option<Lockdown>,
    /// Mode `lockdown` is set below `lockdown`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) mode_lockdown: bool,
    /// The desired lockdown that was last applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) desired_lockdown: Option<AppliedLockdown>,
    /// The applied desired settings by name, in milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) settings: BTreeMap<String, u64>,
    /// Ids of accepted commands, oldest first.
    pub(crate) commands: Vec<CommandId>,
    /// The alarm `lockForced`, which only a command clears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lock_forced: Option<Raised>,
    /// Details of each of `commands`; a separate list, so that version 0.1 can still read the ids.
    #[serde(default, rename = "deeds")]
    pub(crate) command_details: Vec<Option<AcceptedCommand>>,
    /// The doubt; lasts until the next accepted command of an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) doubt: Option<Doubt>,
    /// What is timed. Version 0.1 leaves it out of its saves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agenda: Option<Box<SavedAgenda>>,
    /// Slots that the doubt emptied, in the start that found it.
    #[serde(skip)]
    pub(crate) dropped: Vec<Slot>,
}

/// An occupied slot on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SavedEntry {
    slot: Slot,
    want: Want,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expiry: Option<SavedExpiry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command_id: Option<CommandId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    one_passage: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedExpiry {
    /// Time that remained when it was saved.
    #[serde(rename = "remainingMs", with = "milliseconds")]
    remaining: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    governs: ExpiryClock,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
}

impl SavedDoor {
    pub(crate) fn new(
        now: &Now,
        array: &AuthorityArray,
        settings: &Overrides,
        (commands, command_details): (Vec<CommandId>, Vec<Option<AcceptedCommand>>),
    ) -> Self {
        let slots = array
            .stored()
            .filter(|(slot, _)| slot.outlasts_restart())
            .map(|(slot, entry)| SavedEntry {
                slot,
                want: entry.want,
                expiry: entry.expiry.map(|expiry| SavedExpiry {
                    remaining: expiry.ends.since(now.boottime),
                    until: expiry.until,
                    governs: expiry.governs,
                    pinned: expiry.pinned,
                }),
                command_id: entry.command_id.clone(),
                one_passage: entry.one_passage,
            })
            .collect();
        let (lockdown, mode_lockdown, desired_lockdown) = array.saved_lockdown();
        Self {
            boot_id: now.boot_id.clone(),
            saved_at: now.boottime,
            slots,
            mode: array.base_mode(),
            desired_mode: array.desired_mode(),
            desired_mode_before: array.desired_before(),
            lockdown,
            mode_lockdown,
            desired_lockdown,
            settings: settings
                .iter()
                .map(|(setting, time)| {
                    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                    (setting.name().to_owned(), ms)
                })
                .collect(),
            commands,
            command_details,
            doubt: array.doubt().cloned(),
            dropped: Vec::new(),
            lock_forced: None,
            agenda: None,
        }
    }

    /// Reads the fire latch alone from a state in the format of another version; `None` if there is
    /// none.
    #[must_use]
    pub fn fire_latch(text: &str) -> Option<Self> {
        let state: Value = serde_json::from_str(text).ok()?;
        let slots = state.get("slots")?.as_array()?.iter();
        let latch = slots.filter_map(|entry| SavedEntry::deserialize(entry).ok());
        let mut latch = latch.filter(|entry| entry.slot == Slot::FireRelease);
        Some(Self {
            boot_id: BootId::new(""),
            saved_at: BootTime::default(),
            slots: vec![latch.next()?],
            mode: BaseMode::default(),
            desired_mode: None,
            desired_mode_before: None,
            lockdown: None,
            mode_lockdown: false,
            desired_lockdown: None,
            settings: BTreeMap::new(),
            commands: Vec::new(),
            lock_forced: None,
            command_details: Vec::new(),
            doubt: None,
            agenda: None,
            dropped: Vec::new(),
        })
    }

    /// The state for a start that may have lost a newer one. `found` holds the intact saved states,
    /// newest first.
    ///
    /// A fire latch is kept from any of them. From the newest, lockdown, locks, settings and
    /// command ids are kept. Operators' releases are dropped, the mode is `secure`, also below
    /// a lockdown, and desired mode and lockdown count as not yet applied: a lockdown that is kept
    /// ends by an all-clear. Of what is timed only locks speak until the twin has been read.
    #[must_use]
    pub fn in_doubt(found: Vec<Self>, reason: String, now: &Now) -> Self {
        let is_latch = |entry: &&SavedEntry| entry.slot == Slot::FireRelease;
        let latch = found.iter().flat_map(|state| &state.slots).find(is_latch);
        let latch = latch.cloned();
        let state = found.into_iter().next();
        let state = state.unwrap_or_else(|| {
            let array = AuthorityArray::new(Want::Locked);
            Self::new(now, &array, &Overrides::new(), Default::default())
        });
        let (mut kept, dropped): (Vec<_>, Vec<_>) = state.slots.into_iter().partition(|entry| {
            let holds = matches!(entry.slot, Slot::Lockdown | Slot::OperatorHold);
            holds && entry.want == Want::Locked
        });
        kept.extend(latch);
        let own = state.mode != BaseMode::Secure || state.doubt.is_some_and(|doubt| doubt.secure);
        let dropped = dropped.iter().map(|entry| entry.slot);
        Self {
            slots: kept,
            mode: BaseMode::Secure,
            desired_mode: None,
            desired_mode_before: None,
            desired_lockdown: None,
            doubt: Some(Doubt {
                reason,
                secure: own,
            }),
            dropped: dropped.filter(|slot| !slot.is_at_the_door()).collect(),
            agenda: Some(Box::new(state.agenda.unwrap_or_default().in_doubt())),
            ..state
        }
    }

    /// The desired properties that this state has applied.
    #[must_use]
    pub fn desired(&self) -> DesiredDoor {
        DesiredDoor {
            mode: match self.desired_mode {
                Some(mode) => DesiredMode::Mode(mode),
                None => DesiredMode::Absent,
            },
            settings: self.settings(),
            lockdown: match &self.desired_lockdown {
                Some(AppliedLockdown { id, version }) => DesiredLockdown::Lockdown {
                    lockdown: Lockdown {
                        id: Some(id.clone()),
                        ..Lockdown::default()
                    },
                    version: *version,
                },
                None => DesiredLockdown::Absent,
            },
            timed: self
                .timed()
                .map(|(id, it)| (id.clone(), it.entry.clone()))
                .collect(),
            schedule: self.agenda.as_ref().and_then(|it| it.week().cloned()),
            timed_version: self.agenda.as_ref().map_or(0, |agenda| agenda.version),
        }
    }

    /// The timed entries.
    pub fn timed(&self) -> impl Iterator<Item = (&EntryId, &TimedReport)> {
        self.agenda.iter().flat_map(|agenda| &agenda.timed)
    }

    /// The saved settings, without those in [`SavedDoor::unknown_settings`].
    pub(crate) fn settings(&self) -> Overrides {
        let saved = self.settings.iter();
        saved.filter_map(|(name, ms)| setting(name, *ms)).collect()
    }

    /// Names of saved settings that this version does not have, or whose value it does not allow.
    pub fn unknown_settings(&self) -> impl Iterator<Item = &str> {
        let saved = self.settings.iter();
        let gone = saved.filter(|(name, ms)| setting(name, **ms).is_none());
        gone.map(|(name, _)| name.as_str())
    }

    /// Occupied slots whose input is not fitted: a start drops them.
    pub fn unfitted_slots(&self, fitted: Fitted) -> impl Iterator<Item = Slot> {
        let slots = self.slots.iter().map(|entry| entry.slot);
        slots.filter(move |slot| !slot.is_fitted(fitted))
    }

    /// Fills the array with entries that still apply; returns the dropped slots with the reason.
    pub(crate) fn restore(
        &self,
        now: &Now,
        fitted: Fitted,
        array: &mut AuthorityArray,
    ) -> Vec<(Slot, DropReason)> {
        let in_doubt = self.dropped.iter().map(|slot| (*slot, DropReason::InDoubt));
        let mut dropped: Vec<_> = in_doubt.collect();
        let gone = self.unfitted_slots(fitted);
        dropped.extend(gone.map(|slot| (slot, DropReason::InputNotFitted)));
        let stays = |slot: Slot| slot.outlasts_restart() && slot.is_fitted(fitted);
        for saved in self.slots.iter().filter(|saved| stays(saved.slot)) {
            let expiry = match &saved.expiry {
                None => None,
                Some(expiry) => match self.restore_expiry(expiry, saved.want, now) {
                    Some(expiry) => Some(expiry),
                    None => {
                        dropped.push((saved.slot, DropReason::TimeUnknown));
                        continue;
                    }
                },
            };
            array.fill(
                saved.slot,
                Entry {
                    want: saved.want,
                    expiry,
                    command_id: saved.command_id.clone(),
                    one_passage: saved.one_passage,
                },
            );
        }
        array.restore_mode(self.mode);
        array.restore_lockdown(
            self.lockdown.as_ref(),
            self.mode_lockdown,
            self.desired_lockdown.as_ref(),
        );
        array.restore_desired(self.desired_mode, self.desired_mode_before);
        array.restore_doubt(self.doubt.as_ref());
        dropped
    }

    /// Restores an expiry. Within a boot its time has passed on the boot clock. After a reboot a
    /// trusted wall clock decides; without one a lock resumes with its remaining time, and a
    /// release is dropped (`None`).
    fn restore_expiry(&self, saved: &SavedExpiry, want: Want, now: &Now) -> Option<Expiry> {
        if self.boot_id == now.boot_id {
            return Some(Expiry {
                ends: self.saved_at + saved.remaining,
                until: saved.until,
                governs: saved.governs,
                pinned: saved.pinned,
            });
        }
        match (saved.until, now.trusted_wall(), want) {
            // If the end has passed, the first step expires the entry.
            (Some(until), Some(_), _) => {
                let expiry = Expiry::at(until, saved.remaining, now);
                // Never more than remained at the last save: a later end comes from a clock that
                // was, or is, wrong.
                let latest = now.boottime + saved.remaining;
                Some(Expiry {
                    ends: expiry.ends.min(latest),
                    ..expiry
                })
            }
            (until, _, Want::Locked) => Some(Expiry {
                until,
                // The boot clock has restarted: a trusted wall clock will decide.
                governs: match until {
                    Some(_) => ExpiryClock::Wall,
                    None => ExpiryClock::Boottime,
                },
                ..Expiry::after(saved.remaining, now)
            }),
            (_, _, Want::Released) => None,
        }
    }
}

/// A saved setting, if this version has it and allows its value. Zero is not allowed: a strike time
/// of zero would release nobody.
fn setting(name: &str, ms: u64) -> Option<(Setting, Duration)> {
    let setting = Setting::from_name(name).ok()?;
    let time = Duration::from_millis(ms);
    (!time.is_zero() && time <= setting.max()).then_some((setting, time))
}

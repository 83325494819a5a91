//! A lockdown in slot 5, over the mode: it changes nothing below it.
//!
//! Method and desired property fill the slot alike. The property is a level: the lockdown ends when
//! the id that filled the slot is no longer desired. A lockdown of another id, called since, stays.
//! Mode `lockdown` fills slot 5 too, and stays when a lockdown over it is withdrawn.
//!
//! Why: docs/decisions/0016-lockdown-is-a-property-and-a-method.md.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{AuthorityArray, Entry};
use crate::contract::{CommandId, Lockdown, Slot, Want};

/// How far the clock of who ordered a lockdown may be ahead of the door's.
const MAX_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// A desired lockdown that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppliedLockdown {
    pub(crate) id: CommandId,
    /// `$version` of the desired properties that ordered it.
    pub(crate) version: u64,
}

impl AuthorityArray {
    /// The lockdown in slot 5; `None` if there is none, or if it is one of the mode alone.
    #[must_use]
    pub fn lockdown(&self) -> Option<&Lockdown> {
        self.lockdown.as_ref()
    }

    /// Fills slot 5, unless a lockdown that was ordered later is there.
    pub(crate) fn begin_lockdown(&mut self, lockdown: &Lockdown) {
        let latest = self.lockdown_at.or(self.lockdown_by);
        let is_older = lockdown.at.is_some_and(|at| latest > Some(at));
        if self.lockdown.is_some() && is_older {
            return;
        }
        self.lockdown_at = lockdown.at.filter(|_| !self.mode_lockdown);
        self.lockdown_by = None;
        let entry = Entry {
            command_id: lockdown.id.clone(),
            ..Entry::new(Want::Locked, None)
        };
        self.fill(Slot::Lockdown, entry);
        self.lockdown = Some(lockdown.clone());
    }

    /// The latest time at which the lockdown in slot 5 may have been ordered, for an all-clear of
    /// `cleared`; `None` until it is known. A lockdown that lies ahead counts by when the door had
    /// it: no all-clear of today could end it. If the all-clear lies ahead too, so does the clock
    /// of both.
    pub(crate) fn lockdown_at(
        &self,
        cleared: Timestamp,
        now: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let latest = now.and_then(|now| now.checked_add(MAX_AHEAD).ok());
        let is_ahead = |at: Timestamp| latest.is_some_and(|latest| at > latest);
        let ordered = self.lockdown_at;
        let counts = ordered.filter(|at| !is_ahead(*at) || is_ahead(cleared));
        counts.or(self.lockdown_by)
    }

    /// The lockdown in slot 5 was ordered before the present time.
    pub(crate) fn date_lockdown(&mut self, now: Option<Timestamp>) {
        self.lockdown_by = [self.lockdown_by, now].into_iter().flatten().min();
    }

    /// Whether the lockdown in slot 5 has this id.
    pub(crate) fn is_locked_down_by(&self, id: &CommandId) -> bool {
        let own = self.lockdown.as_ref();
        own.is_some_and(|lockdown| lockdown.id.as_ref() == Some(id))
    }

    pub(crate) fn desired_lockdown(&self) -> Option<&AppliedLockdown> {
        self.desired_lockdown.as_ref()
    }

    /// Follows the desired property. One that appears has filled slot 5 already, if its id had not
    /// acted before.
    pub(crate) fn follow_desired_lockdown(&mut self, desired: Option<&AppliedLockdown>) {
        let before = std::mem::replace(&mut self.desired_lockdown, desired.cloned());
        if let (Some(before), None) = (before, desired) {
            if self.is_locked_down_by(&before.id) {
                self.lockdown = None;
                self.clear(Slot::Lockdown);
                self.fill_by_mode(None);
            }
        }
    }

    /// The document that ordered the lockdown is lost: the lockdown stays until an all-clear is
    /// called.
    pub(crate) fn keep_lost_lockdown(&mut self) {
        self.desired_lockdown = None;
    }

    /// Fills slot 5 for mode `lockdown`, below a lockdown that is there.
    pub(super) fn fill_by_mode(&mut self, command_id: Option<&CommandId>) {
        // Without a command id it does not replace the id of a present one.
        let is_filled = self.get(Slot::Lockdown).is_some();
        let keeps = is_filled && (command_id.is_none() || self.lockdown.is_some());
        if self.mode_lockdown && !keeps {
            let entry = Entry {
                command_id: command_id.cloned(),
                ..Entry::new(Want::Locked, None)
            };
            self.fill(Slot::Lockdown, entry);
        }
    }

    /// Ends mode `lockdown`; a lockdown over it stays.
    pub(super) fn end_mode_lockdown(&mut self) {
        self.mode_lockdown = false;
        if self.lockdown.is_none() {
            self.clear(Slot::Lockdown);
        }
    }

    /// Ends every lockdown.
    pub(super) fn end_lockdowns(&mut self) {
        self.lockdown = None;
        self.end_mode_lockdown();
    }

    /// For the saved state: the lockdown, whether the mode is one too, and the desired one.
    pub(crate) fn saved_lockdown(&self) -> (Option<Lockdown>, bool, Option<AppliedLockdown>) {
        let below = self.mode_lockdown && self.lockdown.is_some();
        (self.lockdown.clone(), below, self.desired_lockdown.clone())
    }

    /// Restores what [`Self::saved_lockdown`] returned, after slot 5. Version 0.1 saves the slot
    /// alone: then the mode has filled it.
    pub(crate) fn restore_lockdown(
        &mut self,
        lockdown: Option<&Lockdown>,
        below: bool,
        desired: Option<&AppliedLockdown>,
    ) {
        let is_filled = self.get(Slot::Lockdown).is_some();
        self.lockdown = lockdown.filter(|_| is_filled).cloned();
        self.lockdown_at = lockdown.and_then(|lockdown| lockdown.at).filter(|_| !below);
        self.lockdown_by = None;
        self.mode_lockdown = is_filled && (below || lockdown.is_none());
        self.desired_lockdown = desired.cloned();
    }
}

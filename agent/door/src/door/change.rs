//! What a command does to the array, with its times counted from now.

use std::time::Duration;

use jiff::Timestamp;

use crate::authority::{AppliedLockdown, AuthorityArray, Entry, Expiry};
use crate::contract::{
    Command, CommandId, LockDoor, Lockdown, MethodReply, Mode, Relinquish, ReplyError, Slot,
    UnlockDoor, Want, duration,
};
use crate::time::Now;

/// What a command or a desired mode does to the array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ArrayChange {
    /// `lockDoor`: empties slot 7, fills slot 8.
    Lock(Entry),
    /// `unlockDoor` with a time: fills slot 7.
    Grant(Entry),
    /// `unlockDoor` without a time: fills slot 8.
    Release(Entry),
    /// `relinquish`: empties one slot, or 7 and 8.
    Relinquish(Option<Slot>),
    /// `setMode`.
    Mode {
        mode: Mode,
        command_id: Option<CommandId>,
    },
    /// `lockdown`: fills slot 5, over the mode.
    Lockdown(Lockdown),
    /// `allClear` with the time of its order: empties slot 5.
    AllClear(Option<Timestamp>),
    /// The desired mode and lockdown, when either differs from what was last applied; `None` if
    /// none is desired any more.
    Desired {
        mode: Option<Mode>,
        lockdown: Option<AppliedLockdown>,
    },
}

impl ArrayChange {
    /// The change that a command makes; `None` for a command that only reads. `present` is the time
    /// of a lockdown that has none.
    pub(super) fn new(
        command: &Command,
        now: &Now,
        present: Option<Timestamp>,
    ) -> Result<Option<Self>, MethodReply> {
        let method = command.method();
        let header = command.header();
        let command_id = header.and_then(|header| header.command_id.clone());
        let entry = |want, expiry| Entry {
            command_id: command_id.clone(),
            ..Entry::new(want, expiry)
        };
        Ok(Some(match command {
            Command::Lock(LockDoor {
                lock_time, until, ..
            }) => {
                // Without `lockTime` and without a trusted clock: the longest time allowed.
                let fallback = Some(lock_time.unwrap_or(duration::MAX));
                let expiry = expiry(method, *lock_time, *until, fallback, now)?;
                Self::Lock(entry(Want::Locked, expiry))
            }
            Command::Unlock(UnlockDoor {
                unlock_time,
                until,
                pulse,
                ..
            }) => {
                let expiry = expiry(method, *unlock_time, *until, *unlock_time, now)?;
                let entry = Entry {
                    one_passage: pulse.is_some(),
                    ..entry(Want::Released, expiry)
                };
                match expiry {
                    Some(_) => Self::Grant(entry),
                    None => Self::Release(entry),
                }
            }
            Command::Lockdown(order) => {
                let mut change = Self::without_times(command);
                if let Some(Self::Lockdown(lockdown)) = &mut change {
                    lockdown.at = order.at.or(present);
                }
                return Ok(change);
            }
            Command::AllClear(order) => Self::AllClear(order.at),
            Command::Relinquish(_)
            | Command::SetMode(_)
            | Command::GetState
            | Command::SelfTest => {
                return Ok(Self::without_times(command));
            }
        }))
    }

    /// The same change without its times, for the wording of a reply; `None` for a command that
    /// only reads.
    pub(super) fn without_times(command: &Command) -> Option<Self> {
        Some(match command {
            Command::Lock(_) => Self::Lock(Entry::new(Want::Locked, None)),
            Command::Unlock(unlock) => {
                let entry = Entry::new(Want::Released, None);
                if unlock.unlock_time.is_some() || unlock.until.is_some() {
                    Self::Grant(entry)
                } else {
                    Self::Release(entry)
                }
            }
            Command::Relinquish(Relinquish { slot, .. }) => Self::Relinquish(*slot),
            Command::SetMode(set) => Self::Mode {
                mode: set.mode,
                command_id: set.header.command_id.clone(),
            },
            Command::Lockdown(order) => Self::Lockdown(Lockdown {
                id: order.header.command_id.clone(),
                by: order.by.clone(),
                at: None,
                reason: order.header.reason.clone(),
            }),
            Command::AllClear(_) => Self::AllClear(None),
            Command::GetState | Command::SelfTest => return None,
        })
    }

    pub(super) fn apply(&self, array: &mut AuthorityArray) {
        // A lockdown, its end and a desired property are not about this door alone.
        if !matches!(
            self,
            Self::Desired { .. } | Self::Lockdown(_) | Self::AllClear(_)
        ) {
            array.end_doubt();
        }
        array.supersede(self.slots(array));
        if matches!(
            self,
            Self::Mode { .. } | Self::Relinquish(Some(Slot::Passage))
        ) {
            array.follow_unstored_mode();
        }
        match self {
            Self::Lock(entry) => {
                array.clear(Slot::OperatorGrant);
                array.fill(Slot::OperatorHold, entry.clone());
            }
            Self::Grant(entry) => array.fill(Slot::OperatorGrant, entry.clone()),
            Self::Release(entry) => array.fill(Slot::OperatorHold, entry.clone()),
            Self::Relinquish(None) => {
                array.clear(Slot::OperatorGrant);
                array.clear(Slot::OperatorHold);
            }
            Self::Relinquish(Some(slot)) => array.relinquish(*slot),
            Self::Desired { mode, lockdown } => {
                array.follow_desired(*mode);
                array.follow_desired_lockdown(lockdown.as_ref());
            }
            Self::Mode { mode, command_id } => array.set_mode(*mode, command_id.as_ref()),
            Self::Lockdown(lockdown) => array.begin_lockdown(lockdown),
            Self::AllClear(_) => array.relinquish(Slot::Lockdown),
        }
    }

    /// The slots that it changes, as far as a schedule may fill them too.
    fn slots(&self, array: &AuthorityArray) -> &'static [Slot] {
        let of_mode = |mode: Mode| -> &'static [Slot] {
            match mode {
                Mode::Secure => &[Slot::OperatorGrant, Slot::Passage],
                Mode::Lockdown => &[],
                Mode::Normal | Mode::Passage | Mode::Maintenance => &[Slot::Passage],
            }
        };
        match self {
            Self::Lock(_) | Self::Relinquish(None) => &[Slot::OperatorGrant, Slot::OperatorHold],
            Self::Grant(_) | Self::Relinquish(Some(Slot::OperatorGrant)) => &[Slot::OperatorGrant],
            Self::Release(_) | Self::Relinquish(Some(Slot::OperatorHold)) => &[Slot::OperatorHold],
            Self::Relinquish(Some(Slot::Passage)) => &[Slot::Passage],
            Self::Mode { mode, .. } => of_mode(*mode),
            Self::Desired { mode, .. } if *mode != array.desired_mode() => {
                mode.map_or(&[], of_mode)
            }
            Self::Desired { .. }
            | Self::Lockdown(_)
            | Self::AllClear(_)
            | Self::Relinquish(Some(_)) => &[],
        }
    }

    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Lock(_) => "lockDoor",
            Self::Grant(_) | Self::Release(_) => "unlockDoor",
            Self::Relinquish(_) => "relinquish",
            Self::Mode { .. } => "setMode",
            Self::Lockdown(_) => "lockdown",
            Self::AllClear(_) => "allClear",
            Self::Desired { .. } => "desired properties",
        }
    }

    /// Whether it is an operator's unlock, the only change that a mode refuses.
    pub(super) fn is_unlock(&self) -> bool {
        matches!(self, Self::Grant(_) | Self::Release(_))
    }

    /// Whether it clears `lockForced`: an operator has attended to the lock.
    pub(super) fn clears_lock_forced(&self) -> bool {
        matches!(
            self,
            Self::Lock(_) | Self::Grant(_) | Self::Release(_) | Self::Relinquish(_)
        )
    }

    /// Whether it asks the strike for something, so that a failed attempt is retried. A mode that
    /// only changes permissions does not.
    pub(super) fn concerns_strike(&self) -> bool {
        !matches!(
            self,
            Self::Mode {
                mode: Mode::Normal | Mode::Maintenance,
                ..
            } | Self::Desired {
                mode: Some(Mode::Normal | Mode::Maintenance),
                ..
            }
        )
    }

    /// Whether its reply contains the mode.
    pub(super) fn concerns_mode(&self) -> bool {
        matches!(
            self,
            Self::Mode { .. }
                | Self::Lockdown(_)
                | Self::AllClear(_)
                | Self::Relinquish(Some(Slot::Lockdown | Slot::Passage))
        )
    }

    /// Whether it may release a door that is held. Such a change is saved before it acts, and is
    /// refused if its validity cannot be checked without a trusted clock.
    pub(super) fn releases(&self, array: &AuthorityArray) -> bool {
        match self {
            Self::Lock(_) => false,
            Self::Grant(_) | Self::Release(_) => true,
            Self::Mode {
                mode: Mode::Normal | Mode::Passage | Mode::Maintenance,
                ..
            } => true,
            Self::Desired {
                mode: mode @ Some(Mode::Normal | Mode::Passage | Mode::Maintenance),
                ..
            } if *mode != array.desired_mode() => true,
            _ => {
                let mut after = array.clone();
                self.apply(&mut after);
                let is_released =
                    array.remote_want() == Want::Locked && after.remote_want() == Want::Released;
                let is_lockdown = |array: &AuthorityArray| array.mode() == Mode::Lockdown;
                is_released || (is_lockdown(array) && !is_lockdown(&after))
            }
        }
    }
}

fn expiry(
    method: &str,
    length: Option<Duration>,
    until: Option<Timestamp>,
    fallback: Option<Duration>,
    now: &Now,
) -> Result<Option<Expiry>, MethodReply> {
    let Some(until) = until else {
        return Ok(length.map(|length| Expiry::after(length, now)));
    };
    match (now.until(until), fallback) {
        (Some(Duration::ZERO), _) => {
            let text = format!("{method} has expired: until is {until}, which has passed");
            Err(MethodReply::failed(410, ReplyError::Expired, text, None))
        }
        (Some(left), _) if left > duration::MAX => Err(MethodReply::bad_payload(
            method,
            Some("until"),
            &format!("\"{until}\""),
            "a time at most 7 days from now",
        )),
        (Some(left), _) => Ok(Some(Expiry::at(until, left, now))),
        (None, Some(fallback)) => Ok(Some(Expiry::at(until, fallback, now))),
        (None, None) => Err(clock_untrusted(method, "until")),
    }
}

/// The refusal if `field` cannot be checked without a trusted clock.
pub(super) fn clock_untrusted(method: &str, field: &str) -> MethodReply {
    let mut text =
        format!("{method} is refused: without a trusted clock {field} cannot be checked");
    if method == "allClear" {
        text.push_str("; order another one without at and notAfter");
    }
    MethodReply::failed(410, ReplyError::Expired, text, None)
}

//! Accepting commands: is it still valid, is it new, what does it do to the array.

use std::time::Duration;

use jiff::Timestamp;

use super::answer::{Pending, Stage};
use super::{Door, Ticket, Turn};
use crate::authority::{AuthorityArray, Entry, Expiry, Slot, Want};
use crate::contract::{
    Command, CommandId, LockDoor, MethodReply, ReplyError, UnlockDoor, Window, duration,
};
use crate::event::EventKind;
use crate::time::Now;

/// What a command does to the operator's slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// `lockDoor`: empties slot 7, fills slot 8.
    Lock(Entry),
    /// `unlockDoor` with a time: fills slot 7.
    Grant(Entry),
    /// `unlockDoor` without: fills slot 8.
    Release(Entry),
    /// `relinquish`: empties both.
    Relinquish,
}

impl Change {
    pub(super) fn apply(&self, array: &mut AuthorityArray) {
        match self {
            Self::Lock(entry) => {
                array.clear(Slot::OperatorGrant);
                array.fill(Slot::OperatorHold, entry.clone());
            }
            Self::Grant(entry) => array.fill(Slot::OperatorGrant, entry.clone()),
            Self::Release(entry) => array.fill(Slot::OperatorHold, entry.clone()),
            Self::Relinquish => {
                array.clear(Slot::OperatorGrant);
                array.clear(Slot::OperatorHold);
            }
        }
    }

    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Lock(_) => "lockDoor",
            Self::Grant(_) | Self::Release(_) => "unlockDoor",
            Self::Relinquish => "relinquish",
        }
    }

    /// Whether it frees a door that is held: then it is on disk before it acts.
    fn releases(&self, array: &AuthorityArray) -> bool {
        match self {
            Self::Lock(_) => false,
            Self::Grant(_) | Self::Release(_) => true,
            Self::Relinquish => {
                let mut after = array.clone();
                self.apply(&mut after);
                array.want() == Want::Locked && after.want() == Want::Released
            }
        }
    }
}

impl Door {
    pub(super) fn accept(&mut self, now: &Now, ticket: Ticket, command: &Command, turn: &mut Turn) {
        let window = match command {
            Command::GetState => {
                let reply = MethodReply::state(command.method(), self.report());
                turn.answers.push((ticket, reply));
                return;
            }
            Command::Lock(lock) => lock.window.clone(),
            Command::Unlock(unlock) => unlock.window.clone(),
            Command::Relinquish(relinquish) => relinquish.window.clone(),
        };
        match change(command, now) {
            Ok(change) => self.act(now, ticket, change, window, turn),
            Err(reply) => {
                // A repetition of what has succeeded is no error, however late it comes.
                let known = window
                    .command_id
                    .as_ref()
                    .filter(|id| self.memory.contains(id));
                match known {
                    Some(_) if reply.status == 410 => {
                        self.answer_again(now, ticket, &change_made(command), &window, turn);
                    }
                    _ => self.refuse(
                        ticket,
                        &change_made(command),
                        window.command_id,
                        reply,
                        turn,
                    ),
                }
            }
        }
    }

    fn act(&mut self, now: &Now, ticket: Ticket, change: Change, window: Window, turn: &mut Turn) {
        if let Some(id) = &window.command_id {
            if self.memory.contains(id) {
                self.answer_again(now, ticket, &change, &window, turn);
                return;
            }
        }
        let releases = change.releases(&self.array);
        if let Err(reply) = judge_window(change.method(), releases, window.not_after, now) {
            self.refuse(ticket, &change, window.command_id, reply, turn);
            return;
        }
        if let Some(id) = &window.command_id {
            self.memory.remember(id);
        }
        let staged = if releases {
            Some(change.clone())
        } else {
            // The later command wins: a release that is still on its way to the disk does not come after it.
            for pending in &mut self.pending {
                pending.supersede(now.boottime);
            }
            change.apply(&mut self.array);
            turn.asked_again = true;
            None
        };
        turn.save = true;
        let stage = Stage::storing(self.next_generation(), now.boottime, staged);
        let pending = Pending::new(ticket, change, window, stage, self.proof_by(now));
        self.push_pending(now, pending);
    }

    /// By when a move that starts now is proven or has failed.
    pub(super) fn proof_by(&self, now: &Now) -> Duration {
        now.boottime + self.config.settings.settle_time + self.config.bond_time
    }

    fn refuse(
        &self,
        ticket: Ticket,
        change: &Change,
        command_id: Option<CommandId>,
        mut reply: MethodReply,
        turn: &mut Turn,
    ) {
        reply.body.status = Some(self.answer_status(change));
        turn.events.push(EventKind::Command {
            method: change.method().to_owned(),
            command_id,
            status: reply.status,
        });
        turn.answers.push((ticket, reply));
    }
}

/// After `notAfter` by a trusted clock nothing acts; without one a lock does, a release does not.
pub(super) fn judge_window(
    method: &str,
    releases: bool,
    not_after: Option<Timestamp>,
    now: &Now,
) -> Result<(), MethodReply> {
    let Some(not_after) = not_after else {
        return Ok(());
    };
    match now.trusted_wall() {
        Some(wall) if wall > not_after => {
            let text =
                format!("{method} has expired: it was valid until {not_after}, it is {wall}");
            Err(MethodReply::failed(410, ReplyError::Expired, text, None))
        }
        None if releases => Err(untrusted(method, "notAfter")),
        _ => Ok(()),
    }
}

/// What a command does, its times counted from now.
fn change(command: &Command, now: &Now) -> Result<Change, MethodReply> {
    let method = command.method();
    let window = command.window();
    let entry = |want, expiry| Entry {
        want,
        expiry,
        command_id: window.and_then(|window| window.command_id.clone()),
    };
    match command {
        Command::Lock(LockDoor {
            lock_time, until, ..
        }) => {
            // Without a time of its own and without a clock, the longest time there is.
            let fallback = Some(lock_time.unwrap_or(duration::MAX));
            let expiry = expiry(method, *lock_time, *until, fallback, now)?;
            Ok(Change::Lock(entry(Want::Locked, expiry)))
        }
        Command::Unlock(UnlockDoor {
            unlock_time, until, ..
        }) => {
            let expiry = expiry(method, *unlock_time, *until, *unlock_time, now)?;
            let entry = entry(Want::Released, expiry);
            Ok(match expiry {
                Some(_) => Change::Grant(entry),
                None => Change::Release(entry),
            })
        }
        Command::Relinquish(_) | Command::GetState => Ok(Change::Relinquish),
    }
}

/// The change that an accepted command once made, for the wording of its answer.
fn change_made(command: &Command) -> Change {
    match command {
        Command::Lock(_) => Change::Lock(Entry::new(Want::Locked, None)),
        Command::Unlock(unlock) => {
            let entry = Entry::new(Want::Released, None);
            if unlock.unlock_time.is_some() || unlock.until.is_some() {
                Change::Grant(entry)
            } else {
                Change::Release(entry)
            }
        }
        Command::Relinquish(_) | Command::GetState => Change::Relinquish,
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
            let text = format!("{method} has expired: it was to last until {until}");
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
        (None, None) => Err(untrusted(method, "until")),
    }
}

fn untrusted(method: &str, field: &str) -> MethodReply {
    let text = format!(
        "{method} is refused: without a trusted clock nothing can tell whether {field} has passed"
    );
    MethodReply::failed(410, ReplyError::Expired, text, None)
}

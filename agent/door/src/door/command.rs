//! Accepts commands: checks validity and duplicates, then applies the change to the array.

use std::time::Duration;

use jiff::Timestamp;

use super::answer::{Pending, Stage};
use super::change::{Change, untrusted};
use super::disk::Purpose;
use super::memory::{Deed, Taken};
use super::{Door, Ticket, Turn};
use crate::authority::{Refusal, Slot, Want};
use crate::contract::{
    Command, CommandId, HeldBy, MethodReply, Pulse, ReplyError, UnlockDoor, Window,
};
use crate::event::EventKind;
use crate::time::Now;

impl Door {
    pub(super) fn accept(&mut self, now: &Now, ticket: Ticket, command: &Command, turn: &mut Turn) {
        // Of the command as sent: a repetition of a pulse may resolve to another time.
        let digest = command.digest();
        let resolved = self.resolve(command);
        let command = resolved.as_ref().unwrap_or(command);
        let (Some(made), Some(window)) = (Change::made(command), command.window()) else {
            if *command == Command::SelfTest {
                self.wait_for_disk(now, ticket, Purpose::SelfTest, turn);
            } else {
                let reply = MethodReply::state(command.method(), self.report(), &self.array);
                turn.answers.push((ticket, reply));
            }
            return;
        };
        let window = window.clone();
        if let Some(id) = &window.command_id {
            if let Some(taken) = self.memory.taken(id, command.method(), digest) {
                let reply = id_taken(command.method(), id, &taken);
                self.refuse(ticket, &made, window, reply, turn);
                return;
            }
        }
        match Change::new(command, now) {
            Ok(change) => self.act(now, ticket, change.unwrap_or(made), digest, window, turn),
            Err(reply) => {
                // A duplicate of a successful command is no error, even after its time.
                let known = window
                    .command_id
                    .as_ref()
                    .filter(|id| self.memory.contains(id));
                match known {
                    Some(_) if reply.status == 410 => {
                        self.answer_again(now, ticket, &made, &window, turn);
                    }
                    _ => self.refuse(ticket, &made, window, reply, turn),
                }
            }
        }
    }

    /// Replaces a pulse by its time from the settings.
    fn resolve(&self, command: &Command) -> Option<Command> {
        let Command::Unlock(unlock) = command else {
            return None;
        };
        let settings = &self.config.settings;
        let time = match unlock.pulse? {
            Pulse::Strike => settings.strike_time,
            Pulse::Extended => settings.extended_strike_time.max(settings.strike_time),
        };
        Some(Command::Unlock(UnlockDoor {
            unlock_time: Some(time),
            ..unlock.clone()
        }))
    }

    pub(super) fn act(
        &mut self,
        now: &Now,
        ticket: Ticket,
        change: Change,
        digest: u64,
        window: Window,
        turn: &mut Turn,
    ) {
        if let Some(id) = &window.command_id {
            if self.memory.contains(id) {
                self.answer_again(now, ticket, &change, &window, turn);
                return;
            }
        }
        let releases = change.releases(&self.array);
        if let Err(reply) = judge_window(change.method(), releases, window.not_after, now) {
            self.refuse(ticket, &change, window, reply, turn);
            return;
        }
        if let Some(refusal) = self.array.refuses_unlock().filter(|_| change.is_unlock()) {
            let reply = refused(change.method(), refusal);
            self.refuse(ticket, &change, window, reply, turn);
            return;
        }
        if let Some(id) = &window.command_id {
            let deed = Deed::new(change.method(), digest, now.trusted_wall());
            self.memory.remember(id, deed);
        }
        let staged = if releases || self.would_release(&change) {
            Some(change.clone())
        } else {
            // Keep the order of acceptance: changes that still wait for the disk act now, before
            // this one.
            for pending in &mut self.pending {
                pending.act_early(&mut self.array, &mut self.forced_lock, now.boottime);
            }
            change.apply(&mut self.array);
            self.forced_lock.follow(&change);
            turn.asked_again = change.is_about_strike();
            None
        };
        turn.save = true;
        let stage = Stage::storing(self.next_generation(), now.boottime, staged);
        let pending = Pending::new(ticket, change, window, stage, self.proof_by(now), now);
        self.push_pending(now, pending);
    }

    /// Whether a change, together with those that still wait for the disk, would release the door.
    fn would_release(&self, change: &Change) -> bool {
        let mut after = self.array.clone();
        for pending in &self.pending {
            pending.preview(&mut after);
        }
        change.apply(&mut after);
        self.array.remote_want() == Want::Locked && after.remote_want() == Want::Released
    }

    /// Deadline of the proof for a movement that starts now.
    pub(super) fn proof_by(&self, now: &Now) -> Duration {
        now.boottime + self.config.settings.settle_time + self.config.bond_time
    }

    fn refuse(
        &self,
        ticket: Ticket,
        change: &Change,
        window: Window,
        mut reply: MethodReply,
        turn: &mut Turn,
    ) {
        let mut status = self.answer_status(change);
        if reply.body.error == Some(ReplyError::Refused) {
            // Show the lockdown as `heldBy`, whichever slot above it decides: it is what refuses.
            let lockdown = self.array.get(Slot::Lockdown).map(|_| HeldBy {
                slot: Slot::Lockdown,
                until: None,
            });
            status.held_by = lockdown.or(status.held_by);
            reply = reply.with_mode(self.array.mode(), self.array.displaced_mode());
        }
        reply.body.status = Some(status);
        turn.events.push(EventKind::Command {
            method: change.method().to_owned(),
            command_id: window.command_id,
            reason: window.reason,
            status: reply.status,
            repeated: false,
        });
        turn.answers.push((ticket, reply));
    }
}

fn refused(method: &str, refusal: Refusal) -> MethodReply {
    let text = match refusal {
        Refusal::Lockdown => "the door is in lockdown (slot 5)",
        Refusal::Secure => "the door is in mode secure, which blocks unlocks in slots 7 and 8",
        Refusal::InDoubt => {
            "the door is in doubt about its state, and in mode secure until the next lockDoor, \
             relinquish or setMode"
        }
    };
    MethodReply::failed(
        409,
        ReplyError::Refused,
        format!("{method} is refused: {text}"),
        None,
    )
}

fn id_taken(method: &str, id: &CommandId, taken: &Taken) -> MethodReply {
    let first = taken.first.map(|first| format!(" of {first}"));
    let text = format!(
        "{method} is refused: commandId \"{id}\" already belongs to the {}{}, which has another \
         method or payload; send a new command with its own id",
        taken.method,
        first.unwrap_or_default()
    );
    let mut reply = MethodReply::failed(409, ReplyError::CommandIdTaken, text, None);
    reply.body.first = taken.first;
    reply
}

/// The reply to a command after its `notAfter`.
pub(super) fn expired(method: &str, not_after: Timestamp, now: &Now) -> MethodReply {
    let mut text = format!("{method} has expired: it was valid until {not_after}");
    if let Some(wall) = now.trusted_wall() {
        text.push_str(&format!(", it is {wall}"));
    }
    MethodReply::failed(410, ReplyError::Expired, text, None)
}

/// Checks `notAfter`. Without a trusted clock a lock is accepted and a release is refused.
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
        Some(wall) if wall > not_after => Err(expired(method, not_after, now)),
        None if releases => Err(untrusted(method, "notAfter")),
        _ => Ok(()),
    }
}

//! Accepts commands: checks validity and duplicates, then applies the change to the array.

use std::time::Duration;

use jiff::Timestamp;

use super::answer::{Pending, Stage};
use super::change::{ArrayChange, clock_untrusted};
use super::disk::Purpose;
use super::memory::{AcceptedCommand, IdConflict};
use super::{Door, StepEffects, Ticket};
use crate::authority::{AuthorityArray, Refusal};
use crate::config::Actuator;
use crate::contract::{
    Command, CommandHeader, CommandId, MethodReply, Mode, Pulse, ReplyError, UnlockDoor, Want,
};
use crate::event::EventKind;
use crate::time::{BootTime, Now};

impl Door {
    pub(super) fn accept(
        &mut self,
        now: &Now,
        ticket: Ticket,
        command: &Command,
        effects: &mut StepEffects,
    ) {
        // Of the command as sent: a repetition of a pulse may resolve to another time.
        let digest = command.digest();
        let resolved = self.resolve(command);
        let command = resolved.as_ref().unwrap_or(command);
        let (Some(without_times), Some(header)) =
            (ArrayChange::without_times(command), command.header())
        else {
            if *command == Command::SelfTest {
                self.wait_for_disk(now, ticket, Purpose::SelfTest, effects);
            } else {
                let timed = self.timed().clone();
                let reply = MethodReply::state(
                    command.method(),
                    self.report(),
                    &self.array,
                    timed,
                    self.week(),
                );
                effects.answers.push((ticket, reply));
            }
            return;
        };
        let header = header.clone();
        if let Some(id) = &header.command_id {
            if let Some(conflict) = self.memory.conflict(id, command.method(), digest) {
                let reply = id_taken(command.method(), id, &conflict);
                self.refuse(ticket, &without_times, header, reply, effects);
                return;
            }
        }
        match ArrayChange::new(command, now, self.agenda.present(now.boottime)) {
            Ok(change) => self.act(
                now,
                ticket,
                change.unwrap_or(without_times),
                digest,
                header,
                effects,
            ),
            Err(reply) => {
                // A duplicate of a successful command is no error, even after its time, or when the
                // clock has been set back so far that its end is out of range.
                let known = header
                    .command_id
                    .as_ref()
                    .filter(|id| self.memory.contains(id));
                match known {
                    Some(_) => self.answer_duplicate(now, ticket, &without_times, &header, effects),
                    None => self.refuse(ticket, &without_times, header, reply, effects),
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
        change: ArrayChange,
        digest: u64,
        header: CommandHeader,
        effects: &mut StepEffects,
    ) {
        if let Some(id) = &header.command_id {
            if self.memory.contains(id) {
                self.answer_duplicate(now, ticket, &change, &header, effects);
                return;
            }
        }
        let releases = change.releases(&self.array);
        if let Err(reply) = check_not_after(change.method(), releases, header.not_after, now) {
            self.refuse(ticket, &change, header, reply, effects);
            return;
        }
        if let Some(reply) = self.refusal_of_all_clear(now, &change) {
            self.refuse(ticket, &change, header, reply, effects);
            return;
        }
        if let Some(refusal) = self.array.refuses_unlock().filter(|_| change.is_unlock()) {
            let reply = self.refusal_reply(change.method(), refusal);
            self.refuse(ticket, &change, header, reply, effects);
            return;
        }
        if let Some(id) = &header.command_id {
            let details = AcceptedCommand::new(change.method(), digest, now.trusted_wall());
            self.memory.remember(id, details);
        }
        let staged = if releases || self.would_release(&change) {
            Some(change.clone())
        } else {
            self.apply_now(now, &change);
            effects.retry_now = change.concerns_strike();
            None
        };
        effects.save = true;
        let stage = Stage::storing(self.next_generation(), now.boottime, staged);
        let proof_by = self.proof_by(now);
        let accepted = self.agenda.moment(now.boottime);
        let pending = Pending::new(ticket, change, header, stage, proof_by, now, accepted);
        self.push_pending(now, pending);
    }

    /// Applies a change that keeps the door held, before it is saved.
    pub(super) fn apply_now(&mut self, now: &Now, change: &ArrayChange) {
        // Keep the order of acceptance: changes that still wait for the disk act now, before this
        // one.
        for pending in &mut self.pending {
            let (array, agenda) = (&mut self.array, &mut self.agenda);
            pending.apply_early(array, agenda, &mut self.forced_lock, now.boottime);
        }
        change.apply(&mut self.array);
        self.forced_lock.follow(change);
    }

    /// Whether a change, together with those that still wait for the disk, would release the door.
    fn would_release(&self, change: &ArrayChange) -> bool {
        let mut after = self.array_after_pending();
        change.apply(&mut after);
        self.array.remote_want() == Want::Locked && after.remote_want() == Want::Released
    }

    /// The array as it will be once the changes that still wait for the disk are applied.
    pub(super) fn array_after_pending(&self) -> AuthorityArray {
        let mut after = self.array.clone();
        for pending in &self.pending {
            pending.preview(&mut after);
        }
        after
    }

    /// Deadline of the proof for a movement that starts now.
    pub(super) fn proof_by(&self, now: &Now) -> BootTime {
        let dead_time = match self.config.actuator {
            Actuator::MotorLock { dead_time, .. } => dead_time,
            Actuator::Coil { .. } => Duration::ZERO,
        };
        now.boottime + self.config.settings.settle_time + dead_time + self.config.bond_time
    }

    /// The refusal of an `allClear` that is, or may be, older than the lockdown.
    fn refusal_of_all_clear(&self, now: &Now, change: &ArrayChange) -> Option<MethodReply> {
        let (ArrayChange::AllClear(Some(at)), Mode::Lockdown) = (change, self.array.mode()) else {
            return None;
        };
        let method = change.method();
        let present = self.agenda.present(now.boottime);
        let Some(begun) = self.array.lockdown_at(*at, present) else {
            return Some(clock_untrusted(method, "at"));
        };
        let what = match self.array.lockdown() {
            Some(lockdown) => format!("lockdown {lockdown}"),
            None => "mode lockdown".to_owned(),
        };
        let text = format!(
            "{method} is refused: it was ordered at {at}, before {begun}, the time of {what}; \
             if that is over, order another {method} or relinquish {{\"slot\":5}}"
        );
        (*at < begun).then(|| MethodReply::failed(409, ReplyError::Refused, text, None))
    }

    /// The refusal of an unlock, naming the lockdown.
    fn refusal_reply(&self, method: &str, refusal: Refusal) -> MethodReply {
        let mut text = refusal.text().to_owned();
        if let Some(lockdown) = self.array.lockdown() {
            text.push_str(&format!(": {lockdown}"));
        }
        let text = format!("{method} is refused: {text}");
        MethodReply::failed(409, ReplyError::Refused, text, None)
    }

    fn refuse(
        &self,
        ticket: Ticket,
        change: &ArrayChange,
        header: CommandHeader,
        mut reply: MethodReply,
        effects: &mut StepEffects,
    ) {
        let mut status = self.answer_status(change);
        if reply.body.error == Some(ReplyError::Refused) {
            // Show the lockdown as `heldBy`, whichever slot above it decides: it is what refuses.
            status.held_by = self.held_by_lockdown().or(status.held_by);
            reply = reply.with_mode(self.array.mode(), self.array.displaced_mode());
        }
        reply.body.status = Some(status);
        effects.events.push(EventKind::Command {
            method: change.method().to_owned(),
            command_id: header.command_id,
            reason: header.reason,
            status: reply.status,
            repeated: false,
        });
        effects.answers.push((ticket, reply));
    }
}

fn id_taken(method: &str, id: &CommandId, conflict: &IdConflict) -> MethodReply {
    let first = conflict.first.map(|first| format!(" of {first}"));
    let text = format!(
        "{method} is refused: commandId \"{id}\" already belongs to the {}{}, which has another \
         method or payload; send a new command with its own id",
        conflict.method,
        first.unwrap_or_default()
    );
    let mut reply = MethodReply::failed(409, ReplyError::CommandIdTaken, text, None);
    reply.body.first = conflict.first;
    reply
}

/// The reply to a command after its `notAfter`.
pub(super) fn expired_reply(method: &str, not_after: Timestamp, now: &Now) -> MethodReply {
    let mut text = format!("{method} has expired: it was valid until {not_after}");
    if let Some(wall) = now.trusted_wall() {
        text.push_str(&format!(", it is {wall}"));
    }
    MethodReply::failed(410, ReplyError::Expired, text, None)
}

/// Checks `notAfter`. Without a trusted clock a lock is accepted and a release is refused.
pub(super) fn check_not_after(
    method: &str,
    releases: bool,
    not_after: Option<Timestamp>,
    now: &Now,
) -> Result<(), MethodReply> {
    let Some(not_after) = not_after else {
        return Ok(());
    };
    match now.trusted_wall() {
        Some(wall) if wall > not_after => Err(expired_reply(method, not_after, now)),
        None if releases => Err(clock_untrusted(method, "notAfter")),
        _ => Ok(()),
    }
}

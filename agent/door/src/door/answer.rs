//! Method calls waiting for their reply: first for the disk, then for the strike, each with a
//! deadline.

use std::time::Duration;

use super::change::ArrayChange;
use super::command::{check_not_after, expired_reply};
use super::forced_lock::ForcedLock;
use super::{Door, Generation, StepEffects, Ticket};
use crate::authority::AuthorityArray;
use crate::contract::{
    CommandHeader, CommandId, DoorState, HeldBy, LockStatus, MethodReply, Mode, ReplyError,
    Secured, Slot, Want,
};
use crate::event::EventKind;
use crate::schedule::{Agenda, Moment, TimedResult};
use crate::sensing::faults_text;
use crate::strike::{Failure, Phase};
use crate::time::{BootTime, Now};

/// How long a command waits for the disk.
pub(super) const STORE_TIME: Duration = Duration::from_secs(5);
/// Limit of waiting calls: more than a hub, its jobs and a few people send within a bond time. One
/// more, and the oldest is answered with the present state.
const MAX_PENDING: usize = 32;

/// A call that waits for its reply.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    ticket: Ticket,
    change: ArrayChange,
    header: CommandHeader,
    stage: Stage,
    proof_by: BootTime,
    /// Boot-clock time of its `notAfter`, if a trusted clock was available at acceptance: later
    /// steps of that clock have no effect.
    valid_until: Option<BootTime>,
    /// When it was accepted: a timed entry that begins later comes after it.
    accepted: Moment,
    /// A duplicate delivery of a call that is still waiting.
    repeated: bool,
}

/// What a call waits for.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// The save; a release acts only after it.
    Storing {
        generation: Generation,
        deadline: BootTime,
        staged: Option<ArrayChange>,
    },
    /// The strike.
    Proving,
    /// Nothing: it is answered at the end of this step.
    Done(Option<MethodReply>),
}

impl Stage {
    pub(super) fn storing(
        generation: Generation,
        at: BootTime,
        staged: Option<ArrayChange>,
    ) -> Self {
        Self::Storing {
            generation,
            deadline: at + STORE_TIME,
            staged,
        }
    }
}

impl Pending {
    pub(super) fn new(
        ticket: Ticket,
        change: ArrayChange,
        header: CommandHeader,
        stage: Stage,
        proof_by: BootTime,
        now: &Now,
        accepted: Moment,
    ) -> Self {
        let left = header.not_after.and_then(|not_after| now.until(not_after));
        Self {
            valid_until: left.map(|left| now.boottime + left),
            ticket,
            change,
            header,
            stage,
            proof_by,
            accepted,
            repeated: false,
        }
    }

    pub(super) fn deadline(&self) -> BootTime {
        match &self.stage {
            Stage::Storing { deadline, .. } => *deadline,
            Stage::Proving => self.proof_by,
            Stage::Done(_) => BootTime::default(),
        }
    }

    pub(super) fn accepted(&self) -> Moment {
        self.accepted
    }

    /// Applies to `array` what the call will do once it is saved.
    pub(super) fn preview(&self, array: &mut AuthorityArray) {
        if let Stage::Storing {
            staged: Some(staged),
            ..
        } = &self.stage
        {
            staged.apply(array);
        }
    }

    /// Applies the call before it is saved. A later command keeps the door held, so applying this
    /// one first releases nothing.
    pub(super) fn apply_early(
        &mut self,
        array: &mut AuthorityArray,
        agenda: &mut Agenda,
        forced_lock: &mut ForcedLock,
        at: BootTime,
    ) {
        if let Stage::Storing {
            staged: Some(staged),
            ..
        } = &self.stage
        {
            staged.apply(array);
            agenda.supersede(array.take_superseded(), self.accepted);
            forced_lock.follow(staged);
            self.stage = Stage::Proving;
            self.proof_by = at;
        }
    }

    fn is_storing(&self, stored: Generation) -> bool {
        matches!(&self.stage, Stage::Storing { generation, .. } if *generation <= stored)
    }
}

/// Progress of a command.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Reached,
    /// Applied; there is nothing to wait for.
    Accepted,
    /// The strike is still moving.
    Waiting,
    Failed(ReplyError),
}

impl Door {
    pub(super) fn push_pending(&mut self, now: &Now, pending: Pending) {
        if self.pending.len() >= MAX_PENDING {
            let oldest = &mut self.pending[0];
            if matches!(oldest.stage, Stage::Proving) {
                oldest.proof_by = now.boottime;
            } else {
                oldest.stage = Stage::Done(Some(not_stored_reply(&oldest.change)));
            }
        }
        self.pending.push(pending);
    }

    pub(super) fn handle_saved(
        &mut self,
        now: &Now,
        stored: Generation,
        effects: &mut StepEffects,
    ) {
        let proof_by = self.proof_by(now);
        for pending in &mut self.pending {
            if !pending.is_storing(stored) {
                continue;
            }
            let stage = std::mem::replace(&mut pending.stage, Stage::Proving);
            let Stage::Storing {
                staged: Some(staged),
                ..
            } = stage
            else {
                continue;
            };
            let not_after = pending.header.not_after;
            let in_time = pending.valid_until.map(|end| now.boottime <= end);
            let checked = match (in_time, not_after) {
                (Some(true), _) => Ok(()),
                (Some(false), Some(not_after)) => {
                    Err(expired_reply(staged.method(), not_after, now))
                }
                _ => check_not_after(staged.method(), true, not_after, now),
            };
            match checked {
                Ok(()) => {
                    staged.apply(&mut self.array);
                    let slots = self.array.take_superseded();
                    self.agenda.supersede(slots, pending.accepted);
                    self.forced_lock.follow(&staged);
                    pending.proof_by = proof_by;
                    effects.retry_now |= staged.concerns_strike();
                }
                Err(reply) => {
                    pending.stage = Stage::Done(Some(reply));
                    effects.save = true;
                }
            }
        }
    }

    pub(super) fn handle_save_failed(&mut self, generation: Generation) {
        for pending in &mut self.pending {
            if pending.is_storing(generation) {
                pending.stage = Stage::Done(Some(not_stored_reply(&pending.change)));
            }
        }
    }

    /// Answers a duplicate delivery: together with the first one if that is still waiting, else
    /// with the present state.
    pub(super) fn answer_duplicate(
        &mut self,
        now: &Now,
        ticket: Ticket,
        change: &ArrayChange,
        header: &CommandHeader,
        effects: &mut StepEffects,
    ) {
        let under_way = self
            .pending
            .iter()
            .find(|pending| pending.header.command_id == header.command_id);
        if let Some(first) = under_way {
            let stage = match &first.stage {
                Stage::Storing {
                    generation,
                    deadline,
                    ..
                } => Stage::Storing {
                    generation: *generation,
                    deadline: *deadline,
                    staged: None,
                },
                other => other.clone(),
            };
            let again = Pending {
                ticket,
                stage,
                repeated: true,
                ..first.clone()
            };
            self.push_pending(now, again);
            return;
        }
        let id = header.command_id.as_ref();
        let is_in_force = id.is_some_and(|id| self.array.is_locked_down_by(id));
        if is_in_force && matches!(change, ArrayChange::Lockdown(_)) {
            // The desired property may have been first, a moment ago: save and prove it as the
            // first call would have been.
            effects.save = true;
            effects.retry_now = true;
            let stage = Stage::storing(self.next_generation(), now.boottime, None);
            let (change, header) = (change.clone(), header.clone());
            let proof_by = self.proof_by(now);
            let accepted = self.agenda.moment(now.boottime);
            let pending = Pending::new(ticket, change, header, stage, proof_by, now, accepted);
            self.push_pending(now, pending);
            return;
        }
        let mut reply = self.reply(change, self.outcome(change), now);
        self.mark_repeated(&mut reply, header);
        if !reply.is_success() {
            effects.save |= self.forget(header.command_id.as_ref());
        }
        // Record it again: the first answer may have been lost before it was recorded.
        effects.events.push(EventKind::Command {
            method: change.method().to_owned(),
            command_id: header.command_id.clone(),
            reason: header.reason.clone(),
            status: reply.status,
            repeated: true,
        });
        effects.answers.push((ticket, reply));
    }

    /// Answers each call that has reached its result or its deadline.
    pub(super) fn answer_pending(&mut self, now: &Now, effects: &mut StepEffects) {
        let mut waiting = Vec::new();
        for mut pending in std::mem::take(&mut self.pending) {
            let over = pending.deadline() <= now.boottime;
            let reply = match &mut pending.stage {
                Stage::Done(reply) => reply.take(),
                Stage::Storing { .. } if over => Some(not_stored_reply(&pending.change)),
                Stage::Storing { .. } => None,
                Stage::Proving => match self.outcome(&pending.change) {
                    Outcome::Waiting if !over => None,
                    outcome => Some(self.reply(&pending.change, outcome, now)),
                },
            };
            let Some(mut reply) = reply else {
                waiting.push(pending);
                continue;
            };
            if pending.repeated {
                self.mark_repeated(&mut reply, &pending.header);
            }
            if !reply.is_success() {
                effects.save |= self.forget(pending.header.command_id.as_ref());
                if let ArrayChange::Desired { mode, .. } = pending.change {
                    self.array.keep_unstored_mode(Some(mode));
                }
                // The disk may still write a save that timed out: save once more without the
                // change.
                effects.save |= reply.body.error == Some(ReplyError::NotStored);
                reply
                    .body
                    .status
                    .get_or_insert_with(|| self.answer_status(&pending.change));
            }
            // A change by a desired property is recorded as the event `mode`.
            if !matches!(pending.change, ArrayChange::Desired { .. }) {
                effects.events.push(EventKind::Command {
                    method: pending.change.method().to_owned(),
                    command_id: pending.header.command_id,
                    reason: pending.header.reason,
                    status: reply.status,
                    repeated: pending.repeated,
                });
            }
            effects.answers.push((pending.ticket, reply));
        }
        self.pending = waiting;
    }

    fn mark_repeated(&self, reply: &mut MethodReply, header: &CommandHeader) {
        reply.body.repeated = true;
        let id = header.command_id.as_ref();
        reply.body.first = id.and_then(|id| self.memory.first(id));
    }

    /// Forgets a command that failed, unless it is the lockdown in force.
    fn forget(&mut self, id: Option<&CommandId>) -> bool {
        id.is_some_and(|id| !self.array.is_locked_down_by(id) && self.memory.forget(id))
    }

    fn outcome(&self, change: &ArrayChange) -> Outcome {
        let wanted = match change {
            ArrayChange::Lock(_) => Want::Locked,
            ArrayChange::Grant(_) | ArrayChange::Release(_) => Want::Released,
            ArrayChange::Mode { mode, .. } => match mode {
                Mode::Lockdown => Want::Locked,
                Mode::Passage => Want::Released,
                Mode::Secure => self.array.want(),
                Mode::Normal | Mode::Maintenance if self.array.mode() == Mode::Lockdown => {
                    return Outcome::Accepted;
                }
                Mode::Normal | Mode::Maintenance => return Outcome::Reached,
            },
            ArrayChange::Lockdown(_) => Want::Locked,
            // A desired property has only to be applied.
            ArrayChange::Desired { .. } => return Outcome::Reached,
            ArrayChange::Relinquish(_) | ArrayChange::AllClear(_) => self.array.want(),
        };
        self.outcome_toward(wanted)
    }

    /// Progress toward a wanted state of the strike.
    fn outcome_toward(&self, wanted: Want) -> Outcome {
        if self.array.want() != wanted {
            return Outcome::Accepted;
        }
        if self.output_fault.is_some() {
            return Outcome::Failed(ReplyError::LockFault);
        }
        let status = self.report().status;
        match (self.strike.phase(), wanted) {
            (_, Want::Locked) if status.door_state == DoorState::Open => Outcome::Accepted,
            (_, Want::Locked) if status.secured == Secured::Secured => Outcome::Reached,
            (Phase::Released { .. }, Want::Released) => Outcome::Reached,
            (Phase::Failed { toward, why }, wanted) if toward == wanted => {
                Outcome::Failed(match why {
                    Failure::Jammed => ReplyError::Jammed,
                    Failure::Exhausted | Failure::Undriven => ReplyError::LockFault,
                })
            }
            // The bolt is thrown, but the last attempt to move it failed.
            (Phase::Locked { .. }, Want::Locked) if self.strike.is_jammed() => {
                Outcome::Failed(ReplyError::Jammed)
            }
            (_, Want::Locked) if !self.sensing.position_faults().is_empty() => {
                Outcome::Failed(ReplyError::SensorFault)
            }
            _ => Outcome::Waiting,
        }
    }

    /// Notes what the sensors show of the timed entries that speak, as a call would be answered.
    pub(super) fn prove_timed(&mut self, now: &Now, effects: &mut StepEffects) {
        if !self.agenda.awaits_proof() {
            return;
        }
        let in_time = self.timed_proof_by.is_some_and(|by| now.boottime < by);
        let LockStatus { secured, proof, .. } = self.report().status;
        let proven = [Want::Locked, Want::Released].map(|want| {
            let (reached, error) = match self.outcome_toward(want) {
                Outcome::Waiting if in_time => return None,
                Outcome::Reached => (self.coil_limit().is_none(), None),
                Outcome::Accepted | Outcome::Waiting => (false, None),
                Outcome::Failed(error) => (false, Some(error)),
            };
            Some(TimedResult {
                secured,
                proof,
                reached,
                error,
            })
        });
        let [locked, released] = proven;
        effects.save |= self.agenda.prove(|want| match want {
            Want::Locked => locked.clone(),
            Want::Released => released.clone(),
        });
    }

    fn reply(&self, change: &ArrayChange, outcome: Outcome, now: &Now) -> MethodReply {
        let method = change.method();
        let status = self.answer_status(change);
        let rest = self.required_rest().map(|rest| rest.to_string());
        let limit = match outcome {
            Outcome::Reached => self.hold_limit(change),
            _ => None,
        };
        let mut reply = match outcome {
            Outcome::Reached => MethodReply::accepted(method, limit.is_none(), status),
            Outcome::Accepted | Outcome::Waiting => MethodReply::accepted(method, false, status),
            Outcome::Failed(error) => {
                let text = match error {
                    ReplyError::Jammed => "the strike is jammed".to_owned(),
                    ReplyError::LockFault => match &self.output_fault {
                        Some(problem) => problem.clone(),
                        None => "the strike must rest".to_owned(),
                    },
                    _ => faults_text(&self.sensing.position_faults()),
                };
                MethodReply::failed(500, error, format!("{method}: {text}"), Some(status))
            }
        };
        let waits = !matches!(outcome, Outcome::Reached);
        if let Some(rest) = rest.filter(|_| waits) {
            reply.body.response.push_str("; ");
            reply.body.response.push_str(&rest);
        }
        if let Some((ends, text)) = limit {
            let left = ends.since(now.boottime);
            let shown = Duration::from_secs(left.as_secs());
            let text = format!("; {text}, and will end this state in {shown:?}");
            reply.body.response.push_str(&text);
            reply.body.held_until = now.wall_after(left);
        }
        if change.concerns_mode() {
            reply.with_mode(self.array.mode(), self.array.displaced_mode())
        } else {
            reply
        }
    }

    /// The limit of a coil that cannot hold the state for as long as the command asks for.
    fn hold_limit(&self, change: &ArrayChange) -> Option<(BootTime, String)> {
        if !change.concerns_strike() {
            return None;
        }
        self.coil_limit()
    }

    /// When a coil of limited duty will end the present state, if that is earlier than asked.
    fn coil_limit(&self) -> Option<(BootTime, String)> {
        let (ends, text) = self.strike.hold_limit(&self.strike_inputs(false))?;
        let entry = self.array.winner().map(|(_, entry)| entry.expiry);
        let asked = entry.flatten().map(|expiry| expiry.ends());
        asked
            .is_none_or(|asked| asked > ends)
            .then_some((ends, text))
    }

    pub(super) fn held_by_lockdown(&self) -> Option<HeldBy> {
        self.array.get(Slot::Lockdown).map(|_| HeldBy {
            slot: Slot::Lockdown,
            until: None,
            since: None,
        })
    }

    /// The state in a reply: `heldBy` is the slot that overrides the command.
    pub(super) fn answer_status(&self, change: &ArrayChange) -> LockStatus {
        let held_by = match change {
            ArrayChange::Lock(_) => self.array.overridden(Slot::OperatorHold, Want::Locked),
            ArrayChange::Grant(_) => self.array.overridden(Slot::OperatorGrant, Want::Released),
            ArrayChange::Release(_) => self.array.overridden(Slot::OperatorHold, Want::Released),
            ArrayChange::Relinquish(_) | ArrayChange::AllClear(_) => {
                self.array.overridden(Slot::OperatorGrant, Want::Locked)
            }
            ArrayChange::Lockdown(_) => self.array.overridden(Slot::Lockdown, Want::Locked),
            ArrayChange::Mode { mode, .. } => match mode {
                Mode::Lockdown => self.array.overridden(Slot::Lockdown, Want::Locked),
                Mode::Passage => self.array.overridden(Slot::Passage, Want::Released),
                Mode::Normal | Mode::Maintenance => self.held_by_lockdown(),
                Mode::Secure => None,
            },
            ArrayChange::Desired { .. } => None,
        };
        LockStatus {
            held_by,
            ..self.report().status
        }
    }
}

fn not_stored_reply(change: &ArrayChange) -> MethodReply {
    let method = change.method();
    let text = match change {
        ArrayChange::Lock(_)
        | ArrayChange::Lockdown(_)
        | ArrayChange::Mode {
            mode: Mode::Lockdown,
            ..
        } => "acts, but could not be saved and would not survive a restart",
        _ => "could not be saved and does not act",
    };
    MethodReply::failed(500, ReplyError::NotStored, format!("{method} {text}"), None)
}

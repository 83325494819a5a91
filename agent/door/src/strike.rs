//! The actuator: the phase of the bolt, the outputs, and when the strike counts as jammed.
//!
//! Inputs are readings and the array's decision; the result is the next phase, and the outputs
//! follow from the phase. A bolt is thrown only after the door has been seen closed for the settle
//! time. It is withdrawn when the door opens before the throw is proven. Once the bolt is thrown,
//! the door switch is ignored: a magnet held to the switch must not retract a bolt. A strike or
//! maglock has no bolt: it locks at once, and its bond is checked when the door is closed.
//!
//! A failed attempt is retried for as long as the same is wanted, within the coil guard: see
//! [`Strike::retry_at`]. A jam lasts until a movement is proven.

mod coil;
mod failures;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Actuator, DoorConfig, FailMode};
use crate::contract::{LockState, Want, duration};
use crate::time::BootTime;
use coil::Coil;
use failures::Failures;

/// The level of the outputs. `DeEnergised` is the safe level, which all pins show when no program
/// drives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outputs {
    /// Nothing is energised.
    #[default]
    DeEnergised,
    /// Motor lock: the motor runs in the throw direction.
    Throw,
    /// Motor lock: the motor runs in the retract direction.
    Retract,
    /// Any other kind: the coil is energised.
    Energised,
}

/// Outputs that could not be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFault {
    /// Names the output and the reason.
    pub problem: String,
    /// Whether everything that should be energised is: an output could only not be switched off.
    pub is_energised: bool,
}

/// What the strike decides by: the wanted state and the readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StrikeInputs {
    pub(crate) want: Want,
    /// An input at the door decides: it may use the coil's reserve.
    pub(crate) at_the_door: bool,
    /// A new request has arrived: retry what failed before now.
    pub(crate) retry_now: bool,
    pub(crate) closed: Option<bool>,
    /// The switch reads open, even if it is in fault: no throw continues into an open door.
    pub(crate) reads_open: bool,
    pub(crate) closed_since: Option<BootTime>,
    pub(crate) bonded: Option<bool>,
}

/// Position of the bolt, as known from outputs and readings. Times are on the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing has been driven yet.
    Unknown,
    Released {
        since: BootTime,
    },
    Releasing(Move),
    Locking(Move),
    Locked {
        since: BootTime,
    },
    Failed {
        toward: Want,
        why: Failure,
    },
}

/// A movement of the bolt in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    /// When the motor starts, while it pauses before it reverses.
    starts: Option<BootTime>,
    /// When the motor stops. `None` once it has stopped, and for a coil, which holds its level.
    drive: Option<BootTime>,
    /// Deadline of the proof; after it the strike is jammed.
    proof_by: BootTime,
    /// Bond reading at the start: only a bond that changes proves a movement.
    from: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Driven, but the bond switch did not follow.
    Jammed,
    /// The coil guard: coil or motor must rest.
    Exhausted,
    /// The outputs could not be set.
    Undriven,
}

#[derive(Debug, Clone)]
pub(crate) struct Strike {
    actuator: Actuator,
    bond_fitted: bool,
    bond_time: Duration,
    settle_time: Duration,
    phase: Phase,
    /// The bolt did not reach the driven position, and no movement has been proven since.
    jammed: bool,
    /// Failed attempts in a row; cleared when something else is wanted.
    failures: Option<Failures>,
    coil: Coil,
    /// Something was driven since the start, or the bolt was found thrown.
    has_driven: bool,
    /// Outputs that were energised last, and until when: a motor reverses only after a pause.
    last_driven: Option<(Outputs, BootTime)>,
}

/// Coil or motor must rest before the strike can do what is wanted. `Display` is part of replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequiredRest {
    part: &'static str,
    max_on: Duration,
    cool_down: Duration,
    /// Time until the next attempt.
    left: Duration,
}

impl fmt::Display for RequiredRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |time: Duration| match time.subsec_nanos() {
            0 => duration::to_text(time),
            _ => format!("{time:?}"),
        };
        let (max_on, cool_down) = (text(self.max_on), text(self.cool_down));
        let part = self.part;
        write!(
            f,
            "the {part} may run for {max_on}, then rests for {cool_down}"
        )?;
        if self.left.is_zero() {
            return Ok(());
        }
        // Round up: the attempt must not come later than the time shown.
        let left = Duration::from_secs(self.left.as_secs() + 1);
        write!(f, "; it must rest for another {}", text(left))
    }
}

/// Upper bound of phase changes within one step; the longest chain is shorter.
const MAX_TRANSITIONS: usize = 8;

impl Strike {
    pub(crate) fn new(config: &DoorConfig, at: BootTime) -> Self {
        Self {
            actuator: config.actuator,
            bond_fitted: config.fitted.bond,
            bond_time: config.bond_time,
            settle_time: config.settings.settle_time,
            phase: Phase::Unknown,
            jammed: false,
            failures: None,
            coil: Coil::new(config.duty, at),
            has_driven: false,
            last_driven: None,
        }
    }

    /// Applies changed settings without restarting the phase.
    pub(crate) fn follow_settings(&mut self, config: &DoorConfig) {
        self.settle_time = config.settings.settle_time;
        self.coil.set_duty(config.duty);
    }

    /// How long coil or motor may still be energised; `None` without a limit.
    pub(crate) fn remaining_on_time(&self) -> Option<Duration> {
        Some(self.coil.remaining()).filter(|time| *time < Duration::MAX)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn is_thrown(&self) -> bool {
        matches!(self.phase, Phase::Locked { .. })
    }

    pub(crate) fn is_jammed(&self) -> bool {
        self.jammed
    }

    pub(crate) fn outputs(&self) -> Outputs {
        match (self.actuator, self.phase) {
            (Actuator::MotorLock { .. }, Phase::Locking(motion)) if motion.runs() => Outputs::Throw,
            (Actuator::MotorLock { .. }, Phase::Releasing(motion)) if motion.runs() => {
                Outputs::Retract
            }
            (Actuator::MotorLock { .. }, _) => Outputs::DeEnergised,
            (Actuator::Coil { fail, .. }, phase) => {
                if phase.holds() == Some(energised_for(fail)) {
                    Outputs::Energised
                } else {
                    Outputs::DeEnergised
                }
            }
        }
    }

    pub(crate) fn lock_state(&self, bonded: Option<bool>) -> LockState {
        if self.bond_fitted && bonded.is_none() {
            return LockState::Unknown;
        }
        let by_bond = match bonded {
            Some(true) => LockState::Locked,
            Some(false) => LockState::Unlocked,
            None => LockState::Unknown,
        };
        match self.phase {
            Phase::Released { .. } => LockState::Unlocked,
            _ if self.jammed => LockState::Jammed,
            Phase::Unknown | Phase::Failed { .. } => by_bond,
            Phase::Releasing(_) => LockState::Unlocking,
            Phase::Locking(_) => LockState::Locking,
            Phase::Locked { .. } => LockState::Locked,
        }
    }

    /// The required rest, when it keeps the strike from doing what is wanted. A coil that reached
    /// its limit counts until something else is wanted: it cannot hold the wanted state for as
    /// long as it is wanted.
    pub(crate) fn required_rest(&self, inputs: &StrikeInputs) -> Option<RequiredRest> {
        let (max_on, cool_down) = self.coil.limits()?;
        let until = match self.phase {
            Phase::Failed { toward, why }
                if toward == inputs.want && self.retry_must_rest(toward, why, inputs) =>
            {
                self.retry_at(toward, why, inputs)
                    .unwrap_or(self.coil.rested_at())
            }
            _ if self.waits_to_throw(inputs) && self.throw_must_rest(inputs) => {
                self.coil.rested_at()
            }
            _ if self.is_over_its_limit(inputs) => self.coil.as_of(),
            _ => return None,
        };
        Some(RequiredRest {
            part: match self.actuator {
                Actuator::MotorLock { .. } => "motor",
                Actuator::Coil { .. } => "coil",
            },
            max_on,
            cool_down,
            left: until.since(self.coil.as_of()),
        })
    }

    /// When the coil, which holds the present state, will reach its limit; with the limit as text.
    pub(crate) fn hold_limit(&self, inputs: &StrikeInputs) -> Option<(BootTime, String)> {
        let at = self.exhausted_at(inputs)?;
        let (max_on, cool_down) = self.coil.limits()?;
        let limit = RequiredRest {
            part: "coil",
            max_on,
            cool_down,
            left: Duration::ZERO,
        };
        Some((at, limit.to_string()))
    }

    /// The outputs were set, or could not be: then the movement has failed. A motor tries again
    /// after a pause; a coil holds its level, so it tries all the time. A direction of the motor
    /// that cannot be switched off must not end a retract, which may let people out. It ends a
    /// throw, which nothing might retract again. Returns whether what is wanted is driven.
    pub(crate) fn handle_driven(
        &mut self,
        at: BootTime,
        inputs: &StrikeInputs,
        driven: &Result<(), OutputFault>,
    ) -> bool {
        let why = Failure::Undriven;
        let is_motor = self.pulse().is_some();
        let throws = matches!(self.phase, Phase::Locking(_));
        let is_set = match driven {
            Ok(()) => true,
            Err(fault) => fault.is_energised && is_motor && !throws,
        };
        match self.phase {
            Phase::Failed { toward, why: was } if was == why => {
                if !is_set || is_motor {
                    return false;
                }
                self.phase = match toward {
                    Want::Locked => Phase::Locking(self.hold(at, inputs)),
                    Want::Released => Phase::Releasing(self.hold(at, inputs)),
                };
            }
            phase => {
                if let Some(toward) = phase.holds().filter(|_| !is_set) {
                    self.enter(Phase::Failed { toward, why }, at, inputs);
                }
            }
        }
        is_set
    }

    /// Advances the phase according to readings and time.
    pub(crate) fn advance(&mut self, at: BootTime, inputs: &StrikeInputs) {
        self.coil.account(at);
        let driven = self.outputs();
        if driven != Outputs::DeEnergised {
            self.last_driven = Some((driven, at));
        }
        self.failures = self
            .failures
            .filter(|failures| failures.toward == inputs.want);
        if let Some(phase) = self.guard_coil(inputs) {
            self.enter(phase, at, inputs);
        }
        for _ in 0..MAX_TRANSITIONS {
            match self.next(at, inputs) {
                Some(phase) if phase != self.phase => self.enter(phase, at, inputs),
                _ => break,
            }
        }
        let outputs = self.outputs();
        self.coil.set(outputs != Outputs::DeEnergised);
        self.has_driven |= outputs != Outputs::DeEnergised || self.is_thrown();
    }

    /// Whether it is still where the time before the start left it.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.has_driven
    }

    /// When the phase changes by time alone, given unchanged readings.
    pub(crate) fn poll_timeout(&self, inputs: &StrikeInputs) -> Option<BootTime> {
        let moving = match self.phase {
            Phase::Releasing(motion) | Phase::Locking(motion) => {
                Some(motion.starts.or(motion.drive).unwrap_or(motion.proof_by))
            }
            _ => None,
        };
        let waiting = match self.phase {
            _ if self.waits_to_throw(inputs) => self.throw_at(inputs),
            Phase::Failed { toward, why } if toward == inputs.want => {
                self.retry_at(toward, why, inputs)
            }
            _ => None,
        };
        [moving, waiting, self.exhausted_at(inputs)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether locked is wanted and no throw has started.
    fn waits_to_throw(&self, inputs: &StrikeInputs) -> bool {
        let waits = match self.phase {
            Phase::Unknown | Phase::Released { .. } | Phase::Releasing(_) => true,
            Phase::Failed { toward, .. } => toward == Want::Released,
            Phase::Locked { since } => self.must_throw_again(since, inputs),
            Phase::Locking(_) => false,
        };
        waits && inputs.want == Want::Locked
    }

    /// Enters a phase, and updates jam and failures by what it proves.
    fn enter(&mut self, phase: Phase, at: BootTime, inputs: &StrikeInputs) {
        let is_where_driven = match phase {
            Phase::Locked { .. } => inputs.bonded == Some(true),
            Phase::Released { .. } => inputs.bonded == Some(false),
            _ => false,
        };
        let before = match self.phase {
            Phase::Locking(motion) | Phase::Releasing(motion) => motion.from,
            Phase::Failed {
                toward,
                why: Failure::Jammed,
            } => Some(toward == Want::Released),
            _ => None,
        };
        if is_where_driven && before.is_some() && before != inputs.bonded {
            self.jammed = false;
            // A proven movement does not clear a coil's limit: it still cannot hold what is wanted.
            let is_coil = self.pulse().is_none();
            self.failures = self
                .failures
                .filter(|failures| is_coil && failures.why == Failure::Exhausted);
        }
        if let Phase::Failed { toward, why } = phase {
            self.jammed |= why == Failure::Jammed;
            self.failures = Some(Failures::after(self.failures, toward, why, at));
        }
        self.phase = phase;
    }

    fn next(&self, at: BootTime, inputs: &StrikeInputs) -> Option<Phase> {
        let wants_lock = inputs.want == Want::Locked;
        match self.phase {
            Phase::Unknown | Phase::Released { .. } if self.is_found_thrown(inputs) => {
                Some(Phase::Locked { since: at })
            }
            Phase::Unknown if !wants_lock => Some(self.release(at, inputs)),
            Phase::Unknown => self.throw(at, inputs),
            Phase::Released { .. } => self.throw(at, inputs).filter(|_| wants_lock),
            Phase::Releasing(motion) => self
                .throw(at, inputs)
                .filter(|_| wants_lock)
                .or_else(|| self.finish_release(motion, at, inputs)),
            Phase::Locking(_) if !wants_lock => Some(self.release(at, inputs)),
            Phase::Locking(_)
                if inputs.closed == Some(false) || (inputs.reads_open && self.has_bolt()) =>
            {
                Some(self.handle_open_door(at, inputs))
            }
            Phase::Locking(motion) => self.finish_throw(motion, at, inputs),
            Phase::Locked { .. } if !wants_lock => Some(self.release(at, inputs)),
            Phase::Locked { since } => self.keep_locked(since, at, inputs),
            Phase::Failed { toward, why } => self.recover(toward, why, at, inputs),
        }
    }

    /// The bond reads thrown, and either taking the bolt as thrown changes no output or the door is
    /// closed. A bolt that is out in an open door (left by a killed program, stuck, or thrown by
    /// hand) is not driven.
    fn is_found_thrown(&self, inputs: &StrikeInputs) -> bool {
        let is_held_back = match self.actuator {
            Actuator::MotorLock { .. } => false,
            Actuator::Coil { fail, .. } => self.coil.is_energised() == (fail == FailMode::Secure),
        };
        inputs.bonded == Some(true) && (!is_held_back || inputs.closed == Some(true))
    }

    fn finish_release(&self, motion: Move, at: BootTime, inputs: &StrikeInputs) -> Option<Phase> {
        if let Some(motion) = motion.started(at).or(motion.stopped(at)) {
            return Some(Phase::Releasing(motion));
        }
        if motion.drive.is_some() {
            return None;
        }
        let late = motion.proof_by <= at;
        match inputs.bonded {
            Some(false) => Some(Phase::Released { since: at }),
            None if late => Some(Phase::Released { since: at }),
            Some(true) if late => Some(Phase::Failed {
                toward: Want::Released,
                why: Failure::Jammed,
            }),
            _ => None,
        }
    }

    fn finish_throw(&self, motion: Move, at: BootTime, inputs: &StrikeInputs) -> Option<Phase> {
        let late = motion.proof_by <= at;
        match inputs.bonded {
            Some(true) => Some(Phase::Locked { since: at }),
            None if late => Some(Phase::Locked { since: at }),
            Some(false) if late => Some(Phase::Failed {
                toward: Want::Locked,
                why: Failure::Jammed,
            }),
            _ => motion
                .started(at)
                .or(motion.stopped(at))
                .map(Phase::Locking),
        }
    }

    /// The handle retracts the bolt without a request. When the bond reads retracted, the bolt is
    /// thrown again once the door is closed.
    fn keep_locked(&self, since: BootTime, at: BootTime, inputs: &StrikeInputs) -> Option<Phase> {
        if inputs.bonded == Some(false) && (self.has_bolt() || inputs.closed != Some(false)) {
            return Some(match self.actuator {
                Actuator::MotorLock { .. } => Phase::Released { since: at },
                // Keep the level: letting go would unlock a bolt that only rattled.
                Actuator::Coil { .. } => Phase::Locking(self.hold(at, inputs)),
            });
        }
        if self.must_throw_again(since, inputs) {
            return self.throw(at, inputs);
        }
        None
    }

    /// Without a bond switch: a door that was opened since the throw shows that the bolt was not
    /// thrown, or no longer is.
    fn must_throw_again(&self, since: BootTime, inputs: &StrikeInputs) -> bool {
        let may_be_gone = self.has_bolt() && !self.bond_fitted;
        may_be_gone && inputs.closed_since.is_some_and(|closed| closed > since)
    }

    fn recover(
        &self,
        toward: Want,
        why: Failure,
        at: BootTime,
        inputs: &StrikeInputs,
    ) -> Option<Phase> {
        let locked = Some(Phase::Locked { since: at });
        let is_due = |due: BootTime| due <= at;
        let again = inputs.retry_now || self.retry_at(toward, why, inputs).is_some_and(is_due);
        match (toward, inputs.want) {
            (Want::Locked, Want::Released) => Some(self.release(at, inputs)),
            (Want::Locked, Want::Locked) => match (why, inputs.bonded) {
                (Failure::Jammed | Failure::Undriven, Some(true)) => locked,
                (Failure::Jammed, _) if inputs.closed == Some(false) => {
                    Some(self.handle_open_door(at, inputs))
                }
                _ if inputs.closed == Some(false) && self.has_bolt() => {
                    Some(self.release(at, inputs))
                }
                _ if again => self.throw(at, inputs),
                _ => None,
            },
            (Want::Released, Want::Locked) if self.is_found_thrown(inputs) => locked,
            (Want::Released, Want::Locked) => self.throw(at, inputs),
            (Want::Released, Want::Released) => match (why, inputs.bonded) {
                (Failure::Jammed | Failure::Undriven, Some(false)) => {
                    Some(Phase::Released { since: at })
                }
                _ if again => Some(self.release(at, inputs)),
                _ => None,
            },
        }
    }

    /// When a failed attempt is retried without a new request: at the time that [`Failures`] gives,
    /// and not before coil or motor has rested. `None` for a coil that holds its level, which is a
    /// continuous attempt.
    fn retry_at(&self, toward: Want, why: Failure, inputs: &StrikeInputs) -> Option<BootTime> {
        if why != Failure::Exhausted && self.pulse().is_none() {
            return None;
        }
        let ready = match toward {
            Want::Locked => self.throw_at(inputs)?,
            Want::Released => self.release_ready_at(inputs),
        };
        // A motor that only had to rest continues as soon as it may.
        let failures = self
            .failures
            .filter(|_| why != Failure::Exhausted || self.pulse().is_none());
        let due = failures.map(|failures| failures.retry_at(inputs.at_the_door));
        Some(ready.max(due.unwrap_or_default()))
    }

    /// Whether the next attempt must wait for coil or motor to rest.
    fn retry_must_rest(&self, toward: Want, why: Failure, inputs: &StrikeInputs) -> bool {
        match (why, toward) {
            (Failure::Exhausted, _) => true,
            (_, Want::Locked) => self.throw_must_rest(inputs),
            (_, Want::Released) => {
                self.pulse().is_some() && self.release_ready_at(inputs) > self.coil.as_of()
            }
        }
    }

    /// When a failed release may be retried. Unless an input at the door asks, a jammed motor keeps
    /// one run in reserve for those inputs.
    fn release_ready_at(&self, inputs: &StrikeInputs) -> BootTime {
        match self.pulse() {
            Some(pulse) if self.jammed && !inputs.at_the_door => self.coil.ready_at(pulse * 2),
            Some(pulse) => self.coil.ready_at(pulse),
            None if inputs.at_the_door => self.coil.ready_at(self.bond_time),
            None => self.coil.rested_at(),
        }
    }

    /// Starts a throw if the door has settled and coil or motor has rested.
    fn throw(&self, at: BootTime, inputs: &StrikeInputs) -> Option<Phase> {
        let ready = self.throw_at(inputs)? <= at;
        ready.then(|| Phase::Locking(self.run(Outputs::Throw, at, inputs)))
    }

    fn has_bolt(&self) -> bool {
        match self.actuator {
            Actuator::MotorLock { .. } => true,
            Actuator::Coil { has_bolt, .. } => has_bolt,
        }
    }

    /// The door is open and locked is wanted: a bolt is withdrawn; a strike or maglock counts as
    /// locked until the door closes and the bond can be checked.
    fn handle_open_door(&self, at: BootTime, inputs: &StrikeInputs) -> Phase {
        if self.has_bolt() {
            self.release(at, inputs)
        } else {
            Phase::Locked { since: at }
        }
    }

    /// Earliest time to lock, given the readings: after the door has settled and coil or motor has
    /// rested.
    fn throw_at(&self, inputs: &StrikeInputs) -> Option<BootTime> {
        let settled = self.settled_at(inputs)?;
        if self.throw_must_rest(inputs) {
            return Some(self.coil.rested_at());
        }
        Some(settled)
    }

    /// Whether the door has settled and only the rest of coil or motor delays the throw.
    fn throw_must_rest(&self, inputs: &StrikeInputs) -> bool {
        let is_past = |settled: BootTime| settled <= self.coil.as_of();
        let is_settled = self.settled_at(inputs).is_some_and(is_past);
        is_settled && self.needs_coil() && !self.coil.is_rested()
    }

    /// Whether a coil has reached its limit since the present state was first wanted.
    fn is_over_its_limit(&self, inputs: &StrikeInputs) -> bool {
        let failures = self.failures.filter(|_| self.pulse().is_none());
        failures.is_some_and(|failures| {
            failures.toward == inputs.want && failures.why == Failure::Exhausted
        })
    }

    /// When the door has been closed for the settle time; `None` while it is not closed.
    fn settled_at(&self, inputs: &StrikeInputs) -> Option<BootTime> {
        if !self.has_bolt() {
            return Some(BootTime::default());
        }
        let closed = inputs
            .closed_since
            .filter(|_| inputs.closed == Some(true))?;
        let gone = match self.phase {
            Phase::Released { since } => since,
            _ => BootTime::default(),
        };
        Some(closed.max(gone) + self.settle_time)
    }

    /// Whether locking has to energise coil or motor.
    fn needs_coil(&self) -> bool {
        match self.actuator {
            Actuator::MotorLock { .. } => true,
            Actuator::Coil { fail, .. } => fail == FailMode::Safe && !self.coil.is_energised(),
        }
    }

    /// Starts a release. Only a coil or motor at its limit can prevent it.
    fn release(&self, at: BootTime, inputs: &StrikeInputs) -> Phase {
        let may = match self.actuator {
            Actuator::MotorLock { pulse, .. } => self.coil.remaining() >= pulse,
            Actuator::Coil {
                fail: FailMode::Safe,
                ..
            } => true,
            Actuator::Coil {
                fail: FailMode::Secure,
                ..
            } => {
                self.coil.is_rested()
                    || (inputs.at_the_door && self.coil.remaining() > Duration::ZERO)
            }
        };
        if !may {
            return Phase::Failed {
                toward: Want::Released,
                why: Failure::Exhausted,
            };
        }
        Phase::Releasing(self.run(Outputs::Retract, at, inputs))
    }

    /// A movement that begins now, or for a motor that ran the other way after its dead time.
    fn run(&self, direction: Outputs, at: BootTime, inputs: &StrikeInputs) -> Move {
        let Actuator::MotorLock { pulse, dead_time } = self.actuator else {
            return self.hold(at, inputs);
        };
        let ran = self.last_driven.filter(|(driven, _)| *driven != direction);
        let starts = ran
            .map(|(_, until)| until + dead_time)
            .filter(|starts| *starts > at);
        let begin = starts.unwrap_or(at);
        Move {
            starts,
            drive: Some(begin + pulse),
            ..self.hold(begin, inputs)
        }
    }

    fn hold(&self, at: BootTime, inputs: &StrikeInputs) -> Move {
        Move {
            starts: None,
            drive: None,
            proof_by: at + self.bond_time,
            from: inputs.bonded,
        }
    }

    fn pulse(&self) -> Option<Duration> {
        match self.actuator {
            Actuator::MotorLock { pulse, .. } => Some(pulse),
            Actuator::Coil { .. } => None,
        }
    }

    /// De-energises a coil at its limit. A motor is checked before each pulse instead.
    fn guard_coil(&self, inputs: &StrikeInputs) -> Option<Phase> {
        let Actuator::Coil { fail, .. } = self.actuator else {
            return None;
        };
        let is_over = self.coil.is_energised() && self.coil.remaining() <= self.reserve(inputs);
        is_over.then(|| Phase::Failed {
            toward: energised_for(fail),
            why: Failure::Exhausted,
        })
    }

    fn exhausted_at(&self, inputs: &StrikeInputs) -> Option<BootTime> {
        let limited = self.pulse().is_none() && self.coil.is_energised();
        if !limited || self.coil.remaining() == Duration::MAX {
            return None;
        }
        Some(self.coil.as_of() + self.coil.remaining().saturating_sub(self.reserve(inputs)))
    }

    fn reserve(&self, inputs: &StrikeInputs) -> Duration {
        if inputs.at_the_door {
            Duration::ZERO
        } else {
            self.coil.reserve()
        }
    }
}

impl Phase {
    /// The position that the coil's level holds the bolt in or pulls it to.
    fn holds(self) -> Option<Want> {
        match self {
            Self::Unknown
            | Self::Failed {
                why: Failure::Exhausted,
                ..
            } => None,
            Self::Released { .. } | Self::Releasing(_) => Some(Want::Released),
            Self::Locking(_) | Self::Locked { .. } => Some(Want::Locked),
            Self::Failed { toward, .. } => Some(toward),
        }
    }
}

impl Move {
    /// Whether the motor runs.
    fn runs(&self) -> bool {
        self.starts.is_none() && self.drive.is_some()
    }

    /// The movement with its motor running, once the pause has ended.
    fn started(self, at: BootTime) -> Option<Self> {
        self.starts.filter(|starts| *starts <= at)?;
        Some(Self {
            starts: None,
            ..self
        })
    }

    /// The movement with its motor stopped, once the pulse has ended.
    fn stopped(self, at: BootTime) -> Option<Self> {
        self.drive.filter(|until| *until <= at)?;
        Some(Self {
            drive: None,
            ..self
        })
    }
}

/// The position for which this coil is energised.
fn energised_for(fail: FailMode) -> Want {
    match fail {
        FailMode::Safe => Want::Locked,
        FailMode::Secure => Want::Released,
    }
}

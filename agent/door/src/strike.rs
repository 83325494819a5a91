//! The actuator: what phase the bolt is in, what is energised for it, when it counts as jammed.
//!
//! Readings and the array's decision go in, the next phase comes out; the outputs are a level
//! computed from the phase. A bolt is thrown only when the door has been seen closed for the settle
//! time, and is withdrawn when the door opens before the throw is proven. Once it is thrown the
//! door switch no longer matters: a magnet held to it must not retract a bolt. A strike or a
//! maglock has no bolt: it locks at once, and its bond is looked for when the door is closed.
//!
//! What fails is retried for as long as it is wanted, within the coil guard: see
//! [`Strike::retry_at`]. A jam stands until a movement is proven.

mod coil;
mod failures;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::authority::Want;
use crate::config::{Actuator, DoorConfig, FailMode};
use crate::contract::{LockState, duration};
use coil::Coil;
use failures::Failures;

/// What is energised: a level, not an order. De-energised is safe and what every pin shows when
/// nobody is in charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outputs {
    /// Nothing.
    #[default]
    DeEnergised,
    /// Motor lock: the motor runs towards thrown.
    Throw,
    /// Motor lock: the motor runs towards retracted.
    Retract,
    /// Anything but a motor lock: the coil is on.
    Energised,
}

/// What the strike goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) want: Want,
    /// The door's own inputs decide: the coil's reserve is theirs.
    pub(crate) at_the_door: bool,
    /// Somebody has just asked again: what failed before is tried once more.
    pub(crate) asked_again: bool,
    pub(crate) closed: Option<bool>,
    /// The door reads open, though its switch may be in fault: no throw goes on into it.
    pub(crate) reads_open: bool,
    pub(crate) closed_since: Option<Duration>,
    pub(crate) bonded: Option<bool>,
}

/// Where the bolt is, as far as driving and readings tell. Times are on the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing was driven yet.
    Unknown,
    Released {
        since: Duration,
    },
    Releasing(Move),
    Locking(Move),
    Locked {
        since: Duration,
    },
    Failed {
        toward: Want,
        why: Failure,
    },
}

/// A bolt on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    /// When the motor stops; `None` when it has, or for a coil, which holds its level.
    drive: Option<Duration>,
    /// When it must be proven, or is jammed.
    proof_by: Duration,
    /// The bond reading at its start: only a bond that changes proves a movement.
    from: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Driven, but the bond switch says otherwise.
    Jammed,
    /// Coil or motor must rest.
    Exhausted,
}

#[derive(Debug, Clone)]
pub(crate) struct Strike {
    actuator: Actuator,
    bond_fitted: bool,
    bond_time: Duration,
    settle_time: Duration,
    phase: Phase,
    /// It did not get where it was driven, and no movement has been proven since.
    jammed: bool,
    /// Attempts that failed, for as long as the same is wanted.
    failures: Option<Failures>,
    coil: Coil,
}

/// Coil or motor must rest before the strike can do what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resting {
    part: &'static str,
    max_on: Duration,
    cool_down: Duration,
    /// Until it is tried again.
    left: Duration,
}

impl fmt::Display for Resting {
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
        // Rounded up: not before this time.
        let left = Duration::from_secs(self.left.as_secs() + 1);
        write!(f, "; it must rest for another {}", text(left))
    }
}

/// More than the longest chain of phases that follow each other without time passing.
const MAX_TRANSITIONS: usize = 8;

impl Strike {
    pub(crate) fn new(config: &DoorConfig, at: Duration) -> Self {
        Self {
            actuator: config.actuator,
            bond_fitted: config.fitted.bond,
            bond_time: config.bond_time,
            settle_time: config.settings.settle_time,
            phase: Phase::Unknown,
            jammed: false,
            failures: None,
            coil: Coil::new(config.duty, at),
        }
    }

    /// Takes up settings that were changed while it is at work.
    pub(crate) fn follow_settings(&mut self, config: &DoorConfig) {
        self.settle_time = config.settings.settle_time;
        self.coil.set_duty(config.duty);
    }

    /// How long coil or motor may still be energised; `None`: without limit.
    pub(crate) fn room(&self) -> Option<Duration> {
        Some(self.coil.room()).filter(|room| *room < Duration::MAX)
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
            (Actuator::MotorLock { .. }, Phase::Locking(Move { drive: Some(_), .. })) => {
                Outputs::Throw
            }
            (Actuator::MotorLock { .. }, Phase::Releasing(Move { drive: Some(_), .. })) => {
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

    /// Why it does not do what is wanted, when that is the rest that coil or motor needs. A coil
    /// that reached its limit counts until something else is wanted: it cannot hold what is
    /// wanted for as long as it is wanted.
    pub(crate) fn resting(&self, seen: &Seen) -> Option<Resting> {
        let (max_on, cool_down) = self.coil.limits()?;
        let until = match self.phase {
            Phase::Failed { toward, why }
                if toward == seen.want && self.retry_rests(toward, why, seen) =>
            {
                self.retry_at(toward, why, seen)
                    .unwrap_or(self.coil.rested_at())
            }
            _ if self.waits_to_throw(seen) && self.throw_rests(seen) => self.coil.rested_at(),
            _ if self.is_over_its_limit(seen) => self.coil.as_of(),
            _ => return None,
        };
        Some(Resting {
            part: match self.actuator {
                Actuator::MotorLock { .. } => "motor",
                Actuator::Coil { .. } => "coil",
            },
            max_on,
            cool_down,
            left: until.saturating_sub(self.coil.as_of()),
        })
    }

    /// Moves on to the phase that readings and time call for.
    pub(crate) fn advance(&mut self, at: Duration, seen: &Seen) {
        self.coil.account(at);
        self.failures = self
            .failures
            .filter(|failures| failures.toward == seen.want);
        if let Some(phase) = self.guard_coil(seen) {
            self.enter(phase, at, seen);
        }
        for _ in 0..MAX_TRANSITIONS {
            match self.next(at, seen) {
                Some(phase) if phase != self.phase => self.enter(phase, at, seen),
                _ => break,
            }
        }
        self.coil.set(self.outputs() != Outputs::DeEnergised);
    }

    /// When time alone changes something, given that the readings stay.
    pub(crate) fn poll_timeout(&self, seen: &Seen) -> Option<Duration> {
        let moving = match self.phase {
            Phase::Releasing(motion) | Phase::Locking(motion) => {
                Some(motion.drive.unwrap_or(motion.proof_by))
            }
            _ => None,
        };
        let waiting = match self.phase {
            _ if self.waits_to_throw(seen) => self.throw_at(seen),
            Phase::Failed { toward, why } if toward == seen.want => {
                self.retry_at(toward, why, seen)
            }
            _ => None,
        };
        [moving, waiting, self.exhausted_at(seen)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether it is to be locked, and the bolt is not on its way.
    fn waits_to_throw(&self, seen: &Seen) -> bool {
        let waits = match self.phase {
            Phase::Unknown | Phase::Released { .. } | Phase::Releasing(_) => true,
            Phase::Failed { toward, .. } => toward == Want::Released,
            Phase::Locked { since } => self.must_throw_again(since, seen),
            Phase::Locking(_) => false,
        };
        waits && seen.want == Want::Locked
    }

    /// Moves to another phase, and counts what it proves or what has failed.
    fn enter(&mut self, phase: Phase, at: Duration, seen: &Seen) {
        let is_where_driven = match phase {
            Phase::Locked { .. } => seen.bonded == Some(true),
            Phase::Released { .. } => seen.bonded == Some(false),
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
        if is_where_driven && before.is_some() && before != seen.bonded {
            self.jammed = false;
            // That a coil reached its limit is no matter of movement.
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

    fn next(&self, at: Duration, seen: &Seen) -> Option<Phase> {
        let wants_lock = seen.want == Want::Locked;
        match self.phase {
            Phase::Unknown | Phase::Released { .. } if self.is_found_thrown(seen) => {
                Some(Phase::Locked { since: at })
            }
            Phase::Unknown if !wants_lock => Some(self.release(at, seen)),
            Phase::Unknown => self.throw(at, seen),
            Phase::Released { .. } => self.throw(at, seen).filter(|_| wants_lock),
            Phase::Releasing(motion) => self
                .throw(at, seen)
                .filter(|_| wants_lock)
                .or_else(|| self.finish_release(motion, at, seen)),
            Phase::Locking(_) if !wants_lock => Some(self.release(at, seen)),
            Phase::Locking(_)
                if seen.closed == Some(false) || (seen.reads_open && self.has_bolt()) =>
            {
                Some(self.met_open(at, seen))
            }
            Phase::Locking(motion) => self.finish_throw(motion, at, seen),
            Phase::Locked { .. } if !wants_lock => Some(self.release(at, seen)),
            Phase::Locked { since } => self.keep_locked(since, at, seen),
            Phase::Failed { toward, why } => self.recover(toward, why, at, seen),
        }
    }

    /// The bolt is seen out, and taking it as thrown changes no level, or the door is closed. One
    /// that is out in an open door, left by a program that was killed, stuck or thrown by hand,
    /// is not pushed there.
    fn is_found_thrown(&self, seen: &Seen) -> bool {
        let is_held_back = match self.actuator {
            Actuator::MotorLock { .. } => false,
            Actuator::Coil { fail, .. } => self.coil.is_energised() == (fail == FailMode::Secure),
        };
        seen.bonded == Some(true) && (!is_held_back || seen.closed == Some(true))
    }

    fn finish_release(&self, motion: Move, at: Duration, seen: &Seen) -> Option<Phase> {
        if let Some(motion) = motion.stopped(at) {
            return Some(Phase::Releasing(motion));
        }
        if motion.drive.is_some() {
            return None;
        }
        let late = motion.proof_by <= at;
        match seen.bonded {
            Some(false) => Some(Phase::Released { since: at }),
            None if late => Some(Phase::Released { since: at }),
            Some(true) if late => Some(Phase::Failed {
                toward: Want::Released,
                why: Failure::Jammed,
            }),
            _ => None,
        }
    }

    fn finish_throw(&self, motion: Move, at: Duration, seen: &Seen) -> Option<Phase> {
        let late = motion.proof_by <= at;
        match seen.bonded {
            Some(true) => Some(Phase::Locked { since: at }),
            None if late => Some(Phase::Locked { since: at }),
            Some(false) if late => Some(Phase::Failed {
                toward: Want::Locked,
                why: Failure::Jammed,
            }),
            _ => motion.stopped(at).map(Phase::Locking),
        }
    }

    /// The handle of a lock retracts its bolt without asking: when it is seen gone, it is thrown
    /// again once the door is closed.
    fn keep_locked(&self, since: Duration, at: Duration, seen: &Seen) -> Option<Phase> {
        if seen.bonded == Some(false) && (self.has_bolt() || seen.closed != Some(false)) {
            return Some(match self.actuator {
                Actuator::MotorLock { .. } => Phase::Released { since: at },
                // The level stays: letting go would unlock a bolt that only rattled.
                Actuator::Coil { .. } => Phase::Locking(self.hold(at, seen)),
            });
        }
        if self.must_throw_again(since, seen) {
            return self.throw(at, seen);
        }
        None
    }

    /// Without a bond switch a door that was opened since tells that the bolt was not, or is no
    /// longer, thrown.
    fn must_throw_again(&self, since: Duration, seen: &Seen) -> bool {
        let may_be_gone = self.has_bolt() && !self.bond_fitted;
        may_be_gone && seen.closed_since.is_some_and(|closed| closed > since)
    }

    fn recover(&self, toward: Want, why: Failure, at: Duration, seen: &Seen) -> Option<Phase> {
        let locked = Some(Phase::Locked { since: at });
        let is_due = |due: Duration| due <= at;
        let again = seen.asked_again || self.retry_at(toward, why, seen).is_some_and(is_due);
        match (toward, seen.want) {
            (Want::Locked, Want::Released) => Some(self.release(at, seen)),
            (Want::Locked, Want::Locked) => match (why, seen.bonded) {
                (Failure::Jammed, Some(true)) => locked,
                (Failure::Jammed, _) if seen.closed == Some(false) => Some(self.met_open(at, seen)),
                _ if seen.closed == Some(false) && self.has_bolt() => Some(self.release(at, seen)),
                _ if again => self.throw(at, seen),
                _ => None,
            },
            (Want::Released, Want::Locked) if self.is_found_thrown(seen) => locked,
            (Want::Released, Want::Locked) => self.throw(at, seen),
            (Want::Released, Want::Released) => match (why, seen.bonded) {
                (Failure::Jammed, Some(false)) => Some(Phase::Released { since: at }),
                _ if again => Some(self.release(at, seen)),
                _ => None,
            },
        }
    }

    /// When what failed is tried again, though nobody asks: at the time that [`Failures`] names,
    /// and not before coil or motor has rested. A coil that holds its level is trying all the
    /// time.
    fn retry_at(&self, toward: Want, why: Failure, seen: &Seen) -> Option<Duration> {
        if why == Failure::Jammed && self.pulse().is_none() {
            return None;
        }
        let ready = match toward {
            Want::Locked => self.throw_at(seen)?,
            Want::Released => self.release_ready_at(seen),
        };
        // A motor that had to rest goes on as soon as it may.
        let failures = self
            .failures
            .filter(|_| why == Failure::Jammed || self.pulse().is_none());
        let due = failures.map(|failures| failures.retry_at(seen.at_the_door));
        Some(ready.max(due.unwrap_or_default()))
    }

    /// Whether the next attempt must wait for coil or motor.
    fn retry_rests(&self, toward: Want, why: Failure, seen: &Seen) -> bool {
        match (why, toward) {
            (Failure::Exhausted, _) => true,
            (Failure::Jammed, Want::Locked) => self.throw_rests(seen),
            (Failure::Jammed, Want::Released) => {
                self.pulse().is_some() && self.release_ready_at(seen) > self.coil.as_of()
            }
        }
    }

    /// When a release that failed may be tried again. What no input at the door asks for leaves
    /// those one run of a jammed motor.
    fn release_ready_at(&self, seen: &Seen) -> Duration {
        match self.pulse() {
            Some(pulse) if self.jammed && !seen.at_the_door => self.coil.ready_at(pulse * 2),
            Some(pulse) => self.coil.ready_at(pulse),
            None if seen.at_the_door => self.coil.ready_at(self.bond_time),
            None => self.coil.rested_at(),
        }
    }

    /// Starts a throw when the door has settled and the coil has rested.
    fn throw(&self, at: Duration, seen: &Seen) -> Option<Phase> {
        let ready = self.throw_at(seen)? <= at;
        ready.then(|| {
            Phase::Locking(Move {
                drive: self.pulse().map(|pulse| at + pulse),
                ..self.hold(at, seen)
            })
        })
    }

    fn has_bolt(&self) -> bool {
        match self.actuator {
            Actuator::MotorLock { .. } => true,
            Actuator::Coil { has_bolt, .. } => has_bolt,
        }
    }

    /// The door is open, and it is to be locked: a bolt is withdrawn, anything else is as locked as
    /// it can be until the door is closed.
    fn met_open(&self, at: Duration, seen: &Seen) -> Phase {
        if self.has_bolt() {
            self.release(at, seen)
        } else {
            Phase::Locked { since: at }
        }
    }

    /// The earliest that it may be locked, given the readings: when the door has settled and, after
    /// that, when coil or motor has rested.
    fn throw_at(&self, seen: &Seen) -> Option<Duration> {
        let settled = self.settled_at(seen)?;
        if self.throw_rests(seen) {
            return Some(self.coil.rested_at());
        }
        Some(settled)
    }

    /// Whether the door has settled, and nothing but the rest of coil or motor delays a throw.
    fn throw_rests(&self, seen: &Seen) -> bool {
        let is_past = |settled: Duration| settled <= self.coil.as_of();
        let is_settled = self.settled_at(seen).is_some_and(is_past);
        is_settled && self.needs_coil() && !self.coil.is_rested()
    }

    /// Whether a coil has reached its limit since the same was first wanted.
    fn is_over_its_limit(&self, seen: &Seen) -> bool {
        let failures = self.failures.filter(|_| self.pulse().is_none());
        failures.is_some_and(|failures| {
            failures.toward == seen.want && failures.why == Failure::Exhausted
        })
    }

    /// When the door has been closed for long enough to throw a bolt; `None` while it is not
    /// closed.
    fn settled_at(&self, seen: &Seen) -> Option<Duration> {
        if !self.has_bolt() {
            return Some(Duration::ZERO);
        }
        let closed = seen.closed_since.filter(|_| seen.closed == Some(true))?;
        let gone = match self.phase {
            Phase::Released { since } => since,
            _ => Duration::ZERO,
        };
        Some(closed.max(gone) + self.settle_time)
    }

    /// Whether locking energises coil or motor anew.
    fn needs_coil(&self) -> bool {
        match self.actuator {
            Actuator::MotorLock { .. } => true,
            Actuator::Coil { fail, .. } => fail == FailMode::Safe && !self.coil.is_energised(),
        }
    }

    /// Starts a release; only a coil at its limit can stand in the way.
    fn release(&self, at: Duration, seen: &Seen) -> Phase {
        let may = match self.actuator {
            Actuator::MotorLock { pulse } => self.coil.room() >= pulse,
            Actuator::Coil {
                fail: FailMode::Safe,
                ..
            } => true,
            Actuator::Coil {
                fail: FailMode::Secure,
                ..
            } => self.coil.is_rested() || (seen.at_the_door && self.coil.room() > Duration::ZERO),
        };
        if !may {
            return Phase::Failed {
                toward: Want::Released,
                why: Failure::Exhausted,
            };
        }
        Phase::Releasing(Move {
            drive: self.pulse().map(|pulse| at + pulse),
            ..self.hold(at, seen)
        })
    }

    fn hold(&self, at: Duration, seen: &Seen) -> Move {
        Move {
            drive: None,
            proof_by: at + self.bond_time,
            from: seen.bonded,
        }
    }

    fn pulse(&self) -> Option<Duration> {
        match self.actuator {
            Actuator::MotorLock { pulse } => Some(pulse),
            Actuator::Coil { .. } => None,
        }
    }

    /// Lets go of a coil that has reached its limit. A motor's pulses are measured before they
    /// start.
    fn guard_coil(&self, seen: &Seen) -> Option<Phase> {
        let Actuator::Coil { fail, .. } = self.actuator else {
            return None;
        };
        let is_over = self.coil.is_energised() && self.coil.room() <= self.kept_back(seen);
        is_over.then(|| Phase::Failed {
            toward: energised_for(fail),
            why: Failure::Exhausted,
        })
    }

    fn exhausted_at(&self, seen: &Seen) -> Option<Duration> {
        let limited = self.pulse().is_none() && self.coil.is_energised();
        if !limited || self.coil.room() == Duration::MAX {
            return None;
        }
        Some(self.coil.as_of() + self.coil.room().saturating_sub(self.kept_back(seen)))
    }

    fn kept_back(&self, seen: &Seen) -> Duration {
        if seen.at_the_door {
            Duration::ZERO
        } else {
            self.coil.reserve()
        }
    }
}

impl Phase {
    /// The state that a coil's level keeps the bolt in or pulls it to.
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
    /// The same with the motor stopped, when its time is up.
    fn stopped(self, at: Duration) -> Option<Self> {
        self.drive.filter(|until| *until <= at)?;
        Some(Self {
            drive: None,
            ..self
        })
    }
}

/// What a coil is needed for.
fn energised_for(fail: FailMode) -> Want {
    match fail {
        FailMode::Safe => Want::Locked,
        FailMode::Secure => Want::Released,
    }
}

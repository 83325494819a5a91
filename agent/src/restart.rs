//! Decides whether a restart of a running agent would move its lock.
//!
//! An agent that ends takes all power off its strike, and the next one drives it again a moment
//! later. The lock stays still if the wanted state, now and after the restored state is loaded, is
//! the state of the strike without power. `door-agent restart` and package upgrades use this rule.

use std::fmt;

use door_core::config::Rest;
use door_core::contract::LockState;
use door_core::{Outputs, Slot, Want};
use serde::Deserialize;
use serde_json::Value;

use crate::config::AgentConfig;

/// The members of a running agent's [status](crate::status) that the decision needs.
#[derive(Debug, Clone, Deserialize)]
pub struct RunningState {
    door: DoorStatus,
    disk: DiskStatus,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DoorStatus {
    report: ReportStatus,
    want: Want,
    slots: Vec<OccupiedSlot>,
    outputs: Outputs,
    rest: Rest,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReportStatus {
    lock_state: LockState,
}

#[derive(Debug, Clone, Deserialize)]
struct OccupiedSlot {
    slot: Slot,
    want: Want,
}

#[derive(Debug, Clone, Deserialize)]
struct DiskStatus {
    problem: Option<String>,
}

/// Configuration of the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextStart {
    /// Where the configured strike rests without power.
    pub rest: Rest,
    /// What applies when no slot is occupied.
    pub relinquish_default: Want,
}

/// Why a restart might move the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestartObjection {
    /// The state in force is not on disk.
    NotSaved(String),
    /// An input at the door decides, and a restart forgets it.
    AtTheDoor(Slot),
    /// The wanted state differs after the restart.
    OtherDefault(Want),
    /// The configured strike is not the one that the agent drives.
    OtherStrike,
    /// Power keeps the lock in its wanted state.
    Powered(Want),
    /// Power holds the bolt back while the door is open.
    HeldBack,
    /// A motor lock's bolt is not at rest in its wanted position.
    NotThere(LockState, Want),
}

impl From<&AgentConfig> for NextStart {
    fn from(config: &AgentConfig) -> Self {
        Self {
            rest: config.strike.rest(),
            relinquish_default: config.door.relinquish_default,
        }
    }
}

impl RunningState {
    /// Parses a status document; `None` if an older agent leaves out needed members.
    #[must_use]
    pub fn of(status: &Value) -> Option<Self> {
        Self::deserialize(status).ok()
    }

    /// Returns the state that the lock keeps through a restart into `next`.
    ///
    /// # Errors
    /// The first reason why the lock might move.
    pub fn judge(&self, next: NextStart) -> Result<Want, RestartObjection> {
        let door = &self.door;
        if let Some(problem) = &self.disk.problem {
            return Err(RestartObjection::NotSaved(problem.clone()));
        }
        let mut kept = door
            .slots
            .iter()
            .filter(|slot| slot.slot.outlasts_restart());
        let after = kept
            .next()
            .map_or(next.relinquish_default, |slot| slot.want);
        if after != door.want {
            return Err(match door.slots.first() {
                Some(first) if !first.slot.outlasts_restart() => {
                    RestartObjection::AtTheDoor(first.slot)
                }
                _ => RestartObjection::OtherDefault(after),
            });
        }
        if door.rest != next.rest {
            return Err(RestartObjection::OtherStrike);
        }
        let at_rest = match door.rest {
            Rest::Locked => Want::Locked,
            Rest::Released => Want::Released,
            Rest::Stays => return self.judge_motor(),
        };
        if door.want != at_rest {
            return Err(RestartObjection::Powered(door.want));
        }
        if door.outputs != Outputs::DeEnergised {
            return Err(RestartObjection::HeldBack);
        }
        Ok(door.want)
    }

    fn judge_motor(&self) -> Result<Want, RestartObjection> {
        let door = &self.door;
        let wanted = match door.want {
            Want::Locked => LockState::Locked,
            Want::Released => LockState::Unlocked,
        };
        if door.report.lock_state != wanted || door.outputs != Outputs::DeEnergised {
            return Err(RestartObjection::NotThere(
                door.report.lock_state,
                door.want,
            ));
        }
        Ok(door.want)
    }
}

impl fmt::Display for RestartObjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSaved(problem) => write!(
                f,
                "the latest changes are not on disk ({problem}), and a restart would lose them"
            ),
            Self::AtTheDoor(slot) => write!(
                f,
                "slot {}, an input at the door, decides for a moment, and a restart would cut that \
                 short",
                slot.number()
            ),
            Self::OtherDefault(want) => write!(
                f,
                "no slot is occupied, and by the configuration it would be {want} after the restart"
            ),
            Self::OtherStrike => {
                f.write_str("the configured [strike] differs from the one that the agent drives")
            }
            Self::Powered(want) => write!(
                f,
                "power keeps the lock {want}, and a restart takes the power off for a moment"
            ),
            Self::HeldBack => f.write_str(
                "power holds the bolt back until the door is closed, and a restart would throw it",
            ),
            Self::NotThere(state, want) => {
                // In the spelling of the status.
                let state = serde_json::to_value(state).unwrap_or_default();
                let state = state.as_str().unwrap_or("unknown");
                write!(
                    f,
                    "the lock is {state}, wanted is {want}, and a restart would drive it again"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;

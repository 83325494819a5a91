//! Whether a restart of a running agent would move its lock.
//!
//! An agent that ends takes all power off its strike, and the next one drives it again a moment
//! later. The lock keeps still when what is wanted of the door, now and by what will be restored,
//! is where the strike is without power. `door-agent restart` and the package's upgrade go by it.

use std::fmt;

use door_core::config::Rest;
use door_core::contract::LockState;
use door_core::{Outputs, Slot, Want};
use serde::Deserialize;
use serde_json::Value;

use crate::config::AgentConfig;

/// What of a running agent's [status](crate::status) the judgement needs.
#[derive(Debug, Clone, Deserialize)]
pub struct Standing {
    door: Door,
    disk: Disk,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Door {
    report: Report,
    want: Want,
    slots: Vec<Occupied>,
    outputs: Outputs,
    rest: Rest,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    lock_state: LockState,
}

#[derive(Debug, Clone, Deserialize)]
struct Occupied {
    slot: Slot,
    want: Want,
}

#[derive(Debug, Clone, Deserialize)]
struct Disk {
    problem: Option<String>,
}

/// What the next start goes by, besides what was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Where the configured strike is without power.
    pub rest: Rest,
    /// What holds when no slot is occupied.
    pub relinquish_default: Want,
}

/// Why a restart might move the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// The state on disk is not the one in force.
    NotSaved(String),
    /// An input at the door decides, and a restart forgets it.
    AtTheDoor(Slot),
    /// Something else will be wanted after it.
    OtherDefault(Want),
    /// The configuration is of another strike than the agent drives.
    OtherStrike,
    /// Power keeps it as it is wanted.
    Powered(Want),
    /// Power keeps the bolt from an open door.
    HeldBack,
    /// A motor lock's bolt is not at rest where it is wanted.
    NotThere(LockState, Want),
}

impl From<&AgentConfig> for Next {
    fn from(config: &AgentConfig) -> Self {
        Self {
            rest: config.strike.rest(),
            relinquish_default: config.door.relinquish_default,
        }
    }
}

impl Standing {
    /// Reads a status document; `None` when it is of an agent that does not tell enough.
    #[must_use]
    pub fn of(status: &Value) -> Option<Self> {
        Self::deserialize(status).ok()
    }

    /// Judges a restart into `next`: what the lock stays, or the first reason for which it might
    /// move.
    ///
    /// # Errors
    /// That reason.
    pub fn judge(&self, next: Next) -> Result<Want, Objection> {
        let door = &self.door;
        if let Some(problem) = &self.disk.problem {
            return Err(Objection::NotSaved(problem.clone()));
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
                Some(first) if !first.slot.outlasts_restart() => Objection::AtTheDoor(first.slot),
                _ => Objection::OtherDefault(after),
            });
        }
        if door.rest != next.rest {
            return Err(Objection::OtherStrike);
        }
        let at_rest = match door.rest {
            Rest::Locked => Want::Locked,
            Rest::Released => Want::Released,
            Rest::Stays => return self.judge_motor(),
        };
        if door.want != at_rest {
            return Err(Objection::Powered(door.want));
        }
        if door.outputs != Outputs::DeEnergised {
            return Err(Objection::HeldBack);
        }
        Ok(door.want)
    }

    fn judge_motor(&self) -> Result<Want, Objection> {
        let door = &self.door;
        let wanted = match door.want {
            Want::Locked => LockState::Locked,
            Want::Released => LockState::Unlocked,
        };
        if door.report.lock_state != wanted || door.outputs != Outputs::DeEnergised {
            return Err(Objection::NotThere(door.report.lock_state, door.want));
        }
        Ok(door.want)
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSaved(problem) => write!(
                f,
                "what it was told is not on disk ({problem}), and a restart goes by what is there"
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
                f.write_str("the configuration has another [strike] than the agent drives now")
            }
            Self::Powered(want) => write!(
                f,
                "power keeps it {want}, and a restart takes the power off for a moment"
            ),
            Self::HeldBack => f.write_str(
                "power holds its bolt back until the door is closed, and a restart would throw it",
            ),
            Self::NotThere(state, want) => {
                // As the status spells it.
                let state = serde_json::to_value(state).unwrap_or_default();
                let state = state.as_str().unwrap_or("unknown");
                write!(
                    f,
                    "its lock is {state}, wanted is {want}, and a restart would drive it anew"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! The door itself, pure: readings, commands and time come in, actions go out.
//!
//! The shell (the `door-agent` crate) owns clocks, pins, files and sockets; it calls a `handle_*`
//! method of [`Door`] whenever something happened, carries out the returned [`Action`]s in order,
//! and comes back at [`Door::poll_timeout`]. `doorctl` uses [`contract`] to spell the same methods
//! from the other side. Nothing here knows MQTT, GPIO or a hub.
//!
//! | module | owns |
//! |---|---|
//! | [`contract`] | what goes over the wire: methods, payloads, replies, durations, the reported `door` object |
//! | [`config`] | what is fitted and how it behaves, checked before anything is driven |
//! | [`authority`] | the priority array: who decides what the strike should do |
//! | `strike` | the actuator: phases, proof, jam, coil guard |
//! | `sensing` | what the inputs say: door, bond, contradictions |
//! | `door` | the whole: commands, persistence, answers, events |

#![warn(missing_docs)]

pub mod authority;
pub mod config;
pub mod contract;
mod desired;
mod door;
mod event;
mod saved;
mod sensing;
mod strike;
mod time;

pub use authority::{AuthorityArray, Entry, Slot, Want};
pub use config::{ConfigError, DoorConfig, DoorSettings, Fitted, Overrides, Setting, StrikeConfig};
pub use contract::{Command, DoorReport, MethodReply};
pub use desired::{DesiredDoor, DesiredMode};
pub use door::{Action, Door, Generation, NotSaved, Ticket};
pub use event::{DropReason, Event, EventKind};
pub use saved::SavedDoor;
pub use sensing::{Inputs, Reading};
pub use strike::Outputs;
pub use time::{BootId, ClockQuality, Now};

//! The door's logic without IO: readings, commands and time in, actions out.
//!
//! The shell (the `door-agent` crate) owns clocks, pins, files and sockets. It calls a `handle_*`
//! method of [`Door`] for each input, carries out the returned [`Action`]s in order, and calls
//! [`Door::handle_timeout`] at [`Door::poll_timeout`]. `doorctl` uses [`contract`] to encode the
//! methods that the door decodes. Nothing here depends on MQTT, GPIO or a hub.
//!
//! | module | content |
//! |---|---|
//! | [`contract`] | the wire format: methods, payloads, replies, durations, reported `door` |
//! | [`config`] | the strike, the inputs and the settings, checked before anything is driven |
//! | [`authority`] | the priority array that decides the wanted state of the strike |
//! | [`schedule`] | timed entries and the week: what they want of the door at a moment |
//! | `strike` | the actuator: phases, proof, jam, coil guard |
//! | `sensing` | the inputs: door, bond, faults |
//! | `door` | the whole door: commands, persistence, replies, events |

#![warn(missing_docs)]

pub mod authority;
pub mod config;
pub mod contract;
mod desired;
mod door;
mod event;
mod saved;
pub mod schedule;
mod sensing;
mod strike;
mod time;

pub use authority::{AuthorityArray, Entry};
pub use config::{ConfigError, DoorConfig, DoorSettings, Fitted, Overrides, Setting, StrikeConfig};
pub use contract::{Command, DoorReport, MethodReply, Slot, Want};
pub use desired::{DesiredDoor, DesiredLockdown, DesiredMode};
pub use door::{Action, Door, Generation, NotSaved, Ticket};
pub use event::{DoorEvent, DropReason, Event, EventKind, EventName};
pub use saved::SavedDoor;
pub use schedule::{EntryId, TimedEntry, TimedReport, TimedState};
pub use sensing::{Inputs, Reading};
pub use strike::{OutputFault, Outputs};
pub use time::{BootId, BootTime, ClockQuality, Now};

//! The door as a whole.

use crate::contract::MethodReply;
use crate::event::Event;
use crate::saved::SavedDoor;
use crate::strike::Outputs;

/// Names a method call that waits for its answer; the shell chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Numbers the states handed out to be saved, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub(crate) u64);

/// What the shell is to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Set the outputs to this level.
    Drive(Outputs),
    /// Save the state, and call [`Door::handle_persisted`] when it, or a later one, survives a power cut.
    Persist {
        /// To be handed back.
        generation: Generation,
        /// The state.
        saved: SavedDoor,
    },
    /// Answer a method call.
    Answer {
        /// Which.
        ticket: Ticket,
        /// With what.
        reply: MethodReply,
    },
    /// Append to the event log.
    Record(Event),
    /// What [`Door::report`] says has changed.
    Report,
}

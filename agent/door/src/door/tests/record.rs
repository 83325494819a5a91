//! A record of the calls of a door and its actions, which can be replayed.

use crate::config::DoorConfig;
use crate::contract::Command;
use crate::desired::DesiredDoor;
use crate::door::{Action, Door, Generation, NotSaved, Ticket};
use crate::saved::SavedDoor;
use crate::sensing::Inputs;
use crate::strike::OutputFault;
use crate::time::Now;

/// One call of a door.
#[derive(Debug, Clone)]
pub(super) enum DoorCall {
    Start(Option<SavedDoor>),
    Inputs(Inputs),
    Command(Ticket, Command),
    Desired(Ticket, DesiredDoor),
    Persisted(Generation, Result<(), NotSaved>),
    Driven(Result<(), OutputFault>),
    Timeout,
}

impl DoorCall {
    /// Makes the call; a start creates the door.
    pub(super) fn apply(
        &self,
        door: &mut Option<Door>,
        config: DoorConfig,
        now: &Now,
    ) -> Vec<Action> {
        if let Self::Start(saved) = self {
            let (started, actions) = Door::new(config, saved.as_ref(), now);
            *door = Some(started);
            return actions;
        }
        let door = door.as_mut().expect("it was started");
        match self {
            Self::Start(_) => unreachable!("handled above"),
            Self::Inputs(inputs) => door.handle_inputs(now, *inputs),
            Self::Command(ticket, command) => door.handle_command(now, *ticket, command),
            Self::Desired(ticket, desired) => door.handle_desired(now, *ticket, desired),
            Self::Persisted(generation, result) => door.handle_persisted(now, *generation, *result),
            Self::Driven(result) => door.handle_driven(now, result.clone()),
            Self::Timeout => door.handle_timeout(now),
        }
    }
}

/// All calls of a door, with their actions.
#[derive(Debug, Default)]
pub(super) struct Record(Vec<(Now, DoorCall, Vec<Action>)>);

impl Record {
    pub(super) fn add(&mut self, now: &Now, call: DoorCall, actions: &[Action]) {
        self.0.push((now.clone(), call, actions.to_vec()));
    }

    /// Replays all calls at another door; returns the first call with different actions.
    pub(super) fn first_difference(&self, config: DoorConfig) -> Option<String> {
        let mut door = None;
        self.0.iter().find_map(|(now, call, did)| {
            let does = call.apply(&mut door, config, now);
            (does != *did).then(|| format!("{now:?} {call:?}: {did:?}, and now {does:?}"))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

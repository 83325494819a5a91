//! The accepted commands: a duplicate delivery does not act again, and an id belongs to one
//! command.
//!
//! Why: docs/decisions/0010-at-most-once.md.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::contract::CommandId;

/// Number of commands stored: far more than can still be in progress when the oldest is dropped.
const REMEMBERED: usize = 64;

/// An accepted command, stored beside its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AcceptedCommand {
    method: String,
    /// [`Command::digest`](crate::Command::digest).
    digest: u64,
    /// When it was first accepted, by a trusted clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<Timestamp>,
}

impl AcceptedCommand {
    pub(super) fn new(method: &str, digest: u64, first: Option<Timestamp>) -> Self {
        Self {
            method: method.to_owned(),
            digest,
            first: first.and_then(|at| Timestamp::from_second(at.as_second()).ok()),
        }
    }
}

/// Ids of accepted commands, oldest first. A command that failed is removed: its repetition acts.
#[derive(Debug, Clone, Default)]
pub(super) struct CommandMemory {
    /// Version 0.1 saved ids alone: such an id matches any command.
    commands: VecDeque<(CommandId, Option<AcceptedCommand>)>,
}

/// The command that already has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdConflict {
    pub(super) method: String,
    pub(super) first: Option<Timestamp>,
}

impl CommandMemory {
    /// `command_details` corresponds to `ids` by position; entries missing at the end were saved by
    /// 0.1.
    pub(super) fn restore(ids: &[CommandId], command_details: &[Option<AcceptedCommand>]) -> Self {
        let command_details = command_details
            .iter()
            .cloned()
            .chain(std::iter::repeat(None));
        let commands = ids.iter().cloned().zip(command_details);
        Self {
            commands: commands
                .skip(ids.len().saturating_sub(REMEMBERED))
                .collect(),
        }
    }

    pub(super) fn to_saved(&self) -> (Vec<CommandId>, Vec<Option<AcceptedCommand>>) {
        self.commands.iter().cloned().unzip()
    }

    pub(super) fn contains(&self, id: &CommandId) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: &CommandId) -> Option<&Option<AcceptedCommand>> {
        let known = self.commands.iter().find(|(known, _)| known == id);
        known.map(|(_, details)| details)
    }

    /// When the command of this id was first accepted, if known.
    pub(super) fn first(&self, id: &CommandId) -> Option<Timestamp> {
        self.find(id)?.as_ref()?.first
    }

    /// The other command that already has this id.
    pub(super) fn conflict(&self, id: &CommandId, method: &str, digest: u64) -> Option<IdConflict> {
        let details = self.find(id)?.as_ref()?;
        let other = details.method != method || details.digest != digest;
        other.then(|| IdConflict {
            method: details.method.clone(),
            first: details.first,
        })
    }

    pub(super) fn remember(&mut self, id: &CommandId, details: AcceptedCommand) {
        self.forget(id);
        if self.commands.len() == REMEMBERED {
            self.commands.pop_front();
        }
        self.commands.push_back((id.clone(), Some(details)));
    }

    /// Removes an id; returns whether it was stored.
    pub(super) fn forget(&mut self, id: &CommandId) -> bool {
        let before = self.commands.len();
        self.commands.retain(|(known, _)| known != id);
        self.commands.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_bounded_and_drops_the_oldest_first() {
        let id = |n: usize| -> CommandId { format!("c{n}").parse().unwrap() };
        let details = || AcceptedCommand::new("lockDoor", 7, None);
        let mut memory = CommandMemory::default();
        for n in 0..=REMEMBERED {
            memory.remember(&id(n), details());
        }
        assert!(!memory.contains(&id(0)));
        assert!(memory.contains(&id(1)));
        memory.remember(&id(1), details());
        memory.remember(&id(REMEMBERED + 1), details());
        assert!(memory.contains(&id(1)));
        let (ids, command_details) = memory.to_saved();
        assert_eq!(ids.len(), REMEMBERED);
        let restored = CommandMemory::restore(&ids, &command_details);
        assert_eq!(restored.commands, memory.commands);
        // A longer list, saved by another version, keeps its newest commands.
        let ids: Vec<_> = (0..100).map(id).collect();
        let command_details: Vec<_> = (0..100)
            .map(|n| Some(AcceptedCommand::new("lockDoor", n, None)))
            .collect();
        let restored = CommandMemory::restore(&ids, &command_details);
        assert_eq!(restored.conflict(&id(99), "lockDoor", 99), None);
        assert!(restored.conflict(&id(99), "lockDoor", 98).is_some());
    }

    #[test]
    fn forgetting_an_id_returns_whether_it_was_stored() {
        let id: CommandId = "c".parse().unwrap();
        let mut memory = CommandMemory::default();
        assert!(!memory.forget(&id));
        memory.remember(&id, AcceptedCommand::new("lockDoor", 7, None));
        assert!(memory.forget(&id));
        assert!(!memory.contains(&id));
        assert!(!memory.forget(&id));
    }
}

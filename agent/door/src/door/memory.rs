//! The commands that have been accepted: a repeated delivery acts no second time.

use std::collections::VecDeque;

use crate::contract::CommandId;

/// How many are remembered: far more than can still be under way when the oldest is forgotten.
const REMEMBERED: usize = 64;

/// Ids of accepted commands, oldest first. One that failed is forgotten: its repetition acts.
#[derive(Debug, Clone, Default)]
pub(super) struct CommandMemory {
    ids: VecDeque<CommandId>,
}

impl CommandMemory {
    pub(super) fn restore(saved: &[CommandId]) -> Self {
        let skip = saved.len().saturating_sub(REMEMBERED);
        Self {
            ids: saved[skip..].iter().cloned().collect(),
        }
    }

    pub(super) fn to_saved(&self) -> Vec<CommandId> {
        self.ids.iter().cloned().collect()
    }

    pub(super) fn contains(&self, id: &CommandId) -> bool {
        self.ids.contains(id)
    }

    pub(super) fn remember(&mut self, id: &CommandId) {
        self.forget(id);
        if self.ids.len() == REMEMBERED {
            self.ids.pop_front();
        }
        self.ids.push_back(id.clone());
    }

    /// Whether it was there.
    pub(super) fn forget(&mut self, id: &CommandId) -> bool {
        let before = self.ids.len();
        self.ids.retain(|known| known != id);
        self.ids.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_forgets_the_oldest_first() {
        let id = |n: usize| -> CommandId { format!("c{n}").parse().unwrap() };
        let mut memory = CommandMemory::default();
        for n in 0..=REMEMBERED {
            memory.remember(&id(n));
        }
        assert!(!memory.contains(&id(0)));
        assert!(memory.contains(&id(1)));
        memory.remember(&id(1));
        memory.remember(&id(REMEMBERED + 1));
        assert!(memory.contains(&id(1)));
        assert_eq!(memory.to_saved().len(), REMEMBERED);
        let restored = CommandMemory::restore(&memory.to_saved());
        assert_eq!(restored.ids, memory.ids);
    }
}

//! Calls that wait for the disk alone.

use super::answer::STORE_TIME;
use super::{Door, Generation, NotSaved, StepEffects, Ticket};
use crate::contract::{MethodReply, ReplyError};
use crate::time::{BootTime, Now};

/// Limit of waiting calls; one more, and the oldest is answered without a result from the disk.
const MAX_WAITS: usize = 8;

/// A call that waits for the disk.
#[derive(Debug, Clone)]
pub(super) struct DiskWait {
    ticket: Ticket,
    purpose: Purpose,
    generation: Generation,
    deadline: BootTime,
    disk: Option<Result<(), NotSaved>>,
}

/// What the save is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To test the disk.
    SelfTest,
    /// To persist the desired properties, which have been applied.
    Desired,
}

impl DiskWait {
    pub(super) fn deadline(&self) -> BootTime {
        self.deadline
    }

    pub(super) fn handle_persisted(
        &mut self,
        generation: Generation,
        result: Result<(), NotSaved>,
    ) {
        if self.generation <= generation {
            self.disk.get_or_insert(result);
        }
    }
}

impl Door {
    /// Saves the state, and answers once it is on disk, or when the save fails or times out.
    pub(super) fn wait_for_disk(
        &mut self,
        now: &Now,
        ticket: Ticket,
        purpose: Purpose,
        effects: &mut StepEffects,
    ) {
        if self.disk_waits.len() >= MAX_WAITS {
            self.disk_waits[0].deadline = now.boottime;
        }
        effects.save = true;
        self.disk_waits.push(DiskWait {
            ticket,
            purpose,
            generation: self.next_generation(),
            deadline: now.boottime + STORE_TIME,
            disk: None,
        });
    }

    pub(super) fn answer_disk_waits(&mut self, now: &Now, effects: &mut StepEffects) {
        for wait in std::mem::take(&mut self.disk_waits) {
            if wait.disk.is_none() && wait.deadline > now.boottime {
                self.disk_waits.push(wait);
                continue;
            }
            let reply = match (wait.purpose, wait.disk) {
                (Purpose::SelfTest, disk) => self.self_test(now, disk),
                (Purpose::Desired, Some(Ok(()))) => self.applied(),
                (Purpose::Desired, _) => {
                    let text = "applied, but could not be saved and would not survive a restart";
                    MethodReply::failed(500, ReplyError::NotStored, text.to_owned(), None)
                }
            };
            effects.answers.push((wait.ticket, reply));
        }
    }
}

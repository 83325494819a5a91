//! Queues of the storage thread: one mailbox per door, and one queue of doors with work.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use door_core::Event;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{oneshot, watch};

use super::disk::{DiskStatus, Faults};
use super::state_file::StateFile;
use super::{LogRecord, RebootNote, SiteLocation, StorageError};
use crate::event_log::EventLog;

/// Maximum of events that wait for the disk: minutes of a busy door. Further ones count as lost,
/// which the log reports.
const MAX_WAITING_EVENTS: usize = 1024;

/// Shared by the thread and the handles: doors with work, each at most once, so that the queue is
/// bounded by the number of doors.
///
/// A Mutex with a Condvar instead of a channel, because waiting work of one door is merged.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    pub(super) queue: Mutex<Queue>,
    pub(super) wake: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) ready: VecDeque<Arc<Door>>,
    pub(super) closing: bool,
    pub(super) ended: bool,
}

#[derive(Debug)]
pub(super) struct Door {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) newest: watch::Sender<u64>,
    pub(super) acknowledged: AtomicU64,
    pub(super) disk: watch::Sender<DiskStatus>,
    pub(super) mailbox: Mutex<Mailbox>,
}

pub(super) type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// Merged work that waits for the thread.
#[derive(Default)]
pub(super) struct Mailbox {
    pub(super) queued: bool,
    pub(super) opened: Option<Files>,
    pub(super) door: Option<Box<RawValue>>,
    pub(super) location: Option<SiteLocation>,
    pub(super) reboot: Option<RebootNote>,
    pub(super) saves: Vec<Done>,
    pub(super) events: VecDeque<Event>,
    /// Events dropped because the queue was full, by kind.
    pub(super) overflow: BTreeMap<String, u64>,
    pub(super) acknowledged: Option<u64>,
    /// Callers that wait until the records queued before are written.
    pub(super) writes: Vec<oneshot::Sender<()>>,
    pub(super) reads: Vec<RecordsRead>,
    pub(super) closes: Vec<oneshot::Sender<()>>,
}

pub(super) struct RecordsRead {
    pub(super) position: u64,
    pub(super) limit: usize,
    pub(super) reply: oneshot::Sender<Result<Vec<LogRecord>, StorageError>>,
}

/// The files of one door; owned by the thread once they are passed on.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) state_file: StateFile,
    pub(super) saved: Saved,
    pub(super) log: EventLog,
    pub(super) faults: Faults,
    /// The state on disk applies only in part, as the door's first saved state will show. Until
    /// then it must not be saved as the newest state.
    pub(super) in_doubt: bool,
    /// The locked directory; `None` while it cannot be used.
    pub(super) lock: Option<File>,
}

/// Content of the state file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) boot: String,
    /// The wall time of the latest save with a trusted clock.
    pub(super) clock_unix_s: u64,
    pub(super) door: Option<Box<RawValue>>,
    #[serde(default, rename = "place")]
    pub(super) location: SiteLocation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reboot: Option<RebootNote>,
}

impl Mailbox {
    /// Adds an event. If the queue is full one counts as lost: for an urgent event, one that is not
    /// urgent.
    pub(super) fn push_event(&mut self, event: Event) {
        if self.events.len() >= MAX_WAITING_EVENTS {
            let minor = self.events.iter().position(|waiting| !waiting.is_urgent());
            let minor = minor.filter(|_| event.is_urgent());
            let dropped = match minor.and_then(|minor| self.events.remove(minor)) {
                Some(minor) => {
                    self.events.push_back(event);
                    minor
                }
                None => event,
            };
            let kind = dropped.kind.name().to_string();
            *self.overflow.entry(kind).or_default() += 1;
            return;
        }
        self.events.push_back(event);
    }

    /// Fails all waiting work with [`StorageError::Closed`].
    pub(super) fn refuse(self) {
        for done in self.saves {
            done(Err(StorageError::Closed));
        }
        for read in self.reads {
            // The caller may be gone.
            let _ = read.reply.send(Err(StorageError::Closed));
        }
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox")
            .field("queued", &self.queued)
            .field("saves", &self.saves.len())
            .field("events", &self.events.len())
            .finish_non_exhaustive()
    }
}

impl WorkQueue {
    /// A panic under the lock cannot leave the queue inconsistent: every change is a single call.
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    pub(super) fn lock(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Everything the agent keeps on disk, written by one thread for any number of doors.
//!
//! A door's directory holds its state file (two generations, see `state_file`) and its event log,
//! and is locked as long as it is open. A disk that is full, takes no writes or gives nonsense does
//! not keep a door from working: what is damaged is kept aside, what cannot be written is
//! tried again, and [`DiskStatus`] tells. The controller hands work over without
//! ever waiting: a newer state replaces one that is not yet written, records queue up to a bound
//! and beyond it count as lost. Nothing here knows what the saved state means; it is kept as the
//! JSON text that the caller's type gives.

mod disk;
mod event_line;
mod mailbox;
mod state_file;
mod thread;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use door_core::contract::CommandId;
use fs4::{FileExt, TryLockError};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::event_log::EventLog;
pub use crate::event_log::LogRecord;
pub use disk::DiskStatus;
pub(crate) use disk::damage_record;
pub use state_file::Damage;
pub(crate) use state_file::{is_full, keep_bytes, make_way, set_aside, sync_directory, write_over};

use disk::Faults;
use mailbox::{Door, Files, Mailbox, Read, Saved, Shared};
use state_file::StateFile;

/// What failed on disk.
#[derive(Debug, Clone, Error)]
pub enum StorageError {
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another agent holds the directory.
    #[error("{} is in use by another door-agent", path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
    },
    /// The saved state is whole but not what this version understands.
    #[error("the saved state is not in a form this version understands")]
    Form(#[source] Arc<serde_json::Error>),
    /// The storage was shut down before it got to this.
    #[error("storage is shut down")]
    Closed,
}

/// Where a door is, as its desired properties say: each a string or a number, kept as given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Desired property `building`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building: Option<Value>,
    /// Desired property `floor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Value>,
}

/// A reboot that was asked for, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RebootNote {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The command that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// The boot that it led to; none while it is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led_to: Option<String>,
}

/// What an event record says. Sequence, boot id, door and place are the log's to add.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// Wall time of the event, when there was any.
    pub at: Option<Timestamp>,
    /// How far that time can be trusted.
    pub clock: String,
    /// What happened.
    pub kind: String,
    /// Commands and alarms: on disk before anything else is done. Others within 5 s.
    pub urgent: bool,
    /// The kind's own fields.
    pub fields: Map<String, Value>,
}

/// How this start relates to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StartReason {
    /// Nothing was saved before.
    First,
    /// The program started again while the machine kept running.
    Restart,
    /// The machine was booted since.
    Boot,
}

/// What a door's directory held when it was opened.
#[derive(Debug)]
pub struct Restored {
    /// The saved states of the door that are whole, each with its file, newest first.
    doors: Vec<(PathBuf, Box<RawValue>)>,
    /// Why a newer state than these may be lost; `None` when none is.
    pub doubt: Option<String>,
    /// Where the door is.
    pub place: Place,
    /// The wall time last saved while it could be trusted, in seconds since 1970: a reading before
    /// it that cannot be trusted is wrong.
    pub clock_floor_unix_s: u64,
    /// How this start relates to the one before.
    pub start_reason: StartReason,
    /// The latest reboot that was asked for.
    pub reboot: Option<RebootNote>,
    /// Files that were damaged, for the event log and the person who reads it.
    pub damages: Vec<Damage>,
}

impl Restored {
    /// The door's saved state, when there is one.
    ///
    /// # Errors
    /// When a whole state was saved by a version whose form is not `T`'s.
    pub fn door<T: DeserializeOwned>(&self) -> Result<Option<T>, StorageError> {
        self.doors
            .first()
            .map(|(_, text)| serde_json::from_str(text.get()))
            .transpose()
            .map_err(|error| StorageError::Form(Arc::new(error)))
    }

    /// The saved states that count, newest first: the newest, and in doubt the one before it. One
    /// in another form is kept aside, before saves replace it, and leaves the door in doubt; what
    /// `rest` understands of it comes last. To be called before anything is handed to `storage`.
    pub fn doors_or_aside<T: DeserializeOwned>(
        &mut self,
        storage: &DoorStorage,
        rest: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let mut doors = Vec::new();
        let mut parts = Vec::new();
        for (path, text) in &self.doors {
            if doors.len() == 1 && self.doubt.is_none() {
                break;
            }
            match serde_json::from_str(text.get()) {
                Ok(door) => doors.push(door),
                Err(error) => {
                    parts.extend(rest(text.get()));
                    let reason = format!("not in a form this version understands: {error}");
                    let bytes = fs::read(path).unwrap_or_default();
                    let damage = keep_bytes(path, &bytes, reason);
                    storage.door.tell_damage(&damage);
                    let Damage { file, reason, .. } = &damage;
                    let doubt = || format!("{}: {reason}", file.display());
                    self.doubt.get_or_insert_with(doubt);
                    self.damages.push(damage);
                }
            }
        }
        if let Some(files) = &mut storage.door.lock().opened {
            files.in_doubt = self.doubt.is_some();
        }
        doors.extend(parts);
        doors
    }
}

/// The door's newest saved state in a directory that an agent may be using; `None` when there is
/// none that this version understands.
#[must_use]
pub fn saved_door<T: DeserializeOwned>(directory: &Path) -> Option<T> {
    let saved: Saved = state_file::look(directory)?;
    serde_json::from_str(saved.door?.get()).ok()
}

/// Identity and bounds of the directory to open.
#[derive(Debug, Clone)]
pub struct DoorDirectory<'a> {
    /// The directory; made with mode 0700 when it is not there.
    pub path: &'a Path,
    /// The device id, named in every event.
    pub door: &'a str,
    /// This boot of the machine.
    pub boot_id: &'a str,
    /// Bound of the event log.
    pub event_log_bytes: u64,
}

/// The storage thread's handle; clone it freely.
#[derive(Debug, Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

impl Storage {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        thread::spawn(Arc::clone(&shared))?;
        Ok(Self { shared })
    }

    /// Opens a door's directory: reads on the caller's thread, before anything is driven.
    ///
    /// # Errors
    /// When the directory is in use, or cannot be made, read or written.
    pub fn open(
        &self,
        directory: &DoorDirectory<'_>,
    ) -> Result<(DoorStorage, Restored), StorageError> {
        let path = directory.path;
        make_private_directory(path).map_err(failed("make", path))?;
        let lock = lock_directory(path)?;
        let (mut state_file, whole, mut damages) = StateFile::open::<Saved>(path);
        let log_path = path.join("events");
        let (log, log_damages) =
            EventLog::open(&log_path, directory.boot_id, directory.event_log_bytes);
        let doubt = state_file.doubt(&damages, log.generation());
        damages.extend(log_damages);
        let doors = state_file.paths().into_iter().zip(&whole);
        let doors = doors.filter_map(|(path, saved)| Some((path, saved.door.clone()?)));
        let doors = doors.collect();
        let saved = whole.into_iter().next();

        let start_reason = match &saved {
            None => StartReason::First,
            Some(saved) if saved.boot == directory.boot_id => StartReason::Restart,
            Some(_) => StartReason::Boot,
        };
        let mut saved = saved.unwrap_or_default();
        saved.boot = directory.boot_id.to_owned();
        match (start_reason, &mut saved.reboot) {
            (StartReason::Boot, Some(note)) if note.led_to.is_none() => {
                note.led_to = Some(directory.boot_id.to_owned());
            }
            // It did not come, and is forgotten: the same command may ask again.
            (StartReason::Restart, reboot) => {
                reboot.take_if(|note| note.led_to.is_none());
            }
            _ => {}
        }
        let restored = Restored {
            doors,
            doubt: doubt.clone(),
            place: saved.place.clone(),
            clock_floor_unix_s: saved.clock_unix_s,
            start_reason,
            reboot: saved.reboot.clone(),
            damages,
        };
        let newest = watch::Sender::new(log.newest());
        let acknowledged = AtomicU64::new(log.acknowledged());
        let door = Arc::new(Door {
            path: path.to_path_buf(),
            name: directory.door.to_owned(),
            newest,
            acknowledged,
            disk: watch::Sender::new(DiskStatus::default()),
            mailbox: Mutex::new(Mailbox {
                opened: Some(Files {
                    state_file,
                    saved,
                    log,
                    faults: Faults::default(),
                    in_doubt: doubt.is_some(),
                    _lock: lock,
                }),
                ..Mailbox::default()
            }),
        });
        for damage in &restored.damages {
            door.tell_damage(damage);
        }
        let storage = DoorStorage {
            shared: Arc::clone(&self.shared),
            door,
        };
        Ok((storage, restored))
    }

    /// Ends the thread once it has written what was handed to it before; what comes later is
    /// refused. Doors still open are synced and closed.
    pub fn shutdown(&self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
    }
}

/// One door's place on disk; clones share it.
#[derive(Debug, Clone)]
pub struct DoorStorage {
    shared: Arc<Shared>,
    door: Arc<Door>,
}

impl DoorStorage {
    /// Saves the door's state. Never waits: `done` is called on the storage thread when the state,
    /// or a newer one, survives a power cut.
    ///
    /// `done` must not block; let it poke a channel.
    pub fn save_door(
        &self,
        saved: &impl Serialize,
        done: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) {
        match serde_json::value::to_raw_value(saved) {
            Ok(text) => self.post(|mailbox| {
                mailbox.door = Some(text);
                mailbox.saves.push(Box::new(done));
            }),
            Err(error) => done(Err(StorageError::Form(Arc::new(error)))),
        }
    }

    /// Saves where the door is; events recorded from here on name it.
    pub fn save_place(
        &self,
        place: Place,
        done: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) {
        self.post(|mailbox| {
            mailbox.place = Some(place);
            mailbox.saves.push(Box::new(done));
        });
    }

    /// Saves that a reboot was asked for.
    pub fn save_reboot(
        &self,
        reboot: RebootNote,
        done: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) {
        self.post(|mailbox| {
            mailbox.reboot = Some(reboot);
            mailbox.saves.push(Box::new(done));
        });
    }

    /// Appends to the event log. Never waits; what the disk cannot take counts as lost, and the log
    /// tells so.
    pub fn append(&self, record: EventRecord) {
        self.post(|mailbox| mailbox.push_record(record));
    }

    /// Waits until the records appended so far are in the log, and on disk if one of them is
    /// urgent; or until it is known that they cannot be.
    pub fn written(&self) -> impl Future<Output = ()> + Send + 'static {
        let (reply, written) = oneshot::channel();
        self.post(|mailbox| mailbox.writes.push(reply));
        async move {
            // An error means that storage is shut down: then nothing more will be written.
            let _ = written.await;
        }
    }

    /// Tells whenever the log's newest position has grown.
    #[must_use]
    pub fn newest_record(&self) -> watch::Receiver<u64> {
        self.door.newest.subscribe()
    }

    /// Tells why the door is in doubt, or that it no longer is.
    pub fn set_doubt(&self, doubt: Option<&str>) {
        self.door.set_doubt(doubt);
    }

    /// How the disk does, and whenever that changes.
    #[must_use]
    pub fn disk(&self) -> watch::Receiver<DiskStatus> {
        self.door.disk.subscribe()
    }

    /// How many records the hub has not acknowledged.
    #[must_use]
    pub fn waiting_records(&self) -> u64 {
        let acknowledged = self.door.acknowledged.load(Ordering::Relaxed);
        self.door.newest.borrow().saturating_sub(acknowledged)
    }

    /// Up to `limit` records after `position` that are not acknowledged, oldest first.
    ///
    /// # Errors
    /// When the log cannot be read, or storage is shut down.
    pub async fn records_after(
        &self,
        position: u64,
        limit: usize,
    ) -> Result<Vec<LogRecord>, StorageError> {
        let (reply, records) = oneshot::channel();
        self.post(|mailbox| {
            mailbox.reads.push(Read {
                position,
                limit,
                reply,
            });
        });
        records.await.map_err(|_| StorageError::Closed)?
    }

    /// Removes every record up to and including `position` from the log.
    pub fn acknowledge(&self, position: u64) {
        self.post(|mailbox| mailbox.acknowledged = mailbox.acknowledged.max(Some(position)));
    }

    /// Writes what is waiting, syncs, and gives the directory free. What is posted afterwards is
    /// refused.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        self.post(|mailbox| mailbox.closes.push(reply));
        // An error means that the thread has ended, and it closes every door first.
        let _ = closed.await;
    }

    fn post(&self, change: impl FnOnce(&mut Mailbox)) {
        if self.shared.lock().closing {
            let mut refused = Mailbox::default();
            change(&mut refused);
            refused.refuse();
            return;
        }
        {
            let mut mailbox = self.door.lock();
            change(&mut mailbox);
            if mailbox.queued {
                return;
            }
            mailbox.queued = true;
        }
        let mut queue = self.shared.lock();
        if queue.ended {
            drop(queue);
            let work = std::mem::take(&mut *self.door.lock());
            work.refuse();
            return;
        }
        queue.ready.push_back(Arc::clone(&self.door));
        drop(queue);
        self.shared.wake.notify_one();
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_path_buf();
    move |source| StorageError::Io {
        action,
        path,
        source: Arc::new(source),
    }
}

fn make_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Takes the directory's lock; the kernel gives it back when the process ends, however it ends. The
/// directory itself is locked, not a file in it: that needs no write.
fn lock_directory(path: &Path) -> Result<File, StorageError> {
    let directory = File::open(path).map_err(failed("open", path))?;
    match FileExt::try_lock(&directory) {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse {
            path: path.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(failed("lock", path)(error)),
    }
}

fn unix_now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;

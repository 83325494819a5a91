//! Persistent state of the agent, written by one thread for any number of doors.
//!
//! A door's directory holds its state file (two generations, see `state_file`) and its event log,
//! and is locked while it is open. A full, read-only or faulty disk does not stop a door: damaged
//! files are kept aside, failed writes are retried, and [`DiskStatus`] reports it. The controller
//! never waits for the disk: a newer state replaces one that is not yet written; records queue up
//! to a bound, beyond which they count as lost. The content of the saved state is opaque here: the
//! caller's type as JSON text.

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

use door_core::Event;
use door_core::contract::CommandId;
use fs4::{FileExt, TryLockError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::event_log::EventLog;
pub use crate::event_log::LogRecord;
pub use crate::files::Damage;
use crate::files::{keep_bytes, make_private_directory};
pub use disk::DiskStatus;

use disk::Faults;
use mailbox::{Door, Files, Mailbox, RecordsRead, Saved, WorkQueue};
use state_file::StateFile;

#[derive(Debug, Clone, Error)]
pub enum StorageError {
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The failed action, as a verb.
        action: &'static str,
        /// Its file or directory.
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    /// Another agent has locked the directory.
    #[error("{} is in use by another door-agent", path.display())]
    InUse { path: PathBuf },
    /// The saved state is complete, but this version cannot parse it.
    #[error("the saved state is not in a form this version understands")]
    Form(#[source] Arc<serde_json::Error>),
    /// The storage was shut down first.
    #[error("storage is shut down")]
    Closed,
}

/// Location of a door from its desired properties; each is a string or a number, kept as given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteLocation {
    /// Desired property `building`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building: Option<Value>,
    /// Desired property `floor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Value>,
}

/// A requested reboot and the boot that followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RebootNote {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The command that requested it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// The boot that followed; `None` while the reboot is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led_to: Option<String>,
}

/// How this start relates to the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StartReason {
    /// No saved state was found.
    First,
    /// The program was restarted within the same boot.
    Restart,
    /// The machine was booted since.
    Boot,
}

/// Content of a door's directory when it was opened.
#[derive(Debug)]
pub struct Restored {
    /// The complete saved states of the door with their files, newest first.
    doors: Vec<(PathBuf, Box<RawValue>)>,
    /// Why a newer state than these may be lost; `None` if none is.
    pub doubt: Option<String>,
    pub location: SiteLocation,
    /// The last saved trusted wall time, in seconds since 1970: an untrusted reading before it is
    /// wrong.
    pub clock_floor_unix_s: u64,
    /// How this start relates to the previous one.
    pub start_reason: StartReason,
    /// The latest requested reboot.
    pub reboot: Option<RebootNote>,
    /// Damaged files, to be recorded as events.
    pub damages: Vec<Damage>,
}

impl Restored {
    /// The newest saved state of the door, if any.
    ///
    /// # Errors
    /// When it does not parse as `T`: another version saved it.
    pub fn door<T: DeserializeOwned>(&self) -> Result<Option<T>, StorageError> {
        self.doors
            .first()
            .map(|(_, text)| serde_json::from_str(text.get()))
            .transpose()
            .map_err(|error| StorageError::Form(Arc::new(error)))
    }

    /// The relevant saved states, newest first: the newest, and in doubt also the one before it.
    /// One that does not parse is kept aside before a save replaces it, and leaves the door in
    /// doubt; what `rest` extracts from it comes last. Call before anything is passed to `storage`.
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
                    storage.door.report_damage(&damage);
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

/// The newest saved state in a directory that a running agent may use; `None` if there is none that
/// this version can parse.
#[must_use]
pub fn saved_door<T: DeserializeOwned>(directory: &Path) -> Option<T> {
    let saved: Saved = state_file::peek(directory)?;
    serde_json::from_str(saved.door?.get()).ok()
}

/// Directory to open, its identity and its bounds.
#[derive(Debug, Clone)]
pub struct DoorDirectory<'a> {
    /// The directory; created with mode 0700 if it does not exist.
    pub path: &'a Path,
    /// The device id, included in every event.
    pub door: &'a str,
    /// The current boot of the machine.
    pub boot_id: &'a str,
    /// Bound of the event log.
    pub event_log_bytes: u64,
}

/// Handle of the storage thread; cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    shared: Arc<WorkQueue>,
}

impl Storage {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system cannot create a thread.
    pub fn spawn() -> io::Result<Self> {
        let shared = Arc::new(WorkQueue::default());
        thread::spawn(Arc::clone(&shared))?;
        Ok(Self { shared })
    }

    /// Opens a door's directory. Reads on the caller's thread, before any output is driven.
    ///
    /// A directory that cannot be created or locked is retried with each save: the door works
    /// without it, in doubt. A state may be on a disk that is mounted later, even if the directory
    /// does not exist.
    ///
    /// # Errors
    /// When the directory is in use.
    pub fn open(
        &self,
        directory: &DoorDirectory<'_>,
    ) -> Result<(DoorStorage, Restored), StorageError> {
        let path = directory.path;
        let log_path = path.join("events");
        let (boot, limit) = (directory.boot_id, directory.event_log_bytes);
        let (lock, state_file, whole, damages, log, doubt) = match claim_directory(path) {
            Err(error @ StorageError::InUse { .. }) => return Err(error),
            Err(error) => {
                let doubt = Some(error_text(&error));
                let log = EventLog::unread(&log_path, boot, limit);
                let state_file = StateFile::unread(path);
                (None, state_file, Vec::new(), Vec::new(), log, doubt)
            }
            Ok(lock) => {
                let (mut state_file, whole, mut damages) = StateFile::open::<Saved>(path);
                let (log, log_damages) = EventLog::open(&log_path, boot, limit);
                let doubt = state_file.doubt(&damages, log.generation());
                damages.extend(log_damages);
                (Some(lock), state_file, whole, damages, log, doubt)
            }
        };
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
            // The reboot did not happen and is forgotten: the same command may request it again.
            (StartReason::Restart, reboot) => {
                reboot.take_if(|note| note.led_to.is_none());
            }
            _ => {}
        }
        let restored = Restored {
            doors,
            doubt: doubt.clone(),
            location: saved.location.clone(),
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
                    lock,
                }),
                ..Mailbox::default()
            }),
        });
        for damage in &restored.damages {
            door.report_damage(damage);
        }
        let storage = DoorStorage {
            shared: Arc::clone(&self.shared),
            door,
        };
        Ok((storage, restored))
    }

    /// Ends the thread after it has written its queue; later work is refused. Open doors are synced
    /// and closed.
    pub fn shutdown(&self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
    }
}

/// Handle of one door's storage; clones share it.
#[derive(Debug, Clone)]
pub struct DoorStorage {
    shared: Arc<WorkQueue>,
    door: Arc<Door>,
}

impl DoorStorage {
    /// Saves the door's state without waiting: `done` is called on the storage thread when this
    /// state, or a newer one, survives a power cut.
    ///
    /// `done` must not block; notify a channel.
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

    /// Saves the location; later events include it.
    pub fn save_location(
        &self,
        location: SiteLocation,
        done: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) {
        self.post(|mailbox| {
            mailbox.location = Some(location);
            mailbox.saves.push(Box::new(done));
        });
    }

    /// Saves that a reboot was requested.
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

    /// Appends to the event log without waiting; an event that cannot be written counts as lost,
    /// and the log reports it. An urgent one is fsynced at once, others within 5 s.
    pub fn append(&self, event: Event) {
        self.post(|mailbox| mailbox.push_event(event));
    }

    /// Waits until the records appended so far are in the log, and fsynced if one of them is
    /// urgent; or until writing them has failed.
    pub fn written(&self) -> impl Future<Output = ()> + Send + 'static {
        let (reply, written) = oneshot::channel();
        self.post(|mailbox| mailbox.writes.push(reply));
        async move {
            // An error means that storage is shut down: nothing more will be written.
            let _ = written.await;
        }
    }

    /// Watches the log's newest position.
    #[must_use]
    pub fn newest_record(&self) -> watch::Receiver<u64> {
        self.door.newest.subscribe()
    }

    /// Reports why the door is in doubt, or with `None` that it no longer is.
    pub fn set_doubt(&self, doubt: Option<&str>) {
        self.door.set_doubt(doubt);
    }

    /// Watches the state of the disk.
    #[must_use]
    pub fn disk(&self) -> watch::Receiver<DiskStatus> {
        self.door.disk.subscribe()
    }

    /// Number of records that the hub has not acknowledged.
    #[must_use]
    pub fn waiting_records(&self) -> u64 {
        let acknowledged = self.door.acknowledged.load(Ordering::Relaxed);
        self.door.newest.borrow().saturating_sub(acknowledged)
    }

    /// Up to `limit` unacknowledged records after `position`, oldest first.
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
            mailbox.reads.push(RecordsRead {
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

    /// Writes the queue, syncs, and releases the directory. Later work is refused.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        self.post(|mailbox| mailbox.closes.push(reply));
        // An error means that the thread has ended, which closes every door first.
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

/// Creates the directory if needed, and locks it.
fn claim_directory(path: &Path) -> Result<File, StorageError> {
    make_private_directory(path).map_err(failed("create", path))?;
    lock_directory(path)
}

/// An error with its cause.
fn error_text(error: &StorageError) -> String {
    match error {
        StorageError::Io { source, .. } => format!("{error}: {source}"),
        error => error.to_string(),
    }
}

impl Files {
    /// Creates and locks the directory of a door that started without it. A state that appears
    /// there may be a lockdown or a fire release: it is not overwritten, and the next start reads
    /// it.
    fn claim(&mut self, path: &Path) -> io::Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        let lock = claim_directory(path).map_err(|error| io::Error::other(error_text(&error)))?;
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            if name == "events" || name.as_encoded_bytes().starts_with(b"state.") {
                let problem = "is of an earlier run: restart door-agent to use it, until then \
                               nothing is saved";
                let problem = format!("{} {problem}", path.join(name).display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
            }
        }
        self.lock = Some(lock);
        Ok(())
    }
}

/// Locks the directory; the kernel releases the lock when the process ends, however it ends. It
/// locks the directory itself instead of a file in it, which needs no write.
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

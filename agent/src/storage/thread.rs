//! The writer thread: takes all waiting work of one door at a time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use door_core::{ClockQuality, DoorEvent, Event};
use log::{Level, error};

use crate::fail_point;

use super::disk;
use super::event_line;
use super::mailbox::{Door, Files, Mailbox, WorkQueue};
use super::{SiteLocation, StorageError, failed, unix_now_s};

/// Maximum wait of a record that is not urgent for its fsync.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// Retry interval after a disk failure.
const RETRY: Duration = Duration::from_secs(5);

pub(super) fn spawn(shared: Arc<WorkQueue>) -> io::Result<()> {
    std::thread::Builder::new()
        .name("storage".to_owned())
        .spawn(move || run(&shared))
        .map(drop)
}

fn run(shared: &WorkQueue) {
    let _ended = EndedOnDrop(shared);
    let mut writer = StorageWriter::default();
    while let Some(wakeup) = next_wakeup(shared, writer.due()) {
        match wakeup {
            Wakeup::Door(door) => writer.serve(&door),
            Wakeup::Due => {
                let now = Instant::now();
                writer.sync_due(now);
                writer.retry_due(now);
            }
        }
    }
    for (path, files) in writer.files.drain() {
        if let Err(error) = files.log.sync() {
            error!("cannot sync the event log in {}: {error}", path.display());
        }
    }
}

/// Refuses later work when the thread ends, even by a panic: a save without an answer would block
/// its command forever.
struct EndedOnDrop<'a>(&'a WorkQueue);

impl Drop for EndedOnDrop<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.ended = true;
        let left: Vec<_> = queue.ready.drain(..).collect();
        drop(queue);
        for door in left {
            std::mem::take(&mut *door.lock()).refuse();
        }
    }
}

enum Wakeup {
    Door(Arc<Door>),
    /// A sync or a retry is due.
    Due,
}

/// Waits for work; `None` when the storage was shut down and the queue is empty.
fn next_wakeup(shared: &WorkQueue, due: Option<Instant>) -> Option<Wakeup> {
    let mut queue = shared.lock();
    loop {
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
        if wait == Some(Duration::ZERO) {
            return Some(Wakeup::Due);
        }
        if let Some(door) = queue.ready.pop_front() {
            return Some(Wakeup::Door(door));
        }
        if queue.closing {
            queue.ended = true;
            return None;
        }
        queue = match wait {
            Some(wait) => {
                let woken = shared.wake.wait_timeout(queue, wait);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => shared
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner),
        };
    }
}

#[derive(Default)]
struct StorageWriter {
    /// By directory, unique because it is locked.
    files: HashMap<PathBuf, Files>,
    /// Logs with unsynced records, earliest deadline first (all waits are equally long).
    syncs: VecDeque<(Instant, PathBuf)>,
    /// Doors whose disk failed, earliest deadline first (all waits are equally long).
    retries: VecDeque<(Instant, Arc<Door>)>,
}

impl StorageWriter {
    fn due(&self) -> Option<Instant> {
        let sync = self.syncs.front().map(|(due, _)| *due);
        let retry = self.retries.front().map(|(due, _)| *due);
        sync.into_iter().chain(retry).min()
    }

    fn serve(&mut self, door: &Arc<Door>) {
        let mut work = std::mem::take(&mut *door.lock());
        if let Some(opened) = work.opened.take() {
            if !opened.in_doubt {
                // Saves this boot and this time for a later start.
                work.saves.push(Box::new(|_| {}));
            }
            self.files.insert(door.path.clone(), opened);
        }
        let Some(files) = self.files.get_mut(&door.path) else {
            work.refuse();
            return;
        };
        // The state first: answers to commands wait for it.
        save(door, files, &mut work);
        let urgent = append(door, files, &mut work);
        for written in work.writes.drain(..) {
            // The caller may be gone.
            let _ = written.send(());
        }
        if let Some(position) = work.acknowledged {
            if let Err(error) = files.log.acknowledge(position) {
                let fault = &mut files.faults.log;
                fault.get_or_insert_with(|| format!("cannot save acknowledged events: {error}"));
            }
        }
        note_acknowledged(door, files);
        for read in work.reads.drain(..) {
            let records = files.log.read_after(read.position, read.limit);
            // The caller may be gone.
            let _ = read.reply.send(Ok(records));
        }
        report_disk(door, files);
        if files.faults.any().is_some()
            && !self
                .retries
                .iter()
                .any(|(_, known)| Arc::ptr_eq(known, door))
        {
            self.retries
                .push_back((Instant::now() + RETRY, Arc::clone(door)));
        }
        match urgent {
            Urgency::Synced | Urgency::Nothing => {}
            Urgency::Later => {
                if !self.syncs.iter().any(|(_, path)| *path == door.path) {
                    self.syncs
                        .push_back((Instant::now() + SYNC_INTERVAL, door.path.clone()));
                }
            }
        }
        if !work.closes.is_empty() {
            self.close(door);
            for closed in work.closes {
                // The caller may be gone.
                let _ = closed.send(());
            }
        }
    }

    fn sync_due(&mut self, now: Instant) {
        while self.syncs.front().is_some_and(|(due, _)| *due <= now) {
            let path = self.syncs.pop_front().map(|(_, path)| path);
            let files = path.as_ref().and_then(|path| self.files.get(path));
            if let Some(Err(error)) = files.map(|files| files.log.sync()) {
                error!("cannot sync an event log: {error}");
            }
        }
    }

    /// Retries what failed, so that a disk that recovers is used again without another event.
    fn retry_due(&mut self, now: Instant) {
        while self.retries.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, door)) = self.retries.pop_front() else {
                return;
            };
            let Some(files) = self.files.get_mut(&door.path) else {
                continue;
            };
            retry(&door, files);
            report_disk(&door, files);
            if files.faults.any().is_some() {
                self.retries.push_back((now + RETRY, door));
            }
        }
    }

    fn close(&mut self, door: &Door) {
        self.retries.retain(|(_, known)| known.path != door.path);
        self.syncs.retain(|(_, path)| *path != door.path);
        if let Some(mut files) = self.files.remove(&door.path) {
            if !files.in_doubt {
                // Saves the present time as the floor of the next start; a failure is already
                // logged.
                let _ = write_state(door, &mut files);
            }
            if let Err(error) = files.log.sync() {
                error!(
                    "cannot sync the event log in {}: {error}",
                    door.path.display()
                );
            }
        }
    }
}

/// Writes the newest state and answers everyone who waits for it.
fn save(door: &Door, files: &mut Files, work: &mut Mailbox) {
    if work.saves.is_empty() {
        return;
    }
    if let Some(text) = work.door.take() {
        files.saved.door = Some(text);
        files.in_doubt = false;
    }
    if let Some(location) = work.location.take() {
        files.saved.location = location;
    }
    if let Some(reboot) = work.reboot.take() {
        files.saved.reboot = Some(reboot);
    }
    let mut result = write_state(door, files);
    if result.is_ok() && !files.state_file.has_both() {
        result = write_state(door, files);
    }
    for done in work.saves.drain(..) {
        done(result.clone());
    }
}

fn write_state(door: &Door, files: &mut Files) -> Result<(), StorageError> {
    // Only a trusted time may become the next start's floor; it also corrects a floor that was
    // saved by a clock years ahead.
    if files.faults.clock == ClockQuality::Synchronized {
        files.saved.clock_unix_s = unix_now_s();
    }
    let result = store(door, files);
    if let Err(error) = &result {
        files.faults.state.get_or_insert_with(|| state_fault(error));
    }
    result.map_err(failed("save the state in", &door.path))
}

/// Saves the state, then its generation in the ledger. In this order: a generation without its file
/// leaves a door in doubt.
fn store(door: &Door, files: &mut Files) -> io::Result<()> {
    files.claim(&door.path)?;
    files.state_file.save(&files.saved)?;
    if let Err(error) = files.log.note_generation(files.state_file.generation()) {
        files.faults.log.get_or_insert_with(|| log_fault(&error));
    }
    Ok(())
}

fn note_acknowledged(door: &Door, files: &Files) {
    door.acknowledged
        .store(files.log.acknowledged(), Ordering::Relaxed);
}

fn append_one(door: &Door, files: &mut Files, event: &Event) {
    files.faults.clock = event.clock;
    let level = if event.is_urgent() {
        Level::Info
    } else {
        Level::Debug
    };
    let SiteLocation { building, floor } = files.saved.location.clone();
    let mut event = DoorEvent::new(event, &door.name, building, floor);
    fail_point::reach("event-before");
    let written = match files.claim(&door.path) {
        Ok(()) => files.log.append(&mut event),
        Err(error) => {
            let kind = event.kind.to_string();
            files.log.count_lost(BTreeMap::from([(kind, 1)]));
            Err(error)
        }
    };
    fail_point::reach("event-written");
    // Without a number the journal has it, although the hub will only learn that one is missing.
    event_line::log(&event, level, written.is_ok());
    if let Err(error) = written {
        files.faults.log.get_or_insert_with(|| log_fault(&error));
    }
}

/// Retries what failed. A few bytes that fit are not enough: there must be room for whole files.
fn retry(door: &Door, files: &mut Files) {
    let room = files
        .claim(&door.path)
        .and_then(|()| disk::probe(&door.path));
    if files.faults.state.is_some() {
        let saved = room.as_ref().map_err(state_fault);
        // What is in doubt must not become the newest state.
        let may_save = !files.in_doubt;
        let saved = saved.and_then(|()| match may_save {
            true => store(door, files).map_err(|error| state_fault(&error)),
            false => Ok(()),
        });
        files.faults.state = saved.err();
    }
    if files.faults.log.is_some() {
        let tried = room.as_ref().map_err(log_fault);
        let tried = tried.and_then(|()| {
            files
                .log
                .check_writable()
                .map_err(|error| log_fault(&error))
        });
        files.faults.log = tried.err();
    }
}

fn state_fault(error: &io::Error) -> String {
    format!("cannot save the state: {error}")
}

fn log_fault(error: &io::Error) -> String {
    format!("cannot write events: {error}")
}

/// Reports changes of the disk's state in the log, in the events and in the status.
fn report_disk(door: &Door, files: &mut Files) {
    for damage in files.log.take_damages() {
        door.report_damage(&damage);
        let event = damage.event(files.faults.clock);
        append_one(door, files, &event);
    }
    let Some(event) = files.faults.update_status(&door.path, &door.disk) else {
        return;
    };
    append_one(door, files, &event);
    if files.log.sync().is_ok() {
        door.newest.send_replace(files.log.newest());
    }
    note_acknowledged(door, files);
    // A change by this very event is reported by the next attempt.
}

enum Urgency {
    Nothing,
    Synced,
    Later,
}

fn append(door: &Door, files: &mut Files, work: &mut Mailbox) -> Urgency {
    if work.events.is_empty() && work.overflow.is_empty() {
        return Urgency::Nothing;
    }
    let urgent = work.events.iter().any(Event::is_urgent);
    for event in work.events.drain(..) {
        append_one(door, files, &event);
    }
    files.log.count_lost(std::mem::take(&mut work.overflow));
    let urgency = if urgent {
        if let Err(error) = files.log.sync() {
            files.faults.log.get_or_insert_with(|| log_fault(&error));
        }
        fail_point::reach("event-synced");
        Urgency::Synced
    } else {
        Urgency::Later
    };
    // A full log may have dropped some.
    note_acknowledged(door, files);
    // Publish only records that are durable if their caller required it.
    door.newest.send_replace(files.log.newest());
    urgency
}

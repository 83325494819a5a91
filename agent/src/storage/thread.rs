//! The thread that writes: takes one door's waiting work at a time and does all of it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, error, warn};

use super::event_line::EventLine;
use super::mailbox::{Door, Files, Mailbox, Shared};
use super::{StorageError, failed, unix_now_s};

/// How long a record that is not urgent may wait for its fsync.
const SYNC_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn spawn(shared: Arc<Shared>) -> io::Result<()> {
    std::thread::Builder::new()
        .name("storage".to_owned())
        .spawn(move || run(&shared))
        .map(drop)
}

fn run(shared: &Shared) {
    let _ended = EndedOnDrop(shared);
    let mut writer = Writer::default();
    while let Some(turn) = next_turn(shared, writer.syncs.front().map(|(due, _)| *due)) {
        match turn {
            Turn::Door(door) => writer.serve(&door),
            Turn::SyncDue => writer.sync_due(Instant::now()),
        }
    }
    for (path, files) in writer.files.drain() {
        if let Err(error) = files.log.sync() {
            error!("cannot sync the event log in {}: {error}", path.display());
        }
    }
}

/// Refuses later work when the thread is gone, by a panic too: a save that is never answered would hold its command up for ever.
struct EndedOnDrop<'a>(&'a Shared);

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

enum Turn {
    Door(Arc<Door>),
    SyncDue,
}

/// Waits for work; `None` when the storage was shut down and nothing is left.
fn next_turn(shared: &Shared, sync_due: Option<Instant>) -> Option<Turn> {
    let mut queue = shared.lock();
    loop {
        let wait = sync_due.map(|due| due.saturating_duration_since(Instant::now()));
        if wait == Some(Duration::ZERO) {
            return Some(Turn::SyncDue);
        }
        if let Some(door) = queue.ready.pop_front() {
            return Some(Turn::Door(door));
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
struct Writer {
    /// By directory: the lock makes it unique.
    files: HashMap<PathBuf, Files>,
    /// Logs with records not yet synced, earliest due first (every wait is the same length).
    syncs: VecDeque<(Instant, PathBuf)>,
}

impl Writer {
    fn serve(&mut self, door: &Door) {
        let mut work = std::mem::take(&mut *door.lock());
        if let Some(opened) = work.opened.take() {
            self.files.insert(door.path.clone(), opened);
            // From here on this boot and this time are known to a later start.
            work.saves.push(Box::new(|_| {}));
        }
        let Some(files) = self.files.get_mut(&door.path) else {
            work.refuse();
            return;
        };
        // The state first: the answer to a command waits for it.
        save(door, files, &mut work);
        let urgent = append(door, files, &mut work);
        if let Some(position) = work.acknowledged {
            if let Err(error) = files.log.acknowledge(position) {
                warn!(
                    "{}: cannot note acknowledged events: {error}",
                    door.path.display()
                );
            }
        }
        note_acknowledged(door, files);
        for read in work.reads.drain(..) {
            let records = files.log.read_after(read.position, read.limit);
            // Nobody waits for it any more when this fails.
            let _ = read
                .reply
                .send(records.map_err(failed("read the event log in", &door.path)));
        }
        match urgent {
            Urgency::Synced | Urgency::Nothing => {}
            Urgency::Later => {
                if !self.syncs.iter().any(|(_, path)| *path == door.path) {
                    self.syncs
                        .push_back((Instant::now() + SYNC_WITHIN, door.path.clone()));
                }
            }
        }
        if !work.closes.is_empty() {
            self.close(door);
            for closed in work.closes {
                // Nobody waits for it any more when this fails.
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

    fn close(&mut self, door: &Door) {
        self.syncs.retain(|(_, path)| *path != door.path);
        if let Some(mut files) = self.files.remove(&door.path) {
            // What the clock shows now is the floor of the next start's; why it failed is in the log already.
            let _ = write_state(door, &mut files);
            if let Err(error) = files.log.sync() {
                error!(
                    "cannot sync the event log in {}: {error}",
                    door.path.display()
                );
            }
        }
    }
}

/// Writes the newest state and tells everyone who waits for it.
fn save(door: &Door, files: &mut Files, work: &mut Mailbox) {
    if work.saves.is_empty() {
        return;
    }
    if let Some(text) = work.door.take() {
        files.saved.door = Some(text);
    }
    if let Some(place) = work.place.take() {
        files.saved.place = place;
    }
    if let Some(reboot) = work.reboot.take() {
        files.saved.reboot = Some(reboot);
    }
    let result = write_state(door, files);
    for done in work.saves.drain(..) {
        done(result.clone());
    }
}

fn write_state(door: &Door, files: &mut Files) -> Result<(), StorageError> {
    files.saved.clock_unix_s = files.saved.clock_unix_s.max(unix_now_s());
    let result = files.state_file.save(&files.saved);
    if let Err(error) = &result {
        error!("cannot save the state in {}: {error}", door.path.display());
    }
    result.map_err(failed("save the state in", &door.path))
}

fn note_acknowledged(door: &Door, files: &Files) {
    door.acknowledged
        .store(files.log.acknowledged(), Ordering::Relaxed);
}

enum Urgency {
    Nothing,
    Synced,
    Later,
}

fn append(door: &Door, files: &mut Files, work: &mut Mailbox) -> Urgency {
    if work.records.is_empty() && work.overflow == 0 {
        return Urgency::Nothing;
    }
    let urgent = work.records.iter().any(|record| record.urgent);
    for record in work.records.drain(..) {
        let level = if record.urgent {
            Level::Info
        } else {
            Level::Debug
        };
        let entry = door.entry(&files.saved.place, record);
        let line = EventLine::of(&entry);
        match files.log.append(entry) {
            Ok(seq) => line.log(level, seq),
            Err(error) => error!("cannot write an event in {}: {error}", door.path.display()),
        }
    }
    files.log.count_lost(work.overflow);
    let urgency = if urgent {
        if let Err(error) = files.log.sync() {
            error!(
                "cannot sync the event log in {}: {error}",
                door.path.display()
            );
        }
        Urgency::Synced
    } else {
        Urgency::Later
    };
    // A full log may have dropped some.
    note_acknowledged(door, files);
    // Only a record that is where the caller asked it to be is told of.
    door.newest.send_replace(files.log.newest());
    urgency
}

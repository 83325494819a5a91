//! State of a door's disk; each change is reported once in the log, as an event and in the status.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use door_core::{ClockQuality, Event, EventKind};
use jiff::Timestamp;
use log::{error, info};
use serde::Serialize;
use tokio::sync::watch;

use super::Damage;
use super::mailbox::Door;

/// Maximum of damaged files in a status; the log names them all.
const MAX_NAMED: usize = 16;

/// Large enough for a state with all timed entries and the beginning of an event file.
static PROBE: [u8; 32_768] = [0; 32_768];

/// State of a door's disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskStatus {
    /// What cannot be saved at present, and why. The door works, but changes may not survive a
    /// restart.
    pub problem: Option<String>,
    /// Start of the problem, by the wall clock.
    pub since: Option<Timestamp>,
    /// Damaged files found since the start, by the names under which they are kept.
    pub kept_aside: Vec<String>,
    /// The disk's part of the problem: what cannot be written.
    #[serde(skip)]
    fault: Option<String>,
    /// The door's part: why its state is in doubt.
    #[serde(skip)]
    doubt: Option<String>,
}

impl DiskStatus {
    /// Combines both parts to the problem.
    fn join(&mut self) {
        let parts = self.fault.iter().chain(&self.doubt);
        let parts: Vec<_> = parts.map(String::as_str).collect();
        self.problem = (!parts.is_empty()).then(|| parts.join("; "));
        let since = self.since.unwrap_or_else(Timestamp::now);
        self.since = self.problem.as_ref().map(|_| since);
    }
}

/// Failures of the latest attempts.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) state: Option<String>,
    pub(super) log: Option<String>,
    /// Quality of the clock at the latest event.
    pub(super) clock: ClockQuality,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            state: None,
            log: None,
            clock: ClockQuality::Unsynchronized,
        }
    }
}

impl Faults {
    pub(super) fn any(&self) -> Option<&String> {
        self.state.as_ref().or(self.log.as_ref())
    }

    /// Updates the status and logs a change; returns the event to record, if any.
    pub(super) fn update_status(
        &self,
        path: &Path,
        status: &watch::Sender<DiskStatus>,
    ) -> Option<Event> {
        let path = path.display();
        let now = Timestamp::now();
        let problem = self.any().cloned();
        let (before, since) = {
            let current = status.borrow();
            (current.fault.clone(), current.since)
        };
        if problem == before {
            return None;
        }
        status.send_modify(|status| {
            status.fault.clone_from(&problem);
            status.join();
        });
        let kind = match problem {
            Some(problem) => {
                error!("{path}: {problem}; the door keeps working, and writing is retried");
                if before.is_some() {
                    // The fault continues with another error.
                    return None;
                }
                EventKind::StorageFault { problem }
            }
            None => {
                info!("{path}: the disk accepts writes again");
                let problem = before;
                EventKind::StorageRestored { problem, since }
            }
        };
        Some(Event {
            at: Some(now),
            clock: self.clock,
            kind,
        })
    }
}

/// Checks that a disk that failed accepts whole files again.
pub(super) fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join("probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&PROBE)?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

impl Door {
    /// Logs and publishes why the door is in doubt, or that it no longer is.
    pub(super) fn set_doubt(&self, reason: Option<&str>) {
        let doubt = reason.map(|reason| {
            format!(
                "the newest saved state may be lost ({reason}): what had released the door is \
                 dropped, and the door is in doubt until the next accepted lockDoor, unlockDoor, \
                 relinquish or setMode"
            )
        });
        self.disk.send_if_modified(|status| {
            let changed = status.doubt != doubt;
            if changed {
                match &doubt {
                    Some(doubt) => error!("{}: {doubt}", self.path.display()),
                    None => info!("{}: the door is no longer in doubt", self.path.display()),
                }
                status.doubt = doubt;
                status.join();
            }
            changed
        });
    }

    /// Logs and publishes a damaged file.
    pub(super) fn report_damage(&self, damage: &Damage) {
        let Damage {
            file,
            kept_as,
            reason,
        } = damage;
        let kept_as = kept_as.as_ref().map(|path| path.display().to_string());
        error!(
            "{}: damaged: {reason}; kept as {}",
            file.display(),
            kept_as.as_deref().unwrap_or("nothing")
        );
        let shown = kept_as.unwrap_or_else(|| file.display().to_string());
        self.disk.send_modify(|disk| {
            if disk.kept_aside.len() < MAX_NAMED {
                disk.kept_aside.push(shown);
            }
        });
    }
}

impl Damage {
    /// The event of this damage, found now.
    pub(crate) fn event(&self, clock: ClockQuality) -> Event {
        let kept_as = self.kept_as.as_ref();
        Event {
            at: Some(Timestamp::now()),
            clock,
            kind: EventKind::StateDamaged {
                file: self.file.display().to_string(),
                kept_as: kept_as.map(|path| path.display().to_string()),
                reason: self.reason.clone(),
            },
        }
    }
}

//! Rebooting the machine, which the agent's sandbox does not allow the agent itself.
//!
//! The method is answered first (202); then the agent drains, which leaves the door de-energised
//! and everything on disk; only then it writes a request into a folder that no other user may write
//! to. A root unit (`systemd/door-agent-reboot.path`) notices it, calls [`take_request`] to check
//! that it is recent and from this boot, and reboots. Without that unit, the service manager starts
//! the agent again and the door keeps working.
//!
//! Why: docs/decisions/0021-the-agent-has-no-power-over-its-machine.md.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use door_core::contract::{CommandId, Reboot, ReplyError};
use door_core::{Event, EventKind, MethodReply};
use iothub_protocol::id::DeviceId;
use log::{info, warn};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::controller::Clock;
use crate::storage::{DoorStorage, RebootNote, StartReason};

/// Folder for requests on a machine set up as a service; created by tmpfiles.d.
pub const DIRECTORY: &str = "/run/door-agent-reboot";
/// Name of the request file.
const FILE: &str = "request";
/// Maximum age of a request; nobody waits for an older one any more.
const MAX_AGE: Duration = Duration::from_secs(60);
/// How long a call waits for the disk. A hanging disk is a reason to reboot: repeated calls must
/// not block the other methods meanwhile.
const SAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest request that is read.
const MAX_BYTES: u64 = 4096;

/// An accepted reboot: call [`AcceptedReboot::ask`] after the agent has drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedReboot {
    directory: PathBuf,
    request: RebootRequest,
}

/// Content of the request file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RebootRequest {
    /// The requesting door.
    pub door: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Boot id at the time of the request.
    boot: String,
    /// Time since boot at the request.
    at_ms: u64,
}

/// Why a request is refused.
#[derive(Debug, Error)]
pub enum RequestError {
    /// It does not exist, or cannot be read or removed.
    #[error("{}: cannot be {action}", path.display())]
    Io {
        /// The failed action.
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not written by a door. Its content is not repeated.
    #[error("{}: {problem}, expected the request of a door", path.display())]
    Invalid {
        path: PathBuf,
        /// The kind of content found.
        problem: &'static str,
    },
    /// Too old, or of another boot.
    #[error(
        "{}: the request was not made within the last {MAX_AGE:?} of this boot",
        path.display()
    )]
    Stale { path: PathBuf },
}

impl AcceptedReboot {
    /// Writes the request. Call after the agent has drained: the door is in its safe state.
    ///
    /// # Errors
    /// When the file cannot be written; the machine does not reboot then.
    pub fn ask(&self) -> io::Result<()> {
        let path = self.directory.join(FILE);
        // Renamed, so that a reader never sees a partial file.
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&serde_json::to_vec(&self.request)?)?;
        fs::rename(fresh, path)
    }
}

/// Removes the request in `path` and checks it; for the root unit, which reboots after `Ok`.
///
/// # Errors
/// When it must be ignored. The file is removed in any case, if possible.
pub fn take_request(path: &Path) -> Result<RebootRequest, RequestError> {
    let failed = |action| {
        move |source| RequestError::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    };
    let invalid = |problem| RequestError::Invalid {
        path: path.to_path_buf(),
        problem,
    };
    let read = || -> Result<Vec<u8>, RequestError> {
        // Agents may write to the folder: do not follow a link and do not open a pipe.
        let metadata = fs::symlink_metadata(path).map_err(failed("read"))?;
        if !metadata.is_file() {
            return Err(invalid("not a plain file"));
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(failed("read"))?;
        file.take(MAX_BYTES)
            .read_to_end(&mut bytes)
            .map_err(failed("read"))?;
        Ok(bytes)
    };
    let bytes = read();
    // In any case: a remaining file would trigger the unit again at once.
    fs::remove_file(path).map_err(failed("removed"))?;
    let request: RebootRequest =
        serde_json::from_slice(&bytes?).map_err(|_| invalid("not the expected JSON"))?;
    let now = Clock::new(crate::gpio::ClockTrust::System).now();
    let age = Duration::from(now.boottime).checked_sub(Duration::from_millis(request.at_ms));
    if request.boot != now.boot_id.as_str() || age.is_none_or(|age| age > MAX_AGE) {
        return Err(RequestError::Stale {
            path: path.to_path_buf(),
        });
    }
    Ok(request)
}

/// Answers the method `reboot` and notifies the agent of an accepted one; clones share the state.
#[derive(Debug, Clone)]
pub(crate) struct Rebooter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    device: DeviceId,
    directory: Option<PathBuf>,
    clock: Mutex<Clock>,
    storage: DoorStorage,
    /// The latest command id with an accepted reboot.
    latest_id: Mutex<Option<CommandId>>,
    accepted: watch::Sender<Option<AcceptedReboot>>,
}

impl Rebooter {
    /// `directory` is where requests go; `None` refuses reboots.
    pub(crate) fn new(
        device: DeviceId,
        directory: Option<PathBuf>,
        clock: Clock,
        storage: DoorStorage,
        reboot: Option<&RebootNote>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                device,
                directory,
                clock: Mutex::new(clock),
                storage,
                latest_id: Mutex::new(reboot.and_then(|note| note.command_id.clone())),
                accepted: watch::Sender::new(None),
            }),
        }
    }

    /// Watches for an accepted reboot.
    pub(crate) fn accepted(&self) -> watch::Receiver<Option<AcceptedReboot>> {
        self.inner.accepted.subscribe()
    }

    /// Validates a call. Pass an accepted reboot to [`Rebooter::start`] after the answer was sent.
    pub(crate) async fn handle_call(
        &self,
        payload: &[u8],
    ) -> (MethodReply, Option<AcceptedReboot>) {
        match self.accept(payload).await {
            Ok(accepted) => (Reboot::accepted(), Some(accepted)),
            Err(reply) => (reply, None),
        }
    }

    /// Call after the answer was queued: the agent may drain.
    pub(crate) fn start(&self, accepted: AcceptedReboot) {
        info!("{}: rebooting as requested", self.inner.device);
        self.inner.accepted.send_replace(Some(accepted));
    }

    async fn accept(&self, payload: &[u8]) -> Result<AcceptedReboot, MethodReply> {
        let inner = &self.inner;
        let Reboot { reason, header } = Reboot::parse(payload)?;
        if header.command_id.is_some() && header.command_id == *lock(&inner.latest_id) {
            return Err(Reboot::done_before());
        }
        let now = lock(&inner.clock).now();
        if let Some(not_after) = header.not_after {
            // As for an unlock: without a trusted clock it is refused.
            let late = now.trusted_wall().is_none_or(|wall| wall > not_after);
            if late {
                let why = "its notAfter has passed, or the clock is not trusted";
                return Err(Reboot::refused(410, ReplyError::Expired, why));
            }
        }
        let Some(directory) = inner.directory.clone().filter(|folder| folder.is_dir()) else {
            let why = "this agent does not run as the service that can reboot its machine";
            return Err(Reboot::refused(500, ReplyError::NotPossible, why));
        };
        let request = RebootRequest {
            door: inner.device.to_string(),
            reason: reason.clone(),
            boot: now.boot_id.as_str().to_owned(),
            at_ms: u64::try_from(Duration::from(now.boottime).as_millis()).unwrap_or(u64::MAX),
        };
        self.save(reason.clone(), header.command_id.clone()).await?;
        let command_id = header.command_id.clone();
        inner.storage.append(Event::new(
            &now,
            EventKind::RebootRequested { reason, command_id },
        ));
        (*lock(&inner.latest_id)).clone_from(&header.command_id);
        Ok(AcceptedReboot { directory, request })
    }

    /// Saves the request before it is carried out, so that the next boot knows its reason.
    async fn save(
        &self,
        reason: Option<String>,
        command_id: Option<CommandId>,
    ) -> Result<(), MethodReply> {
        let (done, saved) = oneshot::channel();
        let note = RebootNote {
            reason,
            command_id,
            led_to: None,
        };
        self.inner.storage.save_reboot(note, |result| {
            // The call may have timed out.
            let _ = done.send(result);
        });
        match timeout(SAVE_TIMEOUT, saved).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => {
                warn!("{}: not rebooting: {error}", self.inner.device);
                let why = "the request cannot be saved";
                Err(Reboot::refused(500, ReplyError::NotStored, why))
            }
            Err(_) | Ok(Err(_)) => Err(Reboot::refused(
                500,
                ReplyError::NotStored,
                "the disk does not respond",
            )),
        }
    }
}

/// Why this machine was booted, for the reported property `device.bootReason`.
pub(crate) fn boot_reason(start: StartReason, reboot: Option<&RebootNote>, boot: &str) -> Value {
    match reboot.filter(|note| note.led_to.as_deref() == Some(boot)) {
        Some(note) => json!({
            "cause": "reboot",
            "reason": note.reason,
            "commandId": note.command_id,
        }),
        // Power-on, or a reboot by another program; at a first start the cause is unknown.
        None if start == StartReason::First => json!({"cause": "unknown"}),
        None => json!({"cause": "other"}),
    }
}

/// A panic under the lock cannot leave a partial change: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::boot_id;
    use crate::storage::{DoorDirectory, Storage};

    fn accepted(directory: &Path) -> AcceptedReboot {
        let now = Clock::new(crate::gpio::ClockTrust::System).now();
        AcceptedReboot {
            directory: directory.to_path_buf(),
            request: RebootRequest {
                door: "lobby-east".to_owned(),
                reason: Some("kernel update".to_owned()),
                boot: boot_id().as_str().to_owned(),
                at_ms: u64::try_from(Duration::from(now.boottime).as_millis()).unwrap(),
            },
        }
    }

    #[test]
    fn a_fresh_request_of_this_boot_is_followed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let accepted = accepted(folder.path());
        accepted.ask().unwrap();
        assert_eq!(take_request(&path).unwrap(), accepted.request);
        assert!(matches!(
            take_request(&path).unwrap_err(),
            RequestError::Io { .. }
        ));
    }

    #[test]
    fn stale_invalid_and_malicious_requests_are_removed_and_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let fresh = accepted(folder.path());
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = take_request(&path).unwrap_err();
            assert!(!path.exists());
            error.to_string()
        };
        let mut of_another_boot = fresh.request.clone();
        of_another_boot.boot = "another".to_owned();
        let mut of_the_future = fresh.request.clone();
        of_the_future.at_ms += 3_600_000;
        for stale in [of_another_boot, of_the_future] {
            let text = refused(&serde_json::to_vec(&stale).unwrap());
            assert!(text.contains("not made within the last 60s"), "{text}");
        }
        assert!(refused(b"{}").contains("not the expected JSON"));
        assert!(refused(&[b'x'; 10_000]).contains("not the expected JSON"));

        let secret = folder.path().join("secret");
        fs::write(&secret, serde_json::to_vec(&fresh.request).unwrap()).unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        let text = take_request(&path).unwrap_err().to_string();
        assert!(text.contains("not a plain file"), "{text}");
        assert!(secret.exists() && !path.is_symlink());
    }

    #[test]
    fn an_old_request_of_this_boot_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let mut old = accepted(folder.path());
        let Some(before) = old.request.at_ms.checked_sub(61_000) else {
            // The machine has been up for less than a minute: no request can be that old.
            return;
        };
        old.request.at_ms = before;
        old.ask().unwrap();
        assert!(matches!(
            take_request(&folder.path().join(FILE)).unwrap_err(),
            RequestError::Stale { .. }
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_disk_does_not_block_the_caller() {
        let home = tempfile::tempdir().unwrap();
        let shared = Storage::spawn().unwrap();
        let (path, boot) = (home.path().join("state"), boot_id());
        let directory = DoorDirectory {
            path: &path,
            door: "lobby-east",
            boot_id: boot.as_str(),
            event_log_bytes: 1 << 20,
        };
        let (storage, _) = shared.open(&directory).unwrap();
        let (hang, hung) = std::sync::mpsc::channel::<()>();
        storage.save_door(&json!({}), move |_| {
            let _ = hung.recv();
        });
        let machine = Rebooter::new(
            "lobby-east".parse().unwrap(),
            Some(home.path().to_path_buf()),
            Clock::new(crate::gpio::ClockTrust::System),
            storage,
            None,
        );
        let judged = timeout(SAVE_TIMEOUT * 2, machine.handle_call(b"{}")).await;
        let (reply, accepted) = judged.expect("the call is answered");
        let answer = (reply.status, reply.body.error, accepted);
        assert_eq!(answer, (500, Some(ReplyError::NotStored), None));
        drop(hang);
    }

    #[test]
    fn only_the_boot_after_the_reboot_has_its_reason() {
        let note = RebootNote {
            reason: Some("kernel update".to_owned()),
            command_id: None,
            led_to: Some("b".to_owned()),
        };
        assert_eq!(
            boot_reason(StartReason::Boot, Some(&note), "b"),
            json!({"cause": "reboot", "reason": "kernel update", "commandId": null})
        );
        assert_eq!(
            boot_reason(StartReason::Boot, Some(&note), "c"),
            json!({"cause": "other"})
        );
        assert_eq!(
            boot_reason(StartReason::First, None, "c"),
            json!({"cause": "unknown"})
        );
    }
}

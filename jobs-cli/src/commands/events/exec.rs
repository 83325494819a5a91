//! `--exec`: runs the operator's command for each event, one at a time and in order.
//!
//! The event never becomes part of the command line: its JSON document goes to standard input, its
//! names to environment variables.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use iothub_client::HubEvent;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::describe;
use crate::printer::Printer;

/// Events that may wait for their command. At the limit no more are read; the hub keeps them.
const QUEUE_CAPACITY: usize = 64;

pub(super) struct Commands {
    events: Option<mpsc::Sender<HubEvent>>,
    runner: JoinHandle<()>,
    progress: Arc<RunnerProgress>,
}

/// No event was queued yet; not a valid event id.
const NO_EVENT: i64 = -1;

#[derive(Debug)]
struct RunnerProgress {
    /// The last event whose command ended, successfully or not; at first the one before the first
    /// queued event.
    done: AtomicI64,
    failed: AtomicUsize,
}

impl Commands {
    /// Starts the runner; each run of `command` may take `limit`.
    pub(super) fn new(command: &str, limit: Duration, printer: &Printer) -> Self {
        let (events, waiting) = mpsc::channel(QUEUE_CAPACITY);
        let progress = Arc::new(RunnerProgress {
            done: AtomicI64::new(NO_EVENT),
            failed: AtomicUsize::new(0),
        });
        let runner = Runner {
            command: command.to_owned(),
            limit,
            printer: printer.clone(),
            progress: Arc::clone(&progress),
        };
        Self {
            events: Some(events),
            runner: tokio::spawn(runner.run(waiting)),
            progress,
        }
    }

    /// Queues an event; waits while the queue is full.
    pub(super) async fn queue(&self, event: &HubEvent) {
        if let Some(events) = &self.events {
            let (relaxed, before) = (Ordering::Relaxed, event.id - 1);
            // Fails for every event but the first, as intended.
            let _ = self
                .progress
                .done
                .compare_exchange(NO_EVENT, before, relaxed, relaxed);
            // The receiver lives as long as this sender.
            drop(events.send(event.clone()).await);
        }
    }

    /// Waits until the command of every queued event has ended.
    pub(super) async fn finish(&mut self) {
        self.events = None;
        // The runner neither panics nor is aborted here.
        drop((&mut self.runner).await);
    }

    /// Kills the running command and drops the queue. Returns the last event whose command had
    /// ended, or the one before the first; `None` when no event was queued.
    pub(super) fn stop(self) -> Option<i64> {
        self.runner.abort();
        Some(self.progress.done.load(Ordering::Relaxed)).filter(|id| *id != NO_EVENT)
    }

    pub(super) fn failed(self) -> usize {
        self.progress.failed.load(Ordering::Relaxed)
    }
}

struct Runner {
    command: String,
    limit: Duration,
    printer: Printer,
    progress: Arc<RunnerProgress>,
}

impl Runner {
    async fn run(self, mut events: mpsc::Receiver<HubEvent>) {
        while let Some(event) = events.recv().await {
            if let Err(why) = self.run_for(&event).await {
                self.progress.failed.fetch_add(1, Ordering::Relaxed);
                self.printer
                    .warn(format!("--exec for event {}: {why}", event.id));
            }
            self.progress.done.store(event.id, Ordering::Relaxed);
        }
    }

    async fn run_for(&self, event: &HubEvent) -> Result<(), String> {
        let mut child = shell(&self.command)
            .envs(environment(event))
            .stdin(Stdio::piped())
            .stdout(Stdio::from(io::stderr()))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("the command cannot be started: {error}"))?;
        let group = ProcessGroup::of(&child);
        let input = child.stdin.take();
        let document = format!("{}\n", event.document);
        let written = async move {
            if let Some(mut input) = input {
                // A command may exit without reading its input.
                drop(input.write_all(document.as_bytes()).await);
            }
        };
        let ended = async { tokio::join!(child.wait(), written).0 };
        match tokio::time::timeout(self.limit, ended).await {
            Ok(Ok(status)) => {
                group.disarm();
                match status.success() {
                    true => Ok(()),
                    false => Err(format!("the command ended with {status}")),
                }
            }
            Ok(Err(error)) => Err(format!("the command is lost: {error}")),
            Err(_) => Err(format!(
                "the command took longer than {} s and was killed (--exec-timeout)",
                self.limit.as_secs_f64()
            )),
        }
    }
}

/// `command` in the system's shell; on Unix in its own process group.
fn shell(command: &str) -> Command {
    let (shell, flag) = match cfg!(windows) {
        true => ("cmd", "/C"),
        false => ("sh", "-c"),
    };
    let mut shell = Command::new(shell);
    shell.args([flag, command]);
    #[cfg(unix)]
    shell.process_group(0);
    shell
}

/// The command's environment variables. A variable cannot contain a NUL.
fn environment(event: &HubEvent) -> [(&'static str, String); 7] {
    let text = |text: &str| text.replace('\0', "");
    [
        ("DOORCTL_EVENT_ID", event.id.to_string()),
        ("DOORCTL_EVENT_KIND", text(&event.kind)),
        (
            "DOORCTL_EVENT_DOOR",
            text(event.device_id.as_deref().unwrap_or_default()),
        ),
        (
            "DOORCTL_EVENT_JOB",
            text(event.job_id.as_deref().unwrap_or_default()),
        ),
        ("DOORCTL_EVENT_EVENT", text(describe::name(event))),
        (
            "DOORCTL_EVENT_ALARM",
            text(describe::alarm(event).unwrap_or_default()),
        ),
        ("DOORCTL_EVENT_TIME", event.time.to_string()),
    ]
}

/// The process group of the shell, killed on drop unless the shell has ended by itself.
struct ProcessGroup {
    #[cfg(unix)]
    leader: Option<rustix::process::Pid>,
}

impl ProcessGroup {
    #[cfg(unix)]
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            leader: id.and_then(rustix::process::Pid::from_raw),
        }
    }

    #[cfg(not(unix))]
    fn of(_: &Child) -> Self {
        Self {}
    }

    /// Keeps background processes of a shell that has ended: they were started on purpose.
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(leader) = self.leader {
            use rustix::process::{Signal, kill_process_group};
            // The group may have ended just now.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

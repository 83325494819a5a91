//! The agent as a service: logging, readiness, the watchdog and the signals that end it.
//!
//! Under systemd the log goes to the journal with structured fields and the state of the service to
//! the manager; elsewhere the log goes to stderr and the rest is silent. A thread of its own writes
//! the log: a journal that hangs, or a terminal that is scrolled back, keeps nobody at the door
//! waiting.

mod log_queue;

use std::time::Duration;

use anyhow::Context;
use log::{LevelFilter, Log, debug, warn};
use sd_notify::NotifyState;
use systemd_journal_logger::{JournalLog, connected_to_journal};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Sends the log to the journal when stderr is connected to it, else to stderr.
///
/// `door_id` is a field of every line of the journal.
///
/// # Errors
/// When a logger is already installed, or the system gives no thread.
pub fn init_logging(level: LevelFilter, door_id: &str) -> anyhow::Result<()> {
    let journal = connected_to_journal().then(JournalLog::new).transpose();
    let (inner, missing): (Box<dyn Log>, _) = match journal {
        Ok(Some(journal)) => {
            let fields = [("DOOR_ID", door_id), ("VERSION", env!("CARGO_PKG_VERSION"))];
            (Box::new(journal.with_extra_fields(fields)), None)
        }
        // The level is held by `log` alone, so that it can change.
        stderr => {
            let mut stderr_log = env_logger::Builder::new();
            stderr_log.filter_level(LevelFilter::Trace);
            (Box::new(stderr_log.build()), stderr.err())
        }
    };
    log_queue::install(inner)?;
    log::set_max_level(level);
    if let Some(error) = missing {
        warn!("the journal cannot be reached, the log goes to stderr: {error}");
    }
    Ok(())
}

/// Writes what has been logged, if journal or stderr take it within a moment; for the end of the
/// program.
pub fn finish_logging() {
    log::logger().flush();
}

/// Tells the service manager that the pins are safe and the state is loaded.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Tells the service manager that the end has begun.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog. Called from the loop that owns the door, so that a door that hangs is
/// restarted.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often [`alive`] has to be called: half of what the unit file allows. `None` without a
/// watchdog.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// What the service manager, or a person, wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM or SIGINT, by its name: end.
    End(&'static str),
    /// SIGHUP: read the settings again.
    Reload,
}

/// The signals that are caught from here on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Catches them; before the agent is ready, so that no reload kills it.
    ///
    /// # Errors
    /// When they cannot be caught.
    pub fn catch() -> anyhow::Result<Self> {
        let catch = |kind, name| signal(kind).with_context(|| format!("cannot catch {name}"));
        Ok(Self {
            terminate: catch(SignalKind::terminate(), "SIGTERM")?,
            interrupt: catch(SignalKind::interrupt(), "SIGINT")?,
            hang_up: catch(SignalKind::hangup(), "SIGHUP")?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End("SIGTERM"),
            _ = self.interrupt.recv() => Wish::End("SIGINT"),
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    if let Err(error) = sd_notify::notify(states) {
        warn!("the service manager cannot be told: {error}");
    } else {
        debug!("told the service manager {states:?}");
    }
}

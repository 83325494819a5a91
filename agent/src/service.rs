//! The agent as a service: logging, readiness, the watchdog and the signals that end it.
//!
//! Under systemd the log goes to the journal with structured fields, and the state of the service
//! to the manager; elsewhere the log goes to stderr and there are no notifications. A separate
//! thread writes the log: a hanging journal, or a paused terminal, does not delay the door.

mod log_queue;

use std::time::Duration;

use anyhow::Context;
use log::{LevelFilter, Log, debug, warn};
use sd_notify::NotifyState;
use systemd_journal_logger::{JournalLog, connected_to_journal};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Sends the log to the journal if stderr is connected to it, else to stderr.
///
/// `door_id` becomes a field of every line in the journal.
///
/// # Errors
/// When a logger is already installed, or the system cannot create a thread.
pub fn init_logging(level: LevelFilter, door_id: &str) -> anyhow::Result<()> {
    let journal = connected_to_journal().then(JournalLog::new).transpose();
    let (inner, missing): (Box<dyn Log>, _) = match journal {
        Ok(Some(journal)) => {
            let fields = [("DOOR_ID", door_id), ("VERSION", env!("CARGO_PKG_VERSION"))];
            (Box::new(journal.with_extra_fields(fields)), None)
        }
        // Only `log` filters by level, so that the level can change.
        stderr => {
            let mut stderr_log = env_logger::Builder::new();
            stderr_log.filter_level(LevelFilter::Trace);
            (Box::new(stderr_log.build()), stderr.err())
        }
    };
    log_queue::install(inner)?;
    log::set_max_level(level);
    if let Some(error) = missing {
        warn!("cannot connect to the journal, logging to stderr: {error}");
    }
    Ok(())
}

/// Writes the queued lines, if journal or stderr accept them within a moment; for the end of the
/// program.
pub fn finish_logging() {
    log::logger().flush();
}

/// Notifies the service manager that the pins are safe and the state is loaded.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Sets the line in `systemctl status`.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Notifies the service manager that shutdown has begun.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog. Called from the loop that owns the door, so that a hanging loop is
/// restarted.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Interval for [`alive`]: half of the unit's limit. `None` without a watchdog.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// What a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// SIGTERM or SIGINT, by name: shut down.
    End(&'static str),
    /// SIGHUP: reload the settings.
    Reload,
}

/// The handled signals.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Installs the handlers; call before the agent is ready, so that a reload does not kill it.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn catch() -> anyhow::Result<Self> {
        let catch = |kind, name| signal(kind).with_context(|| format!("cannot catch {name}"));
        Ok(Self {
            terminate: catch(SignalKind::terminate(), "SIGTERM")?,
            interrupt: catch(SignalKind::interrupt(), "SIGINT")?,
            hang_up: catch(SignalKind::hangup(), "SIGHUP")?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::End("SIGTERM"),
            _ = self.interrupt.recv() => SignalAction::End("SIGINT"),
            _ = self.hang_up.recv() => SignalAction::Reload,
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot notify the service manager: {error}");
    } else {
        debug!("notified the service manager: {states:?}");
    }
}

//! The commands of `door-hub`, one file each.

mod audit;
mod backup;
mod check;
mod documents;
mod init;
mod log;
mod policy;
mod serve;
mod settings;
mod webhook;

pub(crate) use audit::{AuditArguments, audit};
pub(crate) use backup::{BackupArguments, RestoreArguments, backup, restore};
pub(crate) use check::check;
pub(crate) use documents::documents;
pub(crate) use init::init;
pub(crate) use log::{Log, read_filter};
pub(crate) use policy::{PolicyArguments, policy};
pub(crate) use serve::serve;
pub(crate) use settings::{Settings, StartArguments};
pub(crate) use webhook::{WebhookArguments, webhook};

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

/// How long the end of a command waits for the reader of its output.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Prints the requested output. A reader that has gone, as with `| head -1`, is not an error.
pub(crate) fn print(text: impl Display) -> anyhow::Result<()> {
    match write!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints the result of a command that changed something; a failure to print is ignored.
pub(crate) fn print_result(text: impl Display) {
    let line = format!("{text}\n");
    write_with_timeout(move || io::stdout().write_all(line.as_bytes()));
}

/// Prints a line to stderr; a failure to print is ignored.
pub(crate) fn print_error(text: impl Display) {
    let line = format!("{text}\n");
    write_with_timeout(move || io::stderr().write_all(line.as_bytes()));
}

/// Runs `write` on a thread of its own and stops waiting for it after [`WRITE_TIMEOUT`].
fn write_with_timeout(write: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let (ended, end) = sync_channel(1);
    let started = thread::Builder::new().spawn(move || {
        // There is no channel left on which to report that the output failed.
        drop(write());
        let _ = ended.send(());
    });
    if started.is_ok() {
        let _ = end.recv_timeout(WRITE_TIMEOUT);
    }
}

/// Prints help, the version or a usage error, and returns the exit status.
pub(crate) fn exit_with_usage(error: &clap::Error) -> ExitCode {
    match error.print() {
        Err(failed) if !error.use_stderr() && failed.kind() != ErrorKind::BrokenPipe => {
            print_error(format_args!(
                "door-hub: cannot write to standard output: {failed}"
            ));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => {
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

/// The data folder of a command that needs an existing one.
fn data_folder(given: Option<std::path::PathBuf>) -> anyhow::Result<std::path::PathBuf> {
    given.ok_or_else(|| {
        anyhow::anyhow!("no data folder given; expected --data DIR or DOOR_HUB_DATA")
    })
}

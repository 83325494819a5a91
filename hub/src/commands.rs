//! What `door-hub` can be asked to do, one file per command.

mod audit;
mod backup;
mod check;
mod documents;
mod init;
mod log;
mod policy;
mod serve;
mod settings;

pub(crate) use audit::{AuditArguments, audit};
pub(crate) use backup::{BackupArguments, RestoreArguments, backup, restore};
pub(crate) use check::check;
pub(crate) use documents::documents;
pub(crate) use init::init;
pub(crate) use log::{Log, read_filter};
pub(crate) use policy::{PolicyArguments, policy};
pub(crate) use serve::serve;
pub(crate) use settings::{Settings, StartArguments};

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

/// How long what was done waits for a reader of what is printed of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints what a command is asked for. A reader that has gone, as behind `| head -1`, has what it
/// wants.
pub(crate) fn print(text: impl Display) -> anyhow::Result<()> {
    match write!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints what a command has done: it is done, whether anybody reads it or not.
pub(crate) fn say(text: impl Display) {
    let line = format!("{text}\n");
    within_patience(move || io::stdout().write_all(line.as_bytes()));
}

/// Prints a line to stderr, if that takes it.
pub(crate) fn complain(text: impl Display) {
    let line = format!("{text}\n");
    within_patience(move || io::stderr().write_all(line.as_bytes()));
}

/// Runs `write`, and goes on without it when the reader does not read.
fn within_patience(write: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let (ended, end) = sync_channel(1);
    let started = thread::Builder::new().spawn(move || {
        // Nobody is left to tell that there is no output.
        drop(write());
        let _ = ended.send(());
    });
    if started.is_ok() {
        let _ = end.recv_timeout(PATIENCE);
    }
}

/// Ends a run that was for help or the version, or whose arguments are wrong.
pub(crate) fn explain(error: &clap::Error) -> ExitCode {
    match error.print() {
        Err(failed) if !error.use_stderr() && failed.kind() != ErrorKind::BrokenPipe => {
            complain(format_args!(
                "door-hub: cannot write to standard output: {failed}"
            ));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => {
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

/// The data folder of a command that needs one that is there.
fn data_folder(given: Option<std::path::PathBuf>) -> anyhow::Result<std::path::PathBuf> {
    given.ok_or_else(|| {
        anyhow::anyhow!("no data folder is named; expected --data DIR or DOOR_HUB_DATA")
    })
}

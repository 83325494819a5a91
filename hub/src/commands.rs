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

use anyhow::Context as _;

/// Prints what a command is asked for. A reader that has gone, as behind `| head -1`, has what it wants.
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
    drop(writeln!(io::stdout(), "{text}"));
}

/// Prints a line to stderr, if that takes it.
pub(crate) fn complain(text: impl Display) {
    drop(writeln!(io::stderr(), "{text}"));
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

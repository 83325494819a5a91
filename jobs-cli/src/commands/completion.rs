//! `doorctl completion`

use clap_complete::Shell;

use crate::completion;
use crate::exit_status::ExitStatus;
use crate::printer;

/// Prints the script.
pub(crate) fn run(shell: Shell) -> anyhow::Result<ExitStatus> {
    let script = completion::script(&shell.to_string())?;
    printer::write(&String::from_utf8(script)?)?;
    Ok(ExitStatus::Success)
}

//! `doorctl completion`

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit_status::ExitStatus;
use crate::printer;

/// Prints the script.
pub(crate) fn run(shell: Shell) -> anyhow::Result<ExitStatus> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "doorctl", &mut script);
    printer::write(&String::from_utf8(script)?)?;
    Ok(ExitStatus::Success)
}

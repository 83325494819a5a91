//! `doorctl`: schedules fleet-wide jobs on doors and tracks the outcome of each door.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | what can be asked for, and the help |
//! | [`completion`] | what a shell is told when somebody presses Tab |
//! | [`commands`] | a function per verb |
//! | [`config`], [`private_file`] | the contexts, and files that hold secrets |
//! | [`target`], [`time`] | which doors, and when |
//! | [`door`], [`acknowledgement`], [`outcome`] | what a door reports, what became of desired properties, and what a job came to |
//! | [`printer`], [`failure`], [`exit_status`] | what a person or a script gets to see |

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod acknowledgement;
mod cli;
mod commands;
mod completion;
mod config;
mod door;
mod exit_status;
mod failure;
mod outcome;
mod printer;
mod private_file;
mod session;
mod suggest;
mod target;
mod time;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;

use cli::Cli;
use exit_status::ExitStatus;
use printer::Printer;

/// What still runs when a command is done (a name that is being looked up, say) is not waited for
/// longer than this.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    if completion::handle_request() {
        return ExitStatus::Success.into();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let status = match error.use_stderr() {
                true => {
                    // Nobody is left to tell that stderr is gone.
                    drop(error.print());
                    ExitStatus::Error
                }
                false => match error.print() {
                    Ok(()) => ExitStatus::Success,
                    Err(error) => failure::report(&printer::stdout_error(&error).into()),
                },
            };
            return status.into();
        }
    };
    let status = run(cli).unwrap_or_else(|error| failure::report(&error));
    status.into()
}

fn run(cli: Cli) -> anyhow::Result<ExitStatus> {
    let printer = Printer::new(cli.global.output, cli.global.quiet).verbose(cli.global.verbose);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let ended = runtime.block_on(commands::run(cli, &printer));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    ended
}

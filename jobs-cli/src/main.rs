//! `doorctl`: schedules fleet-wide jobs on doors and tracks the outcome of each door.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | command line and help texts |
//! | [`completion`] | answers to a shell's completion requests |
//! | [`commands`] | a function per verb |
//! | [`config`], [`private_file`] | the contexts, and files with secrets |
//! | [`target`], [`time`] | door selection and time arguments |
//! | [`door`], [`acknowledgement`], [`outcome`] | the state of doors, properties and jobs |
//! | [`alarm`] | raised alarms and their acknowledgement |
//! | [`role`] | names for what a policy may do |
//! | [`printer`], [`failure`], [`exit_status`] | output, errors and exit statuses |

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod acknowledgement;
mod alarm;
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
mod role;
mod session;
mod suggest;
mod target;
mod time;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use clap::error::{ContextKind, ContextValue};

use cli::Cli;
use exit_status::ExitStatus;
use printer::Printer;

/// How long background work, such as a DNS lookup, may still run after the command.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    if completion::handle_request() {
        return ExitStatus::Success.into();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mut error) => {
            remove_escape_tip(&mut error);
            let text = error.render();
            let (text, coloured) = (text.to_string(), text.ansi().to_string());
            let status = match error.use_stderr() {
                true => {
                    let text = match Printer::stderr_has_colours() {
                        true => coloured,
                        false => text,
                    };
                    printer::print_styled_message(text.trim_end());
                    ExitStatus::Error
                }
                false => match printer::print_help(&text, &coloured) {
                    Ok(()) => ExitStatus::Success,
                    Err(error) => failure::report(&error.into()),
                },
            };
            return status.into();
        }
    };
    let status = run(cli).unwrap_or_else(|error| failure::report(&error));
    status.into()
}

/// clap advises `-- --every` for an unknown `--every`: as the name of a door, for example, it would
/// only be the next mistake.
fn remove_escape_tip(error: &mut clap::Error) {
    if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
        tips.retain(|tip| !tip.to_string().contains("-- "));
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitStatus> {
    let global = &cli.global;
    let printer = Printer::new(&global.output, global.quiet, global.verbose);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let ended = runtime.block_on(commands::run(cli, &printer));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    ended
}

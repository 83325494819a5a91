//! The command line: what can be asked for, and the help that explains it. No behaviour.

pub(crate) mod confirm;
pub(crate) mod context;
#[cfg(all(unix, feature = "demo"))]
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod doors;
pub(crate) mod enroll;
pub(crate) mod jobs;
pub(crate) mod record;
pub(crate) mod target;
pub(crate) mod twin;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use door_core::contract::duration;

use crate::printer::Format;

/// Schedule fleet-wide jobs over doors, and track them door by door.
#[derive(Debug, Parser)]
#[command(
    name = "doorctl",
    version,
    about,
    after_help = "\
First steps:
  doorctl demo                                   the whole system on this machine, nothing needed
  doorctl context add site --connection-string-file site.connection-string --ca ca.pem
  doorctl devices add lobby-east lobby-west --building 43 --floor 3
  doorctl devices list                           a door is there when its agent runs: devices enroll
  doorctl jobs plan lock --floor 3 --at 22:00 --for 10m
  doorctl jobs lock --floor 3 --at 22:00 --for 10m
  doorctl jobs watch
  doorctl status
  doorctl why lobby-east
  doorctl events --since 1h                      what happened; -f: what happens

The connection string is that of a policy: door-hub writes it beside ca.pem into its data folder.
Each verb has examples: doorctl jobs lock --help. Tab completes doors: doorctl completion --help.

Exit status: 0 every door reached the wanted state, 1 usage or connection, 2 some doors did not,
3 deadline passed, 4 refused.",
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Work with this context instead of the current one; also DOORCTL_CONTEXT.
    #[arg(
        long,
        global = true,
        env = "DOORCTL_CONTEXT",
        hide_env = true,
        value_name = "NAME"
    )]
    pub(crate) context: Option<String>,
    /// How data is printed: table, json, jsonl or csv.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(crate) output: Format,
    /// How long one request to the hub may take.
    #[arg(long, global = true, default_value = "30s", value_parser = period, value_name = "DURATION")]
    pub(crate) timeout: Duration,
    /// Why: kept in door-hub's audit record and in the events of the doors; 1 to 256 bytes.
    #[arg(long, global = true, value_parser = reason, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Say nothing but data, warnings and errors.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Show each request and answer on stderr, without keys and tokens.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
}

/// The groups of commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The hubs you work with.
    #[command(subcommand, visible_alias = "contexts")]
    Context(context::ContextCommand),
    /// Doors as the hub knows them.
    #[command(subcommand, visible_alias = "device")]
    Devices(devices::DevicesCommand),
    /// A door's twin: tags, desired and reported properties.
    #[command(subcommand)]
    Twin(twin::TwinCommand),
    /// Ask the hub in its query language.
    Query(twin::QueryArgs),
    /// Call a method of one door, now.
    Invoke(twin::InvokeArgs),
    #[command(flatten)]
    Doors(doors::DoorsCommand),
    /// Work over many doors, now or at a set time.
    #[command(subcommand, visible_alias = "job")]
    Jobs(jobs::JobsCommand),
    /// What happens at doors and hub: as it happens, or what is kept (door-hub only).
    Events(record::EventsArgs),
    /// Who changed or commanded what (door-hub only).
    Audit(record::AuditArgs),
    /// A hub and a fleet of doors on this machine, and the scheduled jobs over them.
    #[cfg(all(unix, feature = "demo"))]
    Demo(demo::DemoArgs),
    /// Print a completion script for your shell: verbs, flags, doors, jobs and contexts.
    #[command(after_help = "\
Examples:
  doorctl completion bash > ~/.local/share/bash-completion/completions/doorctl
  doorctl completion zsh > ~/.zfunc/_doorctl
  doorctl completion fish > ~/.config/fish/completions/doorctl.fish
  source <(doorctl completion bash)                         this shell only

The script asks doorctl, which must be on the PATH. Names of doors and ids of jobs come from the hub of
the context that the line has, within a second: when it does not answer in time, there are none.")]
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Write man pages and completions into a folder; for the packages.
    #[command(hide = true)]
    Documents {
        /// The folder, which is there.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// Longest reason, in bytes.
const MAX_REASON: usize = 256;

/// A value of `--reason`.
fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty; expected 1 to 256 bytes of text".to_owned()),
        text if text.len() > MAX_REASON => Err(format!(
            "it has {} bytes; expected at most {MAX_REASON}",
            text.len()
        )),
        text => Ok(text.to_owned()),
    }
}

/// A length of time on the command line.
pub(crate) fn period(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| format!("{error}; expected {}", duration::EXPECTED))
}

/// A length of time that may be zero: `0`, `0s`.
pub(crate) fn period_or_zero(text: &str) -> Result<Duration, String> {
    match text.trim() {
        "0" | "0s" => Ok(Duration::ZERO),
        text => period(text),
    }
}

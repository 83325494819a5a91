//! The command line of doorctl: verbs, flags and their help texts. No behaviour.

pub(crate) mod alarms;
pub(crate) mod confirm;
pub(crate) mod context;
#[cfg(all(unix, feature = "demo"))]
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod doors;
pub(crate) mod enroll;
pub(crate) mod jobs;
pub(crate) mod policy;
pub(crate) mod record;
pub(crate) mod schedule;
pub(crate) mod target;
pub(crate) mod twin;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use door_core::contract::duration;

use crate::printer::OUTPUTS;
use crate::time;

/// Schedule fleet-wide jobs on doors and track the outcome of each door.
#[derive(Debug, Parser)]
#[command(
    name = "doorctl",
    version,
    about,
    after_help = "\
First steps:
  doorctl demo                                   hub, doors and jobs on this machine, no setup
  doorctl context add site --connection-string-file site.connection-string --ca ca.pem
  doorctl devices add lobby-east lobby-west --building 43 --floor 3
  doorctl devices list                           doors go online with their agent: devices enroll
  doorctl jobs plan lock --floor 3 --at 22:00 --for 10m
  doorctl jobs lock --floor 3 --at 22:00 --for 10m
  doorctl jobs watch
  doorctl status
  doorctl why lobby-east
  doorctl events --since 1h                      past events; -f follows new ones

The connection string belongs to a policy: door-hub writes it to its data folder, next to ca.pem. \
Each verb has examples: doorctl jobs lock --help. Tab completes doors: doorctl completion --help.

Exit status: 0 every door reached the requested state, 1 usage or connection error, 2 some doors \
did not reach it, 3 deadline exceeded, 4 refused.",
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Context to use instead of the current one [env: DOORCTL_CONTEXT].
    #[arg(
        long,
        global = true,
        env = "DOORCTL_CONTEXT",
        hide_env = true,
        value_name = "NAME"
    )]
    pub(crate) context: Option<String>,
    /// Output format: table, wide (a table with all columns, uncut), json, jsonl or csv; for
    /// `doorctl status` also prometheus.
    #[arg(
        short,
        long,
        global = true,
        value_parser = OUTPUTS.map(|(name, _)| name),
        default_value = "table",
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(crate) output: String,
    /// Timeout of a single request to the hub.
    #[arg(
        long, global = true, default_value = "30s", value_parser = period, value_name = "DURATION"
    )]
    pub(crate) timeout: Duration,
    /// Reason, recorded in door-hub's audit log and in the events of doors; 1 to 256 bytes.
    #[arg(long, global = true, value_parser = reason, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Print only data, warnings and errors.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log each request and response on stderr, without keys and tokens.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Manage contexts: the hubs that doorctl connects to.
    #[command(subcommand, visible_alias = "contexts")]
    Context(context::ContextCommand),
    /// Register, list and change doors on the hub.
    #[command(subcommand, visible_alias = "device")]
    Devices(devices::DevicesCommand),
    /// Show and change a door's twin: tags, desired and reported properties.
    #[command(subcommand)]
    Twin(twin::TwinCommand),
    /// Run a query in the hub's query language.
    Query(twin::QueryArgs),
    /// Call a direct method of one door, now.
    Invoke(twin::InvokeArgs),
    #[command(flatten)]
    Doors(doors::DoorsCommand),
    /// List raised alarms, the worst first, and acknowledge them.
    #[command(after_help = "\
Examples:
  doorctl alarms                                  as `doorctl alarms list`
  doorctl alarms --unacknowledged
  doorctl alarms ack lobby-east --note 'I go and look'")]
    Alarms(alarms::AlarmsArgs),
    /// Plan, create and track jobs on many doors, now or at a set time.
    #[command(subcommand, visible_alias = "job")]
    Jobs(jobs::JobsCommand),
    /// Give doors a week by which they lock and unlock on their own, and show it.
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Show or follow events of doors and hub (door-hub only).
    Events(record::EventsArgs),
    /// Show who changed or commanded what (door-hub only).
    Audit(record::AuditArgs),
    /// Show what happened at one door: its events and the calls on it (door-hub only).
    Logs(record::LogsArgs),
    /// Serve a web page of the hub for this machine's browser, without a key in the browser.
    #[command(after_help = "\
Examples:
  doorctl dashboard
  doorctl dashboard --context site --port 8080 --no-open

The page does what the context's policy may do. Its address is a secret and changes with each \
start: everybody on this machine who has it may use the page. On Azure IoT Hub the page polls.")]
    Dashboard(DashboardArgs),
    /// Check settings, connection, clock, rights, versions and doors, with what to do about each.
    #[command(after_help = "\
Examples:
  doorctl doctor
  doorctl doctor --context site -o json

The exit status is 2 if something is wrong; a note alone does not change it.")]
    Doctor,
    /// Add, change and remove policies: who may do what (door-hub only).
    #[command(subcommand, visible_alias = "policies")]
    Policy(policy::PolicyCommand),
    /// Show the policy in use: its role, its rights and its bounds.
    #[command(after_help = "\
Examples:
  doorctl whoami
  doorctl whoami --context guard -o json

door-hub names every right and bound. Of Azure IoT Hub, RegistryRead and ServiceConnect are shown: only a \
change would show the others.")]
    Whoami,
    /// Show the versions of doorctl, of the hub and of the agents.
    #[command(after_help = "\
Examples:
  doorctl version
  doorctl version -o csv

An agent reports its version when it starts. `doorctl --version` asks no hub.")]
    Version,
    /// Explain a word: a method, a state, an alarm, a mode, a slot, a status.
    #[command(after_help = "\
Examples:
  doorctl explain lockDoor
  doorctl explain jammed
  doorctl explain 202
  doorctl explain                                list every word")]
    Explain {
        /// Word to explain [default: list the words].
        word: Option<String>,
    },
    /// Show the settings in effect.
    #[command(subcommand)]
    Config(context::ConfigCommand),
    /// Run a hub and a fleet of simulated doors on this machine, with scheduled jobs.
    #[cfg(all(unix, feature = "demo"))]
    Demo(demo::DemoArgs),
    /// Print a shell completion script for verbs, flags, doors, jobs and contexts.
    #[command(after_help = "\
Examples:
  doorctl completion bash > ~/.local/share/bash-completion/completions/doorctl
  doorctl completion zsh > ~/.zfunc/_doorctl
  doorctl completion fish > ~/.config/fish/completions/doorctl.fish
  source <(doorctl completion bash)                         this shell only

The script calls doorctl, which must be on the PATH. Door names and job ids come from the hub of \
the context on the command line; if the hub does not answer within 1 s, none are offered.")]
    Completion {
        /// Shell to print the script for.
        shell: Shell,
    },
    /// Write man pages and completion scripts into a folder, for the packages.
    #[command(hide = true)]
    Documents {
        /// Existing folder.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DashboardArgs {
    /// Port on 127.0.0.1 [default: a free one].
    #[arg(
        long,
        default_value_t = 0,
        hide_default_value = true,
        value_name = "PORT"
    )]
    pub(crate) port: u16,
    /// Print the address and open no browser.
    #[arg(long)]
    pub(crate) no_open: bool,
}

/// Longest `--reason`, in bytes.
const MAX_REASON: usize = 256;

/// Parses `--reason`.
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

/// Parses a duration greater than zero.
pub(crate) fn period(text: &str) -> Result<Duration, String> {
    duration::with_unit(text)
        .and_then(duration::parse)
        .map_err(|error| format!("{error}; expected {}", time::LENGTH_EXPECTED))
}

/// Parses a duration that may be zero: `0`, `0s`.
pub(crate) fn period_or_zero(text: &str) -> Result<Duration, String> {
    match text.trim() {
        "0" | "0s" => Ok(Duration::ZERO),
        text => period(text),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use clap::CommandFactory as _;

    use super::*;

    /// Every command below `command`, with its path.
    fn walk(command: &clap::Command, path: &str, see: &mut dyn FnMut(&str, &clap::Command)) {
        see(path, command);
        for verb in command.get_subcommands() {
            walk(verb, &format!("{path} {}", verb.get_name()), see);
        }
    }

    /// A heading of a flattened struct must not apply to the arguments after it.
    #[test]
    fn each_argument_is_under_its_own_heading() {
        let mut headings: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        walk(&Cli::command(), "", &mut |_, command| {
            for arg in command.get_arguments() {
                if let Some(heading) = arg.get_help_heading() {
                    let ids = headings.entry(heading.to_owned()).or_default();
                    ids.insert(arg.get_id().to_string());
                }
            }
        });
        insta::assert_debug_snapshot!(headings);
    }

    /// clap wraps paragraphs to the terminal; a line break in one would stay.
    #[test]
    fn a_paragraph_of_help_is_one_line() {
        walk(&Cli::command(), "doorctl", &mut |path, command| {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let lines: Vec<&str> = help.lines().collect();
            let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
            for pair in lines.windows(2).filter(|pair| !pair[0].ends_with(':')) {
                assert!(
                    !(is_prose(pair[0]) && is_prose(pair[1])),
                    "{path}: {pair:?}"
                );
            }
        });
    }

    #[test]
    fn a_floor_may_be_negative() {
        walk(&Cli::command(), "doorctl", &mut |path, command| {
            let places = command.get_arguments().filter(|arg| {
                let names = arg.get_value_names().unwrap_or_default();
                names
                    .iter()
                    .any(|name| ["FLOOR", "BUILDING"].contains(&name.as_str()))
            });
            for place in places {
                assert!(place.is_allow_negative_numbers_set(), "{path} {place}");
            }
        });
    }
}

//! `door-agent`: the program on each Pi.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod commands;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples (F is the agent's configuration file):
  door-agent --config F               run the door until SIGTERM or Ctrl-C
  door-agent check --config F         check it and its environment; drive nothing
  door-agent status --config F        show lock, door, deciding slot and link
  door-agent sim open --config F      open the simulated door of a running agent
  door-agent selftest --config F      test the wiring, wire by wire, with you at the door
  door-agent de-energise --config F   take power off the strike, with no agent running
  door-agent restart NAME             restart its service, if that does not move the lock
  door-agent install NAME ...         make this machine a door, as root

Environment variables override the file: DOOR_AGENT__HUB__MQTT_PORT=8884 sets mqtt_port
of [hub]. SIGHUP reloads the settings.";

const STATUS_EXAMPLES: &str = "\
Examples:
  door-agent status --config /etc/door-agent/lobby-east.toml
  door-agent status --config lobby-east.toml --json | jq .door.report.lockState";

const CHECK_EXAMPLES: &str = "\
One line per check: fine, note or WRONG. The exit status is 1 when anything is wrong.
The pins of a running agent are in use and not tested.

Examples:
  door-agent check --config /etc/door-agent/lobby-east.toml";

const DE_ENERGISE_EXAMPLES: &str = "\
Only [board] of the configuration is read, so that no other mistake prevents it. While an
agent runs it holds the pins and the error names it: stop the agent instead.

Examples:
  door-agent de-energise --config /etc/door-agent/lobby-east.toml";

const INSTALL_EXAMPLES: &str = "\
For a door that its hub has registered, on the machine with the package door-agent. It
checks the settings as `door-agent check` does and stops at what is WRONG, puts them into
/etc/door-agent, starts door-agent@NAME at each boot from now on, and waits a minute until
it is connected. --config names the settings; without it those of an earlier installation
stay. They must have connection_string_file = \"NAME.connection-string\" in [hub], and
with --ca, ca_file = \"NAME.ca.pem\".

It may be repeated: what is there already stays, replaced settings are kept as
NAME.toml.bak, and a running door is restarted only for changes and by the rule of
`door-agent restart`; the exit status is 3 when it keeps running without them.
`doorctl devices enroll` registers a door and does all this over ssh.

Examples (on a laptop, then on the Pi):
  doorctl devices connection-string lobby-east --out lobby-east.connection-string
  sudo door-agent install lobby-east --connection-string lobby-east.connection-string \\
      --ca ca.pem --config lobby-east.toml";

const RESTART_EXAMPLES: &str = "\
An agent that ends takes all power off its strike, and the next one needs a moment until
it drives the door again. So the door is restarted only if the wanted state is the one
without power: a fail-secure strike while it is locked, a fail-safe one while it is
released, a motor lock while its bolt has reached its end position. Otherwise the agent
keeps running, the reason is printed and the exit status is 3. An upgrade of the package
restarts every door of this machine by the same rule.

Examples:
  sudo door-agent restart lobby-east
  sudo door-agent restart --force lobby-east    while a person watches the door";

const SELFTEST_EXAMPLES: &str = "\
For each input it asks you to do something at the door, shows the levels of the pins as
they change, and reports wrong wiring or configuration. Then it moves the strike, after
you have typed `drive`, and asks you to cut the power of the lock. No agent may run at the
same time; the connection string is not needed.

The exit status is 0 when everything is fine, 1 when something is wrong, and 2 when
nothing is wrong but something was skipped. With --script each question takes a line: `ok`
is Enter, `skip` skips it, # begins a comment. On a simulated board an action of
`door-agent sim` is a line too: rex on, cut-power.

Examples:
  door-agent selftest --config /etc/door-agent/lobby-east.toml
  door-agent selftest --script answers.txt --wait 10s --config lobby-east.toml";

/// Controls one door for an Azure IoT Hub or a door-hub
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// The agent's configuration file
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check configuration, credentials, pins, clock and hub; drive nothing
    #[command(after_help = CHECK_EXAMPLES)]
    Check,
    /// Show the state of the running agent
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// Print a JSON document
        #[arg(long)]
        json: bool,
    },
    /// Test the wiring of a door, wire by wire, with you at the door
    #[command(after_help = SELFTEST_EXAMPLES)]
    Selftest(commands::selftest::Options),
    /// Take all power off the strike: for ExecStopPost=, and by hand while no agent runs
    #[command(name = "de-energise", after_help = DE_ENERGISE_EXAMPLES)]
    DeEnergise,
    /// Restart the service of a door, if that does not move its lock
    #[command(after_help = RESTART_EXAMPLES)]
    Restart {
        /// Restart it even if the lock moves
        #[arg(long)]
        force: bool,
        /// The door: the instance of door-agent@.service
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Make this machine a door: settings, key and service, as root
    #[command(after_help = INSTALL_EXAMPLES)]
    Install(commands::install::Options),
    /// Act on the simulated door of a running agent, and show its state
    #[command(after_help = commands::sim::help())]
    Sim {
        /// The action and its arguments
        #[arg(value_name = "ACTION", required = true, num_args = 1..)]
        action: Vec<String>,
        /// How long to press a button: the same as `for TIME` after the action
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
    },
    /// Take and check a door's reboot request; for door-agent-reboot.service, as root
    #[command(name = "reboot-requested", hide = true)]
    RebootRequested {
        /// The request file
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Write man pages and completions into a folder; for the packages
    #[command(hide = true)]
    Documents {
        /// The folder, which must exist
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return commands::print_usage(&error),
    };
    let done = execute(cli);
    door_agent::service::finish_logging();
    match done {
        Ok(status) => commands::exit_code(status),
        Err(error) => {
            commands::print_error(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn execute(Cli { config, command }: Cli) -> anyhow::Result<ExitCode> {
    let door = || {
        config.as_deref().with_context(|| {
            format!(
                "--config is missing: expected --config FILE with the agent's \
                 configuration\n\n{EXAMPLES}"
            )
        })
    };
    match command {
        None => commands::run::run(door()?),
        Some(Command::Check) => commands::check::check(door()?),
        Some(Command::Status { json }) => commands::status::status(door()?, json),
        Some(Command::Selftest(options)) => commands::selftest::selftest(door()?, &options),
        Some(Command::DeEnergise) => commands::de_energise::de_energise(door()?),
        Some(Command::Restart { force, name }) => {
            commands::restart::restart(config.as_deref(), &name, force)
        }
        Some(Command::Install(options)) => commands::install::install(&options, config.as_deref()),
        Some(Command::Sim { action, time }) => commands::sim::simulate(door()?, action, time),
        // These act on the machine, not on a door: no configuration.
        Some(Command::RebootRequested { file }) => commands::reboot_requested::judge(&file),
        Some(Command::Documents { folder }) => {
            commands::documents::write(Cli::command(), &folder).map(|()| ExitCode::SUCCESS)
        }
    }
}

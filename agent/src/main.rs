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
  door-agent check --config F         say what is right and wrong with it; drive nothing
  door-agent status --config F        show lock, door, who holds it, the link
  door-agent sim open --config F      open the simulated door of a running agent
  door-agent selftest --config F      try the wiring, wire by wire, with you at the door
  door-agent de-energise --config F   take power off the strike, with no agent running
  door-agent restart NAME             restart its service, if that does not move the lock

The environment goes over the file: DOOR_AGENT__HUB__MQTT_PORT=8884 sets mqtt_port
of [hub]. SIGHUP reads the settings again.";

const STATUS_EXAMPLES: &str = "\
Examples:
  door-agent status --config /etc/door-agent/lobby-east.toml
  door-agent status --config lobby-east.toml --json | jq .door.report.lockState";

const CHECK_EXAMPLES: &str = "\
A line for each thing: fine, note or WRONG. The exit status is 1 when anything is wrong.
A running agent has its pins; then they are its own and not tried.

Examples:
  door-agent check --config /etc/door-agent/lobby-east.toml";

const DE_ENERGISE_EXAMPLES: &str = "\
Of the configuration only [board] is read, so that no other mistake keeps it from that. A
running agent has its pins and is told of by name: stop it instead.

Examples:
  door-agent de-energise --config /etc/door-agent/lobby-east.toml";

const RESTART_EXAMPLES: &str = "\
An agent that ends takes all power off its strike, and it is a moment until the next one
holds the door again. So the door is restarted only when what is wanted of it is what it is
without power: a fail-secure strike while it is locked, a fail-safe one while it is
released, a motor lock while its bolt is where it should be. Otherwise the running agent
goes on, and what would move is told; the exit status is 1. An upgrade of the package does
the same with every door of this machine.

Examples:
  sudo door-agent restart lobby-east
  sudo door-agent restart --force lobby-east    while somebody watches the door";

const SELFTEST_EXAMPLES: &str = "\
For each input it says what to do at the door, shows the levels of the pins as they
change, and tells which is wired or configured the wrong way. Then it moves the strike,
after you have typed `drive`, and has you cut the power of the lock. No agent may run
meanwhile; the connection string is not needed.

The exit status is 0 when everything is fine, 1 when something is wrong, and 2 when
nothing is but something was left out. With --script each question takes a line: `ok` is
Enter, `skip` leaves it out, # begins a comment. On a simulated board an action of
`door-agent sim` is a line too: rex on, cut-power.

Examples:
  door-agent selftest --config /etc/door-agent/lobby-east.toml
  door-agent selftest --script answers.txt --wait 10s --config lobby-east.toml";

/// Controls one door and takes its orders from an Azure IoT Hub or a door-hub
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
    /// Show what the running agent knows
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// As a JSON document
        #[arg(long)]
        json: bool,
    },
    /// Try the wiring of a door, wire by wire, with you at it
    #[command(after_help = SELFTEST_EXAMPLES)]
    Selftest(commands::selftest::Options),
    /// Take all power off the strike: for ExecStopPost=, and by hand while no agent runs
    #[command(name = "de-energise", after_help = DE_ENERGISE_EXAMPLES)]
    DeEnergise,
    /// Restart the service of a door, if that does not move its lock
    #[command(after_help = RESTART_EXAMPLES)]
    Restart {
        /// Restart it whatever moves
        #[arg(long)]
        force: bool,
        /// The door: the instance of door-agent@.service
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Act on the simulated door of a running agent, and show it
    #[command(after_help = commands::sim::help(), subcommand_negates_reqs = true)]
    Sim {
        #[command(subcommand)]
        script: Option<SimScript>,
        /// What to do at the door: an action and what follows it
        #[arg(value_name = "ACTION", required = true, num_args = 1..)]
        action: Vec<String>,
        /// How long to press a button: the same as `for TIME` after it
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
    },
    /// Take away and judge a door's request to reboot; for door-agent-reboot.service, by root
    #[command(name = "reboot-requested", hide = true)]
    RebootRequested {
        /// The request
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Write man pages and completions into a folder; for the packages
    #[command(hide = true)]
    Documents {
        /// The folder, which is there
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum SimScript {
    /// Carry out a script of actions, waits and expectations
    #[command(after_help = commands::sim::script::help())]
    Script {
        /// The script; `-` reads standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return commands::explain(&error),
    };
    let done = carry_out(cli);
    door_agent::service::finish_logging();
    match done {
        Ok(status) => commands::ended(status),
        Err(error) => {
            commands::complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(Cli { config, command }: Cli) -> anyhow::Result<ExitCode> {
    let door = || {
        config.as_deref().with_context(|| {
            format!("--config is missing, expected --config FILE with the agent's configuration\n\n{EXAMPLES}")
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
        Some(Command::Sim {
            script: Some(SimScript::Script { file }),
            ..
        }) => commands::sim::script::run(door()?, &file),
        Some(Command::Sim { action, time, .. }) => commands::sim::simulate(door()?, action, time),
        // Of the machine and not of a door: they have no configuration.
        Some(Command::RebootRequested { file }) => commands::reboot_requested::judge(&file),
        Some(Command::Documents { folder }) => {
            commands::documents::write(Cli::command(), &folder).map(|()| ExitCode::SUCCESS)
        }
    }
}

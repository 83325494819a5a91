//! `door-agent`: the program on each Pi.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use clap::{Parser, Subcommand};
use door_agent::config::AgentConfig;
use door_agent::gpio::simulated::SimCommand;
use door_agent::gpio::simulated::socket::{self, SimSocket};
use door_agent::status::{self, StatusSocket};
use door_agent::tls::TlsCache;
use door_agent::{Agent, Change, RunningAgent, Shared, gpio, service};
use log::{info, warn};
use tokio::runtime;
use tokio_util::sync::CancellationToken;

/// Name of a simulated door's control socket in the state directory.
const SIM_SOCKET: &str = "sim.sock";

const EXAMPLES: &str = "\
Examples (F is the agent's configuration file):
  door-agent --config F               run the door until SIGTERM or Ctrl-C
  door-agent check --config F         say what is wrong with it; drive nothing
  door-agent status --config F        show lock, door, who holds it, the link
  door-agent sim open --config F      open the simulated door of a running agent
  door-agent de-energise --config F   take power off the strike, with no agent running

The environment goes over the file: DOOR_AGENT__HUB__MQTT_PORT=8884 sets mqtt_port
of [hub].";

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
    /// Check the configuration and every file it names; drive nothing
    Check,
    /// Show what the running agent knows, as JSON
    Status,
    /// Take all power off the strike: for ExecStopPost=, and by hand while no agent runs
    #[command(name = "de-energise")]
    DeEnergise,
    /// Act on the simulated door of a running agent, and show it
    #[command(
        after_help = "Examples:\n  door-agent sim open --config lobby-east.toml\n  door-agent sim jam --config lobby-east.toml"
    )]
    Sim {
        /// What to do at the door
        #[arg(value_name = "ACTION", value_parser = SimCommand::from_str)]
        action: SimCommand,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Some(config) = cli.config else {
        eprintln!(
            "error: --config is missing, expected --config FILE with the agent's configuration\n\n{EXAMPLES}"
        );
        return ExitCode::FAILURE;
    };
    let result = match cli.command {
        None => run(&config),
        Some(Command::Check) => check(&config),
        Some(Command::Status) => show_status(&config),
        Some(Command::DeEnergise) => de_energise(&config),
        Some(Command::Sim { action }) => simulate(&config, action),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the door until a signal or a failure ends it.
fn run(path: &Path) -> anyhow::Result<()> {
    let config = AgentConfig::load(path)?;
    let door = config.hub.connection.device_id.clone();
    service::init_logging(config.log_level, door.as_str())?;
    // Two workers: a TLS handshake on one does not keep the door waiting.
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let shared = Shared::new().context("cannot start the storage thread")?;
        let state = config.state.directory.clone();
        let mut agent = Agent::start(config, &shared).await?;
        let sockets = serve_sockets(&agent, &state);
        info!("{door}: running, state in {}", state.display());
        service::ready(&agent.snapshot().to_string());
        let ended = until_ended(&mut agent).await;
        service::stopping();
        sockets.cancel();
        agent.shutdown().await;
        shared.shutdown();
        info!("{door}: ended");
        ended
    })
}

/// Keeps the status line of the service up to date until something ends the agent.
async fn until_ended(agent: &mut RunningAgent) -> anyhow::Result<()> {
    let mut signal = std::pin::pin!(service::terminated());
    loop {
        tokio::select! {
            signal = &mut signal => {
                info!("{}: {}, draining", agent.door(), signal?);
                return Ok(());
            }
            change = agent.changed() => match change {
                Change::State => service::status(&agent.snapshot().to_string()),
                Change::ControllerEnded => bail!("the controller has ended unexpectedly; see the log above"),
            },
        }
    }
}

/// Serves `door-agent status` and, for a simulated door, `door-agent sim`, until the token is cancelled. A socket that cannot be made (its
/// path may be too long) is a loss to whoever looks, not to the door: it is told, and the door goes on.
fn serve_sockets(agent: &RunningAgent, state: &Path) -> CancellationToken {
    let stop = CancellationToken::new();
    match StatusSocket::bind(state) {
        Ok(socket) => {
            let stopped = stop.clone();
            let snapshots = agent.snapshots();
            tokio::spawn(async move {
                let serve = socket.serve(|| serde_json::json!(snapshots.take()));
                stopped.run_until_cancelled(serve).await;
            });
        }
        Err(error) => warn!(
            "`door-agent status` will find nobody: cannot make its socket in {}: {error}",
            state.display()
        ),
    }
    if let Some(sim) = agent.sim() {
        let path = state.join(SIM_SOCKET);
        match SimSocket::bind(&path, sim) {
            Ok(socket) => drop(tokio::spawn(socket.run(stop.clone()))),
            Err(error) => warn!(
                "`door-agent sim` will find nobody: cannot make the socket {}: {error}",
                path.display()
            ),
        }
    }
    stop
}

fn check(path: &Path) -> anyhow::Result<()> {
    let config = AgentConfig::load(path)?;
    TlsCache::default().client_config(config.hub.ca_file.as_deref())?;
    let hub = &config.hub;
    println!(
        "{}: fine: door {} at {}:{}, state in {}",
        path.display(),
        hub.connection.device_id,
        hub.connection.host_name.host(),
        hub.mqtt_port,
        config.state.directory.display()
    );
    Ok(())
}

fn show_status(path: &Path) -> anyhow::Result<()> {
    let state = AgentConfig::load(path)?.state.directory;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let text = runtime
        .block_on(status::ask(&state))
        .with_context(|| no_agent(&state))?;
    print!("{text}");
    Ok(())
}

fn de_energise(path: &Path) -> anyhow::Result<()> {
    let config = AgentConfig::load(path)?;
    let door = config.hub.connection.device_id.as_str();
    gpio::de_energise(&config.board, door).context("cannot de-energise the strike")
}

fn simulate(path: &Path, action: SimCommand) -> anyhow::Result<()> {
    let state = AgentConfig::load(path)?.state.directory;
    let answer = socket::send(&state.join(SIM_SOCKET), action)
        .with_context(|| format!("{}; [board] kind must be \"simulated\"", no_agent(&state)))?;
    let refusal = serde_json::from_str::<serde_json::Value>(&answer)
        .ok()
        .and_then(|answer| answer["error"].as_str().map(ToOwned::to_owned));
    match refusal {
        Some(refusal) => Err(anyhow!(refusal)),
        None => {
            println!("{answer}");
            Ok(())
        }
    }
}

fn no_agent(state: &Path) -> String {
    format!("no running agent answers in {}", state.display())
}

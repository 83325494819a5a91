//! `door-agent` without a subcommand: runs the door.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use door_agent::gpio::simulated::{SIM_SOCKET, SimSocket};
use door_agent::reboot::AcceptedReboot;
use door_agent::service::{self, SignalAction, Signals};
use door_agent::status::{Status, StatusSocket};
use door_agent::{Agent, AgentConfig, AgentEvent, RunningAgent, Shared};
use log::{error, info, warn};
use tokio::runtime;
use tokio_util::sync::CancellationToken;

/// Runs the door until a signal, a failure or an accepted reboot ends it.
pub(crate) fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let config = AgentConfig::load_to_run(path)?;
    let door = config.hub.connection.device_id.clone();
    service::init_logging(config.log_level, door.as_str())?;
    // Two workers: a TLS handshake on one does not delay the door.
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::catch()?;
        let shared = Shared::new().context("cannot start the storage thread")?;
        log_config_problems(&config);
        let mut agent = Agent::start(config.clone(), &shared).await?;
        let sockets = serve_sockets(&agent, &config.state.directory);
        info!(
            "{door}: running, state in {}",
            config.state.directory.display()
        );
        // Ready: the pins are safe and the state is loaded; the hub need not be reachable.
        service::ready(&agent.snapshot().to_string());
        let ended = run_until_end(&mut agent, &mut signals, path, config).await;
        service::stopping();
        sockets.cancel();
        agent.shutdown().await;
        shared.shutdown();
        if let Some(reboot) = ended? {
            // The door is in its safe state and everything is on disk.
            reboot.ask().context("cannot request a reboot")?;
            info!("{door}: requested a reboot");
        }
        info!("{door}: ended");
        Ok(ExitCode::SUCCESS)
    })
}

/// Keeps the status line of the service up to date until something ends the agent: a signal, or an
/// accepted reboot.
async fn run_until_end(
    agent: &mut RunningAgent,
    signals: &mut Signals,
    path: &Path,
    mut config: AgentConfig,
) -> anyhow::Result<Option<AcceptedReboot>> {
    loop {
        tokio::select! {
            action = signals.next() => match action {
                SignalAction::End(signal) => {
                    info!("{}: {signal}, draining", agent.door());
                    return Ok(None);
                }
                SignalAction::Reload => reload(path, &mut config, agent),
            },
            change = agent.changed() => match change {
                AgentEvent::State => service::status(&agent.snapshot().to_string()),
                AgentEvent::Reboot(wanted) => return Ok(Some(wanted)),
                AgentEvent::ControllerEnded => {
                    bail!("the controller ended unexpectedly; see the log above")
                }
            },
        }
    }
}

/// Logs configuration problems that do not prevent the start.
fn log_config_problems(config: &AgentConfig) {
    for problem in &config.problems {
        warn!(
            "{}: {problem} (`door-agent check` refuses it)",
            config.hub.connection.device_id
        );
    }
}

/// Re-reads the settings and applies those that do not touch the lock. `config` holds the settings
/// in force.
fn reload(path: &Path, config: &mut AgentConfig, agent: &RunningAgent) {
    let door = agent.door();
    let fresh = match AgentConfig::load_to_run(path) {
        Ok(fresh) => fresh,
        Err(errors) => {
            error!("{door}: keeping the present settings: {}", errors.line());
            return;
        }
    };
    if let Some(reason) = &fresh.hub_unusable {
        error!("{door}: keeping the present settings: {reason}");
        return;
    }
    let (device, present) = (
        &fresh.hub.connection.device_id,
        &config.hub.connection.device_id,
    );
    if device != present {
        error!(
            "{door}: keeping the present settings: the connection string names device {device}, \
             expected {present}; another device needs a restart"
        );
        return;
    }
    log_config_problems(&fresh);
    agent.set_config_problems(&fresh.problems);
    match agent.set_hub(fresh.hub.clone()) {
        Ok(changed) => {
            config.hub = fresh.hub;
            if changed {
                info!("{door}: [hub] has changed; reconnecting");
            }
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            error!("{door}: keeping the present [hub]: {error:#}");
        }
    }
    if fresh.log_level != config.log_level {
        log::set_max_level(fresh.log_level);
        config.log_level = fresh.log_level;
        info!("{door}: log.level is now {}", fresh.log_level);
    }
    let waiting: Vec<_> = [
        ("[door]", fresh.door != config.door),
        ("[strike]", fresh.strike != config.strike),
        ("[board]", fresh.board != config.board),
        ("[state]", fresh.state != config.state),
    ]
    .into_iter()
    .filter_map(|(table, differs)| differs.then_some(table))
    .collect();
    if waiting.is_empty() {
        info!("{door}: settings reloaded; no change needs a restart");
    } else {
        warn!(
            "{door}: changes of {} need a restart, which moves the lock",
            waiting.join(", ")
        );
    }
}

/// Serves `door-agent status` and, for a simulated door, `door-agent sim`, until the token is
/// cancelled. A socket that cannot be created (its path may be too long) is logged; the door works
/// without it.
fn serve_sockets(agent: &RunningAgent, state: &Path) -> CancellationToken {
    let stop = CancellationToken::new();
    match StatusSocket::bind(state) {
        Ok(socket) => {
            let stopped = stop.clone();
            let snapshots = agent.snapshots();
            tokio::spawn(async move {
                let serve = socket.serve(|| {
                    let snapshot = snapshots.take();
                    Status {
                        text: snapshot.to_text(),
                        document: serde_json::json!(snapshot),
                    }
                });
                stopped.run_until_cancelled(serve).await;
            });
        }
        Err(error) => warn!(
            "`door-agent status` will not work: cannot create its socket in {}: {error}",
            state.display()
        ),
    }
    if let Some(sim) = agent.sim() {
        let path = state.join(SIM_SOCKET);
        match SimSocket::bind(&path, sim) {
            Ok(socket) => drop(tokio::spawn(socket.run(stop.clone()))),
            Err(error) => warn!(
                "`door-agent sim` will not work: cannot create the socket {}: {error}",
                path.display()
            ),
        }
    }
    stop
}

//! `door-agent sim`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use door_agent::gpio::simulated::{SIM_SOCKET, SimCommand, socket};
use serde_json::Value;

/// Does something at the simulated door of a running agent.
pub(crate) fn simulate(config: &Path, action: SimCommand) -> anyhow::Result<ExitCode> {
    let directories = super::state_directories(config)?;
    let answer = super::ask_running(&directories, |state| {
        socket::send(&state.join(SIM_SOCKET), action)
    })
    .context("[board] kind must be \"simulated\" and the agent must run")?;
    let refusal = serde_json::from_str::<Value>(&answer)
        .ok()
        .and_then(|answer| answer["error"].as_str().map(ToOwned::to_owned));
    match refusal {
        Some(refusal) => bail!(refusal),
        None => {
            println!("{answer}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

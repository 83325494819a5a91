//! `door-agent de-energise`: the last resort, when whoever had the pins was killed.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use door_agent::{AgentConfig, gpio};

/// Takes all power off the strike.
pub(crate) fn de_energise(config: &Path) -> anyhow::Result<ExitCode> {
    let board = AgentConfig::load_board(config)?;
    let door = config.file_stem().unwrap_or_default().to_string_lossy();
    gpio::de_energise(&board, &door).context("cannot de-energise the strike")?;
    println!("{door}: the strike is de-energised");
    Ok(ExitCode::SUCCESS)
}

//! `door-agent de-energise`: the last resort, when whoever had the pins was killed.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use door_agent::{AgentConfig, gpio};

/// Takes all power off the strike, and off what a killed agent drove by a configuration that is
/// gone, or can no longer be read. It speaks when it has acted: whether anybody hears it decides
/// nothing.
pub(crate) fn de_energise(config: &Path) -> anyhow::Result<ExitCode> {
    let door = config.file_stem().unwrap_or_default().to_string_lossy();
    let (left, failed) = gpio::de_energise_left_behind();
    // Neither keeps the other from it, or from being told.
    let strike = match AgentConfig::load_board(config) {
        // The level at which the killed agent's pins are energised is the one that it drove them
        // by.
        Ok(board) => {
            gpio::de_energise(&board, &door, &left).context("cannot de-energise the strike")
        }
        Err(error) => Err(error.into()),
    };
    for pin in &left {
        super::say(format_args!(
            "BCM {pin}, which a killed agent drove, is de-energised"
        ));
    }
    let failed = failed.context("cannot de-energise what a killed agent drove");
    if let Err(error) = &failed {
        super::complain(format_args!("error: {error:#}"));
    }
    strike?;
    super::say(format_args!("{door}: the strike is de-energised"));
    Ok(match failed {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

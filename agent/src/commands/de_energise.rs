//! `door-agent de-energise`: last resort when the process that held the pins was killed.
//!
//! Why: docs/decisions/0005-power-off-at-every-end.md.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use door_agent::{AgentConfig, gpio};

/// Takes all power off the strike, and off pins that a killed agent drove under a configuration
/// that is missing or unreadable now. Prints only afterwards, so that blocked output cannot
/// delay it.
pub(crate) fn de_energise(config: &Path) -> anyhow::Result<ExitCode> {
    let door = config.file_stem().unwrap_or_default().to_string_lossy();
    let (abandoned, failed) = gpio::de_energise_abandoned();
    // A failure of one must not prevent or hide the other.
    let strike = match AgentConfig::load_board(config) {
        // A pin of the killed agent is energised at the level recorded in its claim.
        Ok(board) => {
            gpio::de_energise(&board, &door, &abandoned).context("cannot de-energise the strike")
        }
        Err(error) => Err(error.into()),
    };
    for pin in &abandoned {
        super::print_done(format_args!(
            "{pin}, driven by a killed agent, is de-energised"
        ));
    }
    let failed = failed.context("cannot de-energise the pins of a killed agent");
    if let Err(error) = &failed {
        super::print_error(format_args!("error: {error:#}"));
    }
    strike?;
    super::print_done(format_args!("{door}: the strike is de-energised"));
    Ok(match failed {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

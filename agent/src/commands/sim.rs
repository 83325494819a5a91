//! `door-agent sim`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use door_agent::gpio::simulated::{SIM_SOCKET, SimCommand, VERBS, socket};
use serde_json::Value;

const EXAMPLES: &str = "\
Examples:
  door-agent sim open --config lobby-east.toml
  door-agent sim rex --for 2s --config lobby-east.toml
  door-agent sim cut-sensor bond --config lobby-east.toml";

/// The text after the options in `sim --help`.
pub(crate) fn help() -> String {
    let mut help = String::from("Actions:\n");
    for verb in VERBS {
        let words = format!("{} {}", verb.name, verb.arguments());
        help.push_str(&format!("  {words:<32}  {}\n", verb.about));
    }
    help + "\nAn INPUT is a key of [board.inputs]: door, bond, rex and so on. The resulting state \
            is printed\nas JSON; an action that the door does not allow is an error.\n\n"
        + EXAMPLES
}

/// Performs an action on the simulated door of a running agent.
pub(crate) fn simulate(
    config: &Path,
    mut action: Vec<String>,
    time: Option<String>,
) -> anyhow::Result<ExitCode> {
    if let Some(time) = time {
        action.extend(["for".to_owned(), time]);
    }
    let words: Vec<_> = action.iter().map(String::as_str).collect();
    let command = SimCommand::parse(&words).with_context(|| format!("sim {}", words.join(" ")))?;
    let directories = super::state_directories(config)?;
    let answer = super::query_running(&directories, |state| {
        socket::send(&state.join(SIM_SOCKET), command)
    })
    .context("[board] kind must be \"simulated\" and the agent must run")?;
    match refusal(&answer) {
        Some(refusal) => bail!(refusal),
        None => {
            super::print(format_args!("{answer}\n"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Why the door refused the action, if it did.
fn refusal(answer: &str) -> Option<String> {
    let answer = serde_json::from_str::<Value>(answer).ok()?;
    answer["error"].as_str().map(ToOwned::to_owned)
}

//! The verbs of `door-agent`, a file each. Data goes to stdout, talk to stderr.

pub(crate) mod check;
pub(crate) mod de_energise;
pub(crate) mod documents;
pub(crate) mod reboot_requested;
pub(crate) mod restart;
pub(crate) mod run;
pub(crate) mod selftest;
pub(crate) mod sim;
pub(crate) mod status;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use door_agent::AgentConfig;

/// Prints data. That nobody reads it any more, as behind `| head -1`, is no error and ends nothing.
fn print(text: impl Display) {
    match write!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write to standard output: {error}");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Where the state of a running agent with this configuration may be: where the configuration says, or where a service has it.
fn state_directories(config: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let configured = AgentConfig::load_state_directory(config)?;
    Ok([configured, AgentConfig::service_state(config)])
}

/// Asks the agent behind one of `directories`; the error is of the first, and names what else was tried.
fn ask_running<T>(
    directories: &[PathBuf; 2],
    ask: impl Fn(&Path) -> std::io::Result<T>,
) -> anyhow::Result<T> {
    let [configured, service] = directories;
    match ask(configured) {
        Ok(answer) => Ok(answer),
        Err(error) => ask(service).or(Err(error)).with_context(|| {
            let mut text = format!("no running agent answers in {}", configured.display());
            if configured != service {
                text.push_str(&format!(" or {}", service.display()));
            }
            text
        }),
    }
}

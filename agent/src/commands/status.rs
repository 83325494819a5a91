//! `door-agent status`.

use std::path::Path;
use std::process::ExitCode;

use door_agent::status::{self, Status};
use tokio::runtime;

/// Prints the state of the running agent.
pub(crate) fn status(config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let directories = super::state_directories(config)?;
    let status = super::query_running(&directories, ask)?;
    if json {
        super::print(format_args!("{:#}\n", status.document));
    } else {
        super::print(&status.text);
    }
    Ok(ExitCode::SUCCESS)
}

/// Queries the agent whose state directory is `state`.
pub(super) fn ask(state: &Path) -> std::io::Result<Status> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(status::ask(state))
}

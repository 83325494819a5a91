//! `door-agent status`.

use std::path::Path;
use std::process::ExitCode;

use door_agent::status::{self, Status};
use tokio::runtime;

/// Shows what the running agent knows.
pub(crate) fn status(config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let directories = super::state_directories(config)?;
    let status = super::ask_running(&directories, ask)?;
    if json {
        super::print(format_args!("{:#}\n", status.document));
    } else {
        super::print(&status.text);
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the agent whose state is in a directory.
pub(super) fn ask(state: &Path) -> std::io::Result<Status> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(status::ask(state))
}

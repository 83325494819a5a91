//! `door-agent reboot-requested`: the condition of `door-agent-reboot.service`.

use std::path::Path;
use std::process::ExitCode;

use door_agent::reboot;

/// Succeeds if the machine should be rebooted. Removes the request either way.
pub(crate) fn judge(file: &Path) -> anyhow::Result<ExitCode> {
    let request = reboot::take_request(file)?;
    let reason = request.reason.as_deref().unwrap_or("no reason given");
    super::print_done(format_args!(
        "door {} requests a reboot: {reason:?}",
        request.door
    ));
    Ok(ExitCode::SUCCESS)
}

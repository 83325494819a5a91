//! `door-agent reboot-requested`: the condition of `door-agent-reboot.service`.

use std::path::Path;
use std::process::ExitCode;

use door_agent::reboot;

/// Succeeds when the machine should be rebooted. The request is gone afterwards.
pub(crate) fn judge(file: &Path) -> anyhow::Result<ExitCode> {
    let request = reboot::take_request(file)?;
    let reason = request.reason.as_deref().unwrap_or("no reason given");
    super::say(format_args!(
        "door {} asks for a reboot: {reason:?}",
        request.door
    ));
    Ok(ExitCode::SUCCESS)
}

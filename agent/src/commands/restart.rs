//! `door-agent restart`: restarts a door's service only if that does not move its lock.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use door_agent::AgentConfig;
use door_agent::restart::{NextStart, RunningState};
use door_agent::tls::TlsCache;

/// Exit status when the door was not restarted: the running agent is unaffected.
const NOT_RESTARTED: u8 = 3;

/// Where the service looks for the configurations of the doors.
const CONFIGURATIONS: &str = "/etc/door-agent";

/// Restarts `door-agent@NAME` if that does not move its lock, or if `force` is set; otherwise the
/// exit status is [`NOT_RESTARTED`].
pub(crate) fn restart(config: Option<&Path>, name: &str, force: bool) -> anyhow::Result<ExitCode> {
    let name = parse_name(name)?;
    let config = config.map_or_else(
        || PathBuf::from(format!("{CONFIGURATIONS}/{name}.toml")),
        Path::to_path_buf,
    );
    let stays = if force {
        String::new()
    } else {
        match judge(&config, name) {
            Ok(want) => format!("; the lock stayed {want}"),
            Err(error) => {
                super::print_error(format_args!(
                    "error: {name} is not restarted (`door-agent restart --force {name}` restarts \
                     it even if the lock moves): {error:#}"
                ));
                return Ok(ExitCode::from(NOT_RESTARTED));
            }
        }
    };
    let unit = format!("door-agent@{name}.service");
    let ended = Command::new("systemctl")
        .args(["restart", &unit])
        .status()
        .context("cannot run systemctl, which restarts the service")?;
    if !ended.success() {
        bail!("`systemctl restart {unit}` failed with {ended}: see `journalctl -u {unit}`");
    }
    super::print_done(format_args!("{name}: restarted{stays}"));
    Ok(ExitCode::SUCCESS)
}

/// Checks the name of a door of this machine.
pub(super) fn parse_name(name: &str) -> anyhow::Result<&str> {
    let is_instance = |c: char| c.is_ascii_alphanumeric() || "-_.:\\".contains(c);
    if name.is_empty() || name.starts_with('-') || !name.chars().all(is_instance) {
        bail!(
            "invalid NAME {name:?}: expected the name of a door on this machine, as in \
             door-agent@lobby-east; `systemctl list-units 'door-agent@*'` lists them"
        );
    }
    Ok(name)
}

/// Returns the state that the lock keeps through a restart, or an error if it would move.
fn judge(config: &Path, name: &str) -> anyhow::Result<door_core::Want> {
    let directories = super::state_directories(config)?;
    let status = super::query_running(&directories, super::status::ask).with_context(|| {
        format!(
            "cannot check whether the lock would move; to start a stopped door: \
             `systemctl start door-agent@{name}`"
        )
    })?;
    let Some(state) = RunningState::of(&status.document) else {
        bail!("the running agent is too old: its status does not show whether the lock would move");
    };
    // The next start must succeed: a running agent with outdated settings is better than none.
    let again = "the agent would not start again";
    let next = AgentConfig::load_for_service(config).context(again)?;
    TlsCache::default()
        .client_config(next.hub.ca_file.as_deref(), next.hub.certificate.as_ref())
        .context(again)?;
    match state.judge(NextStart::from(&next)) {
        Ok(want) => Ok(want),
        Err(objection) => bail!("{objection}"),
    }
}

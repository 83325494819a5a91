//! `door-agent restart`: a new start of a door's service that leaves its lock alone, or none.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use door_agent::AgentConfig;
use door_agent::restart::{Next, Standing};
use door_agent::tls::TlsCache;

/// The exit status when the door was left alone: it goes on as it was.
const LEFT_ALONE: u8 = 3;

/// Where the service has the configurations of the doors.
const CONFIGURATIONS: &str = "/etc/door-agent";

/// Restarts `door-agent@NAME`, when that does not move its lock or when it is `force`d; else the
/// exit status is [`LEFT_ALONE`].
pub(crate) fn restart(config: Option<&Path>, name: &str, force: bool) -> anyhow::Result<ExitCode> {
    let is_instance = |c: char| c.is_ascii_alphanumeric() || "-_.:\\".contains(c);
    if name.is_empty() || name.starts_with('-') || !name.chars().all(is_instance) {
        bail!(
            "NAME is {name:?}, expected the name of a door on this machine, as in door-agent@lobby-east; `systemctl list-units 'door-agent@*'` lists them"
        );
    }
    let config = config.map_or_else(
        || PathBuf::from(format!("{CONFIGURATIONS}/{name}.toml")),
        Path::to_path_buf,
    );
    let stays = if force {
        String::new()
    } else {
        match judge(&config, name) {
            Ok(want) => format!("; it was {want} all the while"),
            Err(error) => {
                super::complain(format_args!(
                    "error: {name} is not restarted (`door-agent restart --force {name}` does it whatever moves): {error:#}"
                ));
                return Ok(ExitCode::from(LEFT_ALONE));
            }
        }
    };
    let unit = format!("door-agent@{name}.service");
    let ended = Command::new("systemctl")
        .args(["restart", &unit])
        .status()
        .context("cannot run systemctl, which restarts the service")?;
    if !ended.success() {
        bail!("`systemctl restart {unit}` ended with {ended}; `journalctl -u {unit}` tells why");
    }
    super::say(format_args!("{name}: restarted{stays}"));
    Ok(ExitCode::SUCCESS)
}

/// What the lock stays through a restart.
fn judge(config: &Path, name: &str) -> anyhow::Result<door_core::Want> {
    let directories = super::state_directories(config)?;
    let status = super::ask_running(&directories, super::status::ask).with_context(|| {
        format!("cannot tell what would move; a door that does not run is started by `systemctl start door-agent@{name}`")
    })?;
    let Some(standing) = Standing::of(&status.document) else {
        bail!("its agent is of a version that does not tell what would move");
    };
    // The next start must succeed: a running agent with old settings is more than none.
    let again = "it would not start again";
    let next = AgentConfig::load_for_service(config).context(again)?;
    TlsCache::default()
        .client_config(next.hub.ca_file.as_deref(), next.hub.certificate.as_ref())
        .context(again)?;
    match standing.judge(Next::from(&next)) {
        Ok(want) => Ok(want),
        Err(objection) => bail!("{objection}"),
    }
}

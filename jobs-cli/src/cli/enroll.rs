//! `doorctl devices enroll`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::period;

/// What `--help` says after the options.
pub(crate) const EXAMPLES: &str = "\
Examples:
  doorctl devices enroll pi@10.0.3.7 lobby-east --building 43 --floor 3 --config lobby-east.toml
  doorctl devices enroll pi@10.0.3.7 lobby-east --package door-agent_0.1.0-1_arm64.deb
  doorctl devices enroll root@10.0.3.7 lobby-east --ssh-port 2222 --hub-host 10.0.3.1
  doorctl devices enroll pi@10.0.3.7 lobby-east --config lobby-east.toml --dry-run

Step by step, each told on stderr with its time: looks at the Pi, registers the door, assigns it,
installs the package, sends settings, key and CA, has them checked there (door-agent check), puts
them in place, starts door-agent@NAME, and waits until the door reports. All of it goes through the
system's ssh, with the settings and keys that it has.

It may be repeated: what is there already stays, and a door that runs unchanged is not restarted.
Settings that are replaced stay beside as NAME.toml.bak. When a running door has to be restarted,
`door-agent restart NAME` does it, and refuses when that would move the lock, unless --force.";

/// `devices enroll`.
#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// The Pi, as ssh knows it; root, or a user with sudo that asks for no password.
    #[arg(value_name = "[USER@]HOST")]
    pub(crate) host: String,
    /// What to call the door: letters, digits, `_` and `-`, at most 64.
    pub(crate) name: String,
    /// Assign it to this building (desired property `building`).
    #[arg(long, value_name = "BUILDING")]
    pub(crate) building: Option<String>,
    /// Assign it to this floor (desired property `floor`).
    #[arg(long, value_name = "FLOOR")]
    pub(crate) floor: Option<String>,
    /// The settings of the door: its wiring in [strike], [door] and [board]; [hub] is set right
    /// [default: those on the Pi].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The package of door-agent, or a folder with one for the Pi's architecture [default:
    /// target/packages, else this folder].
    #[arg(long, value_name = "FILE|FOLDER")]
    pub(crate) package: Option<PathBuf>,
    /// The hub's name or address as the Pi reaches it [default: the context's].
    #[arg(long, value_name = "HOST")]
    pub(crate) hub_host: Option<String>,
    /// The hub's port for MQTT over TLS as the Pi reaches it [default: asked of the hub, else
    /// 8883].
    #[arg(long, value_name = "PORT")]
    pub(crate) mqtt_port: Option<u16>,
    /// The Pi's port for ssh.
    #[arg(long, value_name = "PORT")]
    pub(crate) ssh_port: Option<u16>,
    /// An option of ssh, as in -o, such as StrictHostKeyChecking=accept-new; may be repeated.
    #[arg(long = "ssh-option", value_name = "OPTION")]
    pub(crate) ssh_options: Vec<String>,
    /// How long to wait for the door's report, once it runs.
    #[arg(long, default_value = "2m", value_parser = period, value_name = "DURATION")]
    pub(crate) deadline: Duration,
    /// Restart a running door even when that moves its lock.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the steps and change nothing, here, at the hub or on the Pi.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

//! `doorctl devices enroll`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::period;

/// Help after the options.
pub(crate) const EXAMPLES: &str = "\
Examples:
  doorctl devices enroll pi@10.0.3.7 lobby-east --building 43 --floor 3 --config lobby-east.toml
  doorctl devices enroll pi@10.0.3.7 lobby-east --package door-agent_0.1.0-1_arm64.deb
  doorctl devices enroll root@10.0.3.7 lobby-east --ssh-port 2222 --hub-host 10.0.3.1
  doorctl devices enroll pi@10.0.3.7 lobby-east --config lobby-east.toml --dry-run

Steps, each printed on stderr with its duration: inspects the Pi, registers the door, assigns it, \
installs the package, sends settings, key and CA, checks them on the Pi (door-agent check), puts \
them in place, starts door-agent@NAME, and waits until the door reports. All steps use the \
system's ssh with its settings and keys.

Safe to repeat: completed steps are skipped, and a door whose settings did not change is not \
restarted. Replaced settings are kept as NAME.toml.bak. A running door is restarted with \
`door-agent restart NAME`, which refuses if the restart would move the lock, unless --force is \
given.";

#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// Raspberry Pi, as ssh knows it; root, or a user with passwordless sudo.
    #[arg(value_name = "[USER@]HOST")]
    pub(crate) host: String,
    /// Name of the door: letters, digits, `_` and `-`, at most 64.
    pub(crate) name: String,
    /// Assign the door to this building (desired property `building`).
    #[arg(long, allow_negative_numbers = true, value_name = "BUILDING")]
    pub(crate) building: Option<String>,
    /// Assign the door to this floor (desired property `floor`).
    #[arg(long, allow_negative_numbers = true, value_name = "FLOOR")]
    pub(crate) floor: Option<String>,
    /// Settings of the door: its wiring in [strike], [door] and [board]; [hub] is filled in
    /// [default: the settings on the Pi].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// door-agent package, or a folder with one for the Pi's architecture [default:
    /// target/packages, else the current folder].
    #[arg(long, value_name = "FILE|FOLDER")]
    pub(crate) package: Option<PathBuf>,
    /// Name or address of the hub as seen from the Pi [default: that of the context].
    #[arg(long, value_name = "HOST")]
    pub(crate) hub_host: Option<String>,
    /// MQTT over TLS port of the hub as seen from the Pi [default: as reported by the hub, else
    /// 8883].
    #[arg(long, value_name = "PORT")]
    pub(crate) mqtt_port: Option<u16>,
    /// ssh port of the Pi.
    #[arg(long, value_name = "PORT")]
    pub(crate) ssh_port: Option<u16>,
    /// Option for ssh -o, such as StrictHostKeyChecking=accept-new (repeatable).
    #[arg(long = "ssh-option", value_name = "OPTION")]
    pub(crate) ssh_options: Vec<String>,
    /// How long to wait for the door's report after its start.
    #[arg(long, default_value = "2m", value_parser = period, value_name = "DURATION")]
    pub(crate) deadline: Duration,
    /// Restart a running door even if that moves its lock.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the steps; change nothing here, on the hub or on the Pi.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

//! The flags that override settings, and the settings file.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use door_hub::config::{ConfigFile, FILE_NAME};

/// Flags of `serve` and `init`.
#[derive(Args)]
pub(crate) struct StartArguments {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Start even if the database has lost data: it is older than the hub's last writes, or
    /// missing.
    #[arg(long)]
    pub(crate) accept_older: bool,
}

/// Flags that override settings.
#[derive(Args)]
pub(crate) struct Settings {
    /// The data folder; created if it is missing.
    #[arg(long, value_name = "DIR", env = "DOOR_HUB_DATA")]
    pub(crate) data: PathBuf,
    /// The host name that doors and operators connect to, for connection strings and the
    /// certificate. [default: this machine's host name]
    #[arg(long)]
    name: Option<String>,
    /// A further host name or address for the certificate; may be repeated.
    #[arg(long = "san", value_name = "NAME|IP")]
    sans: Vec<String>,
    /// The address to listen on. [default: 0.0.0.0]
    #[arg(long, value_name = "IP")]
    listen: Option<IpAddr>,
    /// The port for MQTT over TLS. [default: 8883]
    #[arg(long, value_name = "PORT")]
    mqtt_port: Option<u16>,
    /// The port for the REST API. [default: 443]
    #[arg(long, value_name = "PORT")]
    https_port: Option<u16>,
    /// The settings file. [default: hub.toml in the data folder, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Settings {
    /// Reads the settings file and applies the flags. Reads the file again with each call.
    pub(crate) fn file(&self) -> anyhow::Result<ConfigFile> {
        let default = self.data.join(FILE_NAME);
        let file = match &self.config {
            Some(path) => ConfigFile::read(path)?,
            None if default.exists() => ConfigFile::read(&default)?,
            None => ConfigFile::default(),
        };
        Ok(file.overridden_by(ConfigFile {
            name: self.name.clone(),
            aliases: (!self.sans.is_empty()).then(|| self.sans.clone()),
            listen: self.listen,
            mqtt_port: self.mqtt_port,
            https_port: self.https_port,
            ..ConfigFile::default()
        }))
    }
}

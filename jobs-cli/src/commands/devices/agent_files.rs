//! The files of a door-agent with a simulated board: configuration, connection string, CA. Existing
//! files are not overwritten, and files written before an error are removed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use iothub_protocol::bulk::BulkItem;
use iothub_protocol::connection_string::HostName;

use super::keys;
use crate::commands::out_file;
use crate::failure::Failure;
use crate::private_file;

/// Paths and contents of the files.
#[derive(Debug)]
pub(super) struct AgentFiles {
    config: PathBuf,
    connection_string: PathBuf,
    ca_file: Option<PathBuf>,
    name: String,
    host: HostName,
    ca: Option<String>,
    /// The hub's port of MQTT over TLS.
    pub(super) mqtt_port: u16,
}

impl AgentFiles {
    /// Files next to `config`, named after the door.
    pub(super) fn new(config: &Path, name: &str, host: HostName, ca: Option<String>) -> Self {
        let next_to_config = |suffix: &str| config.with_file_name(format!("{name}.{suffix}"));
        Self {
            config: config.to_owned(),
            connection_string: next_to_config("connection-string"),
            ca_file: ca.as_ref().map(|_| next_to_config("ca.pem")),
            name: name.to_owned(),
            host,
            ca,
            mqtt_port: 0,
        }
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.config, &self.connection_string]
            .into_iter()
            .chain(&self.ca_file)
    }

    /// Fails when one of the files exists, or their folder does not.
    pub(super) fn refuse_existing(&self) -> anyhow::Result<()> {
        if let Some(path) = self.paths().find(|path| path.symlink_metadata().is_ok()) {
            return Err(Failure::new(format!(
                "{} exists and is not overwritten; nothing was changed",
                path.display()
            ))
            .next("choose another file for --agent-config, or remove it")
            .into());
        }
        let folder = self
            .config
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        match folder {
            Some(folder) if !folder.is_dir() => Err(Failure::new(format!(
                "--agent-config: {} is not a folder; nothing was changed",
                folder.display()
            ))
            .into()),
            _ => Ok(()),
        }
    }

    /// Writes the files for a door that is about to be registered.
    pub(super) fn write(&self, item: &BulkItem) -> anyhow::Result<()> {
        let key = keys::primary_key(item).context("a new door has keys")?;
        let connection_string = keys::connection_string(&self.host, &item.id, key)?;
        self.write_all(&connection_string)
            .inspect_err(|_| self.remove_created())
    }

    /// Removes the files, because the door was not registered.
    pub(super) fn remove_created(&self) {
        for path in self.paths() {
            // `refuse_existing` made sure that this file is new.
            drop(fs::remove_file(path));
        }
    }

    fn write_all(&self, connection_string: &str) -> anyhow::Result<()> {
        private_file::create(&self.connection_string, &format!("{connection_string}\n"))?;
        if let (Some(path), Some(ca)) = (&self.ca_file, &self.ca) {
            out_file::create(path, ca)?;
        }
        out_file::create(&self.config, &self.toml())
    }

    fn toml(&self) -> String {
        let name = &self.name;
        let ca = match self.ca_file {
            Some(_) => format!("ca_file = \"{name}.ca.pem\"\n"),
            None => String::new(),
        };
        format!(
            "\
# Agent of door {name}, with a simulated lock. Run it: door-agent --config {file}

[hub]
connection_string_file = \"{name}.connection-string\"
{ca}mqtt_port = {port}

[strike]
kind = \"motor-lock\"

[board]
kind = \"simulated\"

[state]
directory = \"{name}.state\"
",
            file = self
                .config
                .file_name()
                .unwrap_or_default()
                .to_string_lossy(),
            port = self.mqtt_port,
        )
    }
}

/// What was written, and how to run the agent.
impl fmt::Display for AgentFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config.display();
        write!(
            f,
            "wrote {config} and {}; run the agent: door-agent --config {config}",
            self.connection_string.display()
        )
    }
}

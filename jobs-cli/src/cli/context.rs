//! `doorctl context ...`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Manage contexts: the hubs that doorctl connects to.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Add a hub and make it the current context.
    #[command(after_help = "\
The connection string belongs to a policy: HostName=..;SharedAccessKeyName=..;SharedAccessKey=.. \
door-hub writes it to service-connection-string in its data folder; Azure IoT Hub shows it under \
\"Shared access policies\". doorctl reads it from a file that only you may read (chmod 600), \
never from the command line.

Examples:
  doorctl context add site --connection-string-file data/service-connection-string --ca data/ca.pem
  doorctl context add azure --connection-string-file azure.connection-string --zone Europe/Berlin")]
    Add(AddArgs),
    /// List the contexts and mark the current one.
    List,
    /// Make a context the current one.
    Use {
        /// Name of the context.
        name: String,
    },
    /// Remove a context from this machine.
    Remove {
        /// Name of the context.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Name of the new context.
    pub(crate) name: String,
    /// File with the service connection string (mode 0600).
    #[arg(long, value_name = "FILE")]
    pub(crate) connection_string_file: PathBuf,
    /// PEM file with CA certificates to trust in addition to the system's: door-hub's ca.pem.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Time zone of the doors: Europe/Berlin or a POSIX zone [default: this machine's].
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// Replace an existing context of this name.
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Show the settings in effect.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show each setting with its value and its source, without keys.
    #[command(after_help = "\
Examples:
  doorctl config view
  doorctl config view --context site -o json")]
    View,
}

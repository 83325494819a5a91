//! `doorctl context ...`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The hubs you work with.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Remember a hub, and make it the current one.
    #[command(after_help = "\
The connection string is that of a policy, HostName=..;SharedAccessKeyName=..;SharedAccessKey=.. :
of door-hub the file service-connection-string in its data folder, of Azure IoT Hub the one under
\"Shared access policies\". It is read from a file that only you may read (chmod 600), never from
the command line.

Examples:
  doorctl context add site --connection-string-file data/service-connection-string --ca data/ca.pem
  doorctl context add azure --connection-string-file azure.connection-string --zone Europe/Berlin")]
    Add(AddArgs),
    /// List the contexts; the current one is marked.
    List,
    /// Make a context the current one.
    Use {
        /// The context.
        name: String,
    },
    /// Forget a context.
    Remove {
        /// The context.
        name: String,
    },
}

/// `context add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// What to call it.
    pub(crate) name: String,
    /// File with the service connection string; mode 0600.
    #[arg(long, value_name = "FILE")]
    pub(crate) connection_string_file: PathBuf,
    /// File with CA certificates (PEM) to trust besides the system's: door-hub's ca.pem.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Time zone of the doors: Europe/Berlin, or POSIX; this machine's without it.
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// Replace the context of that name.
    #[arg(long)]
    pub(crate) replace: bool,
}

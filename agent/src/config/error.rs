//! What is wrong with a configuration, said so that a person can mend it: where, which key, what
//! was expected.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why the agent refuses its configuration. Never holds a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("{}: cannot read {what}", path.display())]
    Read {
        /// What the file was wanted for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not TOML.
    #[error("{place}: not TOML: {problem}")]
    Syntax {
        /// File and line, or the environment variable.
        place: String,
        /// What the parser says.
        problem: String,
    },
    /// A key or value is not what was expected.
    #[error("{place}: {key}: {problem}")]
    Invalid {
        /// File and line, or the environment variable.
        place: String,
        /// The key with its tables, joined by dots.
        key: String,
        /// What is wrong with it and what was expected.
        problem: String,
    },
    /// A file that holds a secret is open to others.
    #[error(
        "{}: mode {mode:04o} lets other users read the device's key, expected 0600 or stricter (`chmod 600 {}`)",
        path.display(), path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no connection string to be found.
    #[error(
        "{}: hub.connection_string_file: not set, and there is no systemd credential `connection-string`; expected one of them", path.display()
    )]
    NoConnectionString {
        /// The configuration file.
        path: PathBuf,
    },
    /// The connection string is not one, or not a device's. The text itself is not repeated.
    #[error("{}: {problem}", path.display())]
    ConnectionString {
        /// The file it was read from.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl ConfigError {
    /// Whether it keeps a door from nothing but its hub.
    pub(super) fn is_about_hub(&self) -> bool {
        match self {
            Self::Read { what, .. } => *what == super::connection::WHAT,
            Self::Syntax { .. } => false,
            Self::Invalid { key, .. } => key == "hub" || key.starts_with("hub."),
            Self::TooOpen { .. }
            | Self::NoConnectionString { .. }
            | Self::ConnectionString { .. } => true,
        }
    }
}

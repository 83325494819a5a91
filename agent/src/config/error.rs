//! Configuration errors: place, key, and what was expected.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why the agent refuses its configuration. Never contains a secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{}: cannot read {what}", path.display())]
    Read {
        /// Purpose of the file.
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{place}: not TOML: {problem}")]
    Syntax {
        /// File and line, or the environment variable.
        place: String,
        problem: String,
    },
    /// A key or a value is invalid.
    #[error("{place}: {key}: {problem}")]
    Invalid {
        /// File and line, or the environment variable.
        place: String,
        /// The key with its tables, joined by dots.
        key: String,
        /// The value found and what was expected.
        problem: String,
    },
    /// Other users have access to a file that holds a secret.
    #[error(
        "{}: mode {mode:04o} lets other users read the device's key, expected 0600 or stricter \
         (`chmod 600 {}`)",
        path.display(), path.display()
    )]
    TooOpen {
        path: PathBuf,
        /// The file's permission bits.
        mode: u32,
    },
    /// No connection string is configured.
    #[error(
        "{}: hub.connection_string_file: not set, and there is no systemd credential \
         `connection-string`; expected one of them", path.display()
    )]
    NoConnectionString {
        /// The configuration file.
        path: PathBuf,
    },
    /// Invalid, or not a device's. The text itself is not repeated.
    #[error("{}: {problem}", path.display())]
    ConnectionString {
        /// The file it was read from.
        path: PathBuf,
        problem: String,
    },
}

/// Every mistake of a configuration, at least one.
#[derive(Debug, Error)]
#[error("{}", texts(.0).join("\n"))]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl ConfigErrors {
    /// The mistakes, each with its cause, in the order of the files.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        texts(&self.0)
    }

    /// All mistakes in one line, for a log.
    #[must_use]
    pub fn line(&self) -> String {
        self.texts().join("; ")
    }

    /// Whether the door can start without what is wrong.
    pub(super) fn are_about_hub(&self) -> bool {
        self.0.iter().all(ConfigError::is_about_hub)
    }
}

fn texts(errors: &[ConfigError]) -> Vec<String> {
    let text = |error: &ConfigError| match error {
        ConfigError::Read { source, .. } => format!("{error}: {source}"),
        error => error.to_string(),
    };
    errors.iter().map(text).collect()
}

impl ConfigError {
    /// The key that it is about, if it is known.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Invalid { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Whether the error affects only the hub, so that the door can start without it.
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

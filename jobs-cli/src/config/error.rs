//! Errors of the configuration file.

use std::path::{Path, PathBuf};

use iothub_protocol::connection_string::ConnectionStringError;

use crate::private_file::PrivateFileError;

/// Why a context cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read or written, or its mode is too open.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The content is invalid.
    #[error(
        "{}{}: {message}",
        .path.display(),
        .line.map_or(String::new(), |line| format!(", line {line}"))
    )]
    Parse {
        path: PathBuf,
        /// Counted from 1.
        line: Option<usize>,
        /// The key and what was expected; never a value, which may be a secret.
        message: String,
    },
    #[error("cannot encode the contexts")]
    Write(#[source] toml::ser::Error),
    #[error(
        "no folder for the settings: neither HOME nor XDG_CONFIG_HOME is set; set DOORCTL_CONFIG \
         to a file"
    )]
    NoHome,
    /// Neither a current context nor a name.
    #[error("no context selected")]
    NoContext,
    #[error("unknown context `{name}`{}", listed(.known))]
    UnknownContext {
        name: String,
        /// Existing contexts.
        known: Vec<String>,
    },
    /// Not a service connection string.
    #[error("the connection string cannot be used")]
    ConnectionString(#[source] ConnectionStringError),
    /// Not in the time zone database.
    #[error(
        "`{0}` is not a time zone; expected an IANA name such as Europe/Berlin, or POSIX as in \
         CET-1CEST,M3.5.0,M10.5.0/3"
    )]
    Zone(String),
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "; there are no contexts yet".to_owned(),
        names => format!("; known contexts: {}", names.join(", ")),
    }
}

impl ConfigError {
    /// Keeps the position and omits the line, which may contain a key.
    pub(super) fn parse(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let line = error
            .span()
            .map(|span| 1 + text[..span.start].matches('\n').count());
        Self::Parse {
            path: path.to_owned(),
            line,
            message: error.message().trim_end().replace('\n', "; "),
        }
    }
}

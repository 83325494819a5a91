//! Why the contexts cannot be used.

use std::path::{Path, PathBuf};

use iothub_protocol::connection_string::ConnectionStringError;

use crate::private_file::PrivateFileError;

/// Why the contexts cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read or written, or others may read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is not what it should be.
    #[error("{}{}: {message}", .path.display(), .line.map_or(String::new(), |line| format!(", line {line}")))]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// The key and what was expected; never a value.
        message: String,
    },
    /// The contexts cannot be put into words.
    #[error("cannot encode the contexts")]
    Write(#[source] toml::ser::Error),
    /// No home folder.
    #[error(
        "no folder for the settings: neither HOME nor XDG_CONFIG_HOME is set; set DOORCTL_CONFIG to a file"
    )]
    NoHome,
    /// Nothing is current and nothing was named.
    #[error("no hub is chosen")]
    NoContext,
    /// No context has this name.
    #[error("no context is called `{name}`{}", listed(.known))]
    UnknownContext {
        /// The name given.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The connection string is none of a service.
    #[error("the connection string cannot be used")]
    ConnectionString(#[source] ConnectionStringError),
    /// Not in the database of zones.
    #[error(
        "`{0}` is no time zone; expected an IANA name such as Europe/Berlin, or POSIX as in CET-1CEST,M3.5.0,M10.5.0/3"
    )]
    Zone(String),
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "; there is none yet".to_owned(),
        names => format!("; there are: {}", names.join(", ")),
    }
}

impl ConfigError {
    /// Where the mistake is, without the text around it: that may hold a key.
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

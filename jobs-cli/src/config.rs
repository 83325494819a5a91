//! The contexts: the hubs that doorctl connects to, and the current one. One file with mode 0600.
//!
//! A context contains the connection string and the CA, so that it still works when the files they
//! came from are gone.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use iothub_protocol::connection_string::{ConnectionStringError, ServiceConnectionString};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::private_file::{self, PrivateFileError};
use crate::time;

/// Path of the configuration file, instead of the platform's default.
pub(crate) const CONFIG_VARIABLE: &str = "DOORCTL_CONFIG";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The default of commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default, rename = "context")]
    pub(crate) by_name: BTreeMap<String, Context>,
}

/// A hub and how to connect to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Service connection string; a secret.
    pub(crate) connection_string: String,
    /// CA certificates in PEM, trusted in addition to the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    /// Time zone of time arguments (IANA name or POSIX); default: this machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
}

/// Omits the secret.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("zone", &self.zone)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Parses the connection string.
    pub(crate) fn connection(&self) -> Result<ServiceConnectionString, ConfigError> {
        self.connection_string
            .parse()
            .map_err(ConfigError::ConnectionString)
    }

    /// Time zone of time arguments.
    pub(crate) fn time_zone(&self) -> Result<TimeZone, ConfigError> {
        match &self.zone {
            Some(name) => zone(name),
            None => Ok(time::system_zone()),
        }
    }
}

pub(crate) fn zone(name: &str) -> Result<TimeZone, ConfigError> {
    time::zone(name).ok_or_else(|| ConfigError::Zone(name.to_owned()))
}

impl Contexts {
    /// Reads the file; a missing file has no contexts.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = match private_file::read(path) {
            Ok(text) => text,
            Err(PrivateFileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error.into()),
        };
        toml::from_str(&text).map_err(|error| ConfigError::parse(path, &text, &error))
    }

    /// Changes the file while no other doorctl does; an error of `change` leaves it as it was.
    pub(crate) fn change<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let _lock = private_file::lock(path)?;
        let mut contexts = Self::read(path)?;
        let changed = change(&mut contexts)?;
        let text = toml::to_string(&contexts).map_err(ConfigError::Write)?;
        private_file::replace(path, &text)?;
        Ok(changed)
    }

    /// The context `name`, else the current one.
    pub(crate) fn select(&self, name: Option<&str>) -> Result<(&str, &Context), ConfigError> {
        let name = name
            .or(self.current.as_deref())
            .ok_or(ConfigError::NoContext)?;
        match self.by_name.get_key_value(name) {
            Some((name, context)) => Ok((name, context)),
            None => Err(self.unknown(name)),
        }
    }

    /// The error of an unknown context.
    pub(crate) fn unknown(&self, name: &str) -> ConfigError {
        ConfigError::UnknownContext {
            name: name.to_owned(),
            known: self.by_name.keys().cloned().collect(),
        }
    }
}

/// `$DOORCTL_CONFIG`, else the platform's configuration folder.
pub(crate) fn path() -> Result<PathBuf, ConfigError> {
    match env::var_os(CONFIG_VARIABLE) {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => folder(os_variable, "APPDATA", "XDG_CONFIG_HOME", ".config")
            .map(|folder| folder.join("config.toml"))
            .ok_or(ConfigError::NoHome),
    }
}

/// Folder of state other than settings; `None` if there is no home folder.
pub(crate) fn state_folder() -> Option<PathBuf> {
    folder(
        os_variable,
        "LOCALAPPDATA",
        "XDG_STATE_HOME",
        ".local/state",
    )
}

/// A folder of doorctl: below this variable of Windows or of XDG, else below this folder of the
/// home folder.
fn folder(
    variable: impl Fn(&str) -> Option<PathBuf>,
    windows: &str,
    xdg: &str,
    below_home: &str,
) -> Option<PathBuf> {
    let folder = if cfg!(windows) {
        variable(windows)
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library").join("Application Support"))
    } else {
        // The XDG base directory specification says to ignore a relative path.
        let xdg = variable(xdg).filter(|path| path.is_absolute());
        xdg.or_else(|| variable("HOME").map(|home| home.join(below_home)))
    };
    folder.map(|folder| folder.join("doorctl"))
}

fn os_variable(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

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
    fn parse(path: &Path, text: &str, error: &toml::de::Error) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn lab() -> Context {
        Context {
            connection_string: format!(
                "HostName=hub.example.net;SharedAccessKeyName=service;SharedAccessKey={KEY}"
            ),
            ca: Some("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned()),
            zone: Some("Europe/Berlin".to_owned()),
        }
    }

    #[test]
    fn a_written_file_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("config.toml");
        assert_eq!(Contexts::read(&path).unwrap(), Contexts::default());
        let contexts = Contexts {
            current: Some("lab".to_owned()),
            by_name: BTreeMap::from([("lab".to_owned(), lab())]),
        };
        let all = contexts.clone();
        Contexts::change(&path, |present| {
            *present = all;
            Ok(())
        })
        .unwrap();
        assert_eq!(Contexts::read(&path).unwrap(), contexts);
        assert_eq!(contexts.select(None).unwrap().0, "lab");
    }

    #[test]
    fn an_unknown_context_is_reported_with_the_known_ones() {
        let contexts = Contexts {
            current: None,
            by_name: BTreeMap::from([("lab".to_owned(), lab()), ("site".to_owned(), lab())]),
        };
        let error = contexts.select(Some("lap")).unwrap_err().to_string();
        assert!(
            error.contains("`lap`") && error.contains("lab, site"),
            "{error}"
        );
        assert!(matches!(contexts.select(None), Err(ConfigError::NoContext)));
    }

    #[test]
    fn neither_debug_nor_a_parse_error_shows_the_key() {
        assert!(!format!("{:?}", lab()).contains(KEY));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        private_file::create(
            &path,
            &format!(
                "[context.lab]\nconnection_string = \"SharedAccessKey={KEY}\"\nzona = \"UTC\"\n"
            ),
        )
        .unwrap();
        let error = format!(
            "{:#}",
            anyhow::Error::from(Contexts::read(&path).unwrap_err())
        );
        assert!(
            error.contains("line 3") && error.contains("zona"),
            "{error}"
        );
        assert!(!error.contains(KEY), "{error}");
    }

    #[test]
    fn a_relative_xdg_folder_is_ignored() {
        if cfg!(target_os = "linux") {
            let variable = |name: &str| match name {
                "XDG_CONFIG_HOME" => Some(PathBuf::from("relative")),
                "HOME" => Some(PathBuf::from("/home/op")),
                _ => None,
            };
            let folder = folder(variable, "", "XDG_CONFIG_HOME", ".config");
            assert_eq!(folder, Some(PathBuf::from("/home/op/.config/doorctl")));
        }
    }
}

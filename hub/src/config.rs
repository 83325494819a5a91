//! The hub's settings: the file, the flags that override it, and the result.

mod webhook;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use iothub_protocol::text_file::decode;
use serde::{Deserialize, Serialize};

use crate::pki::{self, ProvidedCertificate};
use crate::webhook::WebhookError;

pub use webhook::WebhookSettings;

/// Azure's port for MQTT over TLS; the official device clients support no other.
pub const DEFAULT_MQTT_PORT: u16 = 8883;

/// Azure's port for the REST API; the official service clients, except Python's, support no other.
pub const DEFAULT_HTTPS_PORT: u16 = 443;

/// The settings file in the data folder, read if no other file is given.
pub const FILE_NAME: &str = "hub.toml";

/// The resolved settings of a hub.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// The data folder; created with mode 0700 if it is missing.
    pub data_directory: PathBuf,
    /// The host name that connection strings carry.
    pub name: String,
    /// Further names and addresses that the certificate covers and that tokens may be issued for.
    pub aliases: Vec<String>,
    /// The server certificate to use instead of one of the hub's own authority.
    pub certificate: Option<ProvidedCertificate>,
    /// PEM files of the authorities (one or more certificates each) whose devices may connect with
    /// certificates.
    pub device_ca_files: Vec<PathBuf>,
    /// The address for MQTT over TLS.
    pub mqtt_address: SocketAddr,
    /// The address for the REST API.
    pub https_address: SocketAddr,
    /// Retention of events.
    pub events: EventLimits,
    /// Retention of the audit record.
    pub audit: AuditLimits,
    /// The receivers of events.
    pub webhooks: Vec<WebhookSettings>,
    /// Whether this start accepts a database that has lost data (`--accept-older`). Not a setting:
    /// it applies to one start.
    pub accept_older: bool,
}

/// Retention of the audit record; each new row removes a few of the oldest if a limit is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditLimits {
    /// Maximum age in days.
    pub max_days: u32,
    /// Maximum number of rows; a row takes at most 5 KiB, usually less than 200 bytes.
    pub max_rows: u64,
}

impl Default for AuditLimits {
    fn default() -> Self {
        Self {
            max_days: 400,
            max_rows: 1_000_000,
        }
    }
}

/// Retention of events; the oldest are removed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventLimits {
    /// Maximum age in days.
    pub max_days: u32,
    /// Maximum number of events.
    pub max_rows: u64,
    /// Maximum sum of their payloads in bytes.
    pub max_bytes: u64,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            max_days: 30,
            max_rows: 1_000_000,
            max_bytes: 512 * 1024 * 1024,
        }
    }
}

/// The settings file. Every key is optional; an unknown key is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// [`HubConfig::name`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// [`HubConfig::aliases`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aliases: Option<Vec<String>>,
    /// The server certificate to use, in PEM, followed by its intermediate certificates; a relative
    /// path starts at the settings file's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// The private key of the server certificate, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// [`HubConfig::device_ca_files`]; a relative path starts at the settings file's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_ca_files: Option<Vec<PathBuf>>,
    /// The address of both listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<IpAddr>,
    /// The port for MQTT over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt_port: Option<u16>,
    /// The port for the REST API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_port: Option<u16>,
    /// The log level: `error`, `warn`, `info`, `debug` or `trace`, also per module
    /// (`info,door_hub=debug`). `RUST_LOG` overrides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// [`HubConfig::events`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<EventLimits>,
    /// [`HubConfig::audit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditLimits>,
    /// [`HubConfig::webhooks`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Vec<WebhookSettings>>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("cannot read the settings file {}", .path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The file is not valid. The message names the key and what was expected.
    #[error("settings file {}{}: {message}", .path.display(), Line(*.line))]
    Parse {
        path: PathBuf,
        /// The line, from 1, if the error has a position.
        line: Option<usize>,
        /// The key and what was expected.
        message: String,
    },
    /// A name that no certificate and no connection string can carry.
    #[error(
        "`{name}` cannot be {role}: expected a host name (letters, digits, `-` and dots) or an IP \
         address"
    )]
    Name {
        name: String,
        /// The setting, with its flag.
        role: &'static str,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("`{0}` is set and `{1}` is not; expected both or none")]
    IncompletePair(&'static str, &'static str),
    /// A webhook whose settings are invalid.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// Both listeners have the same port.
    #[error("--mqtt-port and --https-port are both {0}; expected two different ports")]
    SamePort(u16),
}

/// Displays `, line N` if there is a line.
struct Line(Option<usize>);

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ", line {line}"))
    }
}

impl ConfigFile {
    /// Reads and parses `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = fs::read(path).map_err(failed)?;
        let text = decode(bytes).map_err(|error| failed(io::Error::other(error)))?;
        let file: Self = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            line: error
                .span()
                .map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count()),
            message: describe(&error, &text),
        })?;
        Ok(file.resolve_paths(path.parent().unwrap_or(Path::new(""))))
    }

    /// Writes the settings to `path`, or to the target if it is a symbolic link. Atomic.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mode = fs::metadata(&path).map_or(0o644, |there| there.permissions().mode() & 0o777);
        crate::pki::write_file(&path, &text, mode)
    }

    /// Resolves relative paths against `folder`.
    fn resolve_paths(mut self, folder: &Path) -> Self {
        let webhooks = self.webhook.iter_mut().flatten();
        let webhooks = webhooks.flat_map(WebhookSettings::files_mut);
        let files = self.device_ca_files.iter_mut().flatten().chain(webhooks);
        for path in files
            .chain(&mut self.certificate_file)
            .chain(&mut self.key_file)
        {
            let joined = folder.join(&path);
            // Absolute, because `init` writes these settings to another folder.
            *path = std::path::absolute(&joined).unwrap_or(joined);
        }
        self
    }

    /// The files that the settings refer to.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let given = self.certificate_file.iter().chain(&self.key_file);
        let authorities = self.device_ca_files.iter().flatten();
        let mut webhooks = self.webhook.clone().unwrap_or_default();
        let webhooks = webhooks.iter_mut().flat_map(WebhookSettings::files_mut);
        let files = given.chain(authorities).cloned();
        files.chain(webhooks.map(|path| path.clone())).collect()
    }

    /// Replaces the settings that `over` sets.
    #[must_use]
    pub fn overridden_by(self, over: Self) -> Self {
        Self {
            name: over.name.or(self.name),
            aliases: over.aliases.or(self.aliases),
            certificate_file: over.certificate_file.or(self.certificate_file),
            key_file: over.key_file.or(self.key_file),
            log: over.log.or(self.log),
            device_ca_files: over.device_ca_files.or(self.device_ca_files),
            listen: over.listen.or(self.listen),
            mqtt_port: over.mqtt_port.or(self.mqtt_port),
            https_port: over.https_port.or(self.https_port),
            events: over.events.or(self.events),
            audit: over.audit.or(self.audit),
            webhook: over.webhook.or(self.webhook),
        }
    }

    /// Applies the defaults and validates the settings for a hub with the data folder
    /// `data_directory`.
    pub fn resolve(self, data_directory: PathBuf) -> Result<HubConfig, ConfigError> {
        let listen = self.listen.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mqtt_port = self.mqtt_port.unwrap_or(DEFAULT_MQTT_PORT);
        let https_port = self.https_port.unwrap_or(DEFAULT_HTTPS_PORT);
        if mqtt_port == https_port && mqtt_port != 0 {
            return Err(ConfigError::SamePort(mqtt_port));
        }
        let certificate = match (self.certificate_file, self.key_file) {
            (Some(certificate_file), Some(key_file)) => Some(ProvidedCertificate {
                certificate_file,
                key_file,
            }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::IncompletePair("certificate_file", "key_file"));
            }
            (None, Some(_)) => {
                return Err(ConfigError::IncompletePair("key_file", "certificate_file"));
            }
        };
        let config = HubConfig {
            certificate,
            data_directory,
            name: self.name.unwrap_or_else(pki::default_host_name),
            aliases: self.aliases.unwrap_or_default(),
            device_ca_files: self.device_ca_files.unwrap_or_default(),
            mqtt_address: SocketAddr::new(listen, mqtt_port),
            https_address: SocketAddr::new(listen, https_port),
            events: self.events.unwrap_or_default(),
            audit: self.audit.unwrap_or_default(),
            webhooks: self.webhook.unwrap_or_default(),
            accept_older: false,
        };
        config.check()?;
        Ok(config)
    }
}

impl HubConfig {
    /// A hub on loopback with free ports, for tests and the demo.
    #[must_use]
    pub fn loopback(data_directory: PathBuf) -> Self {
        let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            data_directory,
            name: "localhost".into(),
            aliases: Vec::new(),
            certificate: None,
            device_ca_files: Vec::new(),
            mqtt_address: any_port,
            https_address: any_port,
            events: EventLimits::default(),
            audit: AuditLimits::default(),
            webhooks: Vec::new(),
            accept_older: false,
        }
    }

    /// The settings that differ in `other` and take effect only after a restart.
    pub(crate) fn needs_restart(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let changed = [
            ("name", self.name != other.name),
            ("listen", self.mqtt_address.ip() != other.mqtt_address.ip()),
            (
                "mqtt_port",
                self.mqtt_address.port() != other.mqtt_address.port(),
            ),
            (
                "https_port",
                self.https_address.port() != other.https_address.port(),
            ),
            ("events", self.events != other.events),
            ("audit", self.audit != other.audit),
            ("webhook", self.webhooks != other.webhooks),
        ];
        changed
            .into_iter()
            .filter_map(|(key, changed)| changed.then_some(key))
    }

    /// Validates the names.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_name(&self.name, "the hub's name (--name)")?;
        self.aliases
            .iter()
            .try_for_each(|alias| check_name(alias, "a further name (--san)"))?;
        Ok(webhook::check(&self.webhooks)?)
    }
}

fn check_name(name: &str, role: &'static str) -> Result<(), ConfigError> {
    if name.parse::<IpAddr>().is_ok() || pki::is_host_name(name) {
        Ok(())
    } else {
        Err(ConfigError::Name {
            name: name.to_owned(),
            role,
        })
    }
}

/// The parser's message, with the key in front if the message does not name it.
fn describe(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().trim_end().replace('\n', "; ");
    let line = error.span().and_then(|span| {
        let start = text[..span.start.min(text.len())]
            .rfind('\n')
            .map_or(0, |at| at + 1);
        text[start..].lines().next()
    });
    match line.and_then(|line| line.split_once('=')) {
        Some((key, _)) if !message.contains(key.trim()) => format!("`{}`: {message}", key.trim()),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn read(text: &str) -> Result<ConfigFile, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        std::fs::write(&path, text).unwrap();
        ConfigFile::read(&path)
    }

    #[test]
    fn an_unknown_key_error_names_the_line_and_the_known_keys() {
        let error = read("name = \"hub\"\nmqttport = 1\n")
            .unwrap_err()
            .to_string();
        for part in ["hub.toml, line 2", "mqttport", "mqtt_port"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_type_error_names_the_key_and_the_expected_type() {
        let error = read("\nmqtt_port = \"high\"\n").unwrap_err().to_string();
        for part in ["line 2", "mqtt_port", "expected u16"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn relative_paths_are_resolved_against_the_settings_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        let text = "certificate_file = \"a.pem\"\nkey_file = \"/b.key\"\ndevice_ca_files = \
                    [\"c/d.pem\"]\n";
        std::fs::write(&path, text).unwrap();
        let file = ConfigFile::read(&path).unwrap();
        let expected = [
            folder.path().join("a.pem"),
            "/b.key".into(),
            folder.path().join("c/d.pem"),
        ];
        assert_eq!(file.files(), expected);
        std::fs::write(&path, toml::to_string(&file).unwrap()).unwrap();
        assert_eq!(ConfigFile::read(&path).unwrap(), file);
        let half = ConfigFile {
            key_file: None,
            ..file
        };
        let error = half.resolve("data".into()).unwrap_err().to_string();
        assert!(
            error.contains("`certificate_file` is set and `key_file` is not"),
            "{error}"
        );
    }

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let example = include_str!("../../deploy/examples/hub.toml");
        let plain = read(example).unwrap();
        let resolved = plain.resolve("data".into()).unwrap();
        assert_eq!(resolved.events, EventLimits::default());
        // Uncomment every key: none is unknown, none is missing, and the limits are the defaults.
        let is_key = |line: &str| {
            let key = line.split_once(" = ").map_or(line, |(key, _)| key);
            key.starts_with('[')
                || key.starts_with("\"/")
                || (key != line && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        };
        let whole: String = example
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if is_key(setting) => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let all = read(&whole).unwrap();
        let named = toml::Table::try_from(&all).unwrap();
        let named: BTreeSet<_> = named.keys().map(String::as_str).collect();
        // The error for an unknown key lists the known ones.
        let refusal = read("nonsense = 1").unwrap_err().to_string();
        let (_, there) = refusal.split_once("expected one of").unwrap();
        let there: BTreeSet<_> = there.split('`').skip(1).step_by(2).collect();
        assert_eq!(named, there);
        assert_eq!(all.events, Some(EventLimits::default()));
        assert_eq!(all.audit, Some(AuditLimits::default()));
        assert_eq!(
            (all.mqtt_port, all.https_port),
            (Some(DEFAULT_MQTT_PORT), Some(DEFAULT_HTTPS_PORT))
        );
    }

    #[test]
    fn every_key_is_documented_and_no_other() {
        let keys = |table: &str| -> Vec<String> {
            let refusal = read(&format!("{table}nonsense = 1"))
                .unwrap_err()
                .to_string();
            let (_, known) = refusal.split_once("expected").unwrap();
            let known = known.split('`').skip(1).step_by(2);
            known.map(str::to_owned).collect()
        };
        let mut expected: BTreeSet<String> = keys("").into_iter().collect();
        for (table, header) in [
            ("events", "[events]\n"),
            ("audit", "[audit]\n"),
            ("webhook", "[[webhook]]\n"),
        ] {
            assert!(expected.remove(table));
            let keys = keys(header).into_iter();
            expected.extend(keys.map(|key| format!("{table}.{key}")));
        }
        let page = include_str!("../../docs/reference/hub.md");
        let (_, table) = page.split_once("\n| key | default | meaning |\n").unwrap();
        let rows = table
            .lines()
            .skip(1)
            .map_while(|line| line.strip_prefix("| `"));
        let documented: BTreeSet<String> = rows
            .filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
            .collect();
        assert_eq!(documented, expected);
    }

    #[test]
    fn flags_override_the_file() {
        let file = read("name = \"hub\"\nmqtt_port = 1883\n[events]\nmax_rows = 5\n").unwrap();
        let flags = ConfigFile {
            mqtt_port: Some(9883),
            ..ConfigFile::default()
        };
        let config = file.overridden_by(flags).resolve("data".into()).unwrap();
        assert_eq!(
            (
                config.name.as_str(),
                config.mqtt_address.port(),
                config.https_address.port()
            ),
            ("hub", 9883, 443)
        );
        assert_eq!(
            config.events,
            EventLimits {
                max_rows: 5,
                ..EventLimits::default()
            }
        );
    }

    #[test]
    fn rejects_a_name_with_a_port_and_two_equal_ports() {
        let named = ConfigFile {
            name: Some("hub:443".into()),
            ..ConfigFile::default()
        };
        assert!(matches!(
            named.resolve("data".into()),
            Err(ConfigError::Name { .. })
        ));
        let ports = ConfigFile {
            mqtt_port: Some(7),
            https_port: Some(7),
            ..ConfigFile::default()
        };
        assert!(matches!(
            ports.resolve("data".into()),
            Err(ConfigError::SamePort(7))
        ));
    }
}

//! Connection strings: `Key=Value` parts joined by `;` with the hub, the identity and the
//! credential of a client.
//!
//! - service: `HostName={host};SharedAccessKeyName={policy};SharedAccessKey={base64}`
//! - device: `HostName={host};DeviceId={id}` and one of `SharedAccessKey={base64}`,
//!   `SharedAccessSignature={token}`, `x509=true`; optionally `GatewayHostName={host}`
//!
//! Keys are accepted in any order and case. An error names the key or the number of the part and
//! never repeats a value that could be a secret.

use std::fmt;
use std::str::FromStr;

use crate::id::{DeviceId, IdError, PolicyName};
use crate::sas::{KeyError, SasError, SasToken, SharedAccessKey};

pub use host_name::{HostName, HostNameError};

mod host_name;

/// A connection string of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionString {
    /// Of a service or an operator.
    Service(ServiceConnectionString),
    /// Of a device.
    Device(DeviceConnectionString),
}

/// Connection string of a service: the hub, and a policy to act under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConnectionString {
    /// The hub, optionally with the port of its REST API.
    pub host_name: HostName,
    /// The policy that grants the rights.
    pub policy: PolicyName,
    /// One of the policy's keys.
    pub key: SharedAccessKey,
}

/// Connection string of a device: the hub, and the device to connect as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConnectionString {
    /// The hub, as in user name and token.
    pub host_name: HostName,
    /// The device id.
    pub device_id: DeviceId,
    /// The host to connect to, if it is not the hub itself.
    pub gateway_host_name: Option<HostName>,
    /// How the device authenticates.
    pub credential: DeviceCredential,
}

/// How a device authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceCredential {
    /// By tokens signed with its key.
    Key(SharedAccessKey),
    /// By a given token, until that expires.
    Token(SasTokenText),
    /// By a client certificate.
    X509,
}

/// A token as text. It is a secret: `Debug` hides it, [`SasTokenText::expose_secret`] returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct SasTokenText(Box<str>);

/// Why a text is not a connection string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// The text is empty.
    #[error("the connection string is empty; expected `HostName=...;...`")]
    Empty,
    /// A JSON document, as `az` prints it.
    #[error(
        "JSON, expected the connection string alone (with az: `--query connectionString \
         --output tsv`)"
    )]
    Json,
    /// A variable or key is assigned a connection string: `NAME=HostName=...`.
    #[error("a name stands before the connection string; expected it alone, from `HostName=` on")]
    Assignment,
    /// A part is not `Key=Value`.
    #[error(
        "part {0} of the connection string has no `=`; expected `Key=Value` parts joined by `;`"
    )]
    NoValue(usize),
    /// A part has an unknown key.
    #[error("part {part} of the connection string has an unknown key; expected one of \
        {expected}", expected = KEYS.join(", "))]
    UnknownKey {
        /// Number of the part, from 1.
        part: usize,
    },
    /// A key is repeated.
    #[error("the connection string has `{0}` twice")]
    Repeated(&'static str),
    /// A key has an empty value.
    #[error("`{0}` of the connection string is empty")]
    EmptyValue(&'static str),
    /// A value is invalid and contains a `=`. It may be two parts in one, the second a secret, so
    /// it is not repeated.
    #[error(
        "`{0}` of the connection string holds a `=`; expected a `;` before the next `Key=Value` \
         part"
    )]
    Joined(&'static str),
    /// A required key is missing.
    #[error("the connection string has no `{key}`; expected {expected}")]
    Missing {
        /// The key.
        key: &'static str,
        /// The form of a complete connection string.
        expected: &'static str,
    },
    /// Two keys exclude each other.
    #[error("the connection string has both `{0}` and `{1}`; expected one of them")]
    Conflict(&'static str, &'static str),
    /// The connection string is for a module.
    #[error(
        "the connection string is for a module (`ModuleId`); expected one for a device or a service"
    )]
    Module,
    /// An invalid host name.
    #[error("`{key}` of the connection string: {source}")]
    HostName {
        /// The key.
        key: &'static str,
        /// The cause.
        source: HostNameError,
    },
    /// `DeviceId` or `SharedAccessKeyName` is invalid.
    #[error("`{key}` of the connection string: {source}")]
    Id {
        /// The key.
        key: &'static str,
        /// The cause.
        source: IdError,
    },
    /// `SharedAccessKey` is invalid.
    #[error("`SharedAccessKey` of the connection string: {0}")]
    Key(KeyError),
    /// `SharedAccessSignature` is not a token.
    #[error("`SharedAccessSignature` of the connection string: {0}")]
    Token(SasError),
    /// `x509` is not `true`.
    #[error("`x509` of the connection string is not `true`")]
    X509,
    /// The connection string is of the other kind.
    #[error("the connection string is for a {found}; expected one for a {expected}")]
    Kind {
        /// The kind found.
        found: &'static str,
        /// The kind expected.
        expected: &'static str,
    },
}

const HOST_NAME: &str = "HostName";
const DEVICE_ID: &str = "DeviceId";
const MODULE_ID: &str = "ModuleId";
const GATEWAY_HOST_NAME: &str = "GatewayHostName";
const SHARED_ACCESS_KEY_NAME: &str = "SharedAccessKeyName";
const SHARED_ACCESS_KEY: &str = "SharedAccessKey";
const SHARED_ACCESS_SIGNATURE: &str = "SharedAccessSignature";
const X509: &str = "x509";

const KEYS: [&str; 8] = [
    HOST_NAME,
    DEVICE_ID,
    MODULE_ID,
    GATEWAY_HOST_NAME,
    SHARED_ACCESS_KEY_NAME,
    SHARED_ACCESS_KEY,
    SHARED_ACCESS_SIGNATURE,
    X509,
];

const SERVICE_FORM: &str = "`HostName=...;SharedAccessKeyName=...;SharedAccessKey=...`";
const DEVICE_FORM: &str = "`HostName=...;DeviceId=...;SharedAccessKey=...` (or \
    `SharedAccessSignature=...`, or `x509=true`)";
const EITHER_FORM: &str = "`HostName=...;DeviceId=...;SharedAccessKey=...` for a device or \
    `HostName=...;SharedAccessKeyName=...;SharedAccessKey=...` for a service";

impl FromStr for ConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, ConnectionStringError> {
        let parts = Parts::split(text)?;
        if parts.get(MODULE_ID).is_some() {
            return Err(ConnectionStringError::Module);
        }
        match (parts.get(DEVICE_ID), parts.get(SHARED_ACCESS_KEY_NAME)) {
            (Some(_), None) => read_device(&parts).map(Self::Device),
            (None, Some(_)) => read_service(&parts).map(Self::Service),
            (Some(_), Some(_)) => Err(ConnectionStringError::Conflict(
                DEVICE_ID,
                SHARED_ACCESS_KEY_NAME,
            )),
            (None, None) => Err(ConnectionStringError::Missing {
                key: DEVICE_ID,
                expected: EITHER_FORM,
            }),
        }
    }
}

impl FromStr for ServiceConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, ConnectionStringError> {
        match text.parse()? {
            ConnectionString::Service(service) => Ok(service),
            ConnectionString::Device(_) => Err(ConnectionStringError::Kind {
                found: "device",
                expected: "service",
            }),
        }
    }
}

impl FromStr for DeviceConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, ConnectionStringError> {
        match text.parse()? {
            ConnectionString::Device(device) => Ok(device),
            ConnectionString::Service(_) => Err(ConnectionStringError::Kind {
                found: "service",
                expected: "device",
            }),
        }
    }
}

impl ServiceConnectionString {
    /// The text including its secret, for a file or for a person who asked; never log it.
    #[must_use]
    pub fn expose_secret(&self) -> String {
        let Self {
            host_name,
            policy,
            key,
        } = self;
        format!(
            "{HOST_NAME}={host_name};{SHARED_ACCESS_KEY_NAME}={policy};{SHARED_ACCESS_KEY}={}",
            key.to_base64()
        )
    }
}

impl DeviceConnectionString {
    /// The text including its secret, for a file or for a person who asked; never log it.
    #[must_use]
    pub fn expose_secret(&self) -> String {
        let Self {
            host_name,
            device_id,
            gateway_host_name,
            credential,
        } = self;
        let mut text = format!("{HOST_NAME}={host_name};{DEVICE_ID}={device_id};");
        text += &match credential {
            DeviceCredential::Key(key) => format!("{SHARED_ACCESS_KEY}={}", key.to_base64()),
            DeviceCredential::Token(token) => {
                format!("{SHARED_ACCESS_SIGNATURE}={}", token.expose_secret())
            }
            DeviceCredential::X509 => format!("{X509}=true"),
        };
        if let Some(gateway) = gateway_host_name {
            text += &format!(";{GATEWAY_HOST_NAME}={gateway}");
        }
        text
    }
}

impl SasTokenText {
    /// The token, which is a secret.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl FromStr for SasTokenText {
    type Err = SasError;

    fn from_str(text: &str) -> Result<Self, SasError> {
        SasToken::parse(text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for SasTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SasTokenText(..)")
    }
}

/// The values of a connection string, by index of their key in [`KEYS`].
struct Parts<'a>([Option<&'a str>; KEYS.len()]);

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, ConnectionStringError> {
        let text = text.strip_suffix(';').unwrap_or(text);
        if text.is_empty() {
            return Err(ConnectionStringError::Empty);
        }
        if text.starts_with(['{', '[']) {
            return Err(ConnectionStringError::Json);
        }
        if is_assignment(text) {
            return Err(ConnectionStringError::Assignment);
        }
        let mut values = [None; KEYS.len()];
        for (index, part) in text.split(';').enumerate() {
            let (key, value) = part
                .split_once('=')
                .ok_or(ConnectionStringError::NoValue(index + 1))?;
            let known = KEYS
                .iter()
                .position(|known| known.eq_ignore_ascii_case(key))
                .ok_or(ConnectionStringError::UnknownKey { part: index + 1 })?;
            if value.is_empty() {
                return Err(ConnectionStringError::EmptyValue(KEYS[known]));
            }
            if values[known].replace(value).is_some() {
                return Err(ConnectionStringError::Repeated(KEYS[known]));
            }
        }
        Ok(Self(values))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        KEYS.iter()
            .zip(self.0)
            .find_map(|(known, value)| value.filter(|_| *known == key))
    }

    fn require(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<&'a str, ConnectionStringError> {
        self.get(key)
            .ok_or(ConnectionStringError::Missing { key, expected })
    }
}

/// Whether a name is assigned to a connection string, as in a file with variables.
fn is_assignment(text: &str) -> bool {
    let part = text.split(';').next().unwrap_or_default();
    let name = part
        .split_once(['=', ':'])
        .map(|(name, value)| (name.trim(), value));
    name.is_some_and(|(name, value)| {
        let value = value.trim_start_matches([' ', '"', '\'']);
        let key = value.split('=').next().unwrap_or_default();
        !KEYS.iter().any(|known| known.eq_ignore_ascii_case(name))
            && KEYS.iter().any(|known| known.eq_ignore_ascii_case(key))
            && value.contains('=')
    })
}

fn read_service(parts: &Parts<'_>) -> Result<ServiceConnectionString, ConnectionStringError> {
    for key in [SHARED_ACCESS_SIGNATURE, X509, GATEWAY_HOST_NAME] {
        if parts.get(key).is_some() {
            return Err(ConnectionStringError::Conflict(SHARED_ACCESS_KEY_NAME, key));
        }
    }
    let host_name = read_host(HOST_NAME, parts.require(HOST_NAME, SERVICE_FORM)?)?;
    let policy = read_id(
        SHARED_ACCESS_KEY_NAME,
        parts.require(SHARED_ACCESS_KEY_NAME, SERVICE_FORM)?,
    )?;
    let key = read_key(parts.require(SHARED_ACCESS_KEY, SERVICE_FORM)?)?;
    Ok(ServiceConnectionString {
        host_name,
        policy,
        key,
    })
}

fn read_device(parts: &Parts<'_>) -> Result<DeviceConnectionString, ConnectionStringError> {
    let host_name = read_host(HOST_NAME, parts.require(HOST_NAME, DEVICE_FORM)?)?;
    let device_id = read_id(DEVICE_ID, parts.require(DEVICE_ID, DEVICE_FORM)?)?;
    let gateway = parts.get(GATEWAY_HOST_NAME);
    let gateway_host_name = gateway
        .map(|text| read_host(GATEWAY_HOST_NAME, text))
        .transpose()?;
    let credential = read_credential(parts)?;
    Ok(DeviceConnectionString {
        host_name,
        device_id,
        gateway_host_name,
        credential,
    })
}

fn read_credential(parts: &Parts<'_>) -> Result<DeviceCredential, ConnectionStringError> {
    let x509 = match parts.get(X509) {
        None => false,
        Some(text) if text.eq_ignore_ascii_case("true") => true,
        Some(_) => return Err(ConnectionStringError::X509),
    };
    match (
        parts.get(SHARED_ACCESS_KEY),
        parts.get(SHARED_ACCESS_SIGNATURE),
        x509,
    ) {
        (Some(key), None, false) => Ok(DeviceCredential::Key(read_key(key)?)),
        (None, Some(token), false) => Ok(DeviceCredential::Token(
            token.parse().map_err(ConnectionStringError::Token)?,
        )),
        (None, None, true) => Ok(DeviceCredential::X509),
        (None, None, false) => Err(ConnectionStringError::Missing {
            key: SHARED_ACCESS_KEY,
            expected: DEVICE_FORM,
        }),
        (Some(_), Some(_), _) => Err(ConnectionStringError::Conflict(
            SHARED_ACCESS_KEY,
            SHARED_ACCESS_SIGNATURE,
        )),
        (Some(_), None, true) => Err(ConnectionStringError::Conflict(SHARED_ACCESS_KEY, X509)),
        (None, Some(_), true) => Err(ConnectionStringError::Conflict(
            SHARED_ACCESS_SIGNATURE,
            X509,
        )),
    }
}

fn read_host(key: &'static str, text: &str) -> Result<HostName, ConnectionStringError> {
    text.parse().map_err(|source| match text.contains('=') {
        true => ConnectionStringError::Joined(key),
        false => ConnectionStringError::HostName { key, source },
    })
}

fn read_id<T: FromStr<Err = IdError>>(
    key: &'static str,
    text: &str,
) -> Result<T, ConnectionStringError> {
    text.parse().map_err(|source| match text.contains('=') {
        true => ConnectionStringError::Joined(key),
        false => ConnectionStringError::Id { key, source },
    })
}

fn read_key(text: &str) -> Result<SharedAccessKey, ConnectionStringError> {
    SharedAccessKey::from_base64(text).map_err(ConnectionStringError::Key)
}

#[cfg(test)]
mod tests;

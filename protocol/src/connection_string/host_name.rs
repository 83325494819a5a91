//! The name or address of a hub or gateway.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a hub or gateway: a host name or an address, optionally with a port
/// (`hub.example.net:8443`, `[::1]:8443`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostName {
    text: Arc<str>,
    host_length: usize,
    port: Option<u16>,
}

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Neither a name nor an address.
    #[error(
        "{0:?} is not a host name; expected a name or an address without `https://` or a path, \
         perhaps with `:port`"
    )]
    Host(String),
    /// The text after the colon is not a port.
    #[error("{0:?} has no port after the `:`; expected a number from 1 to 65535")]
    Port(String),
}

impl HostName {
    /// The whole text, including the port.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name or address alone, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = &self.text[..self.host_length];
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port, if it has one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        let (host_length, is_host) = match text.find(']') {
            Some(end) if text.starts_with('[') => {
                (end + 1, text[1..end].parse::<Ipv6Addr>().is_ok())
            }
            _ => {
                let end = text.find(':').unwrap_or(text.len());
                (end, is_dns_name(&text[..end]))
            }
        };
        if !is_host || text.contains('/') {
            return Err(HostNameError::Host(text.to_owned()));
        }
        let port = match &text[host_length..] {
            "" => None,
            rest => Some(read_port(rest).ok_or_else(|| HostNameError::Port(text.to_owned()))?),
        };
        Ok(Self {
            text: text.into(),
            host_length,
            port,
        })
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

/// Letters, digits, hyphens, dots and (seen in private networks) underscores; at most 253 of them,
/// and no empty label.
fn is_dns_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
}

fn read_port(text: &str) -> Option<u16> {
    let digits = text
        .strip_prefix(':')
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|&port| port != 0)
}

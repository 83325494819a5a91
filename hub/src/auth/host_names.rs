//! The host names of this hub.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

/// Host names in lower case, without ports. Clones share them, and they can be replaced while the
/// hub runs.
#[derive(Debug, Clone)]
pub(crate) struct HostNames(Arc<RwLock<BTreeSet<String>>>);

impl HostNames {
    /// Accepts names and addresses in any case.
    pub(crate) fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        Self(Arc::new(RwLock::new(lower_case(names))))
    }

    pub(crate) fn replace<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = lower_case(names);
    }

    /// Whether `host`, with or without a port, is one of them. Azure's Python service SDK signs
    /// over `host:port`.
    #[must_use]
    pub(crate) fn accept(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.contains(&host) || names.contains(without_port(&host))
    }
}

fn lower_case<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> BTreeSet<String> {
    names
        .into_iter()
        .map(|name| name.as_ref().to_ascii_lowercase())
        .collect()
}

fn without_port(host: &str) -> &str {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    name.strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_accepted_with_and_without_a_port_and_brackets() {
        let names = HostNames::new(["Hub.example.net", "127.0.0.1", "fd00::1"]);
        for (host, accepted) in [
            ("hub.EXAMPLE.net", true),
            ("hub.example.net:443", true),
            ("127.0.0.1:8443", true),
            ("[fd00::1]:443", true),
            ("[fd00::1]", true),
            ("fd00::1", true),
            ("hub.example.net:", false),
            ("hub.example.net:x", false),
            ("[hub.example.net", false),
            ("fd00::2", false),
            ("", false),
        ] {
            assert_eq!(names.accept(host), accepted, "{host}");
        }
    }
}

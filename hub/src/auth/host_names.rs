//! The names that this hub answers to.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Host names in lower case, without ports. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct HostNames(Arc<BTreeSet<String>>);

impl HostNames {
    /// Takes names and addresses in any case.
    pub(crate) fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        Self(Arc::new(
            names
                .into_iter()
                .map(|name| name.as_ref().to_ascii_lowercase())
                .collect(),
        ))
    }

    /// Whether `host`, with or without a port, is one of them. Azure's Python service SDK signs over `host:port`.
    #[must_use]
    pub(crate) fn accept(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.0.contains(&host) || self.0.contains(without_port(&host))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            name.strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'))
                .unwrap_or(name)
        }
        _ => host,
    }
}

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

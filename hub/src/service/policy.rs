//! The policies in memory, by which every token is judged, and the rules by which they are changed.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use iothub_protocol::id::PolicyName;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::generate_key;
use crate::identity::{Keys, Policy, Rights};
use crate::session::{DisconnectReason, Registry};
use crate::store::{PolicyFile, StoreError};

/// The policy that may do everything; its connection string is written out for the operator.
pub(crate) const OWNER: &str = "iothubowner";

/// How many policies there may be (IoT Hub limits).
const MAX_POLICIES: usize = 16;

/// How many of them may have ServiceConnect.
const MAX_SERVICE: usize = 10;

/// How often a running hub looks whether they were changed beside it: so long a removed policy
/// still opens.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Azure's policies, which every hub has from the beginning.
const POLICIES: [(&str, Rights); 5] = [
    (OWNER, Rights::ALL),
    ("service", Rights::SERVICE_CONNECT),
    ("device", Rights::DEVICE_CONNECT),
    ("registryRead", Rights::REGISTRY_READ),
    ("registryReadWrite", Rights::REGISTRY_WRITE),
];

/// They, with new keys.
pub(crate) fn default_policies() -> Vec<Policy> {
    POLICIES
        .map(|(name, rights)| fresh(name.parse().expect("these names are good"), rights))
        .into()
}

fn fresh(name: PolicyName, rights: Rights) -> Policy {
    let keys = Keys {
        primary: generate_key(),
        secondary: generate_key(),
    };
    Policy { name, keys, rights }
}

/// Which of a policy's two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKey {
    /// The one that is handed out.
    Primary,
    /// The other.
    Secondary,
}

impl fmt::Display for PolicyKey {
    /// As `door-hub policy --key` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// Why the policies are not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// There is one of that name.
    #[error("there is a policy `{0}` already; `rotate` gives it new keys")]
    Exists(PolicyName),
    /// There is none of that name.
    #[error("there is no policy `{name}`; there are {present}")]
    Unknown {
        /// The name given.
        name: PolicyName,
        /// Those there are.
        present: String,
    },
    /// It would allow nothing.
    #[error("policy `{0}` would have no rights; expected at least one")]
    NoRights(PolicyName),
    /// There are as many as there may be.
    #[error(
        "there are {MAX_POLICIES} policies already, and there may be no more; remove one first"
    )]
    TooMany,
    /// There are as many with ServiceConnect as there may be.
    #[error(
        "{MAX_SERVICE} policies have ServiceConnect already, and no more may; remove one first"
    )]
    TooManyService,
    /// The owner's policy stays.
    #[error(
        "`{OWNER}` cannot be removed: its connection string is the operator's; `rotate` gives it new keys"
    )]
    Owner,
    /// Nobody could register devices any more.
    #[error("`{0}` is the last policy with RegistryWrite and cannot be removed")]
    LastRegistryWrite(PolicyName),
    /// The database cannot be read or written.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
}

/// Adds a policy with new keys, and returns it.
pub(crate) fn add(
    policies: &mut Vec<Policy>,
    name: PolicyName,
    rights: Rights,
) -> Result<Policy, PolicyError> {
    if policies.iter().any(|policy| policy.name == name) {
        return Err(PolicyError::Exists(name));
    }
    if rights == Rights::NONE {
        return Err(PolicyError::NoRights(name));
    }
    if policies.len() >= MAX_POLICIES {
        return Err(PolicyError::TooMany);
    }
    let service = |policy: &&Policy| policy.rights.contain(Rights::SERVICE_CONNECT);
    if rights.contain(Rights::SERVICE_CONNECT)
        && policies.iter().filter(service).count() >= MAX_SERVICE
    {
        return Err(PolicyError::TooManyService);
    }
    let policy = fresh(name, rights);
    policies.push(policy.clone());
    Ok(policy)
}

/// The policy of that name.
pub(crate) fn find<'a>(
    policies: &'a mut [Policy],
    name: &PolicyName,
) -> Result<&'a mut Policy, PolicyError> {
    match policies.iter().position(|policy| policy.name == *name) {
        Some(index) => Ok(&mut policies[index]),
        None => {
            let present: Vec<_> = policies
                .iter()
                .map(|policy| format!("`{}`", policy.name))
                .collect();
            Err(PolicyError::Unknown {
                name: name.clone(),
                present: present.join(", "),
            })
        }
    }
}

/// Gives a policy a new key, and returns it.
pub(crate) fn rotate(
    policies: &mut [Policy],
    name: &PolicyName,
    key: PolicyKey,
) -> Result<Policy, PolicyError> {
    let policy = find(policies, name)?;
    match key {
        PolicyKey::Primary => policy.keys.primary = generate_key(),
        PolicyKey::Secondary => policy.keys.secondary = generate_key(),
    }
    Ok(policy.clone())
}

/// Removes a policy.
pub(crate) fn remove(policies: &mut Vec<Policy>, name: &PolicyName) -> Result<(), PolicyError> {
    let rights = find(policies, name)?.rights;
    if *name == OWNER {
        return Err(PolicyError::Owner);
    }
    let others = policies.iter().filter(|policy| policy.name != *name);
    if rights.contain(Rights::REGISTRY_WRITE)
        && !others
            .map(|policy| policy.rights)
            .any(|rights| rights.contain(Rights::REGISTRY_WRITE))
    {
        return Err(PolicyError::LastRegistryWrite(name.clone()));
    }
    policies.retain(|policy| policy.name != *name);
    Ok(())
}

/// The policies of a running hub. Clones share them.
#[derive(Clone)]
pub(crate) struct PolicyService {
    registry: Registry,
    held: Arc<Held>,
}

struct Held {
    policies: RwLock<HashMap<PolicyName, Policy>>,
    /// Rises with each change.
    version: AtomicU64,
}

impl PolicyService {
    pub(super) fn new(registry: Registry, policies: Vec<Policy>) -> Self {
        Self {
            registry,
            held: Arc::new(Held {
                policies: RwLock::new(by_name(policies)),
                version: AtomicU64::new(0),
            }),
        }
    }

    /// The policy of that name.
    pub(crate) fn get(&self, name: &PolicyName) -> Option<Policy> {
        let held = self.held.policies.read();
        held.unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Rises when any policy changes: what was judged under another version has to be judged again.
    pub(crate) fn version(&self) -> u64 {
        self.held.version.load(Ordering::Acquire)
    }

    /// Looks again and again whether another process has changed the policies, and ends the
    /// connections that were made with one that did. It has a connection to the database of its
    /// own: long queries do not delay it.
    pub(crate) async fn watch(self, mut file: PolicyFile, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let read = tokio::task::spawn_blocking(move || {
                let policies = file.list();
                (file, policies)
            });
            let policies = match read.await {
                Ok((again, policies)) => {
                    file = again;
                    policies
                }
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            };
            match policies {
                Ok(policies) => self.take(by_name(policies)),
                Err(error) => {
                    tracing::error!(%error, "the policies cannot be read; those before still hold");
                }
            }
        }
    }

    fn take(&self, policies: HashMap<PolicyName, Policy>) {
        let before = {
            let held = self.held.policies.read();
            held.unwrap_or_else(PoisonError::into_inner).clone()
        };
        if before == policies {
            return;
        }
        let changed: Vec<_> = before
            .into_iter()
            .filter(|(name, policy)| policies.get(name) != Some(policy))
            .map(|(name, _)| name)
            .collect();
        let held = self.held.policies.write();
        *held.unwrap_or_else(PoisonError::into_inner) = policies;
        self.held.version.fetch_add(1, Ordering::Release);
        tracing::info!("the policies have been changed");
        for policy in changed {
            self.registry
                .disconnect_policy(&policy, DisconnectReason::CredentialsChanged);
        }
    }
}

fn by_name(policies: Vec<Policy>) -> HashMap<PolicyName, Policy> {
    policies
        .into_iter()
        .map(|policy| (policy.name.clone(), policy))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PolicyName {
        text.parse().unwrap()
    }

    #[test]
    fn allows_at_most_16_policies_and_10_with_service_connect() {
        let mut policies = default_policies();
        for number in 0..8 {
            let added = add(
                &mut policies,
                name(&format!("s{number}")),
                Rights::SERVICE_CONNECT,
            );
            assert!(added.is_ok(), "{number}");
        }
        let more = Rights::SERVICE_CONNECT.and(Rights::REGISTRY_READ);
        assert!(matches!(
            add(&mut policies, name("s8"), more),
            Err(PolicyError::TooManyService)
        ));
        for number in 0..3 {
            let added = add(
                &mut policies,
                name(&format!("r{number}")),
                Rights::REGISTRY_READ,
            );
            assert!(added.is_ok(), "{number}");
        }
        assert!(matches!(
            add(&mut policies, name("r3"), Rights::REGISTRY_READ),
            Err(PolicyError::TooMany)
        ));
        remove(&mut policies, &name("s0")).unwrap();
        assert!(add(&mut policies, name("s8"), more).is_ok());
    }

    #[test]
    fn rotation_replaces_one_key_and_keeps_the_other() {
        let mut policies = default_policies();
        let before = policies[1].clone();
        let after = rotate(&mut policies, &before.name, PolicyKey::Secondary).unwrap();
        assert_eq!(after.keys.primary, before.keys.primary);
        assert_ne!(after.keys.secondary, before.keys.secondary);
        assert_eq!(policies[1], after);
    }

    #[test]
    fn the_owner_and_the_last_policy_with_registry_write_cannot_be_removed() {
        let mut policies = default_policies();
        assert!(matches!(
            remove(&mut policies, &name(OWNER)),
            Err(PolicyError::Owner)
        ));
        policies.retain(|policy| policy.name != OWNER);
        assert!(matches!(
            remove(&mut policies, &name("registryReadWrite")),
            Err(PolicyError::LastRegistryWrite(_))
        ));
        assert!(remove(&mut policies, &name("registryRead")).is_ok());
        let error = remove(&mut policies, &name("registryRead")).unwrap_err();
        assert!(error.to_string().contains("`service`"), "{error}");
        let error = add(&mut policies, name("service"), Rights::ALL).unwrap_err();
        assert!(matches!(error, PolicyError::Exists(_)));
        let error = add(&mut policies, name("idle"), Rights::NONE).unwrap_err();
        assert!(matches!(error, PolicyError::NoRights(_)));
    }
}

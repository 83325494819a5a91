//! The policies in memory, which authenticate every token, and the rules for changing them.

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

/// The policy with all rights; its connection string is written to a file for the operator.
pub(crate) const OWNER: &str = "iothubowner";

/// The most policies of a hub (IoT Hub limits).
const MAX_POLICIES: usize = 16;

/// The most policies with ServiceConnect.
const MAX_SERVICE: usize = 10;

/// Poll interval for policies changed by another process; a removed policy stays valid at most this
/// long.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Azure's default policies, which every hub starts with.
const POLICIES: [(&str, Rights); 5] = [
    (OWNER, Rights::ALL),
    ("service", Rights::SERVICE_CONNECT),
    ("device", Rights::DEVICE_CONNECT),
    ("registryRead", Rights::REGISTRY_READ),
    ("registryReadWrite", Rights::REGISTRY_WRITE),
];

/// [`POLICIES`] with new keys.
pub(crate) fn default_policies() -> Vec<Policy> {
    POLICIES
        .map(|(name, rights)| with_new_keys(name.parse().expect("these names are good"), rights))
        .into()
}

fn with_new_keys(name: PolicyName, rights: Rights) -> Policy {
    let keys = Keys {
        primary: generate_key(),
        secondary: generate_key(),
    };
    Policy { name, keys, rights }
}

/// Which of a policy's two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKey {
    Primary,
    Secondary,
}

impl fmt::Display for PolicyKey {
    /// The spelling of `door-hub policy --key`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// Why a change of the policies was rejected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    #[error("policy `{0}` already exists; `rotate` gives it new keys")]
    Exists(PolicyName),
    #[error("there is no policy `{name}`; this hub has {present}")]
    Unknown {
        name: PolicyName,
        /// The names of the hub's policies.
        present: String,
    },
    #[error("policy `{0}` would have no rights; expected at least one")]
    NoRights(PolicyName),
    #[error("there are already {MAX_POLICIES} policies, the maximum; remove one first")]
    TooMany,
    #[error(
        "there are already {MAX_SERVICE} policies with ServiceConnect, the maximum; \
         remove one first"
    )]
    TooManyService,
    /// The owner's policy cannot be removed.
    #[error(
        "`{OWNER}` cannot be removed: the operator's connection string uses it; \
         `rotate` gives it new keys"
    )]
    Owner,
    /// Without it, nobody could register devices.
    #[error("`{0}` is the last policy with RegistryWrite and cannot be removed")]
    LastRegistryWrite(PolicyName),
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
}

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
    let service = |policy: &&Policy| policy.rights.contains(Rights::SERVICE_CONNECT);
    if rights.contains(Rights::SERVICE_CONNECT)
        && policies.iter().filter(service).count() >= MAX_SERVICE
    {
        return Err(PolicyError::TooManyService);
    }
    let policy = with_new_keys(name, rights);
    policies.push(policy.clone());
    Ok(policy)
}

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

/// Replaces one key of a policy with a new one, and returns the policy.
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

pub(crate) fn remove(policies: &mut Vec<Policy>, name: &PolicyName) -> Result<(), PolicyError> {
    let rights = find(policies, name)?.rights;
    if *name == OWNER {
        return Err(PolicyError::Owner);
    }
    let others = policies.iter().filter(|policy| policy.name != *name);
    if rights.contains(Rights::REGISTRY_WRITE)
        && !others
            .map(|policy| policy.rights)
            .any(|rights| rights.contains(Rights::REGISTRY_WRITE))
    {
        return Err(PolicyError::LastRegistryWrite(name.clone()));
    }
    policies.retain(|policy| policy.name != *name);
    Ok(())
}

/// The policies of a running hub; clones share them.
#[derive(Clone)]
pub(crate) struct PolicyService {
    registry: Registry,
    held: Arc<SharedPolicies>,
}

struct SharedPolicies {
    policies: RwLock<HashMap<PolicyName, Policy>>,
    /// Increases with each change.
    version: AtomicU64,
}

impl PolicyService {
    pub(super) fn new(registry: Registry, policies: Vec<Policy>) -> Self {
        Self {
            registry,
            held: Arc::new(SharedPolicies {
                policies: RwLock::new(by_name(policies)),
                version: AtomicU64::new(0),
            }),
        }
    }

    pub(crate) fn get(&self, name: &PolicyName) -> Option<Policy> {
        let held = self.held.policies.read();
        held.unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Increases with each change of a policy: what was authenticated under another version must be
    /// authenticated again.
    pub(crate) fn version(&self) -> u64 {
        self.held.version.load(Ordering::Acquire)
    }

    /// Polls the policies for changes by another process, and disconnects the connections that
    /// authenticated with a changed policy. It has its own database connection, so that long
    /// queries do not delay it.
    pub(crate) async fn watch(self, mut file: PolicyFile, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
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
                Ok(policies) => self.replace(by_name(policies)),
                Err(error) => {
                    tracing::error!(
                        %error,
                        "cannot read the policies; the previous ones remain in force"
                    );
                }
            }
        }
    }

    fn replace(&self, policies: HashMap<PolicyName, Policy>) {
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
        tracing::info!("the policies changed");
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
        let more = Rights::SERVICE_CONNECT.union(Rights::REGISTRY_READ);
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

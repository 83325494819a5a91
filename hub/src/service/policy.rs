//! The policies in memory, which authenticate every token, and the rules for changing them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use iothub_protocol::id::{JobId, PolicyName};
pub use iothub_protocol::policy::PolicyKey;
use iothub_protocol::policy::{Bounds, BoundsError};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::generate_key;
use crate::identity::{Keys, Policy, Rights};
use crate::session::{DisconnectReason, Registry};
use crate::store::{PolicyFile, Store, StoreError};

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
    let bounds = None;
    Policy {
        name,
        keys,
        rights,
        bounds,
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
    /// The owner's policy keeps all rights.
    #[error(
        "`{OWNER}` cannot be removed or limited: the operator's connection string uses it; \
         `rotate` gives it new keys"
    )]
    Owner,
    /// Without it, nobody could change policies from elsewhere.
    #[error(
        "`{0}` is the last policy with all rights and no bounds, and cannot be removed or limited"
    )]
    LastFull(PolicyName),
    /// Without it, nobody could register devices.
    #[error("`{0}` is the last policy with RegistryWrite and cannot be removed or lose it")]
    LastRegistryWrite(PolicyName),
    #[error(
        "policy `{name}` would have bounds and {rights}; expected at most RegistryRead and \
         ServiceConnect beside bounds"
    )]
    UnboundedRight { name: PolicyName, rights: Rights },
    #[error("the bounds of policy `{name}` are invalid: {source}")]
    Bounds {
        name: PolicyName,
        source: Box<BoundsError>,
    },
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
}

pub(crate) fn add(
    policies: &mut Vec<Policy>,
    name: PolicyName,
    rights: Rights,
    bounds: Option<Bounds>,
) -> Result<Policy, PolicyError> {
    if policies.iter().any(|policy| policy.name == name) {
        return Err(PolicyError::Exists(name));
    }
    if policies.len() >= MAX_POLICIES {
        return Err(PolicyError::TooMany);
    }
    policies.push(with_new_keys(name.clone(), Rights::NONE));
    let added = change(policies, &name, rights, bounds);
    if added.is_err() {
        policies.pop();
    }
    added
}

/// Replaces the rights and the bounds of a policy, and returns the policy.
pub(crate) fn change(
    policies: &mut [Policy],
    name: &PolicyName,
    rights: Rights,
    bounds: Option<Bounds>,
) -> Result<Policy, PolicyError> {
    let changed = Policy {
        rights,
        bounds,
        ..find(policies, name)?.clone()
    };
    if rights == Rights::NONE {
        return Err(PolicyError::NoRights(name.clone()));
    }
    if let Some(bounds) = &changed.bounds {
        bounds.check().map_err(|error| PolicyError::Bounds {
            name: name.clone(),
            source: Box::new(error),
        })?;
        if !Rights::BOUNDED.contains(rights) {
            let name = name.clone();
            return Err(PolicyError::UnboundedRight { name, rights });
        }
    }
    let others = || policies.iter().filter(|policy| policy.name != *name);
    let service = |policy: &&Policy| policy.rights.contains(Rights::SERVICE_CONNECT);
    if service(&&changed) && others().filter(service).count() >= MAX_SERVICE {
        return Err(PolicyError::TooManyService);
    }
    check_remaining(policies, name, Some(&changed))?;
    *find(policies, name)? = changed.clone();
    Ok(changed)
}

/// Checks what must remain when the policy `name` is removed, or becomes `changed`.
fn check_remaining(
    policies: &[Policy],
    name: &PolicyName,
    changed: Option<&Policy>,
) -> Result<(), PolicyError> {
    if *name == OWNER && !changed.is_some_and(Policy::is_full) {
        return Err(PolicyError::Owner);
    }
    let lost = |has: fn(&Policy) -> bool| {
        let others = policies.iter().filter(|policy| policy.name != *name);
        policies.iter().any(has) && !others.chain(changed).any(has)
    };
    if lost(Policy::is_full) {
        return Err(PolicyError::LastFull(name.clone()));
    }
    if lost(|policy| policy.rights.contains(Rights::REGISTRY_WRITE)) {
        return Err(PolicyError::LastRegistryWrite(name.clone()));
    }
    Ok(())
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
    find(policies, name)?;
    check_remaining(policies, name, None)?;
    policies.retain(|policy| policy.name != *name);
    Ok(())
}

/// The policies of a running hub; clones share them.
#[derive(Clone)]
pub(crate) struct PolicyService {
    store: Store,
    registry: Registry,
    held: Arc<SharedPolicies>,
}

struct SharedPolicies {
    policies: RwLock<HashMap<PolicyName, Policy>>,
    /// Increases with each change.
    version: AtomicU64,
    /// Held from a read or change of the stored policies until `policies` has its result, so that
    /// an earlier read never replaces a later change.
    turn: Mutex<()>,
}

impl PolicyService {
    pub(super) fn new(store: Store, registry: Registry, policies: Vec<Policy>) -> Self {
        Self {
            store,
            registry,
            held: Arc::new(SharedPolicies {
                policies: RwLock::new(by_name(policies)),
                version: AtomicU64::new(0),
                turn: Mutex::new(()),
            }),
        }
    }

    /// All policies, sorted by name.
    pub(crate) fn list(&self) -> Vec<Policy> {
        let held = self.held.policies.read();
        let held = held.unwrap_or_else(PoisonError::into_inner);
        let mut policies: Vec<Policy> = held.values().cloned().collect();
        policies.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        policies
    }

    /// The jobs of a policy that have not ended.
    pub(crate) async fn jobs(&self, name: &PolicyName) -> Result<Vec<JobId>, PolicyError> {
        Ok(self.store.job_active_of(name.clone()).await?)
    }

    /// Applies one of the rules of this module to the stored policies; the result is in force when
    /// this returns.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Vec<Policy>) -> Result<T, PolicyError> + Send + 'static,
    ) -> Result<T, PolicyError> {
        let _turn = self.held.turn.lock().await;
        let (output, policies) = self.store.policy_change(change).await?;
        self.replace(by_name(policies));
        Ok(output)
    }

    pub(crate) fn get(&self, name: &PolicyName) -> Option<Policy> {
        let held = self.held.policies.read();
        held.unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Whether `policy` has not changed since.
    pub(crate) fn is_unchanged(&self, policy: &Policy) -> bool {
        let held = self.held.policies.read();
        let held = held.unwrap_or_else(PoisonError::into_inner);
        held.get(&policy.name) == Some(policy)
    }

    /// Increases with each change of a policy: what was authenticated under another version must be
    /// authenticated again.
    pub(crate) fn version(&self) -> u64 {
        self.held.version.load(Ordering::Acquire)
    }

    /// Polls the policies for changes by another process, and disconnects the connections that
    /// authenticated with a changed policy. It has its own database connection, so that long
    /// queries do not delay it. `on_read` gets the policies of each poll.
    pub(crate) async fn watch(
        self,
        mut file: PolicyFile,
        mut on_read: impl FnMut(&[Policy]) + Send + 'static,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            let _turn = self.held.turn.lock().await;
            let read = tokio::task::spawn_blocking(move || {
                let policies = file.list().inspect(|policies| on_read(policies));
                (file, on_read, policies)
            });
            let policies = match read.await {
                Ok((again, on_next, policies)) => {
                    (file, on_read) = (again, on_next);
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
                None,
            );
            assert!(added.is_ok(), "{number}");
        }
        let more = Rights::SERVICE_CONNECT.union(Rights::REGISTRY_READ);
        assert!(matches!(
            add(&mut policies, name("s8"), more, None),
            Err(PolicyError::TooManyService)
        ));
        for number in 0..3 {
            let added = add(
                &mut policies,
                name(&format!("r{number}")),
                Rights::REGISTRY_READ,
                None,
            );
            assert!(added.is_ok(), "{number}");
        }
        assert!(matches!(
            add(&mut policies, name("r3"), Rights::REGISTRY_READ, None),
            Err(PolicyError::TooMany)
        ));
        remove(&mut policies, &name("s0")).unwrap();
        assert!(add(&mut policies, name("s8"), more, None).is_ok());
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
        let error = add(&mut policies, name("service"), Rights::ALL, None).unwrap_err();
        assert!(matches!(error, PolicyError::Exists(_)));
        let error = add(&mut policies, name("idle"), Rights::NONE, None).unwrap_err();
        assert!(matches!(error, PolicyError::NoRights(_)));
    }

    #[test]
    fn bounds_limit_rights_and_never_the_last_policy_with_all() {
        let bounds = |text: &str| Some(serde_json::from_str::<Bounds>(text).unwrap());
        let read = || bounds(r#"{"access":"read"}"#);
        let mut policies = default_policies();
        let guard = name("guard");
        let most = Rights::SERVICE_CONNECT.union(Rights::REGISTRY_READ);
        for (rights, bounds, expected) in [
            (
                Rights::ALL,
                read(),
                "at most RegistryRead and ServiceConnect",
            ),
            (Rights::REGISTRY_WRITE, read(), "at most RegistryRead"),
            (
                most,
                bounds(r#"{"access":"read","where":"tags.a ="}"#),
                "`where`",
            ),
        ] {
            let error = add(&mut policies, guard.clone(), rights, bounds).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert_eq!(policies.len(), POLICIES.len(), "nothing is half-added");
        add(&mut policies, guard.clone(), most, read()).unwrap();
        change(&mut policies, &guard, Rights::SERVICE_CONNECT, None).unwrap();
        assert_eq!(find(&mut policies, &guard).unwrap().bounds, None);
        let error = change(&mut policies, &name(OWNER), most, read()).unwrap_err();
        assert!(matches!(error, PolicyError::Owner));

        // A hub whose owner is damaged.
        policies.retain(|policy| policy.name != OWNER);
        add(&mut policies, name("admin"), Rights::ALL, None).unwrap();
        for error in [
            change(&mut policies, &name("admin"), most, read()).unwrap_err(),
            change(&mut policies, &name("admin"), Rights::REGISTRY_WRITE, None).unwrap_err(),
            remove(&mut policies, &name("admin")).unwrap_err(),
        ] {
            assert!(matches!(error, PolicyError::LastFull(_)), "{error}");
        }
        assert!(find(&mut policies, &name("admin")).unwrap().is_full());
    }
}

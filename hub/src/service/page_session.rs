//! Sessions of the web page: begun with the name and a key of a policy, held by a cookie and a
//! token, of which the hub keeps hashes.
//!
//! A cookie reaches every port of a host, so it opens nothing without the token, which the page
//! gets once, in the answer to its login, and sends as a header. Sessions of a policy that only
//! reads are for walls: they last for 30 days and survive a restart of the hub.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iothub_protocol::id::PolicyName;
use iothub_protocol::policy::Access;
use iothub_protocol::sas::SharedAccessKey;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use super::{PolicyService, ServiceError};
use crate::identity::Policy;
use crate::store::{Store, StoredPageSession};

/// The most sessions of a hub; the one that was used longest ago gives way.
const MAX_SESSIONS: usize = 256;

/// How long a session lasts without a request of a person.
const MAX_IDLE: Duration = Duration::from_secs(30 * 60);

/// How long a session lasts at most.
const MAX_AGE_S: i64 = 12 * 60 * 60;

/// The same for a policy that only reads, whose sessions may be idle.
const MAX_READ_AGE_S: i64 = 30 * 24 * 60 * 60;

/// How many wrong keys an address, and all together, may send in [`FAILURE_WINDOW`].
const MAX_FAILURES: (u32, u32) = (10, 200);
const FAILURE_WINDOW: Duration = Duration::from_secs(600);

/// The delay of the answer to a wrong key.
pub(crate) const FAILURE_DELAY: Duration = Duration::from_secs(1);

/// A SHA-256.
pub(crate) type Hash = [u8; 32];

/// The sessions of a running hub; clones share them.
#[derive(Clone)]
pub(crate) struct PageSessions {
    store: Store,
    policies: PolicyService,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// By the hash of the cookie.
    sessions: HashMap<Hash, PageSession>,
    failures: Failures,
}

struct PageSession {
    stored: StoredPageSession,
    used: Instant,
}

/// What a browser gets at its login.
pub(crate) struct NewSession {
    /// 256 bits in hexadecimal digits.
    pub(crate) cookie: String,
    /// 256 bits in hexadecimal digits.
    pub(crate) token: String,
    /// How long the session lasts at most.
    pub(crate) max_age_s: i64,
}

/// Who uses a session.
#[derive(Debug, Clone)]
pub(crate) struct PageCaller {
    pub(crate) policy: Policy,
    pub(crate) expires_unix_s: u64,
    pub(crate) handle: PageHandle,
}

/// Names a session, for a stream that ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageHandle(Hash);

/// Why nobody is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginError {
    /// No policy has this name and key.
    Wrong,
    /// Too many wrong keys.
    TooMany,
}

impl PageSessions {
    pub(super) fn new(store: Store, policies: PolicyService) -> Self {
        Self {
            store,
            policies,
            shared: Arc::default(),
        }
    }

    /// Loads the sessions that survive a restart.
    pub(crate) async fn load(&self) -> Result<(), ServiceError> {
        let stored = self.store.page_sessions(now_s()).await?;
        let mut shared = self.lock();
        for stored in stored {
            let used = Instant::now();
            shared
                .sessions
                .insert(stored.cookie, PageSession { stored, used });
        }
        Ok(())
    }

    /// Begins a session. Takes as long for an unknown policy as for a wrong key.
    pub(crate) async fn login(
        &self,
        policy: &PolicyName,
        key: &SharedAccessKey,
        peer: IpAddr,
    ) -> Result<Result<NewSession, LoginError>, ServiceError> {
        if self.lock().failures.is_blocked(peer, Instant::now()) {
            return Ok(Err(LoginError::TooMany));
        }
        let given = sha256(key.as_bytes());
        let found = self.policies.get(policy);
        let keys = found.as_ref().map(key_hashes).unwrap_or_default();
        if !is_one_of(&given, &keys) || found.is_none() {
            self.lock().failures.count(peer, Instant::now());
            return Ok(Err(LoginError::Wrong));
        }
        let only_reads = found.is_some_and(|policy| only_reads(&policy));
        let max_age_s = if only_reads {
            MAX_READ_AGE_S
        } else {
            MAX_AGE_S
        };
        let [cookie, token] = [secret(), secret()];
        let stored = StoredPageSession {
            cookie: sha256(cookie.as_bytes()),
            token: sha256(token.as_bytes()),
            policy: policy.clone(),
            key: given,
            expires: now_s() + max_age_s,
        };
        if only_reads {
            self.store.page_session_insert(stored.clone()).await?;
        }
        let evicted = self.lock().insert(stored);
        if let Some(evicted) = evicted {
            self.store.page_session_delete(evicted).await?;
        }
        Ok(Ok(NewSession {
            cookie,
            token,
            max_age_s,
        }))
    }

    /// The policy of a session. `is_person`: the request shows that somebody is there, so the
    /// session is not idle.
    pub(crate) fn caller(&self, cookie: &str, token: &str, is_person: bool) -> Option<PageCaller> {
        let handle = PageHandle(sha256(cookie.as_bytes()));
        let token = sha256(token.as_bytes());
        let mut shared = self.lock();
        let session = shared.sessions.get_mut(&handle.0)?;
        if !bool::from(session.stored.token.ct_eq(&token)) {
            return None;
        }
        let Some(policy) = self.policy_of(session) else {
            shared.sessions.remove(&handle.0);
            return None;
        };
        if is_person {
            session.used = Instant::now();
        }
        Some(PageCaller {
            policy,
            expires_unix_s: u64::try_from(session.stored.expires).unwrap_or_default(),
            handle,
        })
    }

    /// Whether the session still lasts.
    pub(crate) fn is_live(&self, handle: PageHandle) -> bool {
        let shared = self.lock();
        let session = shared.sessions.get(&handle.0);
        session.is_some_and(|session| self.policy_of(session).is_some())
    }

    /// Ends a session.
    pub(crate) async fn logout(&self, handle: PageHandle) -> Result<(), ServiceError> {
        self.lock().sessions.remove(&handle.0);
        Ok(self.store.page_session_delete(handle.0).await?)
    }

    /// The policy as it is now; `None`: the session is over, or the policy lost the key with which
    /// it was begun.
    fn policy_of(&self, session: &PageSession) -> Option<Policy> {
        let policy = self.policies.get(&session.stored.policy)?;
        let lasts = session.stored.expires > now_s()
            && (only_reads(&policy) || session.used.elapsed() <= MAX_IDLE);
        (lasts && is_one_of(&session.stored.key, &key_hashes(&policy))).then_some(policy)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Adds a session; returns the cookie's hash of one that gives way.
    fn insert(&mut self, stored: StoredPageSession) -> Option<Hash> {
        let is_full = self.sessions.len() >= MAX_SESSIONS;
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
        let evicted = oldest.map(|(cookie, _)| *cookie).filter(|_| is_full);
        if let Some(evicted) = evicted {
            self.sessions.remove(&evicted);
        }
        let used = Instant::now();
        self.sessions
            .insert(stored.cookie, PageSession { stored, used });
        evicted
    }
}

/// Wrong keys of the current window, by address and in all.
#[derive(Default)]
struct Failures {
    since: Option<Instant>,
    all: u32,
    by_peer: HashMap<IpAddr, u32>,
}

impl Failures {
    fn is_blocked(&mut self, peer: IpAddr, now: Instant) -> bool {
        let is_over = |since: Instant| now.duration_since(since) > FAILURE_WINDOW;
        if self.since.is_none_or(is_over) {
            *self = Self::default();
        }
        self.all >= MAX_FAILURES.1
            || self.by_peer.get(&peer).copied().unwrap_or_default() >= MAX_FAILURES.0
    }

    /// `by_peer` has at most as many addresses as `all` counts.
    fn count(&mut self, peer: IpAddr, now: Instant) {
        self.since.get_or_insert(now);
        self.all += 1;
        *self.by_peer.entry(peer).or_default() += 1;
    }
}

fn only_reads(policy: &Policy) -> bool {
    let bounds = policy.bounds.as_ref();
    bounds.is_some_and(|bounds| bounds.access == Access::Read)
}

fn key_hashes(policy: &Policy) -> [Hash; 2] {
    let keys = &policy.keys;
    [&keys.primary, &keys.secondary].map(|key| sha256(key.as_bytes()))
}

/// Compares with both in constant time.
fn is_one_of(given: &Hash, hashes: &[Hash; 2]) -> bool {
    let [first, second] = hashes.map(|hash| given.ct_eq(&hash));
    (first | second).into()
}

fn sha256(bytes: &[u8]) -> Hash {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

fn secret() -> String {
    let bytes: Hash = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now_s() -> i64 {
    Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_keys_block_an_address_and_200_all_for_ten_minutes() {
        let mut failures = Failures::default();
        let start = Instant::now();
        let address = |number: u8| IpAddr::from([192, 0, 2, number]);
        for _ in 0..10 {
            assert!(!failures.is_blocked(address(1), start));
            failures.count(address(1), start);
        }
        assert!(failures.is_blocked(address(1), start));
        assert!(!failures.is_blocked(address(2), start));
        for number in 2..=191 {
            failures.count(address(number), start);
        }
        assert!(failures.is_blocked(address(250), start));
        let later = start + FAILURE_WINDOW + Duration::from_secs(1);
        assert!(!failures.is_blocked(address(1), later));
        assert!(failures.by_peer.is_empty());
    }
}

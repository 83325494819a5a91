//! Sessions of the web page: begun with the name and a key of a policy, held by a cookie and a
//! token, of which the hub keeps hashes.
//!
//! A cookie reaches every port of a host, so it opens nothing without the token, which the page
//! gets once, in the answer to its login, and sends as a header. Sessions of a policy that only
//! reads are for walls: they last for 30 days and survive a restart of the hub.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iothub_protocol::id::PolicyName;
use iothub_protocol::policy::Access;
use iothub_protocol::sas::SharedAccessKey;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use super::audit::PolicyCounts;
use super::{PolicyService, ServiceError};
use crate::identity::Policy;
use crate::store::{Store, StoredPageSession};

/// The most sessions of a policy; its own that was used longest ago gives way.
const MAX_SESSIONS: usize = 16;

/// Sign-ins of a policy with bounds in a minute. Each writes a row of the audit log, which must not
/// push out all others.
const MAX_SIGN_INS: u32 = 60;

/// How long a session lasts without a request of a person.
const MAX_IDLE: Duration = Duration::from_secs(30 * 60);

/// How long a session lasts at most.
const MAX_AGE_S: i64 = 12 * 60 * 60;

/// The same for a policy that only reads, whose sessions may be idle.
const MAX_READ_AGE_S: i64 = 30 * 24 * 60 * 60;

/// How many wrong keys of an address, and of all together, are recorded in [`FAILURE_WINDOW`]. A
/// right key is not refused then: nobody could lock the others out, and a key has 256 bits.
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
    sign_ins: PolicyCounts,
}

struct PageSession {
    stored: StoredPageSession,
    /// Whether it was begun by a policy that only reads. It ends when the policy may do more.
    only_reads: bool,
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
    /// The same, and too many wrong keys came before it.
    TooMany,
    /// The key is right, and too many sign-ins of the policy came before it.
    TooOften,
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
            let session = PageSession {
                only_reads: true,
                used: Instant::now(),
                stored,
            };
            shared.sessions.insert(session.stored.cookie, session);
        }
        Ok(())
    }

    /// Begins a session, in place of the one whose cookie the browser has.
    pub(crate) async fn login(
        &self,
        policy: &PolicyName,
        key: &SharedAccessKey,
        peer: IpAddr,
        old_cookie: Option<&str>,
    ) -> Result<Result<NewSession, LoginError>, ServiceError> {
        let given = sha256(key.as_bytes());
        let found = self.policies.get(policy);
        let found = found.filter(|policy| is_one_of(&given, &key_hashes(policy)));
        let Some(found) = found else {
            let is_blocked = self.lock().failures.count(peer, Instant::now());
            return Ok(Err(match is_blocked {
                true => LoginError::TooMany,
                false => LoginError::Wrong,
            }));
        };
        let sign_ins = self.lock().sign_ins.add(policy, Instant::now());
        if found.bounds.is_some() && sign_ins > MAX_SIGN_INS {
            return Ok(Err(LoginError::TooOften));
        }
        let only_reads = only_reads(&found);
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
        if let Some(old) = old_cookie {
            self.logout(PageHandle(sha256(old.as_bytes()))).await?;
        }
        let evicted = self.lock().insert(stored, only_reads);
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

    /// Whether the session still lasts, for a stream that it follows. Walls do nothing else.
    pub(crate) fn is_live(&self, handle: PageHandle) -> bool {
        let mut shared = self.lock();
        let Some(session) = shared.sessions.get_mut(&handle.0) else {
            return false;
        };
        if session.only_reads {
            session.used = Instant::now();
        }
        self.policy_of(session).is_some()
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
            && match session.only_reads {
                true => only_reads(&policy),
                false => session.used.elapsed() <= MAX_IDLE,
            };
        (lasts && is_one_of(&session.stored.key, &key_hashes(&policy))).then_some(policy)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Adds a session; returns the cookie's hash of one that gives way.
    fn insert(&mut self, stored: StoredPageSession, only_reads: bool) -> Option<Hash> {
        let own = |session: &&PageSession| session.stored.policy == stored.policy;
        let sessions = self.sessions.values();
        let is_full = sessions.clone().filter(own).count() >= MAX_SESSIONS;
        let oldest = sessions.filter(own).min_by_key(|session| session.used);
        let evicted = oldest.map(|session| session.stored.cookie);
        let evicted = evicted.filter(|_| is_full);
        if let Some(evicted) = evicted {
            self.sessions.remove(&evicted);
        }
        let session = PageSession {
            only_reads,
            used: Instant::now(),
            stored,
        };
        self.sessions.insert(session.stored.cookie, session);
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
    /// Counts a wrong key; whether there were too many before it. `by_peer` has at most as many
    /// addresses as `all` counts.
    fn count(&mut self, peer: IpAddr, now: Instant) -> bool {
        let is_over = |since: Instant| now.duration_since(since) > FAILURE_WINDOW;
        if self.since.is_none_or(is_over) {
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
        let peer = network(peer);
        let of_peer = self.by_peer.get(&peer).copied().unwrap_or_default();
        if self.all >= MAX_FAILURES.1 || of_peer >= MAX_FAILURES.0 {
            return true;
        }
        self.all += 1;
        self.by_peer.insert(peer, of_peer + 1);
        false
    }
}

/// The address, or the /64 of an IPv6 address: one host has all of it.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(bits).into()
        }
        address => address,
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
    fn ten_wrong_keys_of_an_address_and_200_of_all_are_counted_in_ten_minutes() {
        let mut failures = Failures::default();
        let start = Instant::now();
        let address = |number: u8| IpAddr::from([192, 0, 2, number]);
        for _ in 0..10 {
            assert!(!failures.count(address(1), start));
        }
        assert!(failures.count(address(1), start));
        for number in 2..=191 {
            assert!(!failures.count(address(number), start));
        }
        assert!(failures.count(address(250), start));
        assert_eq!(failures.by_peer.len(), 191);
        let later = start + FAILURE_WINDOW + Duration::from_secs(1);
        assert!(!failures.count(address(1), later));
        assert_eq!(failures.by_peer.len(), 1);
    }

    #[test]
    fn the_addresses_of_an_ipv6_host_count_together() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
    }
}

//! The map of the connected devices.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use iothub_protocol::id::{DeviceId, MethodName, PolicyName};
use iothub_protocol::topic::TopicFilter;

use super::entry::Dispatch;
use super::waiting::{WaitingCalls, WhenOnline};
use super::{Call, CallObserver, CallOutcome, DisconnectReason, Entry, Pending};
use crate::identity::Proof;

/// Shards of the map: connects and disconnects of a large fleet do not queue for one lock.
const SHARDS: usize = 64;

type Shard = RwLock<HashMap<DeviceId, Arc<Entry>>>;

/// All live connections; clones share them.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    shards: Box<[Shard]>,
    hasher: RandomState,
    waiting: Mutex<WaitingCalls>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    #[must_use]
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self {
            inner: Arc::new(Inner {
                shards,
                hasher: RandomState::new(),
                waiting: Mutex::default(),
            }),
        }
    }

    #[must_use]
    pub fn connected_count(&self) -> usize {
        self.inner
            .shards
            .iter()
            .map(|shard| read(shard).len())
            .sum()
    }

    #[must_use]
    pub fn is_connected(&self, device: &DeviceId) -> bool {
        self.get(device).is_some()
    }

    /// Calls a method. Never blocks and never awaits; `observer` gets the outcome exactly once,
    /// possibly before this returns.
    pub fn call(&self, call: Call, observer: Arc<dyn CallObserver>, token: u32) {
        let now = Instant::now();
        let pending = Pending { observer, token };
        let Err(pending) = self.dispatch(&call, pending, now) else {
            return;
        };
        if call.connect_timeout.is_zero() {
            pending.done(CallOutcome::NotOnline {
                waited: call.connect_timeout,
            });
            return;
        }
        // While this lock is held, no device can come online unnoticed: it subscribes first and
        // then takes the waiting calls.
        let refused = {
            let mut waiting = self.waiting();
            match self.dispatch(&call, pending, now) {
                Ok(()) => return,
                Err(pending) => waiting.push(call, pending, WhenOnline::Send, now).err(),
            }
        };
        if let Some(pending) = refused {
            pending.done(CallOutcome::TooManyInFlight);
        }
    }

    /// Waits for the call's device to come online for the method, at most its connect timeout,
    /// without sending: `observer` gets [`CallObserver::online`], or the outcome of the wait.
    pub(crate) fn wait(&self, call: Call, observer: Arc<dyn CallObserver>, token: u32) {
        let pending = Pending { observer, token };
        // While this lock is held, no device can come online unnoticed, as in `call`.
        let mut waiting = self.waiting();
        if self.is_online_for(&call.device, &call.method) {
            drop(waiting);
            pending.online();
        } else if call.connect_timeout.is_zero() {
            drop(waiting);
            pending.done(CallOutcome::NotOnline {
                waited: call.connect_timeout,
            });
        } else {
            let refused = waiting.push(call, pending, WhenOnline::Notify, Instant::now());
            drop(waiting);
            if let Err(pending) = refused {
                pending.done(CallOutcome::TooManyInFlight);
            }
        }
    }

    /// Whether a call of `method` to `device` would be sent now.
    pub(crate) fn is_online_for(&self, device: &DeviceId, method: &MethodName) -> bool {
        self.get(device)
            .is_some_and(|entry| entry.accepts_calls_of(method))
    }

    /// Notifies the device of changed desired properties, if it is connected and subscribed: `body`
    /// is the patch with its `$version`. Nothing is queued for other devices.
    pub fn notify_desired(&self, device: &DeviceId, version: u64, body: &Bytes) {
        if let Some(entry) = self.get(device) {
            entry.notify_desired(version, body);
        }
    }

    /// Ends the connection of `device`, if there is one. If it was deleted, its waiting calls end
    /// too: they must not reach a new device with the same id.
    pub fn disconnect(&self, device: &DeviceId, reason: DisconnectReason) {
        if reason == DisconnectReason::Deleted {
            let calls = self.waiting().take(device);
            for waiting in calls {
                waiting.pending.done(CallOutcome::Deleted);
            }
        }
        if let Some(entry) = self.get(device) {
            entry.close(reason);
        }
    }

    /// Ends the connections that authenticated with a token of `policy`.
    pub(crate) fn disconnect_policy(&self, policy: &PolicyName, reason: DisconnectReason) {
        let is_its = |entry: &Entry| matches!(entry.proof(), Proof::Policy(name) if name == policy);
        for entry in self.entries(is_its) {
            entry.close(reason);
        }
    }

    /// Ends every connection and every waiting call.
    pub fn disconnect_all(&self, reason: DisconnectReason) {
        let calls = self.waiting().take_all();
        for waiting in calls {
            waiting.pending.done(CallOutcome::NotOnline {
                waited: waiting.call.connect_timeout,
            });
        }
        for entry in self.entries(|_| true) {
            entry.close(reason);
        }
    }

    /// Checks all deadlines: keep alive, tokens, calls. One task calls this a few times a second.
    pub fn sweep(&self, now: Instant) {
        let expired = self.waiting().take_expired(now);
        for waiting in expired {
            let outcome = if waiting.pending.is_awaited() {
                CallOutcome::NotOnline {
                    waited: waiting.call.connect_timeout,
                }
            } else {
                CallOutcome::Withdrawn
            };
            waiting.pending.done(outcome);
        }
        for entry in self.entries(|entry| entry.is_due(now)) {
            entry.sweep(now);
        }
    }

    /// Ends the calls that are not sent yet and whose observers no longer wait, without waiting for
    /// the next sweep.
    pub(crate) fn withdraw(&self) {
        let abandoned = self.waiting().take_abandoned();
        for waiting in abandoned {
            waiting.pending.done(CallOutcome::Withdrawn);
        }
    }

    /// A device has connected. Of two connections the later one stays, in whichever order they are
    /// inserted: the store uses the same order.
    pub(crate) fn insert(&self, entry: &Arc<Entry>) {
        let ended = {
            let mut shard = write(self.shard(entry.device()));
            let later = shard
                .get(entry.device())
                .is_some_and(|current| current.order() > entry.order());
            if later {
                Some(Arc::clone(entry))
            } else {
                let earlier = shard.insert(entry.device().clone(), Arc::clone(entry));
                if let Some(earlier) = &earlier {
                    entry.displaced(earlier);
                }
                earlier
            }
        };
        if let Some(ended) = ended {
            ended.close(DisconnectReason::TakenOver);
            ended.end();
        }
    }

    /// A connection has ended. Returns whether it was the device's current one: `false` when
    /// another one took over.
    pub(crate) fn remove(&self, entry: &Arc<Entry>) -> bool {
        let own = {
            let mut shard = write(self.shard(entry.device()));
            let own = shard
                .get(entry.device())
                .is_some_and(|current| Arc::ptr_eq(current, entry));
            if own {
                shard.remove(entry.device());
            }
            own
        };
        entry.end();
        own
    }

    /// The device's subscriptions have changed; sends the calls that waited for them.
    pub(crate) fn subscribed(&self, entry: &Entry, subscriptions: &[(TopicFilter, u8)]) {
        entry.set_subscriptions(subscriptions);
        // Waiting calls belong to the connection that took over, if one did.
        let current = self
            .get(entry.device())
            .is_some_and(|current| std::ptr::eq(Arc::as_ptr(&current), entry));
        if !current {
            return;
        }
        let takes = |call: &Call| entry.accepts_calls_of(&call.method);
        let calls = self.waiting().take_if(entry.device(), takes);
        let now = Instant::now();
        for waiting in calls {
            if !waiting.pending.is_awaited() {
                waiting.pending.done(CallOutcome::Withdrawn);
                continue;
            }
            if waiting.when_online == WhenOnline::Notify {
                waiting.pending.online();
                continue;
            }
            if let Dispatch::NotReady(pending) = entry.dispatch(&waiting.call, waiting.pending, now)
            {
                // It ended or unsubscribed in this moment; the request was not sent.
                pending.done(CallOutcome::NotOnline {
                    waited: waiting.call.connect_timeout,
                });
            }
        }
    }

    fn dispatch(&self, call: &Call, pending: Pending, now: Instant) -> Result<(), Pending> {
        match self.get(&call.device) {
            None => Err(pending),
            Some(entry) => match entry.dispatch(call, pending, now) {
                Dispatch::Accepted => Ok(()),
                Dispatch::NotReady(pending) => Err(pending),
            },
        }
    }

    fn get(&self, device: &DeviceId) -> Option<Arc<Entry>> {
        read(self.shard(device)).get(device).cloned()
    }

    /// The entries that `is_wanted`, without a lock while they are used.
    fn entries(&self, is_wanted: impl Fn(&Entry) -> bool) -> impl Iterator<Item = Arc<Entry>> {
        self.inner.shards.iter().flat_map(move |shard| {
            let shard = read(shard);
            let wanted = shard.values().filter(|entry| is_wanted(entry));
            wanted.cloned().collect::<Vec<_>>()
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "only the low bits are used"
    )]
    fn shard(&self, device: &DeviceId) -> &Shard {
        &self.inner.shards[self.inner.hasher.hash_one(device) as usize % SHARDS]
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingCalls> {
        self.inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(shard: &Shard) -> std::sync::RwLockReadGuard<'_, HashMap<DeviceId, Arc<Entry>>> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &Shard) -> std::sync::RwLockWriteGuard<'_, HashMap<DeviceId, Arc<Entry>>> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

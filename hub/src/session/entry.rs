//! One connected device in the registry.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use iothub_protocol::downlink::Downlink;
use iothub_protocol::id::{DeviceId, MethodName};
use iothub_protocol::topic::{Subscription, TopicFilter};

use super::calls::InFlightCalls;
use super::{Call, CallOutcome, DisconnectReason, Link, Pending};
use crate::identity::Proof;

/// A connected device: its link, subscriptions, calls and deadlines.
pub(crate) struct Entry {
    device: DeviceId,
    /// How it authenticated; losing that ends the connection.
    proof: Proof,
    link: Arc<dyn Link>,
    /// Increases with each connection to the hub: of two connections of one device, the later has
    /// the higher number.
    order: u64,
    started: Instant,
    /// When something was last received, in milliseconds after `started`.
    last_received_ms: AtomicU64,
    /// No call expires before this time, in milliseconds after `started`: a sweep of a large fleet
    /// takes no lock of an entry that has nothing due.
    calls_due_ms: AtomicU64,
    idle_timeout: Duration,
    /// When its token or certificate expires; `None` if it does not.
    token_deadline: Option<Instant>,
    peer: OnceLock<SocketAddr>,
    takeover: OnceLock<Takeover>,
    state: Mutex<State>,
}

/// How an entry displaced another connection of its device.
struct Takeover {
    /// How many displacements followed each other, with this one.
    in_turn: u32,
    /// The address of the displaced connection.
    earlier: Option<SocketAddr>,
    /// When an entry before this one in the row of turns reported the conflict.
    reported: Option<Instant>,
    /// This entry reported it.
    reports: AtomicBool,
}

/// A displaced connection younger than this may belong to a client that takes turns with another.
const TURN: Duration = Duration::from_secs(60);
/// This many displacements in turn are two clients with one identity. A single client whose
/// connection was lost displaces its own, but not that often in such a time.
const CONFLICT: u32 = 3;
/// How often two clients that go on are reported.
const CONFLICT_AGAIN: Duration = Duration::from_secs(5 * 60);

struct State {
    /// The filters that match method calls.
    methods: Vec<TopicFilter>,
    desired: bool,
    taken_over: bool,
    ended: bool,
    calls: InFlightCalls,
}

impl State {
    fn accepts_calls_of(&self, method: &MethodName) -> bool {
        if self.ended || self.methods.is_empty() {
            return false;
        }
        if self.methods.iter().any(TopicFilter::is_whole) {
            return true;
        }
        let method = method.as_str();
        let topic = Downlink::MethodRequest { method, rid: "1" }.topic();
        let mut filters = self.methods.iter();
        filters.any(|filter| filter.delivers(Subscription::MethodRequests, &topic))
    }
}

/// The result of giving a call to an entry.
pub(super) enum Dispatch {
    /// It was sent, or has ended; the observer gets the outcome.
    Accepted,
    /// The device is not online for methods; the call is returned.
    NotReady(Pending),
}

impl Entry {
    pub(crate) fn new(
        device: DeviceId,
        proof: Proof,
        link: Arc<dyn Link>,
        order: u64,
        now: Instant,
        idle_timeout: Duration,
        token_deadline: Option<Instant>,
    ) -> Self {
        Self {
            device,
            proof,
            link,
            order,
            started: now,
            last_received_ms: AtomicU64::new(0),
            calls_due_ms: AtomicU64::new(u64::MAX),
            idle_timeout,
            token_deadline,
            peer: OnceLock::new(),
            takeover: OnceLock::new(),
            state: Mutex::new(State {
                methods: Vec::new(),
                desired: false,
                taken_over: false,
                ended: false,
                calls: InFlightCalls::default(),
            }),
        }
    }

    pub(crate) const fn device(&self) -> &DeviceId {
        &self.device
    }

    /// How the device authenticated.
    pub(crate) const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Sets the address of the client, before the entry is inserted.
    pub(crate) fn set_peer(&self, peer: SocketAddr) {
        let _ = self.peer.set(peer);
    }

    /// Records that this connection displaced `earlier`.
    pub(super) fn displaced(&self, earlier: &Self) {
        let age = self.started.saturating_duration_since(earlier.started);
        let before = earlier.takeover.get().filter(|_| age < TURN);
        let (in_turn, reported) = before.map_or((1, None), |before| {
            let own = before.reports.load(Ordering::Relaxed);
            let reported = own.then_some(earlier.started).or(before.reported);
            (before.in_turn.saturating_add(1), reported)
        });
        let _ = self.takeover.set(Takeover {
            in_turn,
            earlier: earlier.peer.get().copied(),
            reported,
            reports: AtomicBool::new(false),
        });
    }

    /// The address of the displaced client if with this connection it shows that two clients take
    /// turns: from the third turn on, and once in [`CONFLICT_AGAIN`]. An entry that does not ask,
    /// because its client was gone, leaves the report to the next.
    pub(crate) fn identity_conflict(&self) -> Option<SocketAddr> {
        let takeover = self.takeover.get().filter(|it| it.in_turn >= CONFLICT)?;
        let since = |at| self.started.saturating_duration_since(at);
        let is_due = takeover
            .reported
            .is_none_or(|at| since(at) >= CONFLICT_AGAIN);
        let earlier = takeover.earlier.filter(|_| is_due)?;
        takeover.reports.store(true, Ordering::Relaxed);
        Some(earlier)
    }

    pub(super) const fn order(&self) -> u64 {
        self.order
    }

    /// Records that something was received from the device.
    pub(crate) fn received(&self, now: Instant) {
        self.last_received_ms
            .store(self.milliseconds(now), Ordering::Relaxed);
    }

    /// Whole milliseconds after `started`.
    fn milliseconds(&self, at: Instant) -> u64 {
        let elapsed = at.saturating_duration_since(self.started).as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX)
    }

    /// Replaces the device's subscriptions.
    pub(super) fn set_subscriptions(&self, subscriptions: &[(TopicFilter, u8)]) {
        let filters = subscriptions.iter().map(|(filter, _)| filter);
        let calls = filters
            .clone()
            .filter(|filter| filter.concerns(Subscription::MethodRequests));
        let calls: Vec<TopicFilter> = calls.cloned().collect();
        let any_patch = Downlink::DesiredPatch { version: 1 }.topic();
        let mut filters = filters;
        let desired =
            filters.any(|filter| filter.delivers(Subscription::DesiredPatches, &any_patch));
        let mut state = self.lock();
        state.methods = calls;
        state.desired = desired;
    }

    /// Whether a call of `method` would be sent now.
    pub(super) fn accepts_calls_of(&self, method: &MethodName) -> bool {
        self.lock().accepts_calls_of(method)
    }

    /// Sends a call, if the device is subscribed to its method.
    pub(super) fn dispatch(&self, call: &Call, pending: Pending, now: Instant) -> Dispatch {
        let inserted = {
            let mut state = self.lock();
            if !state.accepts_calls_of(&call.method) {
                return Dispatch::NotReady(pending);
            }
            let deadline = now + call.response_timeout;
            let inserted = state.calls.insert(pending, deadline);
            self.calls_due_ms
                .fetch_min(self.milliseconds(deadline), Ordering::Relaxed);
            inserted
        };
        match inserted {
            Ok(rid) => {
                let rid = RidText::new(rid);
                let topic = Downlink::MethodRequest {
                    method: call.method.as_str(),
                    rid: rid.as_str(),
                };
                self.link.publish(&topic, &call.payload);
            }
            Err(pending) => pending.done(CallOutcome::TooManyInFlight),
        }
        Dispatch::Accepted
    }

    /// The device answered; an answer that nobody waits for is dropped.
    pub(crate) fn answered(&self, rid: &str, status: i32, payload: &[u8]) {
        let pending = self.lock().calls.take(rid);
        if let Some(pending) = pending {
            pending.done(CallOutcome::Answered {
                status,
                payload: Bytes::copy_from_slice(payload),
            });
        }
    }

    pub(super) fn notify_desired(&self, version: u64, body: &[u8]) {
        let subscribed = {
            let state = self.lock();
            state.desired && !state.ended
        };
        if subscribed {
            self.link.publish(&Downlink::DesiredPatch { version }, body);
        }
    }

    pub(crate) fn close(&self, reason: DisconnectReason) {
        if reason == DisconnectReason::TakenOver {
            self.lock().taken_over = true;
        }
        self.link.close(reason);
    }

    /// Whether a sweep may have something to do.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let is_call_due = self.milliseconds(now) >= self.calls_due_ms.load(Ordering::Relaxed);
        is_call_due || self.lapsed(now).is_some()
    }

    /// Why the connection must end.
    fn lapsed(&self, now: Instant) -> Option<DisconnectReason> {
        let received =
            self.started + Duration::from_millis(self.last_received_ms.load(Ordering::Relaxed));
        if self.token_deadline.is_some_and(|deadline| now >= deadline) {
            Some(DisconnectReason::TokenExpired)
        } else if now.saturating_duration_since(received) > self.idle_timeout {
            Some(DisconnectReason::KeepAlive)
        } else {
            None
        }
    }

    /// Checks all deadlines.
    pub(super) fn sweep(&self, now: Instant) {
        if let Some(reason) = self.lapsed(now) {
            self.link.close(reason);
        }
        let expired = {
            let mut state = self.lock();
            let expired = state.calls.take_expired(now);
            let due = state.calls.deadline();
            let due = due.map_or(u64::MAX, |deadline| self.milliseconds(deadline));
            self.calls_due_ms.store(due, Ordering::Relaxed);
            expired
        };
        for pending in expired {
            pending.done(CallOutcome::ResponseTimedOut);
        }
    }

    /// The connection has ended: nothing more is sent, and the waiting calls get their outcome.
    pub(super) fn end(&self) {
        let (pending, outcome) = {
            let mut state = self.lock();
            state.ended = true;
            let outcome = if state.taken_over {
                CallOutcome::TakenOver
            } else {
                CallOutcome::Disconnected
            };
            (state.calls.take_all(), outcome)
        };
        for pending in pending {
            pending.done(outcome.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the state consistent: every change is one statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request id in lower-case hexadecimal, without an allocation.
struct RidText {
    digits: [u8; 8],
    start: usize,
}

impl RidText {
    fn new(mut rid: u32) -> Self {
        let mut digits = [0; 8];
        let mut start = 8;
        loop {
            start -= 1;
            digits[start] = b"0123456789abcdef"[(rid & 0xf) as usize];
            rid >>= 4;
            if rid == 0 {
                return Self { digits, start };
            }
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[self.start..]).unwrap_or_default()
    }
}

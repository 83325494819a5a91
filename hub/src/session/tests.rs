use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use iothub_protocol::downlink::Downlink;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::{Subscription, TopicFilter};

use super::*;
use crate::identity::Proof;

/// Records the topics of the messages sent and the reason for closing.
#[derive(Default)]
struct Recorder {
    sent: Mutex<Vec<String>>,
    closed: Mutex<Option<DisconnectReason>>,
}

impl Link for Recorder {
    fn publish(&self, topic: &Downlink<'_>, _payload: &[u8]) {
        self.sent.lock().unwrap().push(topic.topic());
    }

    fn close(&self, reason: DisconnectReason) {
        self.closed.lock().unwrap().get_or_insert(reason);
    }
}

impl Recorder {
    fn topics(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }

    fn closed(&self) -> Option<DisconnectReason> {
        *self.closed.lock().unwrap()
    }
}

/// A caller that no longer waits.
struct HungUp(Outcomes);

impl CallObserver for HungUp {
    fn done(&self, token: u32, outcome: CallOutcome) {
        self.0.done(token, outcome);
    }

    fn is_waiting(&self) -> bool {
        false
    }
}

#[derive(Default)]
struct Outcomes(Mutex<Vec<(u32, CallOutcome)>>, Mutex<Vec<u32>>);

impl CallObserver for Outcomes {
    fn done(&self, token: u32, outcome: CallOutcome) {
        self.0.lock().unwrap().push((token, outcome));
    }

    fn online(&self, token: u32) {
        self.1.lock().unwrap().push(token);
    }
}

impl Outcomes {
    fn take(&self) -> Vec<(u32, CallOutcome)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Fixture {
    registry: Registry,
    outcomes: Arc<Outcomes>,
    start: Instant,
    connections: Cell<u64>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            registry: Registry::new(),
            outcomes: Arc::default(),
            start: Instant::now(),
            connections: Cell::default(),
        }
    }

    fn connect(&self, subscriptions: &[Subscription]) -> (Arc<Recorder>, Arc<Entry>) {
        let order = self.connections.get() + 1;
        self.connections.set(order);
        self.connect_as(order, subscriptions)
    }

    fn connect_as(
        &self,
        order: u64,
        subscriptions: &[Subscription],
    ) -> (Arc<Recorder>, Arc<Entry>) {
        self.connect_at(self.start, order, subscriptions)
    }

    fn connect_at(
        &self,
        at: Instant,
        order: u64,
        subscriptions: &[Subscription],
    ) -> (Arc<Recorder>, Arc<Entry>) {
        let link = Arc::new(Recorder::default());
        let token_deadline = Some(self.start + Duration::from_secs(3600));
        let entry = Entry::new(
            device(),
            Proof::DeviceKey,
            Arc::clone(&link) as _,
            order,
            at,
            Duration::from_secs(90),
            token_deadline,
        );
        let entry = Arc::new(entry);
        let port = u16::try_from(order).unwrap();
        entry.set_peer(([127, 0, 0, 1], port).into());
        self.registry.insert(&entry);
        self.registry.subscribed(&entry, &granted(subscriptions));
        (link, entry)
    }

    fn new_call(&self, connect_s: u64) -> Call {
        Call {
            device: device(),
            method: "lock".parse().unwrap(),
            payload: Bytes::from_static(b"{}"),
            connect_timeout: Duration::from_secs(connect_s),
            response_timeout: Duration::from_secs(30),
        }
    }

    fn call(&self, token: u32, connect_s: u64) {
        let outcomes = Arc::clone(&self.outcomes);
        self.registry
            .call(self.new_call(connect_s), outcomes, token);
    }

    fn sweep_after(&self, seconds: u64) {
        self.registry
            .sweep(Instant::now() + Duration::from_secs(seconds));
    }
}

fn not_online(seconds: u64) -> CallOutcome {
    CallOutcome::NotOnline {
        waited: Duration::from_secs(seconds),
    }
}

fn answered(status: i32, payload: &'static [u8]) -> CallOutcome {
    CallOutcome::Answered {
        status,
        payload: Bytes::from_static(payload),
    }
}

fn device() -> DeviceId {
    "lobby".parse().unwrap()
}

fn granted(subscriptions: &[Subscription]) -> Vec<(TopicFilter, u8)> {
    let filter = |subscription: &Subscription| filter(&subscription.filter(&device()));
    subscriptions.iter().map(filter).collect()
}

fn filter(text: &str) -> (TopicFilter, u8) {
    (TopicFilter::parse(text, &device()).unwrap(), 1)
}

/// Each row: the filters of the device, and whether it is online for the methods `lock` and
/// `unlock`.
#[test]
fn two_clients_with_one_identity_are_reported_at_the_third_turn_and_every_5_minutes() {
    let fixture = Fixture::new();
    let mut reports = Vec::new();
    // A client that is gone before it is accepted does not ask: the next one reports.
    let gone = [4, 5];
    for order in 1..=100_u64 {
        let at = fixture.start + Duration::from_secs(10 * order);
        let (_, entry) = fixture.connect_at(at, order, &[]);
        if gone.contains(&order) {
            continue;
        }
        if let Some(earlier) = entry.identity_conflict() {
            assert_eq!(u64::from(earlier.port()), order - 1);
            reports.push(order);
        }
    }
    assert_eq!(reports, [6, 36, 66, 96]);
    // A pause ends the row of turns.
    let late = fixture.start + Duration::from_secs(1100);
    let (_, entry) = fixture.connect_at(late, 101, &[]);
    assert_eq!(entry.identity_conflict(), None);
}

#[test]
fn a_filter_for_one_method_receives_only_the_calls_of_that_method() {
    for (filters, lock, unlock) in [
        (&["$iothub/methods/POST/#"][..], true, true),
        (&["$iothub/#"], true, true),
        (&["$iothub/methods/POST/lock/#"], true, false),
        (&["$iothub/methods/POST/lock/+"], true, false),
        (
            &[
                "$iothub/methods/POST/lock/#",
                "$iothub/methods/POST/unlock/#",
            ],
            true,
            true,
        ),
        (&["$iothub/methods/POST/lock"], false, false),
        (&["$iothub/twin/#"], false, false),
        (&["#"], false, false),
    ] {
        let fixture = Fixture::new();
        let calls = |timeout| {
            for (token, method) in [(1, "lock"), (2, "unlock")] {
                let call = Call {
                    method: method.parse().unwrap(),
                    ..fixture.new_call(timeout)
                };
                let outcomes = Arc::clone(&fixture.outcomes);
                fixture.registry.call(call, outcomes, token);
            }
        };
        // Two calls that wait for the device, and two that do not.
        calls(20);
        let (link, entry) = fixture.connect(&[]);
        let subscriptions: Vec<_> = filters.iter().copied().map(filter).collect();
        fixture.registry.subscribed(&entry, &subscriptions);
        calls(0);
        let sent = link.topics();
        for (method, expected) in [("/lock/", lock), ("/unlock/", unlock)] {
            let count = sent.iter().filter(|topic| topic.contains(method)).count();
            assert_eq!(count, if expected { 2 } else { 0 }, "{filters:?}: {sent:?}");
        }
        // Calls that were not sent continue to wait, each for its own time.
        fixture.sweep_after(21);
        let ended = fixture.outcomes.take().len();
        let expected = [lock, unlock].iter().filter(|online| !**online).count();
        assert_eq!(ended, 2 * expected, "{filters:?}");
    }
}

const METHODS: [Subscription; 1] = [Subscription::MethodRequests];

#[test]
fn a_call_is_sent_at_once_and_the_first_answer_ends_it() {
    let fixture = Fixture::new();
    let (link, entry) = fixture.connect(&METHODS);
    fixture.call(7, 0);
    assert_eq!(link.topics(), ["$iothub/methods/POST/lock/?$rid=1"]);
    assert_eq!(fixture.outcomes.take(), []);

    entry.answered("2", 200, b"not asked");
    entry.answered("1", 200, b"{\"ok\":true}");
    entry.answered("1", 500, b"late");
    let expected = answered(200, b"{\"ok\":true}");
    assert_eq!(fixture.outcomes.take(), [(7, expected)]);
}

#[test]
fn a_device_without_a_subscription_to_methods_is_not_online_for_them() {
    let fixture = Fixture::new();
    fixture.call(1, 0);
    let (link, _entry) = fixture.connect(&[Subscription::DesiredPatches]);
    fixture.call(2, 0);
    let expected = [(1, not_online(0)), (2, not_online(0))];
    assert_eq!(fixture.outcomes.take(), expected);
    assert!(link.topics().is_empty());
}

/// Each row: the device's subscriptions before and after the wait begins, and the outcome of the
/// wait. Nothing is ever sent.
#[test]
fn a_wait_ends_when_its_device_is_online_for_methods() {
    const OTHER: [Subscription; 1] = [Subscription::DesiredPatches];
    for (before, after, connect_s, ended) in [
        (&METHODS[..], &METHODS, 20, None),
        (&[], &METHODS, 20, None),
        (&OTHER, &METHODS, 20, None),
        (&OTHER, &OTHER, 20, Some(not_online(20))),
        (&[], &METHODS, 0, Some(not_online(0))),
    ] {
        let fixture = Fixture::new();
        let (link, entry) = fixture.connect(before);
        let call = fixture.new_call(connect_s);
        let outcomes = Arc::clone(&fixture.outcomes);
        fixture.registry.wait(call, outcomes, 7);
        fixture.registry.subscribed(&entry, &granted(after));
        fixture.sweep_after(21);
        let ended: Vec<_> = ended.into_iter().map(|outcome| (7, outcome)).collect();
        let case = format!("{before:?} {after:?} {connect_s}");
        let online = std::mem::take(&mut *fixture.outcomes.1.lock().unwrap());
        assert_eq!(
            online,
            if ended.is_empty() { vec![7] } else { vec![] },
            "{case}"
        );
        assert_eq!(fixture.outcomes.take(), ended, "{case}");
        assert!(link.topics().is_empty(), "{case}");
    }
}

#[test]
fn a_call_waits_for_its_device_until_its_connect_timeout() {
    let fixture = Fixture::new();
    fixture.call(1, 5);
    fixture.call(2, 20);
    fixture.sweep_after(6);
    assert_eq!(fixture.outcomes.take(), [(1, not_online(5))]);
    let (link, entry) = fixture.connect(&METHODS);
    assert_eq!(link.topics(), ["$iothub/methods/POST/lock/?$rid=1"]);
    entry.answered("1", 200, b"");
    assert_eq!(fixture.outcomes.take(), [(2, answered(200, b""))]);
    fixture.sweep_after(60);
    assert_eq!(fixture.outcomes.take(), []);
}

#[test]
fn a_call_ends_when_its_device_does_not_answer_or_disconnects() {
    let fixture = Fixture::new();
    let (_, entry) = fixture.connect(&METHODS);
    fixture.call(1, 0);
    fixture.sweep_after(31);
    let timed_out = (1, CallOutcome::ResponseTimedOut);
    assert_eq!(fixture.outcomes.take(), [timed_out]);
    fixture.call(2, 0);
    assert!(fixture.registry.remove(&entry));
    assert_eq!(fixture.outcomes.take(), [(2, CallOutcome::Disconnected)]);
    assert_eq!(fixture.registry.connected_count(), 0);
}

#[test]
fn a_call_that_waits_for_a_deleted_device_does_not_reach_a_new_one_of_its_name() {
    let fixture = Fixture::new();
    fixture.call(1, 300);
    let disconnect = |reason| fixture.registry.disconnect(&device(), reason);
    disconnect(DisconnectReason::CredentialsChanged);
    assert_eq!(fixture.outcomes.take(), []);
    disconnect(DisconnectReason::Deleted);
    assert_eq!(fixture.outcomes.take(), [(1, CallOutcome::Deleted)]);
    fixture.connect(&METHODS);
    assert_eq!(fixture.outcomes.take(), []);
}

#[test]
fn the_newer_connection_of_a_device_wins() {
    let fixture = Fixture::new();
    let (old_link, old) = fixture.connect(&METHODS);
    fixture.call(1, 0);
    let (new_link, new) = fixture.connect(&METHODS);
    assert_eq!(old_link.closed(), Some(DisconnectReason::TakenOver));
    assert_eq!(fixture.outcomes.take(), [(1, CallOutcome::TakenOver)]);
    assert!(
        !fixture.registry.remove(&old),
        "the old one's end must not unregister the new one"
    );
    assert!(fixture.registry.is_connected(&device()));
    fixture.call(2, 0);
    assert_eq!(new_link.topics().len(), 1);
    assert!(fixture.registry.remove(&new));
}

#[test]
fn a_connection_inserted_late_does_not_replace_a_newer_one() {
    let fixture = Fixture::new();
    let (new_link, new) = fixture.connect_as(2, &METHODS);
    let (old_link, old) = fixture.connect_as(1, &METHODS);
    assert_eq!(old_link.closed(), Some(DisconnectReason::TakenOver));
    assert_eq!(new_link.closed(), None);
    assert!(!fixture.registry.remove(&old));
    fixture.call(1, 0);
    assert_eq!(new_link.topics().len(), 1);
    assert!(fixture.registry.remove(&new));
}

#[test]
fn a_call_whose_caller_is_gone_is_withdrawn() {
    let fixture = Fixture::new();
    let caller = Arc::new(HungUp(Outcomes::default()));
    let call = || {
        let caller = Arc::clone(&caller);
        fixture.registry.call(fixture.new_call(300), caller, 1);
    };
    call();
    fixture.sweep_after(0);
    let withdrawn = [(1, CallOutcome::Withdrawn)];
    assert_eq!(caller.0.take(), withdrawn, "the wait has ended");
    call();
    fixture.call(2, 60);
    fixture.registry.withdraw();
    assert_eq!(caller.0.take(), withdrawn);
    assert_eq!(fixture.outcomes.take(), [], "other calls continue to wait");
    call();
    let (link, _entry) = fixture.connect(&METHODS);
    assert_eq!(link.topics().len(), 1, "{:?}", link.topics());
    assert_eq!(caller.0.take(), withdrawn);
}

#[test]
fn a_replaced_connection_does_not_receive_the_waiting_calls() {
    let fixture = Fixture::new();
    let (_old_link, old) = fixture.connect(&[]);
    let (new_link, new) = fixture.connect(&[]);
    fixture.call(1, 60);
    fixture.registry.subscribed(&old, &granted(&METHODS));
    assert_eq!(fixture.outcomes.take(), []);
    fixture.registry.subscribed(&new, &granted(&METHODS));
    assert_eq!(new_link.topics().len(), 1);
}

#[test]
fn the_calls_in_flight_and_those_that_wait_for_a_device_are_limited() {
    for (connects, limit) in [(true, MAX_IN_FLIGHT), (false, MAX_WAITING_PER_DEVICE)] {
        let fixture = Fixture::new();
        let connection = connects.then(|| fixture.connect(&METHODS));
        for token in 0..=u32::try_from(limit).unwrap() {
            fixture.call(token, if connects { 0 } else { 60 });
        }
        let sent = connection.map_or(limit, |(link, _)| link.topics().len());
        assert_eq!(sent, limit);
        let refused = (64, CallOutcome::TooManyInFlight);
        assert_eq!(fixture.outcomes.take(), [refused]);
    }
}

#[test]
fn an_idle_timeout_and_an_expired_token_end_a_connection() {
    let fixture = Fixture::new();
    let after = |milliseconds| fixture.start + Duration::from_millis(milliseconds);
    let sweep = |milliseconds| fixture.registry.sweep(after(milliseconds));
    let (link, entry) = fixture.connect(&[]);
    entry.received(after(60_900));
    sweep(150_800);
    assert_eq!(link.closed(), None);
    sweep(152_000);
    assert_eq!(link.closed(), Some(DisconnectReason::KeepAlive));

    let (link, entry) = fixture.connect(&[]);
    entry.received(after(3_599_000));
    sweep(3_600_000);
    assert_eq!(link.closed(), Some(DisconnectReason::TokenExpired));
}

#[test]
fn desired_changes_reach_only_subscribers() {
    let fixture = Fixture::new();
    let body = Bytes::from_static(br#"{"floor":3,"$version":2}"#);
    let (deaf, _entry) = fixture.connect(&METHODS);
    fixture.registry.notify_desired(&device(), 2, &body);
    assert!(deaf.topics().is_empty());
    let (link, _entry) = fixture.connect(&[Subscription::DesiredPatches]);
    fixture.registry.notify_desired(&device(), 2, &body);
    assert_eq!(
        link.topics(),
        ["$iothub/twin/PATCH/properties/desired/?$version=2"]
    );
}

#[test]
fn shutdown_ends_connections_and_waiting_calls() {
    let fixture = Fixture::new();
    fixture.call(1, 60);
    let (link, _entry) = fixture.connect(&[]);
    fixture.registry.disconnect_all(DisconnectReason::Shutdown);
    assert_eq!(link.closed(), Some(DisconnectReason::Shutdown));
    assert_eq!(fixture.outcomes.take(), [(1, not_online(60))]);
}

//! Computes patches of reported properties: the difference between what the hub should know and
//! what it knows.
//!
//! Pure: time is an argument. At most one patch a second, plus one after each command, and one in
//! flight: changes in between are merged into the next patch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// Minimum time between two patches.
const MIN_PATCH_INTERVAL: Duration = Duration::from_secs(1);
/// After this time an unanswered patch is sent again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait after a transient refusal of a patch (throttling, an error of the hub); half of it
/// is random. It doubles with each refusal in a row.
const REFUSAL_BACK_OFF: Duration = Duration::from_secs(10);
const MAX_BACK_OFF: Duration = Duration::from_secs(320);

/// JSON by top-level key: as text, 20 timed entries have 7 kB, as [`Value`]s 50 kB. What is wanted
/// and what the hub holds share it.
type Properties = BTreeMap<String, Arc<str>>;
/// Members of a JSON object, in its order.
type Borrowed<'a> = IndexMap<String, &'a RawValue>;
pub(super) type Members = IndexMap<String, Box<RawValue>>;

/// The reported properties of one device. Times come from any monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Reported {
    wanted: Properties,
    known: HubCopy,
    in_flight: Option<InFlight>,
    not_before: Duration,
    /// Transient refusals in a row: nothing is sent before `not_before`.
    refusals: u32,
    /// Many doors have the same to report at this instant: nothing is sent before this time, unless
    /// a command was answered.
    deferred: Option<Duration>,
    /// Until the next patch nothing is deferred.
    is_urgent: bool,
    /// A command was answered: its outcome need not wait for `not_before`.
    command_answered: bool,
    /// The hub refused a patch of several keys as invalid: they go one by one, so that a bad one
    /// holds up no other.
    one_by_one: bool,
    /// The key that went last of those.
    last_key: Option<String>,
    next_rid: u64,
}

/// What the hub holds, as far as known.
#[derive(Debug, Default)]
enum HubCopy {
    /// Not connected, or the twin is not read yet: nothing is sent.
    #[default]
    Unread,
    /// The twin was read: the next patch contains everything, and removes outdated properties.
    Read(Properties),
    /// The hub acknowledged this.
    Acknowledged(Properties),
}

#[derive(Debug)]
struct InFlight {
    rid: String,
    sent: Duration,
    /// What the hub holds of it if it refuses a patch of several keys.
    before: Option<Properties>,
    /// What the hub holds after it accepts the patch.
    then: Properties,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum PatchOutcome {
    Accepted,
    Refused {
        /// Whether the refusal is transient, so that the patch is retried.
        will_retry: bool,
    },
    /// Not the answer to the pending patch.
    Unknown,
}

impl Reported {
    /// Sets a top-level property to a JSON text; `None` removes it.
    pub(super) fn set(&mut self, key: &str, value: Option<String>) {
        match value {
            Some(value) => {
                let held = self.wanted.get(key);
                if held.is_none_or(|held| **held != value) {
                    self.wanted.insert(key.to_owned(), value.into());
                }
            }
            None => {
                self.wanted.remove(key);
            }
        }
    }

    /// The twin was read: `reported` is what the hub holds.
    pub(super) fn twin_read(&mut self, mut reported: BTreeMap<String, Box<RawValue>>) {
        reported.remove("$version");
        let shared = |(key, value): (String, Box<RawValue>)| (key, value.get().into());
        self.known = HubCopy::Read(reported.into_iter().map(shared).collect());
        self.in_flight = None;
    }

    /// The connection ended: no pending answer will arrive.
    pub(super) fn offline(&mut self) {
        self.known = HubCopy::Unread;
        self.in_flight = None;
    }

    /// A command was answered: the next patch may go at once, because the caller reads the twin
    /// now.
    pub(super) fn command_answered(&mut self) {
        self.command_answered = true;
    }

    /// Sends no patch for a time, or for the rest of a shorter one that was given before.
    pub(super) fn defer(&mut self, now: Duration, wait: Duration) {
        if self.is_urgent {
            return;
        }
        let earlier = self.deferred.filter(|until| *until > now);
        let until = now + wait;
        self.deferred = Some(earlier.map_or(until, |earlier| earlier.min(until)));
    }

    /// Something must not wait, whatever is deferred after it.
    pub(super) fn hurry(&mut self) {
        self.deferred = None;
        self.is_urgent = true;
    }

    /// The request id and body of the patch to send now.
    pub(super) fn next_patch(&mut self, now: Duration, owned: &[&str]) -> Option<(String, String)> {
        let unanswered = |sent| now < sent + ANSWER_TIMEOUT;
        let due = self
            .deferred
            .map_or(self.not_before, |until| until.max(self.not_before));
        let waits = match self.refusals {
            0 => now < due && !self.command_answered,
            _ => now < self.not_before,
        };
        if waits || self.in_flight.as_ref().is_some_and(|f| unanswered(f.sent)) {
            return None;
        }
        let (known, everything) = match &self.known {
            HubCopy::Unread => return None,
            HubCopy::Read(known) => (known, true),
            HubCopy::Acknowledged(known) => (known, false),
        };
        // Properties reported by others under this identity are left alone.
        let ours: Properties = known
            .iter()
            .filter(|(key, _)| owned.contains(&key.as_str()) || self.wanted.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let mut patch = Members::new();
        for (key, value) in &self.wanted {
            let change = change(ours.get(key).map(Arc::as_ref), value, everything);
            patch.extend(change.map(|change| (key.clone(), change)));
        }
        let outdated = ours.keys().filter(|key| !self.wanted.contains_key(*key));
        patch.extend(outdated.map(|key| (key.clone(), RawValue::NULL.to_owned())));
        let mut then = self.wanted.clone();
        self.one_by_one &= patch.len() > 1;
        if self.one_by_one {
            // In turn: one that changes all the time must not keep back those after it.
            let later = |key: &&String| self.last_key.as_ref().is_none_or(|last| *key > last);
            let door = patch.get_key_value("door").map(|(key, _)| key);
            let door = door.filter(|key| self.is_urgent && self.last_key.as_ref() != Some(*key));
            let next = door.or_else(|| patch.keys().filter(later).min());
            let key = next.or(patch.keys().min())?.clone();
            let change = patch.swap_remove(&key)?;
            self.last_key = Some(key.clone());
            let value = then.remove(&key);
            then.clone_from(&ours);
            then.remove(&key);
            then.extend(value.map(|value| (key.clone(), value)));
            patch = Members::from_iter([(key, change)]);
        }
        if patch.is_empty() {
            // The hub may write the same in another way.
            self.known = HubCopy::Acknowledged(then);
            return None;
        }
        let rid = format!("r{}", self.next_rid);
        self.next_rid += 1;
        self.not_before = now + MIN_PATCH_INTERVAL;
        self.deferred = None;
        let has_state = patch.contains_key("door") || patch.contains_key("timed");
        self.is_urgent &= self.one_by_one && !has_state;
        self.command_answered = false;
        self.in_flight = Some(InFlight {
            rid: rid.clone(),
            sent: now,
            before: (patch.len() > 1).then_some(ours),
            then,
        });
        Some((rid, text(&patch).get().to_owned()))
    }

    /// When to call [`Reported::next_patch`] again if nothing changes.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        match (&self.known, &self.in_flight) {
            (HubCopy::Unread, _) => None,
            (_, Some(in_flight)) => Some(in_flight.sent + ANSWER_TIMEOUT),
            (HubCopy::Acknowledged(known), None) if *known == self.wanted => None,
            (_, None) if self.refusals > 0 => Some(self.not_before),
            (_, None) if self.command_answered => Some(Duration::ZERO),
            (_, None) => Some(self.not_before.max(self.deferred.unwrap_or_default())),
        }
    }

    /// The hub answered a request. `jitter` is a random number from 0 to 1.
    pub(super) fn answered(
        &mut self,
        rid: &str,
        status: u16,
        now: Duration,
        jitter: f64,
    ) -> PatchOutcome {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.rid == rid) else {
            return PatchOutcome::Unknown;
        };
        match status {
            200..=299 => {
                self.refusals = 0;
                self.known = HubCopy::Acknowledged(in_flight.then);
                PatchOutcome::Accepted
            }
            429 | 500.. => {
                let longest = REFUSAL_BACK_OFF * 2_u32.pow(self.refusals.min(8));
                let longest = longest.min(MAX_BACK_OFF);
                self.not_before = now + longest.mul_f64(0.5 + jitter / 2.0);
                self.refusals += 1;
                PatchOutcome::Refused { will_retry: true }
            }
            _ => {
                // The same patch would be refused every time: send its keys one by one, and of a
                // single key only later changes.
                self.refusals = 0;
                let will_retry = in_flight.before.is_some();
                self.one_by_one |= will_retry;
                let holds = in_flight.before.unwrap_or(in_flight.then);
                self.known = HubCopy::Acknowledged(holds);
                PatchOutcome::Refused { will_retry }
            }
        }
    }
}

/// The change of one JSON text, if any.
fn change(from: Option<&str>, to: &str, everything: bool) -> Option<Box<RawValue>> {
    if from == Some(to) && !everything {
        return None;
    }
    if let (Some(from), Some(to)) = (from.and_then(members), members(to)) {
        let inner = difference(&from, &to, everything);
        return (everything || !inner.is_empty()).then(|| text(&inner));
    }
    let is_same = |from| parse::<Value>(from) == parse(to);
    match from {
        Some(from) if !everything && is_same(from) => None,
        _ => parse(to),
    }
}

/// The merge patch that turns `from` into `to`; with `everything` it includes values that are
/// already equal.
fn difference(from: &Borrowed<'_>, to: &Borrowed<'_>, everything: bool) -> Members {
    let mut patch = Members::new();
    for (key, value) in to {
        let change = change(
            from.get(key).map(|from| from.get()),
            value.get(),
            everything,
        );
        patch.extend(change.map(|change| (key.clone(), change)));
    }
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), RawValue::NULL.to_owned());
    }
    patch
}

/// `None` for all but an object.
fn members(text: &str) -> Option<Borrowed<'_>> {
    parse(text)
}

fn parse<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn text(patch: &Members) -> Box<RawValue> {
    to_raw_value(patch).expect("the keys are strings")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    const OWNED: &[&str] = &["building", "door"];

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn text_of(value: &Value) -> Option<String> {
        Some(value.to_string())
    }

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("expected an object, found {other}"),
        }
    }

    fn next(subject: &mut Reported, now: Duration) -> Option<(String, Value)> {
        let (rid, patch) = subject.next_patch(now, OWNED)?;
        Some((rid, serde_json::from_str(&patch).unwrap()))
    }

    fn read(reported: Value) -> Reported {
        let mut subject = Reported::default();
        subject.set(
            "door",
            text_of(&json!({"lockState": "locked", "alarms": {}})),
        );
        subject.twin_read(serde_json::from_value(reported).unwrap());
        subject
    }

    #[test]
    fn nothing_is_sent_before_the_twin_was_read() {
        let mut subject = Reported::default();
        subject.set("door", text_of(&json!({"lockState": "locked"})));
        assert_eq!(next(&mut subject, ms(0)), None);
        assert_eq!(subject.poll_timeout(), None);
    }

    #[test]
    fn the_first_patch_contains_everything_and_removes_outdated_members() {
        let mut subject = read(json!({
            "$version": 7,
            "building": {"value": 43},
            "door": {"lockState": "locked", "alarms": {"jammed": {"since": "x"}}},
            "other": 1
        }));
        let (_, patch) = next(&mut subject, ms(0)).unwrap();
        assert_eq!(
            patch,
            json!({"door": {"lockState": "locked", "alarms": {"jammed": null}}, "building": null})
        );
    }

    #[test]
    fn a_patch_keeps_the_order_of_its_writer_and_takes_no_other_spelling_for_a_change() {
        let mut subject = Reported::default();
        let set = |subject: &mut Reported, building: &str, door: &str| {
            subject.set("building", Some(building.to_owned()));
            subject.set("door", Some(door.to_owned()));
        };
        set(
            &mut subject,
            "[1]",
            r#"{"z":{"y":"\u00e9","b":2},"a":[{"q":1,"p":2}]}"#,
        );
        let hub = r#"{"building": 4, "door": {"a": [{"p": 2, "q": 1}], "z": {"b": 2, "y": "é"}}}"#;
        subject.twin_read(serde_json::from_str(hub).unwrap());
        // Everything at first; its refusal leaves what the hub holds in place.
        let mut now = ms(0);
        for (expected, status) in [
            (
                r#"{"building":[1],"door":{"z":{"y":"\u00e9","b":2},"a":[{"q":1,"p":2}]}}"#,
                400,
            ),
            (r#"{"building":[1]}"#, 400),
            (
                r#"{"door":{"z":{"c":3,"y":null},"a":[{"q":2,"p":2}]}}"#,
                204,
            ),
        ] {
            let (rid, patch) = subject.next_patch(now, OWNED).unwrap();
            assert_eq!(patch, expected);
            subject.answered(&rid, status, now, 1.0);
            now += ms(1_000);
            if expected == r#"{"building":[1]}"# {
                assert_eq!(subject.next_patch(now, OWNED), None);
                assert_eq!(subject.poll_timeout(), None);
                set(
                    &mut subject,
                    "[1]",
                    r#"{"z":{"b":2,"c":3},"a":[{"q":2,"p":2}]}"#,
                );
            }
        }
        assert_eq!(subject.poll_timeout(), None);
    }

    #[test]
    fn changes_within_a_second_become_one_patch() {
        let mut subject = read(json!({}));
        let (rid, _) = next(&mut subject, ms(0)).unwrap();
        assert_eq!(
            subject.answered(&rid, 204, ms(5), 1.0),
            PatchOutcome::Accepted
        );
        assert_eq!(subject.poll_timeout(), None);
        for state in ["unlocking", "unlocked", "locking"] {
            subject.set("door", text_of(&json!({"lockState": state, "alarms": {}})));
            assert_eq!(next(&mut subject, ms(500)), None);
        }
        assert_eq!(subject.poll_timeout(), Some(ms(1000)));
        let (_, patch) = next(&mut subject, ms(1000)).unwrap();
        assert_eq!(patch, json!({"door": {"lockState": "locking"}}));
    }

    #[test]
    fn the_patch_after_a_command_is_sent_at_once_unless_throttled() {
        // Whether a command was answered, the status of the previous patch, and when the next
        // one may go.
        for (command_answered, status, at) in [
            (false, 204, 1_000),
            (true, 204, 10),
            (true, 400, 10),
            (true, 429, 10_005),
            (true, 503, 10_005),
        ] {
            let mut subject = read(json!({}));
            let (rid, _) = next(&mut subject, ms(0)).unwrap();
            subject.answered(&rid, status, ms(5), 1.0);
            subject.set(
                "door",
                text_of(&json!({"lockState": "unlocked", "alarms": {}})),
            );
            if command_answered {
                subject.command_answered();
            }
            let earliest = subject.poll_timeout().unwrap().max(ms(10));
            assert_eq!(earliest, ms(at), "{command_answered} {status}");
            if at > 10 {
                assert_eq!(
                    next(&mut subject, ms(at - 1)),
                    None,
                    "{command_answered} {status}"
                );
            }
            assert!(
                next(&mut subject, ms(at)).is_some(),
                "{command_answered} {status}"
            );
            // Only one patch: the next waits for its second again.
            subject.set(
                "door",
                text_of(&json!({"lockState": "locked", "alarms": {}})),
            );
            subject.answered("r1", 204, ms(at + 1), 1.0);
            assert_eq!(
                next(&mut subject, ms(at + 2)),
                None,
                "{command_answered} {status}"
            );
        }
    }

    #[test]
    fn a_deferred_patch_waits_unless_something_hurries() {
        for (hurry, command_answered, at) in [
            (false, false, 7_000),
            (true, false, 1_000),
            (false, true, 10),
        ] {
            let mut subject = read(json!({}));
            let (rid, _) = next(&mut subject, ms(0)).unwrap();
            subject.answered(&rid, 204, ms(5), 1.0);
            subject.set(
                "door",
                text_of(&json!({"lockState": "locking", "alarms": {}})),
            );
            // One that has passed does not count.
            subject.defer(ms(1), ms(2));
            for wait in [15_000, 6_990, 9_000] {
                subject.defer(ms(10), ms(wait));
            }
            if hurry {
                subject.hurry();
                subject.defer(ms(10), ms(9_000));
            }
            if command_answered {
                subject.command_answered();
            }
            let due = subject.poll_timeout().unwrap().max(ms(10));
            assert_eq!(due, ms(at));
            assert!(at == 10 || next(&mut subject, ms(at - 1)).is_none());
            let (rid, _) = next(&mut subject, ms(at)).unwrap();
            // The patch after it may wait again.
            subject.answered(&rid, 204, ms(at), 1.0);
            subject.set(
                "door",
                text_of(&json!({"lockState": "locked", "alarms": {}})),
            );
            subject.defer(ms(at), ms(9_000));
            assert_eq!(subject.poll_timeout(), Some(ms(at + 9_000)));
        }
    }

    #[test]
    fn waits_after_refusals_grow_and_half_of_each_is_random() {
        for (jitter, waits) in [
            (1.0, [10, 20, 40, 80, 160, 320, 320]),
            (0.0, [5, 10, 20, 40, 80, 160, 160]),
        ] {
            let mut subject = read(json!({}));
            let mut now = ms(0);
            for wait in waits {
                let (rid, _) = next(&mut subject, now).unwrap();
                subject.answered(&rid, 429, now, jitter);
                let due = now + Duration::from_secs(wait);
                assert_eq!(subject.poll_timeout(), Some(due));
                now = due;
            }
        }
    }

    #[test]
    fn one_patch_is_in_flight_and_an_unanswered_one_is_resent() {
        let mut subject = read(json!({}));
        let (first, _) = next(&mut subject, ms(0)).unwrap();
        subject.set("building", text_of(&json!({"value": 43})));
        assert_eq!(next(&mut subject, ms(29_000)), None);
        let (second, patch) = next(&mut subject, ms(30_000)).unwrap();
        assert_eq!(patch["building"], json!({"value": 43}));
        assert_eq!(
            subject.answered(&first, 204, ms(30_001), 1.0),
            PatchOutcome::Unknown
        );
        assert_eq!(
            subject.answered(&second, 204, ms(30_002), 1.0),
            PatchOutcome::Accepted
        );
    }

    #[test]
    fn a_throttled_patch_is_retried_and_an_invalid_one_is_not() {
        let mut subject = read(json!({}));
        let (rid, patch) = next(&mut subject, ms(0)).unwrap();
        assert_eq!(
            subject.answered(&rid, 429, ms(10), 1.0),
            PatchOutcome::Refused { will_retry: true }
        );
        assert_eq!(next(&mut subject, ms(9_000)), None);
        let (rid, again) = next(&mut subject, ms(10_010)).unwrap();
        assert_eq!(patch, again);
        assert_eq!(
            subject.answered(&rid, 400, ms(10_020), 1.0),
            PatchOutcome::Refused { will_retry: false }
        );
        assert_eq!(next(&mut subject, ms(60_000)), None);
    }

    #[test]
    fn the_keys_of_an_invalid_patch_are_sent_one_by_one() {
        let mut subject = read(json!({"other": 1}));
        subject.set("building", text_of(&json!("bad")));
        subject.set("timed", text_of(&json!({"a": 1})));
        let mut sent = Vec::new();
        for second in 0..10 {
            let now = ms(second * 1_000);
            let Some((rid, patch)) = next(&mut subject, now) else {
                break;
            };
            let is_bad = patch.get("building").is_some();
            subject.answered(&rid, if is_bad { 400 } else { 204 }, now, 1.0);
            sent.push(map(patch).keys().cloned().collect::<Vec<_>>().join(" "));
        }
        assert_eq!(sent, ["building door timed", "building", "door", "timed"]);
        assert_eq!(subject.poll_timeout(), None);
        // Later changes go together again.
        subject.set("door", None);
        subject.set("timed", text_of(&json!({"a": 2})));
        let (_, patch) = next(&mut subject, ms(60_000)).unwrap();
        assert_eq!(patch, json!({"timed": {"a": 2}, "door": null}));
    }

    #[test]
    fn of_keys_sent_one_by_one_the_door_hurries_and_stays_urgent_until_it_goes() {
        let mut subject = read(json!({}));
        subject.set("building", text_of(&json!("bad")));
        subject.set("device", text_of(&json!({"a": 1})));
        let mut sent = Vec::new();
        for second in 0..5 {
            let now = ms(second * 1_000);
            let Some((rid, patch)) = next(&mut subject, now) else {
                break;
            };
            let is_bad = patch.get("building").is_some();
            subject.answered(&rid, if is_bad { 400 } else { 204 }, now, 1.0);
            sent.push(map(patch).keys().cloned().collect::<Vec<_>>().join(" "));
            if second == 0 {
                subject.hurry();
            }
            subject.defer(now, ms(60_000));
        }
        assert_eq!(sent, ["building device door", "door"]);
    }

    #[test]
    fn a_key_that_changes_all_the_time_keeps_back_no_other() {
        let mut subject = read(json!({}));
        subject.set("timed", text_of(&json!({"a": 1})));
        subject.set("zone", text_of(&json!("bad")));
        let mut sent = Vec::new();
        for second in 0..5 {
            let now = ms(second * 1_000);
            subject.set("door", text_of(&json!({"lockState": second})));
            let (rid, patch) = next(&mut subject, now).unwrap();
            let is_bad = patch.get("zone").is_some();
            subject.answered(&rid, if is_bad { 400 } else { 204 }, now, 1.0);
            sent.push(map(patch).keys().cloned().collect::<Vec<_>>().join(" "));
        }
        assert_eq!(sent, ["door timed zone", "door", "timed", "zone", "door"]);
    }

    fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
        for (key, value) in patch {
            match (target.get_mut(key), value) {
                (_, Value::Null) => {
                    target.remove(key);
                }
                (Some(Value::Object(target)), Value::Object(patch)) => merge(target, patch),
                _ => {
                    target.insert(key.clone(), value.clone());
                }
            }
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = (0i64..3).prop_map(Value::from);
        let tree = leaf.prop_recursive(3, 12, 3, |inner| {
            proptest::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        proptest::collection::btree_map("[ab]", tree, 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn applying_the_difference_yields_the_target(
            from in document(),
            to in document(),
            everything: bool,
        ) {
            let texts = [&from, &to].map(Value::to_string);
            let patch = change(Some(&texts[0]), &texts[1], everything);
            let patch = patch.map_or(json!({}), |patch| serde_json::from_str(patch.get()).unwrap());
            let (mut target, to) = (map(from), map(to));
            merge(&mut target, &map(patch));
            prop_assert_eq!(target, to);
        }
    }
}

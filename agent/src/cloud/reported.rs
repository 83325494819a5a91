//! What the hub should know of us and what it knows: the difference is the next patch.
//!
//! Pure: time comes in as an argument. At most one patch a second, and one for each command; one at
//! a time: whatever changes in between is merged into the next one.

use std::time::Duration;

use serde_json::{Map, Value};

/// Shortest time from one patch to the next.
const BETWEEN_PATCHES: Duration = Duration::from_secs(1);
/// How long a patch may stay unanswered before it is sent again.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Wait after the hub refused a patch for a reason that passes (throttling, an error of its own).
const AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// The reported properties of one device. Times are any monotonic clock's.
#[derive(Debug, Default)]
pub(super) struct Reported {
    wanted: Map<String, Value>,
    known: Known,
    in_flight: Option<InFlight>,
    not_before: Duration,
    /// The hub refused the last patch for a reason that passes: nothing goes sooner.
    throttled: bool,
    /// A command was answered: its outcome does not wait for the second to pass.
    commanded: bool,
    next_rid: u64,
}

/// What the hub holds, as far as we know.
#[derive(Debug, Default)]
enum Known {
    /// Not connected, or the twin is not read yet: nothing is sent.
    #[default]
    Nothing,
    /// The twin was read: the next patch says everything, and removes what we no longer have.
    Read(Map<String, Value>),
    /// It acknowledged what we reported.
    Acknowledged(Map<String, Value>),
}

#[derive(Debug)]
struct InFlight {
    rid: String,
    sent: Duration,
    /// What the hub holds once it answers.
    then: Map<String, Value>,
}

/// What became of a patch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The hub took it.
    Taken,
    /// The hub refused it; the status and whether it is tried again as it is.
    Refused {
        /// Whether the same patch may succeed later.
        retried: bool,
    },
    /// The answer to no patch of ours that is still open.
    NotOurs,
}

impl Reported {
    /// Sets a top-level property; `None` removes it.
    pub(super) fn set(&mut self, key: &str, value: Option<Value>) {
        match value {
            Some(value) => {
                self.wanted.insert(key.to_owned(), value);
            }
            None => {
                self.wanted.remove(key);
            }
        }
    }

    /// The twin was read: `reported` is what the hub holds.
    pub(super) fn twin_read(&mut self, mut reported: Map<String, Value>) {
        reported.remove("$version");
        self.known = Known::Read(reported);
        self.in_flight = None;
    }

    /// The connection is gone, and with it every answer that was due.
    pub(super) fn offline(&mut self) {
        self.known = Known::Nothing;
        self.in_flight = None;
    }

    /// A command was answered: the next patch may go at once, for whoever gave the command looks at
    /// the twin now.
    pub(super) fn commanded(&mut self) {
        self.commanded = true;
    }

    /// The patch to send now: its request id and its body.
    pub(super) fn next_patch(&mut self, now: Duration, owned: &[&str]) -> Option<(String, Value)> {
        let unanswered = |sent| now < sent + ANSWER_WITHIN;
        let waits = now < self.not_before && (self.throttled || !self.commanded);
        if waits || self.in_flight.as_ref().is_some_and(|f| unanswered(f.sent)) {
            return None;
        }
        let (known, everything) = match &self.known {
            Known::Nothing => return None,
            Known::Read(known) => (known, true),
            Known::Acknowledged(known) => (known, false),
        };
        // What others reported under this identity is left alone.
        let ours: Map<_, _> = known
            .iter()
            .filter(|(key, _)| owned.contains(&key.as_str()) || self.wanted.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let patch = difference(&ours, &self.wanted, everything);
        if patch.is_empty() {
            return None;
        }
        let rid = format!("r{}", self.next_rid);
        self.next_rid += 1;
        self.not_before = now + BETWEEN_PATCHES;
        self.throttled = false;
        self.commanded = false;
        self.in_flight = Some(InFlight {
            rid: rid.clone(),
            sent: now,
            then: self.wanted.clone(),
        });
        Some((rid, Value::Object(patch)))
    }

    /// When [`Reported::next_patch`] is worth asking again though nothing has changed.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        match (&self.known, &self.in_flight) {
            (Known::Nothing, _) => None,
            (_, Some(in_flight)) => Some(in_flight.sent + ANSWER_WITHIN),
            (Known::Acknowledged(known), None) if *known == self.wanted => None,
            (_, None) if self.commanded && !self.throttled => Some(Duration::ZERO),
            (_, None) => Some(self.not_before),
        }
    }

    /// The hub answered a request.
    pub(super) fn answered(&mut self, rid: &str, status: u16, now: Duration) -> Answer {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.rid == rid) else {
            return Answer::NotOurs;
        };
        match status {
            200..=299 => {
                self.known = Known::Acknowledged(in_flight.then);
                Answer::Taken
            }
            429 | 500.. => {
                self.not_before = now + AFTER_REFUSAL;
                self.throttled = true;
                Answer::Refused { retried: true }
            }
            _ => {
                // Sent as it is it would be refused for ever: only what changes from here on is
                // sent.
                self.known = Known::Acknowledged(in_flight.then);
                Answer::Refused { retried: false }
            }
        }
    }
}

/// The merge patch that turns `from` into `to`; with `everything`, values that are already equal
/// are in it too.
fn difference(
    from: &Map<String, Value>,
    to: &Map<String, Value>,
    everything: bool,
) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, value) in to {
        match (from.get(key), value) {
            (Some(Value::Object(from)), Value::Object(to)) => {
                let inner = difference(from, to, everything);
                if everything || !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (Some(from), value) if from == value && !everything => {}
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const OWNED: &[&str] = &["building", "door"];

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is no object"),
        }
    }

    fn read(reported: Value) -> Reported {
        let mut subject = Reported::default();
        subject.set("door", Some(json!({"lockState": "locked", "alarms": {}})));
        subject.twin_read(map(reported));
        subject
    }

    #[test]
    fn nothing_is_sent_before_the_twin_was_read() {
        let mut subject = Reported::default();
        subject.set("door", Some(json!({"lockState": "locked"})));
        assert_eq!(subject.next_patch(ms(0), OWNED), None);
        assert_eq!(subject.poll_timeout(), None);
    }

    #[test]
    fn the_first_patch_says_everything_and_removes_what_is_no_more() {
        let mut subject = read(json!({
            "$version": 7,
            "building": {"value": 43},
            "door": {"lockState": "locked", "alarms": {"jammed": {"since": "x"}}},
            "other": 1
        }));
        let (_, patch) = subject.next_patch(ms(0), OWNED).unwrap();
        assert_eq!(
            patch,
            json!({"door": {"lockState": "locked", "alarms": {"jammed": null}}, "building": null})
        );
    }

    #[test]
    fn changes_within_a_second_become_one_patch() {
        let mut subject = read(json!({}));
        let (rid, _) = subject.next_patch(ms(0), OWNED).unwrap();
        assert_eq!(subject.answered(&rid, 204, ms(5)), Answer::Taken);
        assert_eq!(subject.poll_timeout(), None);
        for state in ["unlocking", "unlocked", "locking"] {
            subject.set("door", Some(json!({"lockState": state, "alarms": {}})));
            assert_eq!(subject.next_patch(ms(500), OWNED), None);
        }
        assert_eq!(subject.poll_timeout(), Some(ms(1000)));
        let (_, patch) = subject.next_patch(ms(1000), OWNED).unwrap();
        assert_eq!(patch, json!({"door": {"lockState": "locking"}}));
    }

    #[test]
    fn the_patch_after_a_command_does_not_wait_unless_the_hub_is_throttled() {
        // Whether a command was answered, how the hub answered the patch before, and when the next
        // one may go.
        for (commanded, status, at) in [
            (false, 204, 1_000),
            (true, 204, 10),
            (true, 400, 10),
            (true, 429, 10_005),
            (true, 503, 10_005),
        ] {
            let mut subject = read(json!({}));
            let (rid, _) = subject.next_patch(ms(0), OWNED).unwrap();
            subject.answered(&rid, status, ms(5));
            subject.set("door", Some(json!({"lockState": "unlocked", "alarms": {}})));
            if commanded {
                subject.commanded();
            }
            let earliest = subject.poll_timeout().unwrap().max(ms(10));
            assert_eq!(earliest, ms(at), "{commanded} {status}");
            if at > 10 {
                assert_eq!(
                    subject.next_patch(ms(at - 1), OWNED),
                    None,
                    "{commanded} {status}"
                );
            }
            assert!(
                subject.next_patch(ms(at), OWNED).is_some(),
                "{commanded} {status}"
            );
            // One patch: the next waits for its second again.
            subject.set("door", Some(json!({"lockState": "locked", "alarms": {}})));
            subject.answered("r1", 204, ms(at + 1));
            assert_eq!(
                subject.next_patch(ms(at + 2), OWNED),
                None,
                "{commanded} {status}"
            );
        }
    }

    #[test]
    fn one_patch_at_a_time_and_an_unanswered_one_is_sent_again() {
        let mut subject = read(json!({}));
        let (first, _) = subject.next_patch(ms(0), OWNED).unwrap();
        subject.set("building", Some(json!({"value": 43})));
        assert_eq!(subject.next_patch(ms(29_000), OWNED), None);
        let (second, patch) = subject.next_patch(ms(30_000), OWNED).unwrap();
        assert_eq!(patch["building"], json!({"value": 43}));
        assert_eq!(subject.answered(&first, 204, ms(30_001)), Answer::NotOurs);
        assert_eq!(subject.answered(&second, 204, ms(30_002)), Answer::Taken);
    }

    #[test]
    fn a_throttled_patch_waits_and_a_bad_one_is_not_repeated() {
        let mut subject = read(json!({}));
        let (rid, patch) = subject.next_patch(ms(0), OWNED).unwrap();
        assert_eq!(
            subject.answered(&rid, 429, ms(10)),
            Answer::Refused { retried: true }
        );
        assert_eq!(subject.next_patch(ms(9_000), OWNED), None);
        let (rid, again) = subject.next_patch(ms(10_010), OWNED).unwrap();
        assert_eq!(patch, again);
        assert_eq!(
            subject.answered(&rid, 400, ms(10_020)),
            Answer::Refused { retried: false }
        );
        assert_eq!(subject.next_patch(ms(60_000), OWNED), None);
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
        fn applying_the_difference_gives_what_was_wanted(from in document(), to in document(), everything: bool) {
            let mut target = map(from);
            let to = map(to);
            let patch = difference(&target, &to, everything);
            merge(&mut target, &patch);
            prop_assert_eq!(target, to);
        }
    }
}

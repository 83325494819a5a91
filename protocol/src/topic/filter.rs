//! Topic filters of a device: its own four, those that cover some of them, and those that lie
//! within one.

use super::{Subscription, TopicError, split_device};
use crate::id::DeviceId;

/// The longest filter accepted, in bytes; a persistent session stores it.
const MAX_FILTER_BYTES: usize = 1024;

/// A filter that a device subscribes to, and what it is granted as. Filters are equal if their
/// texts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFilter {
    text: Box<str>,
    grant: Grant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grant {
    /// The filter covers these, in the order of [`Subscription::ALL`].
    Whole([bool; Subscription::ALL.len()]),
    /// It lies within this one, and may deliver only part of it.
    Within(Subscription),
}

impl TopicFilter {
    /// Parses a filter that `device` subscribes to. `#` and `+` at its start match no topic that
    /// starts with `$` (MQTT 3.1.1, section 4.7.2).
    ///
    /// # Errors
    ///
    /// If it is malformed or too long, or neither covers one of the device's own filters nor lies
    /// within one.
    pub fn parse(filter: &str, device: &DeviceId) -> Result<Self, TopicError> {
        let granted = |grant| {
            Ok(Self {
                text: filter.into(),
                grant,
            })
        };
        let own = Subscription::ALL.map(|subscription| subscription.filter(device));
        // Compare the texts first: a device id may look like wildcards.
        if own.iter().any(|own| own == filter) {
            return granted(Grant::Whole(own.each_ref().map(|own| own == filter)));
        }
        if filter.len() > MAX_FILTER_BYTES || !is_filter(filter) {
            return Err(TopicError::Unknown);
        }
        let prefixes = own.each_ref().map(|own| own.trim_end_matches("/#"));
        let whole = prefixes.map(|prefix| covers(filter, prefix));
        if whole.contains(&true) {
            return granted(Grant::Whole(whole));
        }
        let within = |(prefix, _): &(&str, Subscription)| {
            let rest = filter.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match prefixes.into_iter().zip(Subscription::ALL).find(within) {
            Some((_, subscription)) => granted(Grant::Within(subscription)),
            None => Err(split_device(filter, device)
                .err()
                .unwrap_or(TopicError::Unknown)),
        }
    }

    /// The filter as the device wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it delivers every topic of the subscriptions it concerns.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        matches!(self.grant, Grant::Whole(_))
    }

    /// Whether it delivers any topic of `subscription`.
    #[must_use]
    pub fn concerns(&self, subscription: Subscription) -> bool {
        match self.grant {
            Grant::Whole(whole) => Subscription::ALL
                .into_iter()
                .zip(whole)
                .any(|(own, covered)| covered && own == subscription),
            Grant::Within(own) => own == subscription,
        }
    }

    /// Whether it delivers `topic`, a topic of `subscription`.
    #[must_use]
    pub fn delivers(&self, subscription: Subscription, topic: &str) -> bool {
        self.concerns(subscription)
            && match self.grant {
                Grant::Whole(_) => true,
                Grant::Within(_) => matches(&self.text, topic),
            }
    }
}

/// Whether each wildcard is a level of its own, and `#` the last one (MQTT 3.1.1, section 4.7.1).
fn is_filter(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    let mut is_good = !text.is_empty();
    while let Some(level) = levels.next() {
        is_good &= match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            name => !name.contains(['#', '+']),
        };
    }
    is_good
}

/// Whether `filter` matches every topic that starts with the levels of `prefix`.
fn covers(filter: &str, prefix: &str) -> bool {
    let mut levels = prefix.split('/');
    let mut is_first = true;
    for wanted in filter.split('/') {
        let level = levels.next();
        let hidden = is_first && level.is_some_and(|level| level.starts_with('$'));
        is_first = false;
        match (wanted, level) {
            ("#", _) => return !hidden,
            ("+", Some(_)) if !hidden => {}
            (name, Some(level)) if name == level => {}
            _ => return false,
        }
    }
    false
}

/// Whether `filter`, which does not start with a wildcard, matches `topic`.
fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (name, Some(level)) if name == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downlink::Downlink;

    /// Each row: a filter, its grant, and which of [`TOPICS`] it delivers.
    type Row = (&'static str, &'static [Subscription], &'static [usize]);

    use Subscription::{CloudToDevice, DesiredPatches, MethodRequests, TwinResponses};

    const TOPICS: [(Subscription, &str); 8] = [
        (MethodRequests, "$iothub/methods/POST/lockDoor/?$rid=1"),
        (MethodRequests, "$iothub/methods/POST/unlockDoor/?$rid=a"),
        (TwinResponses, "$iothub/twin/res/200/?$rid=1"),
        (TwinResponses, "$iothub/twin/res/204/?$rid=a/b&$version=3"),
        (
            DesiredPatches,
            "$iothub/twin/PATCH/properties/desired/?$version=3",
        ),
        (CloudToDevice, "devices/d1/messages/devicebound/%24.mid=1"),
        (CloudToDevice, "devices/d1/messages/devicebound/"),
        (CloudToDevice, "devices/d1/messages/devicebound/a/b"),
    ];

    const ALL_OF_C2D: &[usize] = &[5, 6, 7];

    #[test]
    fn a_filter_is_granted_as_what_it_covers_or_lies_within() {
        const HUB: &[Subscription] = &[MethodRequests, TwinResponses, DesiredPatches];
        let rows: [Row; 36] = [
            // The device's own.
            ("$iothub/methods/POST/#", &[MethodRequests], &[0, 1]),
            ("$iothub/twin/res/#", &[TwinResponses], &[2, 3]),
            (
                "$iothub/twin/PATCH/properties/desired/#",
                &[DesiredPatches],
                &[4],
            ),
            (
                "devices/d1/messages/devicebound/#",
                &[CloudToDevice],
                ALL_OF_C2D,
            ),
            // Those that cover some of them.
            ("$iothub/methods/#", &[MethodRequests], &[0, 1]),
            ("$iothub/+/POST/#", &[MethodRequests], &[0, 1]),
            (
                "$iothub/twin/#",
                &[TwinResponses, DesiredPatches],
                &[2, 3, 4],
            ),
            (
                "$iothub/twin/+/#",
                &[TwinResponses, DesiredPatches],
                &[2, 3, 4],
            ),
            ("$iothub/twin/PATCH/#", &[DesiredPatches], &[4]),
            ("$iothub/twin/PATCH/+/desired/#", &[DesiredPatches], &[4]),
            ("$iothub/+/res/#", &[TwinResponses], &[2, 3]),
            ("$iothub/#", HUB, &[0, 1, 2, 3, 4]),
            ("$iothub/+/#", HUB, &[0, 1, 2, 3, 4]),
            ("$iothub/+/+/#", HUB, &[0, 1, 2, 3, 4]),
            ("#", &[CloudToDevice], ALL_OF_C2D),
            ("+/#", &[CloudToDevice], ALL_OF_C2D),
            ("+/d1/#", &[CloudToDevice], ALL_OF_C2D),
            ("devices/#", &[CloudToDevice], ALL_OF_C2D),
            ("devices/d1/#", &[CloudToDevice], ALL_OF_C2D),
            (
                "devices/+/messages/devicebound/#",
                &[CloudToDevice],
                ALL_OF_C2D,
            ),
            ("devices/d1/messages/+/#", &[CloudToDevice], ALL_OF_C2D),
            // Those that lie within one.
            ("$iothub/methods/POST/lockDoor/#", &[MethodRequests], &[0]),
            ("$iothub/methods/POST/lockDoor/+", &[MethodRequests], &[0]),
            ("$iothub/methods/POST/+/#", &[MethodRequests], &[0, 1]),
            ("$iothub/methods/POST/+/+", &[MethodRequests], &[0, 1]),
            ("$iothub/methods/POST/+", &[MethodRequests], &[]),
            ("$iothub/methods/POST/lockDoor", &[MethodRequests], &[]),
            ("$iothub/methods/POST", &[MethodRequests], &[]),
            ("$iothub/twin/res/200/#", &[TwinResponses], &[2]),
            ("$iothub/twin/res/204/#", &[TwinResponses], &[3]),
            ("$iothub/twin/res/+/+", &[TwinResponses], &[2]),
            (
                "$iothub/twin/PATCH/properties/desired/+",
                &[DesiredPatches],
                &[4],
            ),
            (
                "devices/d1/messages/devicebound/+",
                &[CloudToDevice],
                &[5, 6],
            ),
            ("devices/d1/messages/devicebound/", &[CloudToDevice], &[6]),
            (
                "devices/d1/messages/devicebound/+/b",
                &[CloudToDevice],
                &[7],
            ),
            ("devices/d1/messages/devicebound", &[CloudToDevice], &[]),
        ];
        let device: DeviceId = "d1".parse().unwrap();
        for (text, grants, delivered) in rows {
            let filter = TopicFilter::parse(text, &device).unwrap();
            assert_eq!(filter.as_str(), text);
            for subscription in Subscription::ALL {
                let granted = grants.contains(&subscription);
                assert_eq!(
                    filter.concerns(subscription),
                    granted,
                    "{text} {subscription:?}"
                );
            }
            for (index, (subscription, topic)) in TOPICS.into_iter().enumerate() {
                let expected = delivered.contains(&index);
                assert_eq!(
                    filter.delivers(subscription, topic),
                    expected,
                    "{text} {topic}"
                );
            }
        }
        for (subscription, topic) in &TOPICS[..5] {
            assert!(Downlink::parse(topic).is_ok(), "{subscription:?} {topic}");
        }
    }

    #[test]
    fn every_other_filter_is_refused() {
        let device: DeviceId = "d1".parse().unwrap();
        let long = format!("$iothub/methods/POST/{}", "x".repeat(MAX_FILTER_BYTES));
        for filter in [
            "",
            "/",
            "/#",
            "+",
            "+/+",
            "$iothub",
            "$iothub/+",
            "$iothub/methods",
            "$iothub/methods/+",
            "$iothub/methods/res/#",
            "$iothub/methods/+/lockDoor/#",
            "$iothub/methods/POSTED/#",
            "$iothub/twin/GET/#",
            "devices/d1/messages/events/#",
            "$iothub/twin/PATCH/properties/reported/#",
            "$IOTHUB/methods/POST/#",
            "$SYS/#",
            "+/methods/POST/#",
            "+/twin/res/#",
            // Malformed filters.
            "$iothub/#/POST",
            "$iothub/methods/POST/lock#",
            "$iothub/methods/POST/lock+/#",
            "##",
            &long,
        ] {
            let refused = TopicFilter::parse(filter, &device);
            assert_eq!(refused, Err(TopicError::Unknown), "{filter}");
        }
        for filter in [
            "devices/d2/messages/devicebound/#",
            "devices/D1/messages/devicebound/#",
            "devices/+/messages/devicebound",
            "devices/d1x/#",
        ] {
            let refused = TopicFilter::parse(filter, &device);
            assert_eq!(refused, Err(TopicError::OtherDevice), "{filter}");
        }
    }

    #[test]
    fn the_own_filters_of_a_device_whose_id_looks_like_wildcards_are_whole() {
        for id in ["+", "#", "a+b", "a#"] {
            let device: DeviceId = id.parse().unwrap();
            for subscription in Subscription::ALL {
                let filter = TopicFilter::parse(&subscription.filter(&device), &device).unwrap();
                assert!(filter.concerns(subscription), "{filter:?}");
            }
        }
    }
}

//! Selects the events to show.

use std::collections::BTreeSet;

use door_core::EventName;
use door_core::contract::Alarm;
use iothub_client::HubEvent;
use iothub_protocol::DeviceId;
use iothub_protocol::event::EventKind;
use jiff::Timestamp;

use super::describe;
use crate::cli::record::EventsArgs;
use crate::cli::target::TargetArgs;
use crate::failure::Failure;
use crate::session::{Session, unknown_door};
use crate::suggest;
use crate::target::Target;

/// Names of the hub's own events, and their kinds.
const HUB_EVENTS: [(&str, EventKind); 14] = [
    ("deviceConnected", EventKind::Connection),
    ("deviceDisconnected", EventKind::Connection),
    ("identityConflict", EventKind::Connection),
    ("updateTwin", EventKind::Twin),
    ("replaceTwin", EventKind::Twin),
    ("createDeviceIdentity", EventKind::Device),
    ("deleteDeviceIdentity", EventKind::Device),
    ("jobQueued", EventKind::Job),
    ("jobScheduled", EventKind::Job),
    ("jobRunning", EventKind::Job),
    ("jobProgress", EventKind::Job),
    ("jobCompleted", EventKind::Job),
    ("jobFailed", EventKind::Job),
    ("jobCancelled", EventKind::Job),
];

#[derive(Debug, Default)]
pub(super) struct Filter {
    /// Only of these doors.
    doors: Option<BTreeSet<String>>,
    /// Only of these kinds, unless empty.
    kinds: Vec<EventKind>,
    /// Only with these names or alarms, unless empty.
    events: Vec<String>,
    alarms: bool,
    repeated: bool,
    /// Only before then. The hub has no such filter.
    until: Option<Timestamp>,
}

impl Filter {
    /// Builds the filter from the flags; looks up doors and places.
    pub(super) async fn new(
        args: &EventsArgs,
        until: Option<Timestamp>,
        session: &Session,
    ) -> anyhow::Result<Self> {
        for name in &args.events {
            if let Some(warning) = unknown_name_warning(name) {
                session.printer.warn(warning);
            }
        }
        Ok(Self {
            doors: doors(args, session).await?,
            kinds: args.kinds.clone(),
            events: args.events.clone(),
            alarms: args.alarms,
            repeated: args.repeated,
            until,
        })
    }

    /// The door, when there is only one: then the hub sends no other events.
    pub(super) fn only_door(&self) -> Option<DeviceId> {
        let doors = self.doors.as_ref().filter(|doors| doors.len() == 1)?;
        doors.first()?.parse().ok()
    }

    /// The kinds to request from the hub, so that it sends no others; empty for all.
    pub(super) fn kinds(&self) -> Vec<EventKind> {
        if !self.kinds.is_empty() {
            return self.kinds.clone();
        }
        if self.alarms {
            return vec![EventKind::Telemetry];
        }
        let kinds: BTreeSet<EventKind> = self.events.iter().map(|name| kind_of(name)).collect();
        kinds.into_iter().collect()
    }

    /// Whether to show the event.
    pub(super) fn admits(&self, event: &HubEvent) -> bool {
        let of_door = |doors: &BTreeSet<String>| {
            let door = event.device_id.as_ref();
            door.is_some_and(|door| doors.contains(door))
        };
        let named = |name: &String| {
            name.eq_ignore_ascii_case(describe::name(event))
                || describe::alarm(event).is_some_and(|alarm| name.eq_ignore_ascii_case(alarm))
        };
        let of_kind = |kind: &EventKind| kind.as_str() == event.kind;
        self.doors.as_ref().is_none_or(of_door)
            && (self.kinds.is_empty() || self.kinds.iter().any(of_kind))
            && (self.events.is_empty() || self.events.iter().any(named))
            && (!self.alarms || is_alarm(event))
            && (self.repeated || !event.repeated)
            && self.until.is_none_or(|until| event.time < until)
    }
}

/// The doors that the flags select. A door that does not exist gives a warning only, because its
/// events may still be recorded.
async fn doors(args: &EventsArgs, session: &Session) -> anyhow::Result<Option<BTreeSet<String>>> {
    let target = TargetArgs {
        doors: args.doors.clone(),
        building: args.building.clone(),
        floor: args.floor.clone(),
        tags: args.tags.clone(),
        ..TargetArgs::default()
    };
    let Some(target) = Target::from_args(&target)? else {
        return Ok(None);
    };
    let twins = target.twins(session).await?;
    let found: BTreeSet<String> = twins
        .iter()
        .map(|twin| twin.device_id.to_string())
        .collect();
    if target.is_names_only() {
        if found.len() < args.doors.len() {
            let known = session.door_names().await?;
            for name in args.doors.iter().filter(|name| !found.contains(*name)) {
                let unknown = unknown_door(name, &known);
                session
                    .printer
                    .warn(format!("{unknown}; its recorded events are shown"));
            }
        }
        return Ok(Some(args.doors.iter().cloned().collect()));
    }
    let refused = target.refuse_empty_places(found.len(), session).await;
    match refused.map_err(anyhow::Error::downcast::<Failure>) {
        Ok(()) => Ok(Some(found)),
        // `events` has no --allow-none.
        Err(Ok(failure)) => Err(failure.next("doorctl devices list").into()),
        Err(Err(error)) => Err(error),
    }
}

fn is_alarm(event: &HubEvent) -> bool {
    let door_event = describe::door_event(event);
    matches!(
        door_event,
        Some(EventName::AlarmRaised | EventName::AlarmCleared)
    )
}

fn kind_of(name: &str) -> EventKind {
    let of_hub = HUB_EVENTS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    of_hub.map_or(EventKind::Telemetry, |(_, kind)| *kind)
}

/// A warning for an unknown event name, which may be right: other devices have their own names.
fn unknown_name_warning(name: &str) -> Option<String> {
    let known = || {
        let of_doors = EventName::ALL.map(EventName::as_str).into_iter();
        let of_doors = of_doors.chain(Alarm::ALL.map(Alarm::as_str));
        of_doors.chain(HUB_EVENTS.map(|(name, _)| name))
    };
    if known().any(|known| known.eq_ignore_ascii_case(name)) {
        return None;
    }
    let hint = suggest::hint(name, known());
    Some(format!(
        "--event: neither door-agent nor door-hub has an event `{name}`{hint}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(value: serde_json::Value) -> HubEvent {
        serde_json::from_value(value).unwrap()
    }

    fn telemetry(kind: &str, alarm: &str) -> HubEvent {
        event(json!({
            "id": 1, "kind": "telemetry", "time": "2026-11-23T21:00:00Z", "deviceId": "east",
            "body": {"kind": kind, "alarm": alarm},
        }))
    }

    #[test]
    fn the_event_filter_matches_names_and_alarms() {
        let filter = Filter {
            events: vec!["forcedopen".to_owned(), "alarmCleared".to_owned()],
            ..Filter::default()
        };
        assert!(filter.admits(&telemetry("alarmRaised", "forcedOpen")));
        assert!(filter.admits(&telemetry("alarmCleared", "heldOpen")));
        assert!(!filter.admits(&telemetry("alarmRaised", "heldOpen")));
        let alarms = Filter {
            alarms: true,
            ..Filter::default()
        };
        assert!(!alarms.admits(&telemetry("preAlarm", "heldOpen")));
        assert_eq!(alarms.kinds(), [EventKind::Telemetry]);
    }

    #[test]
    fn only_kinds_that_may_be_shown_are_requested() {
        let kinds = |events: &[&str]| {
            let events = events.iter().map(|name| (*name).to_owned()).collect();
            let filter = Filter {
                events,
                ..Filter::default()
            };
            filter.kinds()
        };
        assert!(kinds(&[]).is_empty());
        assert_eq!(kinds(&["forcedOpen", "jammed"]), [EventKind::Telemetry]);
        assert_eq!(
            kinds(&["jobCompleted", "sneezed"]),
            [EventKind::Job, EventKind::Telemetry]
        );
    }

    #[test]
    fn repeated_late_and_events_of_other_doors_are_filtered_out() {
        let mut again = telemetry("doorState", "");
        again.repeated = true;
        assert!(!Filter::default().admits(&again));
        let [at, after] = ["2026-11-23T21:00:00Z", "2026-11-23T21:00:01Z"].map(|until| Filter {
            until: Some(until.parse().unwrap()),
            ..Filter::default()
        });
        assert!(!at.admits(&telemetry("doorState", "")));
        assert!(after.admits(&telemetry("doorState", "")));
        let west = Filter {
            doors: Some(BTreeSet::from(["west".to_owned()])),
            ..Filter::default()
        };
        assert!(!west.admits(&telemetry("doorState", "")));
        assert_eq!(west.only_door().unwrap().as_str(), "west");
    }

    #[test]
    fn an_unknown_event_name_gives_a_warning_with_a_suggestion() {
        for known in ["alarmraised", "lockForced", "jobFailed"] {
            assert_eq!(unknown_name_warning(known), None);
        }
        assert_eq!(
            unknown_name_warning("forcedOpne").unwrap(),
            "--event: neither door-agent nor door-hub has an event `forcedOpne`; did you mean \
             `forcedOpen`?"
        );
        assert!(
            unknown_name_warning("sneezed")
                .unwrap()
                .ends_with("`sneezed`")
        );
    }
}

//! `doorctl status`: states of the doors, by building and floor.

mod prometheus;
mod watch;

use std::collections::BTreeMap;

use door_core::contract::{Mode, Secured, Word};
use iothub_protocol::twin::{ConnectionState, Twin};
use serde::Serialize;
use serde_json::Value;

use crate::acknowledgement::{PropertyAck, unapplied};
use crate::alarm::{RaisedAlarm, raised};
use crate::cli::doors::StatusArgs;
use crate::commands::many;
use crate::door::{
    ReportedStatus, assigned_or_reported, reported_door, reported_lockdown, reported_mode,
};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Cell, Format, Row, Tone, compare_values, plain, printable};
use crate::session::Session;

/// Pending or refused desired properties that are printed; the others are counted.
const MAX_DESIRED_SHOWN: usize = 20;

pub(super) async fn status(args: &StatusArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    if session.printer.is_prometheus() {
        return prometheus::write(args, session).await;
    }
    if args.out.is_some() {
        return Err(Failure::new("--out: expected -o prometheus too").into());
    }
    if args.watch {
        return watch::watch(args, session).await;
    }
    let twins = many::select_or_all(&args.target, session).await?;
    let summary = DoorsSummary::of(&twins);
    let printer = &session.printer;
    match printer.format() {
        Format::Json => printer.document(&summary)?,
        Format::Table => summary.print_table(session)?,
        // A total among the lines would be counted twice by scripts.
        Format::Jsonl | Format::Csv => printer.rows(&summary.places)?,
    }
    summary.print_messages(session);
    let none_secured = args.expect_secured && twins.is_empty();
    Ok(match none_secured {
        true => ExitStatus::Incomplete,
        false => summary.total.verdict(args.expect_secured),
    })
}

/// Doors of one place, or all, by state. The first four after `doors` add up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Counts {
    doors: usize,
    /// Online and secured.
    secured: usize,
    /// Online and reported as not secured.
    unsecured: usize,
    /// Online, without a proof of either.
    unknown: usize,
    /// Not connected, so that the current state is unknown.
    offline: usize,
    /// Those of all doors whose last report has mode lockdown.
    lockdown: usize,
    /// Those of all doors whose last report has an alarm.
    alarms: usize,
}

impl Counts {
    fn add(&mut self, twin: &Twin) {
        self.doors += 1;
        *match (
            twin.connection_state,
            ReportedStatus::reported(twin).secured,
        ) {
            (ConnectionState::Disconnected, _) => &mut self.offline,
            (_, Word::Known(Secured::Secured)) => &mut self.secured,
            (_, Word::Known(Secured::Unsecured)) => &mut self.unsecured,
            _ => &mut self.unknown,
        } += 1;
        self.lockdown += usize::from(reported_mode(twin) == Some(Mode::Lockdown));
        self.alarms += usize::from(!raised(std::slice::from_ref(twin)).is_empty());
    }

    fn verdict(&self, expect_secured: bool) -> ExitStatus {
        let is_well = self.offline + self.unknown + self.alarms == 0;
        match is_well && (!expect_secured || self.secured == self.doors) {
            true => ExitStatus::Success,
            false => ExitStatus::Incomplete,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PlaceRow {
    building: String,
    floor: String,
    #[serde(flatten)]
    counts: Counts,
}

impl Row for PlaceRow {
    // The sum of the next four.
    const LEAST_IMPORTANT: &'static [&'static str] = &["doors"];

    fn titles() -> Vec<&'static str> {
        vec![
            "building",
            "floor",
            "doors",
            "secured",
            "unsecured",
            "unknown",
            "offline",
            "lockdown",
            "alarms",
        ]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        let tone = match title {
            _ if *member == 0 => Tone::Plain,
            "secured" => Tone::Good,
            "unknown" | "offline" | "lockdown" => Tone::Doubtful,
            "alarms" => Tone::Bad,
            _ => Tone::Plain,
        };
        Cell::toned(plain(member), tone)
    }
}

/// A desired property that is refused or not applied yet.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct WishRow {
    door: String,
    #[serde(flatten)]
    wish: PropertyAck,
}

/// The states of all doors, by place.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct DoorsSummary {
    places: Vec<PlaceRow>,
    total: Counts,
    alarms: Vec<RaisedAlarm>,
    /// The lockdowns that doors name, with the number of doors.
    lockdowns: BTreeMap<String, usize>,
    /// Refused, or not applied yet.
    desired: Vec<WishRow>,
}

impl DoorsSummary {
    /// Prints the places, and all of them together.
    fn print_table(&self, session: &Session) -> std::io::Result<()> {
        let mut rows = self.places.clone();
        rows.push(PlaceRow {
            building: "all".to_owned(),
            floor: String::new(),
            counts: self.total,
        });
        session.printer.rows(&rows)
    }

    /// Prints alarms and desired properties, which have no place in the table.
    fn print_messages(&self, session: &Session) {
        let printer = &session.printer;
        for alarm in &self.alarms {
            printer.say(printable(&alarm.text(&session.zone)));
        }
        for (lockdown, doors) in &self.lockdowns {
            printer.say(printable(&format!("lockdown {lockdown} ({doors} doors)")));
        }
        for wish in self.desired.iter().take(MAX_DESIRED_SHOWN) {
            let text = format!("desired of {}: {}", wish.door, wish.wish.describe());
            printer.say(printable(&text));
        }
        let more = self.desired.len().saturating_sub(MAX_DESIRED_SHOWN);
        if more > 0 {
            printer.say(format!(
                "{more} more desired properties are refused or not applied yet: doorctl status \
                 -o json"
            ));
        }
        if self.total.doors == 0 {
            printer.say("no door: doorctl devices add NAME");
        }
    }

    fn of(twins: &[Twin]) -> Self {
        let mut places: BTreeMap<(String, String), Counts> = BTreeMap::new();
        let mut total = Counts::default();
        let mut lockdowns = BTreeMap::new();
        let mut desired = Vec::new();
        for twin in twins {
            let place = ["building", "floor"].map(|name| assigned_or_reported(twin, name));
            let [building, floor] = place;
            desired.extend(unapplied(twin).into_iter().map(|wish| WishRow {
                door: twin.device_id.to_string(),
                wish,
            }));
            if let Some(lockdown) = reported_door(twin).and_then(reported_lockdown) {
                *lockdowns.entry(lockdown.to_string()).or_default() += 1;
            }
            places.entry((building, floor)).or_default().add(twin);
            total.add(twin);
        }
        let places = places
            .into_iter()
            .map(|((building, floor), counts)| PlaceRow {
                building,
                floor,
                counts,
            });
        let mut places: Vec<PlaceRow> = places.collect();
        places.sort_by(|a, b| {
            compare_values(&a.building, &b.building)
                .then_with(|| compare_values(&a.floor, &b.floor))
        });
        Self {
            places,
            desired,
            total,
            alarms: raised(twins),
            lockdowns,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    use super::*;

    fn twin(name: &str, place: (&str, &str), connection: &str, door: &Value) -> Twin {
        let meta = json!({"$lastUpdated": "2026-11-23T21:00:00Z"});
        serde_json::from_value(json!({
            "deviceId": name, "etag": "AAAAAAAAAAE=", "version": 4, "connectionState": connection,
            "properties": {
                "desired": {
                    "building": place.0, "floor": place.1, "$metadata": meta, "$version": 1,
                },
                "reported": {"door": door, "$metadata": meta, "$version": 1},
            },
        }))
        .unwrap()
    }

    #[test]
    fn each_door_has_one_state_and_an_offline_door_is_only_offline() {
        let secured = json!({"secured": "secured", "mode": "lockdown"});
        let raised = json!({"secured": "unsecured", "mode": "normal", "alarms": {
            "forcedOpen": {"since": "2026-11-23T22:00:00Z"}, "heldOpen": {"since": null}}});
        let twins = [
            twin("a", ("43", "3"), "Connected", &secured),
            twin("b", ("43", "3"), "Disconnected", &secured),
            twin("c", ("43", "3"), "Connected", &raised),
            twin("d", ("43", "3"), "Connected", &json!("no door")),
        ];
        let summary = DoorsSummary::of(&twins);
        let expected = Counts {
            doors: 4,
            secured: 1,
            unsecured: 1,
            unknown: 1,
            offline: 1,
            lockdown: 2,
            alarms: 1,
        };
        assert_eq!((summary.total, summary.places.len()), (expected, 1));
        assert_eq!(summary.places[0].counts, expected);
        let texts = summary
            .alarms
            .iter()
            .map(|alarm| alarm.text(&TimeZone::UTC));
        let texts: Vec<String> = texts.collect();
        assert_eq!(
            texts,
            [
                "alarm: forcedOpen at c, building 43, floor 3, since Mon 2026-11-23 22:00:00 UTC",
                "alarm: heldOpen at c, building 43, floor 3",
            ]
        );
    }

    #[test]
    fn floors_sort_by_number_then_by_name() {
        let secured = json!({"secured": "secured"});
        let place = |building, floor| twin("d", (building, floor), "Connected", &secured);
        let twins = [
            place("43", "10"),
            place("43", "2"),
            place("", ""),
            place("43", "roof"),
            place("43", "-1"),
            place("9", "1"),
            place("annex", "1"),
        ];
        let rows = DoorsSummary::of(&twins).places;
        let order: Vec<String> = rows
            .iter()
            .map(|row| format!("{}/{}", row.building, row.floor))
            .collect();
        assert_eq!(
            order,
            ["9/1", "43/-1", "43/2", "43/10", "43/roof", "annex/1", "/"]
        );
    }

    #[test]
    fn problems_fail_status_and_unsecured_doors_fail_it_on_request() {
        let is_well = Counts {
            doors: 2,
            secured: 1,
            unsecured: 1,
            ..Counts::default()
        };
        assert_eq!(is_well.verdict(false), ExitStatus::Success);
        assert_eq!(is_well.verdict(true), ExitStatus::Incomplete);
        for problem in [
            Counts {
                offline: 1,
                ..is_well
            },
            Counts {
                unknown: 1,
                ..is_well
            },
            Counts {
                alarms: 1,
                ..is_well
            },
        ] {
            assert_eq!(
                problem.verdict(false),
                ExitStatus::Incomplete,
                "{problem:?}"
            );
        }
    }
}

//! `doorctl status -o prometheus`: numbers by building, for node_exporter's textfile collector.

use std::collections::BTreeMap;

use door_core::contract::Alarm;
use iothub_protocol::twin::Twin;
use jiff::Timestamp;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::Counts;
use crate::alarm::raised;
use crate::cli::doors::StatusArgs;
use crate::commands::{many, out_file};
use crate::door::assigned_or_reported;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;

/// An alarm whose name is not one of the protocol: a device cannot add names without end.
const OTHER: &str = "other";

pub(super) async fn write(args: &StatusArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    if args.watch || args.expect_secured {
        return Err(Failure::new(
            "-o prometheus cannot be used with --watch and --expect-secured: rules judge the \
             numbers",
        )
        .into());
    }
    let twins = many::select_or_all(&args.target, session).await?;
    let text = metrics(&twins, session.hub.now())?;
    match &args.out {
        Some(path) => out_file::replace(path, &text)?,
        None => crate::printer::write(&text)?,
    }
    Ok(ExitStatus::Success)
}

/// Every building has each state and each alarm, so that a number that falls to 0 stays.
fn metrics(twins: &[Twin], now: Timestamp) -> prometheus::Result<String> {
    let registry = Registry::new();
    let gauges = |name: &str, help: &str, labels: &[&str]| {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(gauges.clone()))?;
        Ok::<_, prometheus::Error>(gauges)
    };
    let time = IntGauge::new(
        "doorfleet_status_time_seconds",
        "When the doors were read, in seconds since 1970",
    )?;
    registry.register(Box::new(time.clone()))?;
    time.set(now.as_second());
    let doors = gauges(
        "doorfleet_doors",
        "Doors by building and state; the states add up to all doors",
        &["building", "state"],
    )?;
    let lockdown = gauges(
        "doorfleet_lockdown_doors",
        "Doors whose last report is a lockdown, by building",
        &["building"],
    )?;
    let alarm_doors = gauges(
        "doorfleet_alarm_doors",
        "Doors whose last report has an alarm, by building",
        &["building"],
    )?;
    let alarms = gauges(
        "doorfleet_alarms",
        "Raised alarms, by building and alarm",
        &["building", "alarm"],
    )?;
    let unacknowledged = gauges(
        "doorfleet_unacknowledged_alarms",
        "Raised alarms that nobody has acknowledged, by building and alarm",
        &["building", "alarm"],
    )?;

    let mut buildings: BTreeMap<String, Counts> = BTreeMap::new();
    for twin in twins {
        let building = assigned_or_reported(twin, "building");
        buildings.entry(building).or_default().add(twin);
    }
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    for (building, counts) in &buildings {
        for (state, count) in [
            ("secured", counts.secured),
            ("unsecured", counts.unsecured),
            ("unknown", counts.unknown),
            ("offline", counts.offline),
        ] {
            doors
                .with_label_values(&[building.as_str(), state])
                .set(number(count));
        }
        for (gauges, count) in [(&lockdown, counts.lockdown), (&alarm_doors, counts.alarms)] {
            gauges.with_label_values(&[building]).set(number(count));
        }
        for alarm in Alarm::ALL.map(Alarm::as_str).into_iter().chain([OTHER]) {
            for gauges in [&alarms, &unacknowledged] {
                gauges.with_label_values(&[building.as_str(), alarm]).set(0);
            }
        }
    }
    for alarm in raised(twins) {
        let name = Alarm::parse(&alarm.alarm).map_or(OTHER, Alarm::as_str);
        let labels = [alarm.building.as_str(), name];
        alarms.with_label_values(&labels).inc();
        if alarm.acknowledged_by.is_none() {
            unacknowledged.with_label_values(&labels).inc();
        }
    }
    TextEncoder::new().encode_to_string(&registry.gather())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_by_building_and_labels_are_escaped() {
        let twin = |name: &str, building: &str, alarms: serde_json::Value| {
            let door = json!({"secured": "secured", "mode": "lockdown", "alarms": alarms});
            let tag = json!({"tamper": {"by": "eve"}});
            serde_json::from_value::<Twin>(json!({
                "deviceId": name, "etag": "AAAAAAAAAAE=", "version": 4,
                "connectionState": "Connected", "tags": {"alarm": tag},
                "properties": {
                    "desired": {"building": building, "$version": 1},
                    "reported": {"door": door, "$version": 1},
                },
            }))
            .unwrap()
        };
        let alarms = json!({"tamper": {}, "a\"} 1\nb": {}, "c": {}});
        let twins = [twin("a", "43", json!({})), twin("b", "4\"\\\n3", alarms)];
        let text = metrics(&twins, Timestamp::UNIX_EPOCH).unwrap();
        insta::assert_snapshot!(text);
    }
}

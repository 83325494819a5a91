//! `doorctl devices ...`

mod add;
mod agent_files;
mod bulk;
mod enroll;
mod export;
mod import;
mod keys;
mod list;
mod record;
mod registry;
mod remove;
mod report;
mod status;
mod tag;

use iothub_protocol::connection_string::HostName;
use iothub_protocol::twin::{DeviceStatus, Twin};
use jiff::Timestamp;
use serde_json::json;

use crate::acknowledgement::unapplied;
use crate::cli::devices::DevicesCommand;
use crate::door::DoorRow;
use crate::exit_status::ExitStatus;
use crate::printer::{Row as _, plain, printable};
use crate::session::{Session, door};

/// Azure's port for MQTT over TLS, also the agent's default.
const MQTT_PORT: u16 = 8883;

pub(crate) async fn run(command: DevicesCommand, session: &Session) -> anyhow::Result<ExitStatus> {
    match command {
        DevicesCommand::Add(args) => add::run(&args, session).await?,
        DevicesCommand::Enroll(args) => return enroll::run(&args, session).await,
        DevicesCommand::List(args) => list::list(&args, session).await?,
        DevicesCommand::Show { door } => show(&door, session).await?,
        DevicesCommand::Tag(args) => return tag::tag(args, session).await,
        DevicesCommand::Enable(args) => {
            return status::set(DeviceStatus::Enabled, &args, session).await;
        }
        DevicesCommand::Disable(args) => {
            return status::set(DeviceStatus::Disabled, &args, session).await;
        }
        DevicesCommand::Export(args) => export::export(&args, session).await?,
        DevicesCommand::Import(args) => return import::import(&args, session).await,
        DevicesCommand::Remove(args) => return remove::remove(&args, session).await,
        DevicesCommand::RotateKey(args) => return keys::rotate(&args, session).await,
        DevicesCommand::ConnectionString {
            door,
            out,
            secondary,
        } => keys::write_connection_string(&door, &out, secondary, session).await?,
    }
    Ok(ExitStatus::Success)
}

async fn show(name: &str, session: &Session) -> anyhow::Result<()> {
    let id = door(name)?;
    let twin = session.of_door(&id, session.hub.twin(&id).await).await?;
    Ok(session
        .printer
        .text_or(&facts(&twin, session.hub.now())?, &twin)?)
}

/// The facts about a door that `show` prints, one a line.
fn facts(twin: &Twin, now: Timestamp) -> serde_json::Result<String> {
    let row = DoorRow::new(twin, now);
    let cells = row.cells().into_iter().map(|cell| cell.shown().to_owned());
    let mut facts: Vec<(&str, String)> = DoorRow::titles().into_iter().zip(cells).collect();
    facts.push(("status", plain(&json!(twin.status))));
    let reason = twin.status_reason.clone();
    facts.extend(reason.map(|reason| ("statusReason", reason)));
    facts.push(("authenticationType", twin.authentication_type.clone()));
    facts.push(("lastActivityTime", twin.last_activity_time.to_string()));
    for (title, section) in [
        ("tags", &twin.tags),
        ("desired", &twin.properties.desired.values),
        ("reported", &twin.properties.reported.values),
    ] {
        facts.push((title, serde_json::to_string(section)?));
    }
    let unapplied = unapplied(twin).into_iter();
    facts.extend(unapplied.map(|ack| ("notAsDesired", ack.describe())));
    let lines = facts.iter().map(|(title, fact)| {
        let line = format!("{title:<20}{}", printable(fact));
        line.trim_end().to_owned() + "\n"
    });
    Ok(lines.collect())
}

/// The port of MQTT over TLS: the given one, else the one that door-hub reports, else Azure's.
async fn mqtt_port(given: Option<u16>, session: &Session) -> u16 {
    if let Some(port) = given {
        return port;
    }
    let health = session.hub.door_hub_health().await;
    health.map_or(MQTT_PORT, |health| health.mqtt_port)
}

/// The hub's name without the port of the REST API, which a service connection string may contain:
/// doors use another port.
fn without_port(host: &HostName) -> anyhow::Result<HostName> {
    let text = match host.port() {
        Some(port) => host.as_str().trim_end_matches(&format!(":{port}")),
        None => host.as_str(),
    };
    Ok(text.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reported_fact_stays_on_one_line() {
        let section = |values: serde_json::Value| {
            let mut section = values;
            section["$metadata"] = json!({"$lastUpdated": "2026-11-23T21:00:00Z"});
            section["$version"] = json!(3);
            section
        };
        let twin: Twin = serde_json::from_value(json!({
            "deviceId": "east", "etag": "AAAAAAAAAAE=", "version": 4,
            "connectionState": "Connected",
            "tags": {"note": "\u{9b}2J"},
            "properties": {
                "desired": section(json!({})),
                "reported": section(json!({
                    "door": {"lockState": "jammed\nsecured   secured\u{1b}[2A"},
                })),
            },
        }))
        .unwrap();
        let facts = facts(&twin, Timestamp::UNIX_EPOCH).unwrap();
        assert!(
            facts.contains("\nlockState           jammed\\nsecured   secured\\u{1b}[2A\n"),
            "{facts}"
        );
        assert!(facts.contains("{\"note\":\"\\u{9b}2J\"}"), "{facts}");
    }

    #[test]
    fn the_host_name_for_doors_has_no_port() {
        for (text, expected) in [
            ("localhost:9443", "localhost"),
            ("hub", "hub"),
            ("[::1]:443", "[::1]"),
        ] {
            let host = without_port(&text.parse().unwrap()).unwrap();
            assert_eq!(host.as_str(), expected);
        }
    }
}

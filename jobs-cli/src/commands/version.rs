//! `doorctl version`: the versions of doorctl, of the hub and of the agents.

use anyhow::Context as _;
use iothub_client::HubClient;
use serde::Serialize;
use serde_json::Value;

use super::agents::{OWN_VERSION, agents};
use crate::cli::Global;
use crate::config::{self, Contexts};
use crate::exit_status::ExitStatus;
use crate::printer::{Cell, Printer, Row, plain};
use crate::session::Session;

pub(super) async fn run(global: &Global, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut rows = vec![VersionRow::new("doorctl", OWN_VERSION)];
    let contexts = Contexts::read(&config::path()?)?;
    if contexts.current.is_none() && global.context.is_none() {
        printer.rows(&rows)?;
        printer.say("no context selected, so that no hub is asked: doorctl context add --help");
        return Ok(ExitStatus::Success);
    }
    let session = Session::open(global, printer)?;
    let asked = add_hub_and_agents(&mut rows, &session.hub).await;
    // An error does not hide the versions that are known.
    printer.rows(&rows)?;
    asked?;
    Ok(ExitStatus::Success)
}

async fn add_hub_and_agents(rows: &mut Vec<VersionRow>, hub: &HubClient) -> anyhow::Result<()> {
    rows.push(match hub.is_door_hub().await? {
        true => {
            let health = hub.door_hub_health().await;
            VersionRow::new(
                "door-hub",
                &health.map_or(String::new(), |health| health.version),
            )
        }
        false => VersionRow::new("Azure IoT Hub, or another hub", ""),
    });
    let agents = agents(hub).await.context("the agents are left out")?;
    rows.extend(agents.into_iter().map(|agents| VersionRow {
        doors: Some(agents.doors),
        ..VersionRow::new("door-agent", &agents.version)
    }));
    Ok(())
}

#[derive(Debug, Clone, Serialize)]
struct VersionRow {
    program: String,
    /// Empty: not reported.
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    doors: Option<u64>,
}

impl VersionRow {
    fn new(program: &str, version: &str) -> Self {
        Self {
            program: program.to_owned(),
            version: version.to_owned(),
            doors: None,
        }
    }
}

impl Row for VersionRow {
    fn titles() -> Vec<&'static str> {
        vec!["program", "version", "doors"]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match title {
            "version" if self.version.is_empty() => Cell::from("not reported"),
            _ => Cell::from(plain(member)),
        }
    }
}

//! Snapshot of an agent: for `door-agent status`, for the status line of the service manager, and
//! for library users.

use std::fmt::{self, Write as _};

use door_core::contract::{DoorState, HeldBy, LockState, Proof, Secured};
use door_core::{Slot, TimedReport, Want};
use iothub_protocol::id::DeviceId;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::cloud::{DesiredStatus, LinkState, LinkStatus};
use crate::controller::Snapshot;
use crate::storage::{DiskStatus, DoorStorage, SiteLocation};
use crate::tls::CertificateAge;

/// Takes snapshots of one agent; clones share the same sources.
#[derive(Debug, Clone)]
pub struct Snapshots {
    pub(super) device: DeviceId,
    pub(super) controller: watch::Receiver<Snapshot>,
    pub(super) link: watch::Receiver<LinkStatus>,
    pub(super) desired: watch::Receiver<DesiredStatus>,
    pub(super) disk: watch::Receiver<DiskStatus>,
    pub(super) config: watch::Receiver<Option<String>>,
    pub(super) storage: DoorStorage,
}

impl Snapshots {
    #[must_use]
    pub fn take(&self) -> AgentSnapshot {
        AgentSnapshot {
            device: self.device.clone(),
            version: env!("CARGO_PKG_VERSION"),
            door: self.controller.borrow().clone(),
            link: self.link.borrow().clone(),
            desired: self.desired.borrow().clone(),
            disk: self.disk.borrow().clone(),
            config_problem: self.config.borrow().clone(),
            waiting_events: self.storage.waiting_records(),
        }
    }
}

/// State of an agent: the output of `door-agent status --json`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSnapshot {
    pub device: DeviceId,
    pub version: &'static str,
    pub door: Snapshot,
    pub link: LinkStatus,
    /// Members `building`, `floor` and `refused`.
    #[serde(flatten)]
    pub desired: DesiredStatus,
    /// State of the disk that holds state and events.
    pub disk: DiskStatus,
    /// Invalid configuration values, and the values used instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_problem: Option<String>,
    /// Events on disk that the hub has not acknowledged.
    pub waiting_events: u64,
}

/// One line for people: state, holder, alarms, link.
impl fmt::Display for AgentSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", DoorLine(&self.door), LinkLine(&self.link))?;
        match &self.disk.problem {
            Some(problem) => write!(f, "; DISK {problem}"),
            None => Ok(()),
        }
    }
}

impl AgentSnapshot {
    /// The whole state as text for people; each line ends with a line feed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, out: &mut String) -> fmt::Result {
        let door = &self.door;
        writeln!(out, "{}: {}", self.device, DoorLine(door))?;
        write!(out, "mode     {}", door.report.mode)?;
        if let Some(displaced) = door.displaced_mode {
            write!(out, ", {displaced} after it")?;
        }
        writeln!(out)?;
        if let Some(lockdown) = &door.report.lockdown {
            writeln!(out, "lockdown {lockdown}")?;
        }
        let raised = alarms(door);
        writeln!(out, "alarms   {}", raised.as_deref().unwrap_or("none"))?;
        for (index, slot) in door.slots.iter().enumerate() {
            let label = if index == 0 { "decides" } else { "below" };
            write!(out, "{label:<8} {}", slot_name(slot.slot))?;
            write!(out, ": {}", slot.want)?;
            if let Some(until) = slot.until {
                write!(out, " until {until}")?;
            }
            if let Some(command) = &slot.command_id {
                write!(out, " (command {command})")?;
            }
            writeln!(out)?;
        }
        let label = if door.slots.is_empty() {
            "decides"
        } else {
            "below"
        };
        writeln!(
            out,
            "{label:<8} relinquish default: {}",
            door.relinquish_default
        )?;
        if let Some(week) = &door.schedule {
            let name = week.name.as_deref().unwrap_or("unreadable");
            let want = |want: Option<Want>| want.map_or("the default", Want::as_str);
            write!(out, "week     {name}: {}", want(week.want))?;
            if let Some(next) = week.next {
                write!(out, "; {} from {}", want(next.want), next.at)?;
            }
            writeln!(out)?;
        }
        for (id, TimedReport { entry, progress }) in &door.timed {
            write!(out, "timed    {id}: {} from {}", entry.want, entry.from)?;
            if let Some(until) = entry.until {
                write!(out, " until {until}")?;
            }
            write!(out, ", {}", progress.state)?;
            if let Some(why) = &progress.why {
                write!(out, ": {why}")?;
            }
            writeln!(out)?;
        }
        writeln!(out, "outputs  {}", word(&door.outputs))?;
        let inputs: Vec<_> = door
            .inputs
            .iter()
            .map(|(name, reading)| format!("{name} {reading}"))
            .collect();
        writeln!(out, "inputs   {}", inputs.join(", "))?;
        writeln!(out, "link     {}", LinkLine(&self.link))?;
        if let Some(end) = self.link.certificate_end {
            writeln!(out, "cert     {}", CertificateLine(end))?;
        }
        let SiteLocation { building, floor } = &self.desired.location;
        let (building, floor) = (shown(building.as_ref()), shown(floor.as_ref()));
        writeln!(out, "location building {building}, floor {floor}")?;
        for (property, reason) in &self.desired.refused {
            writeln!(out, "refused  {property}: {reason}")?;
        }
        writeln!(out, "clock    {}", door.clock)?;
        match (&self.disk.problem, self.disk.since) {
            (Some(problem), Some(since)) => {
                writeln!(out, "disk     FAULT {problem} (since {since:.0})")?;
            }
            (Some(problem), None) => writeln!(out, "disk     FAULT {problem}")?,
            (None, _) => writeln!(out, "disk     fine")?,
        }
        for kept in &self.disk.kept_aside {
            writeln!(out, "damaged  {kept}")?;
        }
        if let Some(problem) = &self.config_problem {
            writeln!(out, "config   WRONG {problem}")?;
        }
        writeln!(out, "events   {} waiting", self.waiting_events)?;
        writeln!(out, "version  {}", self.version)
    }
}

struct DoorLine<'a>(&'a Snapshot);

impl fmt::Display for DoorLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.0.report;
        let status = &report.status;
        let lock = match status.lock_state {
            LockState::Unknown => "lock unknown".to_owned(),
            known => word(&known),
        };
        let door = match status.door_state {
            DoorState::Open => "door open",
            DoorState::Closed => "door closed",
            DoorState::Unknown => "door unknown",
        };
        let secured = match (status.secured, status.proof) {
            (Secured::Secured, Proof::Bond) => "secured (bolt sensed)",
            (Secured::Secured, _) => "secured (bolt not sensed)",
            (Secured::Unsecured, _) => "not secured",
            (Secured::Unknown, _) => "secured state unknown",
        };
        write!(f, "{lock}, {door}, {secured}")?;
        match status.held_by {
            Some(HeldBy { slot, until, .. }) => {
                write!(f, "; held by {}", slot_name(slot))?;
                if let Some(until) = until {
                    write!(f, " until {until}")?;
                }
            }
            None => f.write_str("; held by nobody")?,
        }
        match alarms(self.0) {
            None => f.write_str("; no alarms"),
            Some(raised) => write!(f, "; ALARM {raised}"),
        }
    }
}

/// The end of the device's certificate.
struct CertificateLine(Timestamp);

impl fmt::Display for CertificateLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0;
        match CertificateAge::of(end, Timestamp::now()) {
            CertificateAge::Ended => write!(f, "WRONG it ended at {end:.0}"),
            CertificateAge::EndsSoon => write!(f, "ends soon, at {end:.0}"),
            CertificateAge::Valid => write!(f, "valid until {end:.0}"),
        }
    }
}

/// A building or floor, or "unknown".
fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "unknown".to_owned(),
    }
}

struct LinkLine<'a>(&'a LinkStatus);

impl fmt::Display for LinkLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = self.0;
        f.write_str(match link.state {
            LinkState::Connected => "hub connected",
            LinkState::Connecting => "hub connecting",
            LinkState::Waiting => "hub away",
            LinkState::Unplugged => "hub unplugged",
        })?;
        match &link.last_problem {
            Some(problem) if link.state != LinkState::Connected => write!(f, ": {problem}"),
            _ => Ok(()),
        }
    }
}

/// Name and number of a slot. Matches on the number, so that a slot without a name still shows it.
fn slot_name(slot: Slot) -> String {
    let number = slot.number();
    let name = match number {
        1 => "fire release",
        2 => "request to exit",
        3 => "local grant",
        5 => "lockdown",
        7 => "operator grant",
        8 => "operator hold",
        9 => "passage mode",
        16 => "weekly schedule",
        _ => return format!("slot {number}"),
    };
    format!("{name} (slot {number})")
}

/// The raised alarms; `None` if there are none.
fn alarms(door: &Snapshot) -> Option<String> {
    let alarms = &door.report.alarms;
    let names: Vec<_> = alarms.keys().map(|alarm| alarm.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// An enum value in its wire spelling.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or("unknown").to_owned()
}

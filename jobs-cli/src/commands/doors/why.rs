//! `doorctl why`: which slot decides what a door does, from the door itself or its last report.

use door_core::contract::Lockdown;
use iothub_client::WIDER_BOUNDS;
use iothub_protocol::audit::AuditFilter;
use iothub_protocol::method::MethodRequest;
use iothub_protocol::twin::{ConnectionState, Twin};
use iothub_protocol::{DeviceId, ErrorCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::array::{self, Effect, SlotRow};
use crate::acknowledgement::{PropertyAck, unapplied};
use crate::cli::doors::WhyArgs;
use crate::door::{ReportedStatus, reported_at, reported_door, reported_lockdown};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Format, plain, printable};
use crate::session::{Session, door, explain_door};
use crate::time;

/// Audit entries that are read, from the newest.
const MAX_AUDIT_ENTRIES: usize = 1_000;

pub(super) async fn why(args: &WhyArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let id = door(&args.door)?;
    let call = MethodRequest::new("getState".parse()?);
    let (mut report, status) = match session.hub.invoke(&id, &call).await {
        Ok(result) => {
            let body: Value = result
                .payload
                .as_ref()
                .and_then(|payload| serde_json::from_str(payload.get()).ok())
                .unwrap_or_default();
            let mut rows = array::rows(&body, &session.zone, session.hub.now())
                .ok_or_else(|| no_array_error(&id, result.status))?;
            name_policies(&id, &mut rows, session).await;
            let mut report = DoorReport::answered(&id, &body, rows, session);
            // The door has answered, so an error here must not fail the command.
            report.desired = session
                .hub
                .twin(&id)
                .await
                .map_or(Vec::new(), |twin| unapplied(&twin));
            (report, ExitStatus::Success)
        }
        Err(error) if error.code() == Some(ErrorCode::DeviceNotOnline) => {
            let twin = session.hub.twin(&id).await?;
            (
                DoorReport::reported(&twin, session, session.hub.now()),
                ExitStatus::Incomplete,
            )
        }
        // The policy may not ask the door.
        Err(error) if error.needed_rights() == Some(WIDER_BOUNDS) => {
            let twin = session.of_door(&id, session.hub.twin(&id).await).await?;
            let mut report = DoorReport::reported(&twin, session, session.hub.now());
            report.online = twin.connection_state == ConnectionState::Connected;
            match report.online {
                true => (report, ExitStatus::Success),
                false => (report, ExitStatus::Incomplete),
            }
        }
        Err(error) => return Err(explain_door(session, &id, error).await),
    };
    let printer = &session.printer;
    match printer.format() {
        Format::Table => {
            let mut lines = report.lines();
            report
                .slots
                .retain(|row| args.all || row.effect != Effect::Empty);
            if !report.slots.is_empty() {
                lines.push(String::new());
            }
            printer.print_text(&lines)?;
            if !report.slots.is_empty() {
                printer.rows(&report.slots)?;
            }
        }
        Format::Csv => printer.rows(&report.slots)?,
        Format::Json | Format::Jsonl => printer.document(&report)?,
    }
    if report.online && report.reported_at.is_some() {
        printer.say("this policy may not ask the door: this is its last report");
    }
    if status != ExitStatus::Success {
        let shown = match report.reported_at {
            Some(_) => "this is its last report",
            None => "there is no report to show",
        };
        printer.say(format!("{id} is offline: {shown}"));
    }
    Ok(status)
}

/// Names the policies whose commands fill the slots; none if the hub has no audit record or the
/// policy in use may not read it.
async fn name_policies(id: &DeviceId, rows: &mut [SlotRow], session: &Session) {
    if rows.iter().all(|row| row.command_id.is_none()) {
        return;
    }
    let filter = AuditFilter {
        target: Some(id.to_string()),
        ..AuditFilter::default()
    };
    let record = session.hub.door_hub_audit(&filter, MAX_AUDIT_ENTRIES).await;
    for row in rows {
        row.name_policy(record.as_deref().unwrap_or_default());
    }
}

fn no_array_error(id: &DeviceId, status: i32) -> Failure {
    Failure::new(format!(
        "{id} answered getState with status {status} and without `slots`: it is not a doorfleet \
         door"
    ))
    .next(format!("doorctl invoke {id} getState"))
}

/// What is known about a door, as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DoorReport {
    door: String,
    online: bool,
    /// Time of the report, for an offline door.
    #[serde(skip_serializing_if = "Option::is_none")]
    reported_at: Option<Timestamp>,
    #[serde(flatten)]
    state: ReportedStatus,
    mode: String,
    /// The mode that a lockdown displaced.
    #[serde(skip_serializing_if = "String::is_empty")]
    displaced_mode: String,
    /// The lockdown, unless it is one of the mode alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    lockdown: Option<Lockdown>,
    alarms: Vec<String>,
    /// The deciding slot; `None` is the default.
    decides: Option<u8>,
    because: String,
    /// What the week wants now and next.
    #[serde(skip)]
    week: String,
    /// Desired properties that are refused or not applied yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    desired: Vec<PropertyAck>,
    /// Empty for an offline door.
    slots: Vec<SlotRow>,
    #[serde(skip)]
    age: String,
}

/// Since when a command keeps the door's week from deciding.
fn held_since(door: &Value) -> Option<Timestamp> {
    door.get("heldBy")?.get("since")?.as_str()?.parse().ok()
}

/// What a door answers of its week.
fn week_line(week: &Value, session: &Session) -> String {
    let want = |of: &Value| of.get("want").map_or("default".to_owned(), plain);
    let name = week.get("name").map_or("(unreadable)".to_owned(), plain);
    let next = week.get("next").and_then(|next| {
        let at = next.get("at")?.as_str()?.parse().ok();
        Some(format!(
            "{}{}",
            want(next),
            moment("from", at, session).trim_start_matches(',')
        ))
    });
    let next = next.map_or(String::new(), |next| format!("; {next}"));
    format!("week {name} wants {} now{next}", want(week))
}

/// `, since Tue 2026-12-01 21:00`; nothing without a moment.
fn moment(word: &str, at: Option<Timestamp>, session: &Session) -> String {
    at.map_or(String::new(), |at| {
        let at = at.to_zoned_datetime(session.zone.clone());
        format!(", {word} {}", time::describe(&at))
    })
}

impl DoorReport {
    fn answered(id: &DeviceId, body: &Value, slots: Vec<SlotRow>, session: &Session) -> Self {
        let decides = slots.iter().find(|row| row.effect == Effect::Decides);
        Self {
            online: true,
            decides: decides.and_then(|row| row.slot),
            because: array::explain(&slots) + &moment("since", held_since(body), session),
            week: body
                .get("schedule")
                .map_or(String::new(), |week| week_line(week, session)),
            slots,
            ..Self::of(id, Some(body))
        }
    }

    fn reported(twin: &Twin, session: &Session, now: Timestamp) -> Self {
        let report = Self {
            desired: unapplied(twin),
            ..Self::of(&twin.device_id, reported_door(twin))
        };
        let Some(door) = reported_door(twin) else {
            return Self {
                because: "it has never reported".to_owned(),
                ..report
            };
        };
        let holder = door.get("heldBy").filter(|holder| holder.is_object());
        let slot = holder
            .and_then(|holder| holder.get("slot")?.as_u64())
            .and_then(|slot| u8::try_from(slot).ok());
        let until = holder.and_then(|holder| holder.get("until")?.as_str()?.parse().ok());
        let because = match slot {
            Some(slot) => format!(
                "slot {slot} ({}) decided{}{}",
                array::slot_name(slot),
                moment("since", held_since(door), session),
                moment("until", until, session)
            ),
            None => "no slot was filled, so the door's default decided".to_owned(),
        };
        let reported_at = reported_at(twin);
        Self {
            reported_at,
            decides: slot,
            because,
            age: reported_at.map_or(String::new(), |at: Timestamp| {
                let ago = time::roughly(now.duration_since(at).max(jiff::SignedDuration::ZERO));
                format!(
                    "{} ({ago} ago)",
                    time::describe(&at.to_zoned_datetime(session.zone.clone()))
                )
            }),
            ..report
        }
    }

    fn of(id: &DeviceId, door: Option<&Value>) -> Self {
        let word = |name| {
            door.and_then(|door| door.get(name))
                .map_or(String::new(), plain)
        };
        let alarms = door.and_then(|door| door.get("alarms")?.as_object());
        Self {
            door: id.to_string(),
            online: false,
            reported_at: None,
            state: door.map_or(ReportedStatus::default(), ReportedStatus::read),
            mode: word("mode"),
            displaced_mode: word("displacedMode"),
            lockdown: door.and_then(reported_lockdown),
            alarms: alarms
                .into_iter()
                .flatten()
                .map(|(alarm, _)| alarm.clone())
                .collect(),
            decides: None,
            because: String::new(),
            week: String::new(),
            desired: Vec::new(),
            slots: Vec::new(),
            age: String::new(),
        }
    }

    /// Describes the door in two or three lines.
    fn lines(&self) -> Vec<String> {
        let Self { door, state, .. } = self;
        let mut text = match self.online {
            true => format!("{door} is "),
            false if self.age.is_empty() => format!("{door} is offline"),
            false => format!("{door} is offline; at {} it was ", self.age),
        };
        if self.online || !self.age.is_empty() {
            text += &format!(
                "{}, door {}, {} (proof: {}), mode {}",
                state.lock_state, state.door_state, state.secured, state.proof, self.mode
            );
        }
        if !self.displaced_mode.is_empty() {
            text += &format!(", before it {}", self.displaced_mode);
        }
        let mut lines = vec![text];
        let lockdown = self.lockdown.iter();
        lines.extend(lockdown.map(|lockdown| format!("lockdown: {lockdown}")));
        if !self.alarms.is_empty() {
            lines.push(format!("alarms: {}", self.alarms.join(", ")));
        }
        lines.push(self.because.clone());
        lines.extend((!self.week.is_empty()).then(|| self.week.clone()));
        let desired = self.desired.iter();
        lines.extend(desired.map(|ack| format!("desired: {}", ack.describe())));
        lines.iter().map(|line| printable(line)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_of_a_door_add_no_lines_to_the_output() {
        let id = "east".parse().unwrap();
        let body = json!({"lockState": "locked\n\u{1b}[1A", "mode": "normal",
            "alarms": {"forced\nOpen": {}}});
        let report = DoorReport {
            online: true,
            because: "slot 5 decides: loc\rked".to_owned(),
            ..DoorReport::of(&id, Some(&body))
        };
        assert_eq!(
            report.lines().join("\n"),
            "east is locked\\n\\u{1b}[1A, door ,  (proof: ), mode normal\nalarms: \
             forced\\nOpen\nslot 5 decides: loc\\rked"
        );
    }
}

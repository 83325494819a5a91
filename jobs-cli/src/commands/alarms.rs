//! `doorctl alarms`: lists raised alarms and acknowledges them.

use iothub_protocol::twin::limits::{check_growth, check_patch};
use iothub_protocol::twin::{Object, SectionKind, Twin, TwinPatch, merge};
use iothub_protocol::{DeviceId, ErrorCode, time};
use serde_json::{Value, json};

use super::many;
use crate::alarm::{RaisedAlarm, TAG, raised};
use crate::cli::alarms::{AckArgs, AlarmsArgs, AlarmsCommand, ListArgs};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Format, printable};
use crate::session::{Session, door};
use crate::suggest;

/// Writes of other people to the same twin after which an acknowledgement gives up.
const MAX_ATTEMPTS: usize = 10;

pub(super) async fn run(args: AlarmsArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    match args.command {
        None => list(&args.list, session).await,
        Some(AlarmsCommand::List(args)) => list(&args, session).await,
        Some(AlarmsCommand::Ack(args)) => acknowledge(&args, session).await,
    }
}

async fn list(args: &ListArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let mut alarms = raised(&many::select_or_all(&args.target, session).await?);
    if args.unacknowledged {
        alarms.retain(|alarm| alarm.acknowledged_by.is_none());
    }
    if alarms.is_empty() {
        session.printer.say(match args.unacknowledged {
            true => "no alarm is unacknowledged",
            false => "no alarm is raised",
        });
    }
    print(alarms, session)
}

/// Prints the alarms; none makes no table.
fn print(alarms: Vec<RaisedAlarm>, session: &Session) -> anyhow::Result<ExitStatus> {
    let is_empty = alarms.is_empty();
    match session.printer.format() {
        Format::Table if is_empty => {}
        Format::Table => {
            let alarms = alarms
                .into_iter()
                .map(|alarm| alarm.on_clock(&session.zone));
            session.printer.rows(&alarms.collect::<Vec<_>>())?;
        }
        _ => session.printer.rows(&alarms)?,
    }
    Ok(match is_empty {
        true => ExitStatus::Success,
        false => ExitStatus::Incomplete,
    })
}

async fn acknowledge(args: &AckArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let id = door(&args.door)?;
    let by = args.by.as_deref().unwrap_or(session.hub.policy());
    for _ in 0..MAX_ATTEMPTS {
        let twin = session.of_door(&id, session.hub.twin(&id).await).await?;
        let alarms = to_acknowledge(&twin, args.alarm.as_deref(), session)?;
        let at = time::format(session.hub.now());
        let tags = tags(
            &twin,
            &alarms,
            &json!({"by": by, "at": at, "note": args.note}),
        )?;
        let patch = TwinPatch::tags(tags);
        // With the etag: of two people at once, one sees what the other wrote.
        match session.hub.twin_patch(&id, &patch, Some(&twin.etag)).await {
            Ok(twin) => {
                let written = raised(&[twin]).into_iter();
                let written = written.filter(|now| alarms.iter().any(|it| it.alarm == now.alarm));
                print(written.collect(), session)?;
                return Ok(ExitStatus::Success);
            }
            Err(error) if error.code() == Some(ErrorCode::PreconditionFailed) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(format!(
        "{id} was changed {MAX_ATTEMPTS} times meanwhile; nothing was acknowledged"
    ))
    .next("try again")
    .into())
}

/// The alarms to acknowledge, at least one.
fn to_acknowledge(
    twin: &Twin,
    alarm: Option<&str>,
    session: &Session,
) -> Result<Vec<RaisedAlarm>, Failure> {
    let id: &DeviceId = &twin.device_id;
    let refused = |message: String| {
        Failure::new(format!("{message}; nothing was changed"))
            .next(format!("doorctl alarms list {id}"))
            .status(ExitStatus::Refused)
    };
    let mut alarms = raised(std::slice::from_ref(twin));
    if let Some(alarm) = alarm {
        let names: Vec<String> = alarms.iter().map(|known| known.alarm.clone()).collect();
        alarms.retain(|known| known.alarm.eq_ignore_ascii_case(alarm));
        if alarms.is_empty() {
            let hint = suggest::hint(alarm, names.iter().map(String::as_str));
            return Err(refused(format!("{id} has no alarm `{alarm}`{hint}")));
        }
    }
    let Some(first) = alarms.first() else {
        return Err(refused(format!("{id} has no alarm")));
    };
    let known = first.acknowledgement(&session.zone).map(|known| {
        let (alarm, known) = (printable(&first.alarm), printable(&known));
        refused(format!("{alarm} of {id} is acknowledged already, {known}"))
    });
    alarms.retain(|alarm| alarm.acknowledged_by.is_none());
    match (alarms.is_empty(), known) {
        (true, Some(known)) => Err(known),
        _ => Ok(alarms),
    }
}

/// The change of the tags. `null` removes what an earlier acknowledgement has.
fn tags(twin: &Twin, alarms: &[RaisedAlarm], own: &Value) -> Result<Object, Failure> {
    let id = &twin.device_id;
    if twin.tags.get(TAG).is_some_and(|tag| !tag.is_object()) {
        let message = format!("the tag `{TAG}` of {id} is in use; expected it to be an object");
        return Err(Failure::new(message)
            .next(format!("doorctl devices tag {id} --remove {TAG}"))
            .status(ExitStatus::Refused));
    }
    let written = alarms.iter().map(|alarm| {
        let mut written = own.clone();
        written["raised"] = match alarm.since.as_str() {
            "" => Value::Null,
            since => since.into(),
        };
        (alarm.alarm.clone(), written)
    });
    let tags = Object::from_iter([(TAG.to_owned(), Value::Object(written.collect()))]);
    let mut after = twin.tags.clone();
    merge(&mut after, &tags);
    check_patch(SectionKind::Tags, &tags)
        .and_then(|()| check_growth(SectionKind::Tags, &twin.tags, &after))
        .map_err(|error| Failure::new(format!("{id}: {error}; nothing was changed")))?;
    Ok(tags)
}

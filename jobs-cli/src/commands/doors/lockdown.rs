//! `doorctl lockdown` and `all-clear`.
//!
//! Both create two jobs one after the other, and may then be interrupted: a twin job changes the
//! desired property `lockdown`, which is lasting and reaches offline doors when they reconnect; a
//! method job calls the doors, which is fast and proves the result. A door acts once per id,
//! whichever arrives first. Where a hub takes no second job, doors are changed and called directly.
//!
//! Doors that do not report `device.features.lockdown` (agents of 0.1, other devices) are called
//! with `setMode` and `relinquish`: that locks them down too, but only while they are online.
//!
//! Why: docs/decisions/0016-lockdown-is-a-property-and-a-method.md.

use std::time::Duration;

use door_core::Slot;
use door_core::contract::{Command, LockdownOrder, Mode, Relinquish, SetMode};
use iothub_protocol::JobId;
use iothub_protocol::job::JobAction;
use iothub_protocol::twin::{ConnectionState, SectionPatch, Twin, TwinPatch};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::send::{DoorCall, SelectedDoors, is_busy, names};
use crate::cli::doors::{AllClearArgs, LockdownArgs};
use crate::cli::target::TargetArgs;
use crate::commands::confirm::confirm;
use crate::commands::job_draft::JobDraft;
use crate::commands::many::for_each_door;
use crate::door::reported_door;
use crate::exit_status::ExitStatus;
use crate::failure::sentence;
use crate::printer::first_names;
use crate::session::Session;
use crate::target::Target;

/// Doors that are named in a line; the others are counted.
const MAX_NAMES_SHOWN: usize = 20;

/// Doors that know neither the property nor the two methods. One that has never reported may.
const OLDER: &str = "is_defined(properties.reported.door) AND NOT \
                     is_defined(properties.reported.device.features.lockdown)";

/// How long the twin job may take after the doors have answered.
const TWIN_JOB_TIME: Duration = Duration::from_secs(30);

/// What a verb does.
struct Order<'a> {
    verb: &'a str,
    /// The desired property `lockdown`.
    property: Value,
    command: Command,
    /// The command for doors that do not know it.
    for_older: Command,
    /// What happens to a door that is offline, and to an older one.
    offline: [&'a str; 2],
}

/// `lockdown`. It asks for no confirmation: doors lock, people can leave, and all-clear reverts it.
pub(super) async fn lockdown(args: &LockdownArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let selected = SelectedDoors::find_or(&args.target, ExitStatus::Incomplete, session).await?;
    let call = DoorCall::new("lockdown", selected, &args.now, session).await?;
    let header = call.header()?;
    let by = session.hub.policy().to_owned();
    let at = ordered_at(session)?;
    let order = Order {
        verb: "lockdown",
        property: json!({
            "id": header.command_id, "by": by, "reason": header.reason, "at": at,
        }),
        for_older: Command::SetMode(SetMode {
            mode: Mode::Lockdown,
            header: header.clone(),
        }),
        command: Command::Lockdown(LockdownOrder {
            by: Some(by),
            at: Some(at),
            header,
        }),
        offline: [
            "each locks down when it reconnects",
            "not locked down, because its agent knows no lockdown while it is offline",
        ],
    };
    give(&order, call, &args.target, session).await
}

/// `all-clear`.
pub(super) async fn all_clear(
    args: &AllClearArgs,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let selected = SelectedDoors::find_or(&args.target, ExitStatus::Incomplete, session).await?;
    confirm("end the lockdown of", selected.count(), args.confirm)?;
    let call = DoorCall::new("all-clear", selected, &args.now, session).await?;
    let header = call.header()?;
    let order = Order {
        verb: "all-clear",
        property: Value::Null,
        for_older: Command::Relinquish(Relinquish {
            slot: Some(Slot::Lockdown),
            header: header.clone(),
        }),
        command: Command::AllClear(LockdownOrder {
            by: Some(session.hub.policy().to_owned()),
            at: Some(ordered_at(session)?),
            header,
        }),
        offline: [
            "each is cleared when it reconnects",
            "not cleared, because its agent knows no lockdown while it is offline",
        ],
    };
    give(&order, call, &args.target, session).await
}

/// The hub's time, rounded down to the second: `Date` has no fraction, and a doorctl started right
/// after this one may read the same second again.
fn ordered_at(session: &Session) -> anyhow::Result<Timestamp> {
    Ok(Timestamp::from_second(session.hub.now().as_second())?)
}

async fn give(
    order: &Order<'_>,
    call: DoorCall<'_>,
    args: &TargetArgs,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let stored = store(order, &call, session).await;
    let older = match narrowed(args, OLDER) {
        Some(target) => (target.select(session).await?.count, Some(target)),
        None => (0, None),
    };
    let groups = match older {
        (0, _) | (_, None) => vec![(None, &order.command)],
        (count, _) if count >= call.selected.count() => vec![(None, &order.for_older)],
        (_, Some(target)) => {
            let known = narrowed(args, &format!("NOT ({OLDER})"));
            let known = known
                .map(|known| call.draft.beside("known", known))
                .transpose()?;
            let older = call.draft.beside("older", target)?;
            vec![(known, &order.command), (Some(older), &order.for_older)]
        }
    };
    let started = call.start(&groups).await?;
    warn_of_missed(order, args, session).await?;
    let status = started.finish().await?;
    if status == ExitStatus::Interrupted || is_stored(stored, order.verb, session).await? {
        return Ok(status);
    }
    Ok(match status {
        ExitStatus::Success => ExitStatus::Incomplete,
        status => status,
    })
}

/// The selected doors that match a condition too; `None` if both make no condition.
fn narrowed(args: &TargetArgs, condition: &str) -> Option<Target> {
    let condition = match &args.condition {
        Some(own) => format!("({own}) AND {condition}"),
        None => condition.to_owned(),
    };
    let args = TargetArgs {
        condition: Some(condition),
        allow_none: true,
        ..args.clone()
    };
    Target::required(&args).ok()
}

/// How the desired property was changed.
enum Stored {
    /// By these jobs, which may not be over.
    Jobs(Vec<JobId>),
    /// Door by door; the doors that failed, with the reason.
    Each(Vec<String>),
}

/// Changes the desired property: one door directly, several by a job. Its failure does not keep
/// doors from being called.
async fn store(
    order: &Order<'_>,
    call: &DoorCall<'_>,
    session: &Session,
) -> anyhow::Result<Stored> {
    let value = [("lockdown".to_owned(), order.property.clone())];
    let patch = TwinPatch {
        etag: None,
        tags: SectionPatch::Absent,
        desired: SectionPatch::Values(value.into_iter().collect()),
    };
    let target = call.selected.target();
    let only = call.selected.only();
    let takes_jobs = target.parts().len() == 1 || session.hub.is_door_hub().await?;
    if only.is_none() && takes_jobs {
        let job: JobDraft = call.draft.beside("twin", target.clone())?;
        let patch = TwinPatch {
            etag: Some("*".into()),
            ..patch.clone()
        };
        match job.submit(JobAction::UpdateTwin(patch), session).await {
            Ok(jobs) => {
                let ids: Vec<JobId> = jobs.into_iter().map(|job| job.job_id).collect();
                let shown: Vec<&str> = ids.iter().map(JobId::as_str).collect();
                let shown = shown.join(", ");
                session.printer.say(format!(
                    "job {shown} changes the desired lockdown of {} doors",
                    call.selected.count()
                ));
                return Ok(Stored::Jobs(ids));
            }
            Err(error) if is_busy(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let doors = match only {
        Some(door) => vec![door.clone()],
        None => names(target, session).await?,
    };
    let doors = doors.into_iter().map(|door| (door, patch.clone()));
    let patched = for_each_door(doors, &session.hub, |hub, door, patch| async move {
        hub.twin_patch(&door, &patch, None).await
    });
    let failed = patched.await.into_iter();
    let failed = failed.filter_map(|(door, patched)| Some(format!("{door}: {}", patched.err()?)));
    Ok(Stored::Each(failed.collect()))
}

/// Whether the desired property of every door was changed; warns of the others.
async fn is_stored(
    stored: anyhow::Result<Stored>,
    verb: &str,
    session: &Session,
) -> anyhow::Result<bool> {
    let warn = |what: &str| {
        session.printer.warn(format!(
            "the desired lockdown is not changed: {what}; repeat doorctl {verb}"
        ));
    };
    let jobs = match stored {
        Ok(Stored::Jobs(jobs)) => jobs,
        Ok(Stored::Each(failed)) => {
            failed.iter().for_each(|failure| warn(failure));
            return Ok(failed.is_empty());
        }
        Err(error) => {
            warn(&sentence(&error));
            return Ok(false);
        }
    };
    let ends_at = Instant::now() + TWIN_JOB_TIME;
    let mut all = true;
    for id in jobs {
        let mut job = session.hub.job(&id).await?;
        while !job.status.is_over() && Instant::now() < ends_at {
            tokio::time::sleep(Duration::from_millis(500)).await;
            job = session.hub.job(&id).await?;
        }
        let statistics = job.device_job_statistics.unwrap_or_default();
        if !job.status.is_over() || statistics.failed_count > 0 {
            all = false;
            let failed = statistics.failed_count;
            warn(&format!(
                "job {id} is {}, {failed} doors failed: doorctl jobs show {id}",
                job.status
            ));
        }
    }
    Ok(all)
}

/// Names the doors that no call reaches now, and those that doorctl 0.1 locked down.
async fn warn_of_missed(
    order: &Order<'_>,
    args: &TargetArgs,
    session: &Session,
) -> anyhow::Result<()> {
    let condition = "(connectionState = 'Disconnected' OR properties.desired.mode = 'lockdown')";
    let Some(target) = narrowed(args, condition) else {
        return Ok(());
    };
    let twins = target.twins(session).await?;
    let warn = |what: &str, concerns: &dyn Fn(&Twin) -> bool| {
        let concerned = twins.iter().filter(|twin| concerns(twin));
        let mut names: Vec<&str> = concerned.map(|twin| twin.device_id.as_str()).collect();
        names.sort_unstable();
        if !names.is_empty() {
            let names = first_names(&names, MAX_NAMES_SHOWN);
            session.printer.warn(format!("{what}: {names}"));
        }
    };
    let is_offline = |twin: &Twin| twin.connection_state == ConnectionState::Disconnected;
    let is_older = |twin: &Twin| {
        let device = twin.properties.reported.values.get("device");
        let features = device.and_then(|device| device.get("features"));
        reported_door(twin).is_some() && features.and_then(|it| it.get("lockdown")).is_none()
    };
    let [offline, older] = order.offline;
    warn(&format!("offline; {offline}"), &|twin| {
        is_offline(twin) && !is_older(twin)
    });
    warn(&format!("offline; {older}"), &|twin| {
        is_offline(twin) && is_older(twin)
    });
    warn(
        "assigned to mode lockdown, which stays (to end it: doorctl twin set DOOR mode=null)",
        &|twin| twin.properties.desired.values.get("mode") == Some(&json!(Mode::Lockdown)),
    );
    Ok(())
}

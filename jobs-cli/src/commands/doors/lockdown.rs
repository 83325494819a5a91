//! `doorctl lockdown` and `all-clear`.
//!
//! Both create two jobs, and may then be interrupted: a method job calls the doors, which is fast
//! and proves the result; a twin job changes the desired property `lockdown`, which is lasting and
//! reaches offline doors when they reconnect. A door acts once per id, whichever arrives first.
//! Where a hub takes no second job, doors are changed and called directly.
//!
//! The method job is first: a hub that changes twins meanwhile calls the last door later. But the
//! twin job waits for it only [`TWIN_JOB_DELAY`].
//!
//! Devices that report a `door` but no `device.features.lockdown` (agents of 0.1) are called with
//! `setMode` and `relinquish`: that locks them down too, but only while they are online. A device
//! that reports no `door` is called with `lockdown`, and fails visibly if it does not know it.
//!
//! Once the doors are selected, nothing may delay or prevent the calls: what else fails is a
//! warning.
//!
//! Why: docs/decisions/0016-lockdown-is-a-property-and-a-method.md.

use std::time::Duration;

use door_core::Slot;
use door_core::contract::{Command, LockdownOrder, Mode, Relinquish, SetMode};
use iothub_protocol::job::{JobAction, JobStatus};
use iothub_protocol::twin::{ConnectionState, SectionPatch, Twin, TwinPatch};
use iothub_protocol::{DeviceId, JobId};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::send::{DoorCall, SelectedDoors, is_busy, names};
use crate::cli::doors::{AllClearArgs, LockdownArgs};
use crate::cli::target::TargetArgs;
use crate::commands::confirm::confirm;
use crate::commands::job_draft::JobDraft;
use crate::commands::job_follow;
use crate::commands::many::for_each_door;
use crate::door::reported_door;
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, sentence};
use crate::printer::first_names;
use crate::session::Session;
use crate::target::Target;

/// Doors that are named in a line; the others are counted.
const MAX_NAMES_SHOWN: usize = 20;

/// Doors that know neither the property nor the two methods. One that has never reported may.
const OLDER: &str = "is_defined(properties.reported.door) AND NOT \
                     is_defined(properties.reported.device.features.lockdown)";

/// How long the creation of the twin job waits for that of the method job, and that one for the
/// search for older doors, if their twins were not read.
const TWIN_JOB_DELAY: Duration = Duration::from_secs(1);

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
    let (only, count) = (call.selected.only().cloned(), call.selected.count());
    let twin = call.draft.beside("twin", call.selected.target().clone())?;
    let giving = async {
        let (calls_started, started) = oneshot::channel();
        let storing = async {
            // Whether they started or failed, the twins change now.
            let _ = timeout(TWIN_JOB_DELAY, started).await;
            store(order, &twin, only, count, session).await
        };
        let (stored, status) = tokio::join!(
            Box::pin(storing),
            Box::pin(call_doors(order, call, calls_started, args, session))
        );
        let is_interrupted = matches!(status, Ok(ExitStatus::Interrupted));
        if is_interrupted && matches!(stored, Ok(Stored::Jobs(_))) {
            return status;
        }
        let is_stored = is_stored(stored, order.verb, count, session).await;
        Ok(match status? {
            ExitStatus::Success if !is_stored => ExitStatus::Incomplete,
            status => status,
        })
    };
    let interrupted = async {
        // What waits in it is interrupted first, and prints what continues.
        let _ = tokio::signal::ctrl_c().await;
        tokio::task::yield_now().await;
    };
    tokio::select! {
        biased;
        status = giving => status,
        () = interrupted => {
            session.printer.say(format!(
                "interrupted; whether the desired lockdown is changed at every door is not known \
                 yet: doorctl jobs show {}, or repeat doorctl {}",
                twin.id, order.verb
            ));
            Ok(ExitStatus::Interrupted)
        }
    }
}

/// Calls the doors and warns of those that no call reaches. Drops `calls_started` when the jobs
/// that call them are created.
async fn call_doors(
    order: &Order<'_>,
    call: DoorCall<'_>,
    calls_started: oneshot::Sender<()>,
    args: &TargetArgs,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let groups = timeout(TWIN_JOB_DELAY, groups(order, &call, args, session)).await;
    let groups = groups.unwrap_or_else(|_| {
        let seconds = TWIN_JOB_DELAY.as_secs();
        Err(Failure::new(format!("no result within {seconds} s")).into())
    });
    let groups = groups.unwrap_or_else(|error| {
        session.printer.warn(format!(
            "cannot find doors of 0.1, which refuse {}: {}",
            order.verb,
            sentence(&error)
        ));
        vec![(None, &order.command)]
    });
    let started = call.start(&groups).await?;
    drop(calls_started);
    let warning = async {
        if let Err(error) = warn_of_missed(order, args, session).await {
            let error = sentence(&error);
            let text = format!("cannot find the doors that are offline: {error}");
            session.printer.warn(text);
        }
    };
    if started.runs_jobs() {
        warning.await;
        return started.finish().await;
    }
    tokio::join!(started.finish(), warning).0
}

/// The doors by the command that they know.
async fn groups<'a>(
    order: &'a Order<'_>,
    call: &DoorCall<'_>,
    args: &TargetArgs,
    session: &Session,
) -> anyhow::Result<Vec<(Option<JobDraft>, &'a Command)>> {
    let older = narrowed(args, OLDER)?;
    let count = match call.selected.found.count_of(is_older) {
        Some(count) => count,
        None => older.select(session).await?.count,
    };
    Ok(match count {
        0 => vec![(None, &order.command)],
        count if count >= call.selected.count() => vec![(None, &order.for_older)],
        _ => {
            let known = narrowed(args, &format!("NOT ({OLDER})"))?;
            let known = call.draft.beside("known", known)?;
            let older = call.draft.beside("older", older)?;
            vec![
                (Some(known), &order.command),
                (Some(older), &order.for_older),
            ]
        }
    })
}

/// Whether a door matches [`OLDER`].
fn is_older(twin: &Twin) -> bool {
    let device = twin.properties.reported.values.get("device");
    let features = device.and_then(|device| device.get("features"));
    reported_door(twin).is_some() && features.and_then(|it| it.get("lockdown")).is_none()
}

/// The selected doors that match a condition too.
fn narrowed(args: &TargetArgs, condition: &str) -> anyhow::Result<Target> {
    let condition = match &args.condition {
        Some(own) => format!("({own}) AND {condition}"),
        None => condition.to_owned(),
    };
    let args = TargetArgs {
        condition: Some(condition),
        allow_none: true,
        ..args.clone()
    };
    Target::required(&args)
}

/// How the desired property was changed.
enum Stored {
    /// By these jobs, which may not be over.
    Jobs(Vec<JobId>),
    /// Door by door; the doors that failed, with the reason.
    Each(Vec<String>),
}

/// The change of the desired property.
fn twin_patch(order: &Order<'_>, etag: Option<&str>) -> TwinPatch {
    let value = [("lockdown".to_owned(), order.property.clone())];
    TwinPatch {
        etag: etag.map(Into::into),
        tags: SectionPatch::Absent,
        desired: SectionPatch::Values(value.into_iter().collect()),
    }
}

/// Changes the desired property: of several doors by jobs, or else door by door.
async fn store(
    order: &Order<'_>,
    twin: &JobDraft,
    only: Option<DeviceId>,
    count: usize,
    session: &Session,
) -> anyhow::Result<Stored> {
    let takes_jobs = twin.target.parts().len() == 1 || session.hub.is_door_hub().await?;
    if only.is_none() && takes_jobs {
        let patch = twin_patch(order, Some("*"));
        match twin.submit(JobAction::UpdateTwin(patch), session).await {
            Ok(jobs) => {
                let ids: Vec<JobId> = jobs.into_iter().map(|job| job.job_id).collect();
                let shown: Vec<&str> = ids.iter().map(JobId::as_str).collect();
                let shown = shown.join(", ");
                session.printer.say(format!(
                    "job {shown} changes the desired lockdown of {count} doors"
                ));
                return Ok(Stored::Jobs(ids));
            }
            Err(error) if is_busy(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let patch = twin_patch(order, None);
    let doors = match only {
        Some(door) => vec![door],
        None => names(&twin.target, session).await?,
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
    selected: usize,
    session: &Session,
) -> bool {
    let warn = |what: &str| {
        session.printer.warn(format!(
            "the desired lockdown is not changed at every door: {what}; repeat doorctl {verb}"
        ));
    };
    let jobs = match stored {
        Ok(Stored::Jobs(jobs)) => jobs,
        Ok(Stored::Each(failed)) => {
            failed.iter().for_each(|failure| warn(failure));
            return failed.is_empty();
        }
        Err(error) => {
            warn(&sentence(&error));
            return false;
        }
    };
    let ends_at = Instant::now() + TWIN_JOB_TIME;
    let (mut succeeded, mut failures, mut is_known) = (0, String::new(), true);
    for id in jobs {
        let ended = async {
            let mut job = session.hub.job(&id).await?;
            let over = job_follow::until_over(&mut job, Some(ends_at), &session.hub).await;
            over.map(|()| job)
        };
        let unknown = match ended.await {
            Ok(job) => {
                let (status, counts) = (job.status, job.device_job_statistics.unwrap_or_default());
                succeeded += counts.succeeded_count;
                let failed = counts.failed_count;
                if status.is_over() && (status != JobStatus::Completed || failed > 0) {
                    failures += &format!(
                        "; job {id} is {status}, {failed} doors failed: doorctl jobs show {id}"
                    );
                }
                (!status.is_over()).then(|| format!("job {id} is {status}"))
            }
            Err(error) => Some(format!("job {id} cannot be read: {error}")),
        };
        if let Some(why) = unknown {
            is_known = false;
            session.printer.warn(format!(
                "whether the desired lockdown is changed at every door is not known yet: {why}: \
                 doorctl jobs show {id}"
            ));
        }
    }
    let is_short = succeeded < u64::try_from(selected).unwrap_or(u64::MAX);
    if !failures.is_empty() || (is_known && is_short) {
        warn(&format!(
            "{succeeded} of {selected} doors were changed{failures}"
        ));
        return false;
    }
    is_known
}

/// Names the doors that no call reaches now, and those that doorctl 0.1 locked down.
async fn warn_of_missed(
    order: &Order<'_>,
    args: &TargetArgs,
    session: &Session,
) -> anyhow::Result<()> {
    let condition = "(connectionState = 'Disconnected' OR properties.desired.mode = 'lockdown')";
    let twins = narrowed(args, condition)?.twins(session).await?;
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

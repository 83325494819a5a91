//! Selects doors and runs an operation for each of them. Shared by the verbs of devices and of
//! doors.

use std::collections::BTreeSet;
use std::sync::Arc;

use iothub_client::HubClient;
use iothub_protocol::twin::{ConnectionState, Twin};
use iothub_protocol::{DeviceId, ErrorCode};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::progress::WorkProgress;
use crate::cli::target::TargetArgs;
use crate::door::ListedTwin;
use crate::failure::Failure;
use crate::session::{Session, unknown_doors};
use crate::target::Target;

/// Doors that are handled at the same time.
const MAX_CONCURRENT: usize = 16;

/// Most disconnected doors that a plan looks up.
const MAX_LOOKUPS: usize = 200;

/// Up to this many doors are read one by one.
const MAX_SINGLE_READS: usize = 50;

/// The selected doors with their twins; possibly none.
pub(super) async fn select_allowing_none(
    args: &TargetArgs,
    session: &Session,
) -> anyhow::Result<(Target, Vec<Twin>)> {
    let target = Target::required(args)?;
    let twins = read_target(&target, session).await?;
    target.refuse_empty_places(twins.len(), session).await?;
    Ok((target, twins))
}

/// Like [`select_allowing_none`], but no door is an error unless the flags allow it.
pub(super) async fn select(
    args: &TargetArgs,
    session: &Session,
) -> anyhow::Result<(Target, Vec<Twin>)> {
    let (target, twins) = select_allowing_none(args, session).await?;
    match twins.is_empty() && !target.allows_none() {
        true => Err(no_door_error().into()),
        false => Ok((target, twins)),
    }
}

/// The twins of the selected doors, at least one. Without a selection all doors; their reported
/// metadata has only `door`.
pub(super) async fn select_or_all(
    args: &TargetArgs,
    session: &Session,
) -> anyhow::Result<Vec<Twin>> {
    Ok(match Target::from_args(args)? {
        Some(_) => select(args, session).await?.1,
        None => {
            let twins: Vec<ListedTwin> = session.hub.query("SELECT * FROM devices").await?;
            twins.into_iter().map(Twin::from).collect()
        }
    })
}

/// The twins of the selected doors. Few doors that are selected by name only are read one by one,
/// because queries may lag behind.
pub(super) async fn read_target(target: &Target, session: &Session) -> anyhow::Result<Vec<Twin>> {
    if target.is_names_only() && target.names.len() <= MAX_SINGLE_READS {
        return one_by_one(target.names.clone(), session).await;
    }
    let twins = target.twins(session).await?;
    if twins.len() < target.names.len() {
        refuse_unknown(target, session).await?;
    }
    Ok(twins)
}

/// Drops doors that are gone: Azure's queries show a removed door for minutes, as disconnected.
/// Warns of those that were not looked up.
pub(super) async fn drop_removed(twins: &mut Vec<Twin>, session: &Session) -> anyhow::Result<()> {
    let disconnected = |twin: &&Twin| twin.connection_state == ConnectionState::Disconnected;
    let suspects = twins.iter().filter(disconnected).count();
    if suspects == 0 || session.hub.is_door_hub().await? {
        return Ok(());
    }
    let names = twins.iter().filter(disconnected).take(MAX_LOOKUPS);
    let names = names.map(|twin| (twin.device_id.clone(), ()));
    let read = for_each_door(names, &session.hub, |hub, name, ()| async move {
        hub.twin(&name).await
    });
    let mut removed = BTreeSet::new();
    for (name, twin) in read.await {
        match twin {
            Ok(_) => {}
            Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => {
                removed.insert(name);
            }
            Err(error) => return Err(error.into()),
        }
    }
    twins.retain(|twin| !removed.contains(&twin.device_id));
    if suspects > MAX_LOOKUPS {
        session.printer.warn(format!(
            "{} disconnected doors were not looked up: some may have been removed, and Azure's \
             queries still show them",
            suspects - MAX_LOOKUPS
        ));
    }
    Ok(())
}

async fn one_by_one(mut names: Vec<DeviceId>, session: &Session) -> anyhow::Result<Vec<Twin>> {
    names.sort();
    let names = names.into_iter().map(|name| (name, ()));
    let read = for_each_door(names, &session.hub, |hub, name, ()| async move {
        hub.twin(&name).await
    });
    let (mut twins, mut unknown) = (Vec::new(), Vec::new());
    for (name, twin) in read.await {
        match twin {
            Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => {
                unknown.push(name.to_string());
            }
            twin => twins.push(twin?),
        }
    }
    if !unknown.is_empty() {
        let known = session.door_names().await.unwrap_or_default();
        return Err(unknown_doors(&unknown, &known).into());
    }
    Ok(twins)
}

/// Like [`select`], without the target. Doors that are selected by name only are read one by one:
/// Azure's queries lag behind recent changes.
pub(super) async fn select_exact(
    args: &TargetArgs,
    session: &Session,
) -> anyhow::Result<Vec<Twin>> {
    let target = Target::required(args)?;
    match target.is_names_only() {
        true => one_by_one(target.names, session).await,
        false => Ok(select(args, session).await?.1),
    }
}

/// Fails when a named door does not exist, and suggests a similar name. A door that the query does
/// not return is looked up by name: Azure's queries lag behind.
pub(super) async fn refuse_unknown(target: &Target, session: &Session) -> anyhow::Result<()> {
    let known = session.door_names().await?;
    let listed: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    let mut unknown = Vec::new();
    for name in &target.names {
        if listed.contains(name.as_str()) {
            continue;
        }
        match session.hub.twin(name).await {
            Ok(_) => {}
            Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => {
                unknown.push(name.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(unknown_doors(&unknown, &known).into()),
    }
}

/// The error when no door matches.
pub(super) fn no_door_error() -> Failure {
    Failure::new("no door matches; nothing was changed").next("doorctl devices list")
}

/// Like [`for_each_door`], with a progress bar named `what`.
pub(super) async fn for_each_counted<I, T, F, R>(
    doors: Vec<(DeviceId, I)>,
    what: &'static str,
    session: &Session,
    work: F,
) -> Vec<(DeviceId, T)>
where
    T: Send + 'static,
    F: Fn(HubClient, DeviceId, I) -> R,
    R: Future<Output = T> + Send + 'static,
{
    let progress = WorkProgress::new(&session.printer, what, doors.len());
    let counted = for_each_door(doors, &session.hub, |hub, door, item| {
        let (work, progress) = (work(hub, door, item), progress.clone());
        async move {
            let outcome = work.await;
            progress.done(1);
            outcome
        }
    });
    let outcomes = counted.await;
    progress.clear();
    outcomes
}

/// Runs `work` for each door with its item, [`MAX_CONCURRENT`] at a time; returns the results
/// sorted by door.
pub(super) async fn for_each_door<I, T, F, R>(
    doors: impl IntoIterator<Item = (DeviceId, I)>,
    hub: &HubClient,
    work: F,
) -> Vec<(DeviceId, T)>
where
    T: Send + 'static,
    F: Fn(HubClient, DeviceId, I) -> R,
    R: Future<Output = T> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut tasks = JoinSet::new();
    for (door, item) in doors {
        let work = work(hub.clone(), door.clone(), item);
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            // The semaphore is never closed.
            let permit = permits.acquire().await;
            let outcomes = work.await;
            drop(permit);
            (door, outcomes)
        });
    }
    let mut outcomes = tasks.join_all().await;
    outcomes.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    outcomes
}

//! `doorctl devices remove`.

use anyhow::anyhow;
use iothub_client::ClientError;
use iothub_protocol::DeviceId;
use iothub_protocol::bulk::{BulkItem, ImportMode};

use super::bulk::{self, BulkOutcome};
use super::report::{DoorOutcome, report};
use crate::cli::devices::change::RemoveArgs;
use crate::commands::confirm::confirm_irreversible;
use crate::commands::interrupt::{INTERRUPTED, Interrupt};
use crate::commands::many;
use crate::commands::progress::WorkProgress;
use crate::exit_status::ExitStatus;
use crate::session::Session;

/// Removes doors after the user has typed their name or number.
pub(super) async fn remove(args: &RemoveArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let doors = many::select_exact(&args.target, session).await?;
    let doors: Vec<DeviceId> = doors.into_iter().map(|door| door.device_id).collect();
    if !doors.is_empty() {
        confirm_irreversible("remove", &doors, args.yes)?;
    }
    let (done, was_interrupted) = match &doors[..] {
        [door] => {
            let removed = session.hub.device_delete(door).await;
            let removed = removed.map(|()| "removed").map_err(Into::into);
            (vec![(door.clone(), removed)], false)
        }
        doors => {
            let interrupt = Interrupt::new();
            let done = remove_all(doors, &interrupt, session).await;
            (done, interrupt.is_pressed())
        }
    };
    let removed = done.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    let status = report(done, session).await?;
    if let Some(consequence) = consequence(removed, doors.len()) {
        session.printer.say(consequence);
    }
    Ok(match status {
        ExitStatus::Incomplete if was_interrupted => ExitStatus::Interrupted,
        status => status,
    })
}

/// The consequence of the removal, for the user.
fn consequence(removed: usize, all: usize) -> Option<&'static str> {
    match (removed, all) {
        (0, _) => None,
        (1, 1) => Some("it can no longer connect; its agent keeps running with its last commands"),
        _ if removed == all => {
            Some("they can no longer connect; their agents keep running with their last commands")
        }
        _ => Some(
            "the removed doors can no longer connect; their agents keep running with their last \
             commands",
        ),
    }
}

async fn remove_all(
    doors: &[DeviceId],
    interrupt: &Interrupt,
    session: &Session,
) -> Vec<DoorOutcome> {
    let item = |door: &DeviceId| BulkItem::new(door.clone(), ImportMode::Delete);
    let items: Vec<BulkItem> = doors.iter().map(item).collect();
    let progress = WorkProgress::new(&session.printer, "removing", items.len());
    let mut done = Vec::new();
    for request in bulk::requests(&items) {
        if interrupt.is_pressed() {
            let left = request
                .iter()
                .map(|item| (item.id.clone(), Err(anyhow!(INTERRUPTED))));
            done.extend(left);
            continue;
        }
        for (item, result) in request.iter().zip(bulk::send(&session.hub, request).await) {
            let outcome = match result {
                BulkOutcome::Done => Ok("removed"),
                BulkOutcome::Refused(why) | BulkOutcome::Exists(why) => Err(anyhow!(why)),
                BulkOutcome::NotAllowed(refusal) => Err(ClientError::Refused(refusal).into()),
                BulkOutcome::Unknown(why) => Err(anyhow!("{why}; it may have been removed")),
            };
            done.push((item.id.clone(), outcome));
        }
        progress.done(request.len());
    }
    progress.clear();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consequence_covers_removed_doors_only() {
        for (removed, all, part) in [
            (1, 1, Some("it can no longer connect")),
            (3, 3, Some("they can no longer connect")),
            (1, 3, Some("the removed doors can no longer connect")),
            (0, 3, None),
        ] {
            let text = consequence(removed, all);
            let is_expected = match part {
                Some(part) => text.is_some_and(|text| text.contains(part)),
                None => text.is_none(),
            };
            assert!(is_expected, "{removed} of {all}: {text:?}");
        }
    }
}

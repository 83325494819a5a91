//! `doorctl devices remove`.

use anyhow::anyhow;
use doorctl::{BulkItem, ImportMode};
use iothub_protocol::DeviceId;

use super::bulk::{self, Became};
use super::report::{Done, report};
use crate::cli::devices::change::RemoveArgs;
use crate::commands::confirm::confirm_for_good;
use crate::commands::interrupt::{Interrupt, NOT_ANY_MORE};
use crate::commands::many;
use crate::commands::progress::Progress;
use crate::exit_status::ExitStatus;
use crate::session::Session;

/// Removes doors after the user has typed their name or number.
pub(super) async fn remove(args: &RemoveArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let doors = many::exact(&args.target, session).await?;
    let doors: Vec<DeviceId> = doors.into_iter().map(|door| door.device_id).collect();
    if !doors.is_empty() {
        confirm_for_good("remove", &doors, args.yes)?;
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
            (done, interrupt.came())
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
            "the removed doors can no longer connect; their agents keep running with their last commands",
        ),
    }
}

async fn remove_all(doors: &[DeviceId], interrupt: &Interrupt, session: &Session) -> Vec<Done> {
    let item = |door: &DeviceId| BulkItem::new(door.clone(), ImportMode::Delete);
    let items: Vec<BulkItem> = doors.iter().map(item).collect();
    let progress = Progress::new(&session.printer, "removing", items.len());
    let mut done = Vec::new();
    for call in bulk::calls(&items) {
        if interrupt.came() {
            let left = call
                .iter()
                .map(|item| (item.id.clone(), Err(anyhow!(NOT_ANY_MORE))));
            done.extend(left);
            continue;
        }
        for (item, became) in call.iter().zip(bulk::call(&session.hub, call).await) {
            let outcome = match became {
                Became::Done => Ok("removed"),
                Became::Refused(why) | Became::Exists(why) => Err(anyhow!(why)),
                Became::Unknown(why) => Err(anyhow!("{why}; it may have been removed")),
            };
            done.push((item.id.clone(), outcome));
        }
        progress.done(call.len());
    }
    progress.clear();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_of_what_was_removed_it_is_said_that_it_is_kept_out() {
        for (removed, all, told) in [
            (1, 1, Some("it can no longer connect")),
            (3, 3, Some("they can no longer connect")),
            (1, 3, Some("the removed doors can no longer connect")),
            (0, 3, None),
        ] {
            let said = consequence(removed, all);
            let is_as_told = match told {
                Some(told) => said.is_some_and(|said| said.contains(told)),
                None => said.is_none(),
            };
            assert!(is_as_told, "{removed} of {all}: {said:?}");
        }
    }
}

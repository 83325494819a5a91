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

/// Removes doors, when a person has typed their name or number.
pub(super) async fn remove(args: &RemoveArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let doors = many::exact(&args.target, session).await?;
    let doors: Vec<DeviceId> = doors.into_iter().map(|door| door.device_id).collect();
    confirm_for_good("remove", &doors, args.yes)?;
    let done = match &doors[..] {
        [door] => {
            let removed = session.hub.device_delete(door).await;
            vec![(
                door.clone(),
                removed.map(|()| "removed").map_err(Into::into),
            )]
        }
        doors => remove_all(doors, session).await,
    };
    let status = report(done, session).await?;
    session.printer.say(match doors.len() {
        1 => "the hub lets it in no more; its machine goes on as it was told last",
        _ => "the hub lets them in no more; their machines go on as they were told last",
    });
    Ok(status)
}

async fn remove_all(doors: &[DeviceId], session: &Session) -> Vec<Done> {
    let item = |door: &DeviceId| BulkItem::new(door.clone(), ImportMode::Delete);
    let items: Vec<BulkItem> = doors.iter().map(item).collect();
    let progress = Progress::new(&session.printer, "removing", items.len());
    let interrupt = Interrupt::new();
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
                Became::Unknown(why) => Err(anyhow!("{why}; it may be removed or not")),
            };
            done.push((item.id.clone(), outcome));
        }
        progress.done(call.len());
    }
    progress.clear();
    done
}

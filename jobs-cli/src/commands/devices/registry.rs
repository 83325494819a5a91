//! Making many doors: all of them, or none.

use std::collections::HashSet;

use doorctl::{Authentication, BulkItem, ClientError, DeviceIdentity, HubClient, ImportMode};
use iothub_protocol::{DeviceId, ErrorCode};
use serde::Deserialize;

use super::bulk::{self, Became};
use crate::commands::interrupt::Interrupt;
use crate::commands::many;
use crate::commands::progress::Progress;
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, sentence};
use crate::session::Session;
use crate::target::any_of_these;

/// Up to so many doors are asked for one by one: Azure's queries lag behind.
const FEW: usize = 20;

/// The longest list of names in a query; a hub takes 8192 characters.
const MAX_NAMES: usize = 7_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    device_id: DeviceId,
}

/// Which of these the hub has already.
pub(super) async fn existing(
    names: &[DeviceId],
    hub: &HubClient,
) -> Result<HashSet<DeviceId>, ClientError> {
    let mut there = HashSet::new();
    if names.len() <= FEW {
        let work = names.iter().map(|name| (name.clone(), ()));
        let asked = many::each(
            work,
            hub,
            |hub, name, ()| async move { hub.device(&name).await },
        );
        for (name, answer) in asked.await {
            match answer {
                Ok(_) => there.extend([name]),
                Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        return Ok(there);
    }
    let mut rest = names;
    while !rest.is_empty() {
        let mut length = 0;
        let fits = |name: &&DeviceId| {
            // Quotes, backslashes before each character at worst, and what stands between.
            length += name.as_str().len() * 2 + 4;
            length <= MAX_NAMES
        };
        let some = rest.iter().take_while(fits).count();
        let (asked, left) = rest.split_at(some);
        let condition = any_of_these(asked);
        let query = format!("SELECT deviceId FROM devices WHERE {condition}");
        let found: Vec<Named> = hub.query(&query).await?;
        there.extend(found.into_iter().map(|named| named.device_id));
        rest = left;
    }
    Ok(there)
}

/// Makes these doors. `said` tells which one cannot be made: `line 3, east`.
///
/// # Errors
///
/// When one cannot be made, or somebody presses Ctrl-C: then those that were made are gone again, or named.
pub(super) async fn create_all(
    items: &[BulkItem],
    said: impl Fn(&DeviceId) -> String,
    interrupt: &Interrupt,
    session: &Session,
) -> anyhow::Result<()> {
    let progress = Progress::new(&session.printer, "adding", items.len());
    let mut made = Made::default();
    for call in bulk::calls(items) {
        if interrupt.came() {
            progress.clear();
            let error = made.taken_back("interrupted", ExitStatus::Interrupted, session);
            return Err(error.await);
        }
        let mut failed: Option<String> = None;
        for (item, became) in call.iter().zip(bulk::call(&session.hub, call).await) {
            let why = match became {
                Became::Done => {
                    made.surely.push(item);
                    continue;
                }
                Became::Refused(why) => why,
                Became::Exists(why) | Became::Unknown(why) => {
                    made.perhaps.push(item);
                    why
                }
            };
            failed.get_or_insert_with(|| format!("{}: {why}", said(&item.id)));
        }
        if let Some(message) = failed {
            progress.clear();
            let error = made.taken_back(&message, ExitStatus::Error, session);
            return Err(error.await);
        }
        progress.done(call.len());
    }
    progress.clear();
    Ok(())
}

/// Takes doors back that were made, because of an error; the error then says so, or what could not be taken back.
pub(super) async fn undone(
    items: &[BulkItem],
    error: &anyhow::Error,
    session: &Session,
) -> anyhow::Error {
    let made = Made {
        surely: items.iter().collect(),
        ..Made::default()
    };
    let message = sentence(error);
    made.taken_back(&message, ExitStatus::Error, session).await
}

/// What was made of a list that is to be made whole.
#[derive(Default)]
struct Made<'a> {
    surely: Vec<&'a BulkItem>,
    /// No answer came, or one that says that it is there already.
    perhaps: Vec<&'a BulkItem>,
}

impl Made<'_> {
    /// Takes it back; the error says so, or what could not be taken back.
    async fn taken_back(
        self,
        message: &str,
        status: ExitStatus,
        session: &Session,
    ) -> anyhow::Error {
        let left = self.take_back(session).await;
        if left.is_empty() {
            return Failure::new(format!("{message}; nothing was changed"))
                .next("doorctl devices list")
                .status(status)
                .into();
        }
        let names: Vec<&str> = left.iter().map(DeviceId::as_str).collect();
        Failure::new(format!(
            "{message}; these doors were made, or may have been, and could not be taken back: {}",
            names.join(", ")
        ))
        .next(format!("doorctl devices remove {}", names.join(" ")))
        .status(status)
        .into()
    }

    /// Removes it; gives what may be left.
    async fn take_back(self, session: &Session) -> Vec<DeviceId> {
        let mut ours = self.surely;
        let mut left = Vec::new();
        for item in self.perhaps {
            match session.hub.device(&item.id).await {
                Ok(identity) if has_keys_of(&identity, item) => ours.push(item),
                Ok(_) => {}
                Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => {}
                Err(_) => left.push(item.id.clone()),
            }
        }
        let remove = |item: &&BulkItem| BulkItem::new(item.id.clone(), ImportMode::Delete);
        let items: Vec<BulkItem> = ours.iter().map(remove).collect();
        let progress = Progress::new(&session.printer, "taking back", items.len());
        for call in bulk::calls(&items) {
            for (item, became) in call.iter().zip(bulk::call(&session.hub, call).await) {
                if became != Became::Done {
                    left.push(item.id.clone());
                }
            }
            progress.done(call.len());
        }
        progress.clear();
        left
    }
}

/// Whether an identity is the one that was to be made: its keys are, and nobody else knows those.
fn has_keys_of(identity: &DeviceIdentity, item: &BulkItem) -> bool {
    let keys = |authentication: &Option<Authentication>| {
        let authentication = authentication.as_ref();
        authentication.and_then(|authentication| authentication.symmetric_key.clone())
    };
    let wanted = keys(&item.authentication);
    wanted.is_some() && keys(&identity.authentication) == wanted
}

//! Creates many doors: all of them, or none.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use doorctl::{Authentication, BulkItem, ClientError, DeviceIdentity, HubClient, ImportMode};
use iothub_protocol::{DeviceId, ErrorCode};
use serde::Deserialize;

use super::bulk::{self, Became};
use crate::commands::interrupt::Interrupt;
use crate::commands::many;
use crate::commands::progress::Progress;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;
use crate::target::names_condition;

/// Up to this many doors are looked up one by one: Azure's queries lag behind.
const FEW: usize = 20;

/// Maximum length of the name list in a query, in characters; a hub accepts 8192 in total.
const MAX_NAMES: usize = 7_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    device_id: DeviceId,
}

/// The doors of `names` that exist.
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
            // At worst each character is escaped; 4 more for quotes and separator.
            length += name.as_str().len() * 2 + 4;
            length <= MAX_NAMES
        };
        let some = rest.iter().take_while(fits).count();
        let (asked, left) = rest.split_at(some);
        let condition = names_condition(asked);
        let query = format!("SELECT deviceId FROM devices WHERE {condition}");
        let found: Vec<Named> = hub.query(&query).await?;
        there.extend(found.into_iter().map(|named| named.device_id));
        rest = left;
    }
    Ok(there)
}

/// Creates these doors. `said` describes an item in errors: `line 3, east`.
///
/// # Errors
///
/// When one cannot be created, or on Ctrl-C: then the created ones are removed again, or named.
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
            let error = made.taken_back("interrupted", ExitStatus::Interrupted, interrupt, session);
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
            let error = made.taken_back(&message, ExitStatus::Error, interrupt, session);
            return Err(error.await);
        }
        progress.done(call.len());
    }
    progress.clear();
    Ok(())
}

/// The created part of a list that must be created as a whole.
#[derive(Default)]
struct Made<'a> {
    surely: Vec<&'a BulkItem>,
    /// No response, or one that the door exists.
    perhaps: Vec<&'a BulkItem>,
}

impl Made<'_> {
    /// Removes what was created and returns the error, which names what could not be removed.
    /// Ctrl-C, pressed again if it was pressed before, ends the removal.
    async fn taken_back(
        self,
        message: &str,
        status: ExitStatus,
        interrupt: &Interrupt,
        session: &Session,
    ) -> anyhow::Error {
        let all = self.surely.iter().chain(&self.perhaps);
        let mut left: BTreeSet<DeviceId> = all.map(|item| item.id.clone()).collect();
        if !left.is_empty() {
            let way_out = match interrupt.came() {
                true => "Ctrl-C again aborts that",
                false => "Ctrl-C twice aborts that",
            };
            let said = format!("removing the created doors; {way_out}");
            session.printer.say(said);
        }
        let status = tokio::select! {
            () = self.take_back(&mut left, session) => status,
            () = interrupt.came_again() => ExitStatus::Interrupted,
        };
        not_made(message, &left, status).into()
    }

    /// Removes the doors; those that may still exist stay in `left`.
    async fn take_back(self, left: &mut BTreeSet<DeviceId>, session: &Session) {
        let mut ours = self.surely;
        let progress = Progress::new(&session.printer, "checking", self.perhaps.len());
        let work = self
            .perhaps
            .iter()
            .map(|item| (item.id.clone(), (*item).clone()));
        // Do not wait for an unreachable hub a hundred times.
        let is_away = Arc::new(AtomicBool::new(false));
        let looked = many::each(work, &session.hub, |hub, door, item| {
            let (is_away, progress) = (Arc::clone(&is_away), progress.clone());
            async move {
                let whose = match is_away.load(Ordering::Relaxed) {
                    true => Whose::Unknown,
                    false => whose(&hub.device(&door).await, &item, &is_away),
                };
                progress.done(1);
                whose
            }
        });
        let looked: BTreeMap<DeviceId, Whose> = looked.await.into_iter().collect();
        progress.clear();
        for item in self.perhaps {
            match looked.get(&item.id) {
                Some(Whose::Ours) => ours.push(item),
                Some(Whose::NotOurs) => {
                    left.remove(&item.id);
                }
                Some(Whose::Unknown) | None => {}
            }
        }
        let remove = |item: &&BulkItem| BulkItem::new(item.id.clone(), ImportMode::Delete);
        let items: Vec<BulkItem> = ours.iter().map(remove).collect();
        let progress = Progress::new(&session.printer, "removing", items.len());
        for call in bulk::calls(&items) {
            let became = bulk::call(&session.hub, call).await;
            for (item, became) in call.iter().zip(&became) {
                if *became == Became::Done {
                    left.remove(&item.id);
                }
            }
            if became
                .iter()
                .all(|became| matches!(became, Became::Unknown(_)))
            {
                break;
            }
            progress.done(call.len());
        }
        progress.clear();
    }
}

/// The error for a list that was not created.
fn not_made(message: &str, left: &BTreeSet<DeviceId>, status: ExitStatus) -> Failure {
    if left.is_empty() {
        return Failure::new(format!("{message}; nothing was changed"))
            .next("doorctl devices list")
            .status(status);
    }
    let names: Vec<&str> = left.iter().map(DeviceId::as_str).collect();
    Failure::new(format!(
        "{message}; these doors were created, or may have been, and were not removed: {}",
        names.join(", ")
    ))
    .next(format!("doorctl devices remove {}", names.join(" ")))
    .status(status)
}

/// Owner of a door with the name of one to be created.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    /// This run created it.
    Ours,
    /// There is none, or another client created it.
    NotOurs,
    /// The hub did not answer.
    Unknown,
}

fn whose(
    answer: &Result<DeviceIdentity, ClientError>,
    item: &BulkItem,
    is_away: &AtomicBool,
) -> Whose {
    match answer {
        Ok(identity) if has_keys_of(identity, item) => Whose::Ours,
        Ok(_) => Whose::NotOurs,
        Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => Whose::NotOurs,
        Err(error) => {
            if matches!(
                error,
                ClientError::TimedOut { .. } | ClientError::Unreachable { .. }
            ) {
                is_away.store(true, Ordering::Relaxed);
            }
            Whose::Unknown
        }
    }
}

/// Whether an identity is the one of this run: it has the same keys, which nobody else knows.
fn has_keys_of(identity: &DeviceIdentity, item: &BulkItem) -> bool {
    let keys = |authentication: &Option<Authentication>| {
        let authentication = authentication.as_ref();
        authentication.and_then(|authentication| authentication.symmetric_key.clone())
    };
    let wanted = keys(&item.authentication);
    wanted.is_some() && keys(&identity.authentication) == wanted
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use doorctl::SymmetricKey;
    use serde_json::json;

    use super::*;
    use crate::commands::devices::keys;

    fn item() -> BulkItem {
        let mut item = BulkItem::new("east".parse().unwrap(), ImportMode::Create);
        item.authentication = Some(keys::fresh_pair().unwrap());
        item
    }

    fn identity(keys: Option<&SymmetricKey>) -> DeviceIdentity {
        serde_json::from_value(json!({
            "deviceId": "east", "connectionState": "Disconnected", "status": "enabled",
            "authentication": {"type": "sas", "symmetricKey": keys},
        }))
        .unwrap()
    }

    #[test]
    fn a_door_is_ours_when_its_keys_are_and_not_told_when_the_hub_is_away() {
        let (item, other) = (item(), self::item());
        let keys = |item: &BulkItem| item.authentication.clone().unwrap().symmetric_key;
        let timed_out = || ClientError::TimedOut {
            host: "hub".parse().unwrap(),
            after: Duration::from_secs(30),
        };
        let is_away = AtomicBool::new(false);
        let whose = |answer| whose(&answer, &item, &is_away);
        assert_eq!(whose(Ok(identity(keys(&item).as_ref()))), Whose::Ours);
        assert_eq!(whose(Ok(identity(keys(&other).as_ref()))), Whose::NotOurs);
        assert_eq!(whose(Ok(identity(None))), Whose::NotOurs);
        assert_eq!(whose(Err(ClientError::Bulk)), Whose::Unknown);
        assert!(!is_away.load(Ordering::Relaxed));
        assert_eq!(whose(Err(timed_out())), Whose::Unknown);
        assert!(is_away.load(Ordering::Relaxed));
    }
}

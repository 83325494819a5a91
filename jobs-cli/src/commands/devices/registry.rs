//! Creates many doors: all of them, or none.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iothub_client::{ClientError, HubClient};
use iothub_protocol::bulk::{BulkItem, ImportMode};
use iothub_protocol::identity::{Authentication, DeviceIdentity};
use iothub_protocol::{DeviceId, ErrorCode};

use super::bulk::{self, BulkOutcome};
use crate::commands::interrupt::Interrupt;
use crate::commands::many;
use crate::commands::progress::WorkProgress;
use crate::door::DoorName;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;
use crate::target::names_condition;

/// Up to this many doors are looked up one by one: Azure's queries lag behind.
const MAX_SINGLE_LOOKUPS: usize = 20;

/// How long to wait until queries show new doors.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Poll interval for that: Azure allows 20 queries a minute.
const LIST_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum length of the name list in a query, in characters; a hub accepts 8192 in total.
const MAX_NAMES_LEN: usize = 7_000;

/// The doors of `names` that exist.
pub(super) async fn existing(
    names: &[DeviceId],
    hub: &HubClient,
) -> Result<HashSet<DeviceId>, ClientError> {
    let mut existing_doors = HashSet::new();
    if names.len() <= MAX_SINGLE_LOOKUPS {
        let work = names.iter().map(|name| (name.clone(), ()));
        let asked =
            many::for_each_door(
                work,
                hub,
                |hub, name, ()| async move { hub.device(&name).await },
            );
        for (name, answer) in asked.await {
            match answer {
                Ok(_) => existing_doors.extend([name]),
                Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        return Ok(existing_doors);
    }
    let mut rest = names;
    while !rest.is_empty() {
        let mut length = 0;
        let fits = |name: &&DeviceId| {
            // At worst each character is escaped; 4 more for quotes and separator.
            length += name.as_str().len() * 2 + 4;
            length <= MAX_NAMES_LEN
        };
        let some = rest.iter().take_while(fits).count();
        let (asked, remaining) = rest.split_at(some);
        let condition = names_condition(asked);
        let query = format!("SELECT deviceId FROM devices WHERE {condition}");
        let found: Vec<DoorName> = hub.query(&query).await?;
        existing_doors.extend(found.into_iter().map(|named| named.device_id));
        rest = remaining;
    }
    Ok(existing_doors)
}

/// Creates these doors. `describe` names an item in errors: `line 3, east`.
///
/// # Errors
///
/// When one cannot be created, or on Ctrl-C: then the created ones are removed again, or named.
pub(super) async fn create_all(
    items: &[BulkItem],
    describe: impl Fn(&DeviceId) -> String,
    interrupt: &Interrupt,
    session: &Session,
) -> anyhow::Result<()> {
    let progress = WorkProgress::new(&session.printer, "adding", items.len());
    let mut created = CreatedDoors::default();
    for request in bulk::requests(items) {
        if interrupt.is_pressed() {
            progress.clear();
            let error = created.remove_and_explain(
                "interrupted",
                ExitStatus::Interrupted,
                interrupt,
                session,
            );
            return Err(error.await);
        }
        let mut failed: Option<String> = None;
        for (item, result) in request.iter().zip(bulk::send(&session.hub, request).await) {
            let why = match result {
                BulkOutcome::Done => {
                    created.certain.push(item);
                    continue;
                }
                BulkOutcome::Refused(why) => why,
                BulkOutcome::NotAllowed(refusal) if created.is_empty() => {
                    progress.clear();
                    return Err(ClientError::Refused(refusal).into());
                }
                BulkOutcome::NotAllowed(refusal) => refusal.to_string(),
                BulkOutcome::Exists(why) | BulkOutcome::Unknown(why) => {
                    created.possible.push(item);
                    why
                }
            };
            failed.get_or_insert_with(|| format!("{}: {why}", describe(&item.id)));
        }
        if let Some(message) = failed {
            progress.clear();
            let error = created.remove_and_explain(&message, ExitStatus::Error, interrupt, session);
            return Err(error.await);
        }
        progress.done(request.len());
    }
    progress.clear();
    wait_until_listed(items, session).await;
    Ok(())
}

/// Waits until queries show the created doors, so that the next command finds them: Azure's take a
/// moment.
async fn wait_until_listed(items: &[BulkItem], session: &Session) {
    let names: Vec<DeviceId> = items.iter().map(|item| item.id.clone()).collect();
    let listed = async {
        // door-hub's queries never lag.
        if !session.hub.is_door_hub().await? {
            while !are_listed(&names, &session.hub).await? {
                tokio::time::sleep(LIST_POLL_INTERVAL).await;
            }
        }
        Ok::<(), ClientError>(())
    };
    // The doors are created: an error must not fail the command.
    if tokio::time::timeout(LIST_TIMEOUT, listed).await.is_err() {
        session
            .printer
            .say("queries of the hub do not show every new door yet; they may take a minute");
    }
}

async fn are_listed(names: &[DeviceId], hub: &HubClient) -> Result<bool, ClientError> {
    // The last ones are the newest.
    let newest = &names[names.len().saturating_sub(MAX_SINGLE_LOOKUPS)..];
    let condition = names_condition(newest);
    let query = format!("SELECT deviceId FROM devices WHERE {condition}");
    Ok(hub.query::<DoorName>(&query).await?.len() == newest.len())
}

/// The created part of a list that must be created as a whole.
#[derive(Default)]
struct CreatedDoors<'a> {
    certain: Vec<&'a BulkItem>,
    /// No response, or one that the door exists.
    possible: Vec<&'a BulkItem>,
}

impl CreatedDoors<'_> {
    fn is_empty(&self) -> bool {
        self.certain.is_empty() && self.possible.is_empty()
    }

    /// Removes what was created and returns the error, which names what could not be removed.
    /// Ctrl-C, pressed again if it was pressed before, ends the removal.
    async fn remove_and_explain(
        self,
        message: &str,
        status: ExitStatus,
        interrupt: &Interrupt,
        session: &Session,
    ) -> anyhow::Error {
        let all = self.certain.iter().chain(&self.possible);
        let mut remaining: BTreeSet<DeviceId> = all.map(|item| item.id.clone()).collect();
        if !remaining.is_empty() {
            let hint = match interrupt.is_pressed() {
                true => "Ctrl-C again aborts that",
                false => "Ctrl-C twice aborts that",
            };
            let progress_text = format!("removing the created doors; {hint}");
            session.printer.say(progress_text);
        }
        let status = tokio::select! {
            () = self.remove(&mut remaining, session) => status,
            () = interrupt.second_press() => ExitStatus::Interrupted,
        };
        not_created_error(message, &remaining, status).into()
    }

    /// Removes the doors; those that may still exist stay in `remaining`.
    async fn remove(self, remaining: &mut BTreeSet<DeviceId>, session: &Session) {
        let mut ours = self.certain;
        let work = self
            .possible
            .iter()
            .map(|item| (item.id.clone(), (*item).clone()));
        // Do not wait for an unreachable hub a hundred times.
        let hub_unreachable = Arc::new(AtomicBool::new(false));
        let looked =
            many::for_each_counted(work.collect(), "checking", session, |hub, door, item| {
                let hub_unreachable = Arc::clone(&hub_unreachable);
                async move {
                    match hub_unreachable.load(Ordering::Relaxed) {
                        true => Owner::Unknown,
                        false => owner_of(&hub.device(&door).await, &item, &hub_unreachable),
                    }
                }
            });
        let looked: BTreeMap<DeviceId, Owner> = looked.await.into_iter().collect();
        for item in self.possible {
            match looked.get(&item.id) {
                Some(Owner::Ours) => ours.push(item),
                Some(Owner::NotOurs) => {
                    remaining.remove(&item.id);
                }
                Some(Owner::Unknown) | None => {}
            }
        }
        let remove = |item: &&BulkItem| BulkItem::new(item.id.clone(), ImportMode::Delete);
        let items: Vec<BulkItem> = ours.iter().map(remove).collect();
        let progress = WorkProgress::new(&session.printer, "removing", items.len());
        for request in bulk::requests(&items) {
            let result = bulk::send(&session.hub, request).await;
            for (item, result) in request.iter().zip(&result) {
                if *result == BulkOutcome::Done {
                    remaining.remove(&item.id);
                }
            }
            if result
                .iter()
                .all(|result| matches!(result, BulkOutcome::Unknown(_)))
            {
                break;
            }
            progress.done(request.len());
        }
        progress.clear();
    }
}

/// The error for a list that was not created.
fn not_created_error(message: &str, remaining: &BTreeSet<DeviceId>, status: ExitStatus) -> Failure {
    if remaining.is_empty() {
        return Failure::new(format!("{message}; nothing was changed"))
            .next("doorctl devices list")
            .status(status);
    }
    let names: Vec<&str> = remaining.iter().map(DeviceId::as_str).collect();
    Failure::new(format!(
        "{message}; these doors were created, or may have been, and were not removed: {}",
        names.join(", ")
    ))
    .next(format!("doorctl devices remove {}", names.join(" ")))
    .status(status)
}

/// Owner of a door with the name of one to be created.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    /// This run created it.
    Ours,
    /// There is none, or another client created it.
    NotOurs,
    /// The hub did not answer.
    Unknown,
}

fn owner_of(
    answer: &Result<DeviceIdentity, ClientError>,
    item: &BulkItem,
    hub_unreachable: &AtomicBool,
) -> Owner {
    match answer {
        Ok(identity) if has_keys_of(identity, item) => Owner::Ours,
        Ok(_) => Owner::NotOurs,
        Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => Owner::NotOurs,
        Err(error) => {
            if matches!(
                error,
                ClientError::TimedOut { .. } | ClientError::Unreachable { .. }
            ) {
                hub_unreachable.store(true, Ordering::Relaxed);
            }
            Owner::Unknown
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

    use iothub_protocol::identity::SymmetricKey;
    use serde_json::json;

    use super::*;
    use crate::commands::devices::keys;

    fn item() -> BulkItem {
        let mut item = BulkItem::new("east".parse().unwrap(), ImportMode::Create);
        item.authentication = Some(keys::random_pair().unwrap());
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
    fn a_door_is_ours_if_its_keys_match_and_unknown_if_the_hub_is_unreachable() {
        let (item, other) = (item(), self::item());
        let keys = |item: &BulkItem| item.authentication.clone().unwrap().symmetric_key;
        let timed_out = || ClientError::TimedOut {
            host: "hub".parse().unwrap(),
            after: Duration::from_secs(30),
        };
        let hub_unreachable = AtomicBool::new(false);
        let owner_of = |answer| owner_of(&answer, &item, &hub_unreachable);
        assert_eq!(owner_of(Ok(identity(keys(&item).as_ref()))), Owner::Ours);
        assert_eq!(
            owner_of(Ok(identity(keys(&other).as_ref()))),
            Owner::NotOurs
        );
        assert_eq!(owner_of(Ok(identity(None))), Owner::NotOurs);
        assert_eq!(owner_of(Err(ClientError::Bulk)), Owner::Unknown);
        assert!(!hub_unreachable.load(Ordering::Relaxed));
        assert_eq!(owner_of(Err(timed_out())), Owner::Unknown);
        assert!(hub_unreachable.load(Ordering::Relaxed));
    }
}

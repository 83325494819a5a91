//! `doorctl lockdown` and `all-clear`.
//!
//! Both change the twins first and call the doors afterwards. The desired `mode` is authoritative:
//! an online door follows it at once, an offline door when it reconnects. So when this program is
//! stopped after the twins are changed, or the network fails, no door is missed. The call that
//! follows proves the result door by door, and ends a lockdown that was set by a call only. In the
//! opposite order, an interruption would leave offline doors without the lockdown, or without its
//! end.
//!
//! Each twin is changed separately, and only if its etag is still the one that was read. The
//! previously assigned mode differs by door and is stored in a tag by the same patch, so that there
//! is never a lockdown without its previous mode, nor a previous mode without a lockdown. A door
//! that is already assigned to a lockdown stays unchanged: a repeated lockdown does not overwrite
//! the stored mode.
//!
//! Why: docs/decisions/0016-lockdown-is-assigned-then-called.md.

use anyhow::Context as _;
use door_core::Slot;
use door_core::contract::{Command, Mode, Relinquish, SetMode};
use iothub_client::{ClientError, HubClient};
use iothub_protocol::twin::{ConnectionState, SectionPatch, Twin, TwinPatch};
use iothub_protocol::{DeviceId, ErrorCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::send::{DoorCall, SelectedDoors};
use crate::cli::doors::{AllClearArgs, LockdownArgs};
use crate::cli::target::TargetArgs;
use crate::commands::confirm::confirm;
use crate::commands::many;
use crate::door::{reported_door, reported_value};
use crate::exit_status::ExitStatus;
use crate::printer::first_names;
use crate::session::Session;
use crate::target::Target;

/// The tag with the mode that a lockdown displaced: `{"since": TIME, "mode": MODE}`, without `mode`
/// when none was assigned. The name is specific to doorctl, so that it overwrites no other tag.
const TAG: &str = "doorctlLockdown";

/// Doors that are named in a line; the others are counted.
const MAX_NAMES_SHOWN: usize = 20;

/// Attempts when another client changes the twin meanwhile.
const ATTEMPTS: usize = 5;

/// `lockdown`. It asks for no confirmation: doors lock, people can leave, and all-clear reverts it.
pub(super) async fn lockdown(args: &LockdownArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let (target, twins) = select_doors(&args.target, session).await?;
    let now = session.hub.now().round(jiff::Unit::Second)?;
    let assigned = change_each(&twins, session, move |twin| lockdown_patch(twin, now));
    let Some(missed) = unless_interrupted(assigned, "lockdown", session).await else {
        return Ok(ExitStatus::Interrupted);
    };
    let (released, others): (Vec<&Twin>, Vec<&Twin>) =
        twins.iter().partition(|twin| was_released(twin));
    warn_offline(&others, "; each locks down when it reconnects", session);
    warn_offline(
        &released,
        "; released from this lockdown by a command before, so that it does not lock down by \
         itself when it reconnects",
        session,
    );
    let call = DoorCall::new(
        "lockdown",
        SelectedDoors::of(target, &twins),
        &args.now,
        session,
    )
    .await?;
    let command = Command::SetMode(SetMode {
        mode: Mode::Lockdown,
        header: call.header()?,
    });
    let sent = call.send(&command).await;
    let status = sent.context(
        "the mode is assigned and doors follow it by themselves, but calling them failed",
    )?;
    Ok(add_missed(status, &missed, "lockdown", session))
}

/// `all-clear`.
pub(super) async fn all_clear(
    args: &AllClearArgs,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let (target, twins) = select_doors(&args.target, session).await?;
    confirm("end the lockdown of", twins.len(), args.confirm)?;
    let assigned = change_each(&twins, session, all_clear_patch);
    let Some(missed) = unless_interrupted(assigned, "all-clear", session).await else {
        return Ok(ExitStatus::Interrupted);
    };
    warn_offline(
        &twins.iter().collect::<Vec<_>>(),
        "; each is cleared when it reconnects",
        session,
    );
    let call = DoorCall::new(
        "all-clear",
        SelectedDoors::of(target, &twins),
        &args.now,
        session,
    )
    .await?;
    let command = Command::Relinquish(Relinquish {
        slot: Some(Slot::Lockdown),
        header: call.header()?,
    });
    let sent = call.send(&command).await;
    let status = sent.context(
        "the previous modes are assigned and doors follow them by \
         themselves, but calling them failed",
    )?;
    Ok(add_missed(status, &missed, "all-clear", session))
}

/// The selected doors. None is an error even with `--allow-none`: a script that locks down no door
/// did not get what it asked for.
async fn select_doors(args: &TargetArgs, session: &Session) -> anyhow::Result<(Target, Vec<Twin>)> {
    let (target, twins) = many::select_allowing_none(args, session).await?;
    match twins.is_empty() {
        true => Err(many::no_door_error().status(ExitStatus::Incomplete).into()),
        false => Ok((target, twins)),
    }
}

/// Whether a door has followed its assigned lockdown and was taken out of it by a later command.
/// Reading the same desired mode again has no effect, so that only a call locks it down again.
fn was_released(twin: &Twin) -> bool {
    let reported = &twin.properties.reported.values;
    is_lockdown(twin.properties.desired.values.get("mode"))
        && is_lockdown(reported_value(reported, "mode"))
        && reported_door(twin).is_some_and(|door| !is_lockdown(door.get("mode")))
}

/// The patch that starts a lockdown; `None` when it is assigned already.
fn lockdown_patch(twin: &Twin, now: Timestamp) -> Option<TwinPatch> {
    let assigned = twin.properties.desired.values.get("mode");
    if is_lockdown(assigned) {
        return None;
    }
    // A null mode also replaces the mode of an older tag.
    let previous = json!({"since": now, "mode": assigned});
    Some(patch(Some(json!(Mode::Lockdown)), Some(previous)))
}

/// The patch that ends a lockdown; `None` when there is none.
fn all_clear_patch(twin: &Twin) -> Option<TwinPatch> {
    let previous = twin.tags.get(TAG);
    let clear_tag = previous.map(|_| Value::Null);
    match is_lockdown(twin.properties.desired.values.get("mode")) {
        true => {
            let before = previous.and_then(|previous| previous.get("mode"));
            Some(patch(Some(before.cloned().unwrap_or_default()), clear_tag))
        }
        // Another mode was assigned since: it stays.
        false => clear_tag.map(|clear_tag| patch(None, Some(clear_tag))),
    }
}

fn is_lockdown(mode: Option<&Value>) -> bool {
    mode.and_then(Value::as_str) == Some(Mode::Lockdown.as_str())
}

fn patch(mode: Option<Value>, tag: Option<Value>) -> TwinPatch {
    let section = |key: &str, value: Option<Value>| {
        value.map_or(SectionPatch::Absent, |value| {
            SectionPatch::Values([(key.to_owned(), value)].into_iter().collect())
        })
    };
    TwinPatch {
        etag: None,
        tags: section(TAG, tag),
        desired: section("mode", mode),
    }
}

/// The result of `assigned`; on Ctrl-C prints a hint and returns `None`.
async fn unless_interrupted<T>(
    assigned: impl Future<Output = T>,
    verb: &str,
    session: &Session,
) -> Option<T> {
    tokio::select! {
        done = assigned => Some(done),
        _ = tokio::signal::ctrl_c() => {
            session.printer.say(format!(
                "stopped halfway: doors with the new mode follow it, the others are unchanged; to \
                 do the rest: doorctl {verb} with the same doors"
            ));
            None
        }
    }
}

/// Changes the twins that need it; returns the doors that failed.
async fn change_each(
    twins: &[Twin],
    session: &Session,
    change: impl Fn(&Twin) -> Option<TwinPatch> + Clone + Send + 'static,
) -> Vec<(DeviceId, ClientError)> {
    let read = twins
        .iter()
        .map(|twin| (twin.device_id.clone(), twin.clone()));
    let done = many::for_each_door(read, &session.hub, |hub, door, twin| {
        change_one(hub, door, twin, change.clone())
    })
    .await;
    let mut missed = Vec::new();
    let mut changed = 0_usize;
    for (door, done) in done {
        match done {
            Ok(did) => changed += usize::from(did),
            Err(error) => missed.push((door, error)),
        }
    }
    session.printer.say(format!(
        "desired mode: {changed} assigned, {} unchanged",
        twins.len() - changed - missed.len()
    ));
    missed
}

/// Changes one twin, re-reading it when another client changes it meanwhile; returns whether a
/// change was needed.
async fn change_one(
    hub: HubClient,
    door: DeviceId,
    mut twin: Twin,
    change: impl Fn(&Twin) -> Option<TwinPatch> + Send,
) -> Result<bool, ClientError> {
    let mut attempts = 0;
    loop {
        let Some(patch) = change(&twin) else {
            return Ok(false);
        };
        attempts += 1;
        match hub.twin_patch(&door, &patch, Some(&twin.etag)).await {
            Ok(_) => return Ok(true),
            Err(error)
                if error.code() == Some(ErrorCode::PreconditionFailed) && attempts < ATTEMPTS =>
            {
                twin = hub.twin(&door).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn warn_offline(twins: &[&Twin], what: &str, session: &Session) {
    let mut offline: Vec<&str> = twins
        .iter()
        .filter(|twin| twin.connection_state == ConnectionState::Disconnected)
        .map(|twin| twin.device_id.as_str())
        .collect();
    offline.sort_unstable();
    if !offline.is_empty() {
        let names = first_names(&offline, MAX_NAMES_SHOWN);
        session.printer.warn(format!("offline{what}: {names}"));
    }
}

/// Adds the doors whose twins could not be changed: they count as failed whatever they answered.
fn add_missed(
    status: ExitStatus,
    missed: &[(DeviceId, ClientError)],
    verb: &str,
    session: &Session,
) -> ExitStatus {
    for (door, error) in missed {
        session.printer.warn(format!(
            "{door}: cannot assign the desired mode: {error}; repeat doorctl {verb} {door}"
        ));
    }
    match status {
        ExitStatus::Success if !missed.is_empty() => ExitStatus::Incomplete,
        status => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twin(mode: Option<&Value>, tag: Option<&Value>) -> Twin {
        let mut document = json!({
            "deviceId": "east", "etag": "AAAAAAAAAAE=", "version": 4, "tags": {"wing": "east"},
            "properties": {
                "desired": {"$metadata": {}, "$version": 1},
                "reported": {"$metadata": {}, "$version": 1},
            },
        });
        if let Some(mode) = mode {
            document["properties"]["desired"]["mode"] = mode.clone();
        }
        if let Some(tag) = tag {
            document["tags"][TAG] = tag.clone();
        }
        serde_json::from_value(document).unwrap()
    }

    fn to_json(patch: Option<TwinPatch>) -> Value {
        serde_json::to_value(patch).unwrap()
    }

    fn lockdown_of(mode: Option<&Value>, tag: Option<&Value>) -> Value {
        let now = "2026-11-23T22:00:00Z".parse().unwrap();
        to_json(lockdown_patch(&twin(mode, tag), now))
    }

    #[test]
    fn a_lockdown_stores_the_previous_mode_in_the_same_patch() {
        let lockdown = json!("lockdown");
        for (before, previous) in [
            (None, json!(null)),
            (Some(json!("passage")), json!("passage")),
        ] {
            assert_eq!(
                lockdown_of(before.as_ref(), None),
                json!({
                    "tags": {
                        "doorctlLockdown": {"since": "2026-11-23T22:00:00Z", "mode": previous},
                    },
                    "properties": {"desired": {"mode": "lockdown"}},
                })
            );
        }
        // A second lockdown changes nothing, no matter which client assigned the first.
        for tag in [None, Some(json!({"since": "x", "mode": "passage"}))] {
            assert_eq!(lockdown_of(Some(&lockdown), tag.as_ref()), json!(null));
        }
        // A leftover tag does not describe the current mode.
        let left_over = json!({"since": "x", "mode": "secure"});
        let previous = &lockdown_of(None, Some(&left_over))["tags"][TAG];
        assert_eq!(
            previous,
            &json!({"since": "2026-11-23T22:00:00Z", "mode": null})
        );
    }

    #[test]
    fn an_all_clear_restores_the_previous_mode_and_removes_the_tag() {
        let lockdown = json!("lockdown");
        let of =
            |mode: Option<&Value>, tag: Option<&Value>| to_json(all_clear_patch(&twin(mode, tag)));
        for (tag, before) in [
            (json!({"since": "x", "mode": "passage"}), json!("passage")),
            (json!({"since": "x"}), json!(null)),
        ] {
            assert_eq!(
                of(Some(&lockdown), Some(&tag)),
                json!({
                    "tags": {"doorctlLockdown": null},
                    "properties": {"desired": {"mode": before}},
                })
            );
        }
        assert_eq!(
            of(Some(&lockdown), None),
            json!({"properties": {"desired": {"mode": null}}})
        );
        // Another mode was assigned since: it stays.
        let tag = json!({"since": "x", "mode": "passage"});
        assert_eq!(
            of(Some(&json!("secure")), Some(&tag)),
            json!({"tags": {"doorctlLockdown": null}})
        );
        assert_eq!(of(Some(&json!("secure")), None), json!(null));
        assert_eq!(of(None, None), json!(null));
    }
}

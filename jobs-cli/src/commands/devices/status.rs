//! `doorctl devices enable`, `doorctl devices disable`.

use iothub_client::{ClientError, HubClient};
use iothub_protocol::twin::DeviceStatus;
use iothub_protocol::{DeviceId, ErrorCode};

use super::report::report;
use crate::cli::devices::change::StatusArgs;
use crate::commands::confirm::confirm;
use crate::commands::many;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;

/// Maximum length of the reason in an identity, in characters.
const MAX_REASON: usize = 128;

/// Attempts when another client changes the identity meanwhile.
const ATTEMPTS: usize = 3;

/// Enables or disables doors.
pub(super) async fn set(
    status: DeviceStatus,
    args: &StatusArgs,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let reason = session.reason.as_deref();
    if let Some(length) = reason.map(|reason| reason.chars().count()) {
        if length > MAX_REASON {
            let message =
                format!("--reason has {length} characters; expected at most {MAX_REASON}");
            return Err(Failure::new(message).into());
        }
    }
    let doors = many::select_exact(&args.target, session).await?;
    let (verb, doing) = match status {
        DeviceStatus::Enabled => ("enable", "enabling"),
        DeviceStatus::Disabled => ("disable", "disabling"),
    };
    confirm(verb, doors.len(), args.confirm)?;
    let work = doors
        .into_iter()
        .map(|door| (door.device_id, session.reason.clone()));
    let done = many::for_each_counted(
        work.collect(),
        doing,
        session,
        |hub, door, reason| async move { Ok(set_one(&hub, &door, status, reason).await?) },
    )
    .await;
    report(done, session).await
}

async fn set_one(
    hub: &HubClient,
    door: &DeviceId,
    status: DeviceStatus,
    reason: Option<String>,
) -> Result<&'static str, ClientError> {
    let mut attempt = 1;
    loop {
        let mut identity = hub.device(door).await?;
        let is_same = identity.status == status;
        if is_same && (identity.status_reason == reason || reason.is_none()) {
            return Ok("unchanged");
        }
        identity.status = status;
        identity.status_reason.clone_from(&reason);
        match hub.device_update(&identity).await {
            Ok(_) if is_same => return Ok("changed"),
            Ok(_) => return Ok(word(status)),
            Err(error)
                if error.code() == Some(ErrorCode::PreconditionFailed) && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The spelling in the registry.
pub(super) const fn word(status: DeviceStatus) -> &'static str {
    match status {
        DeviceStatus::Enabled => "enabled",
        DeviceStatus::Disabled => "disabled",
    }
}

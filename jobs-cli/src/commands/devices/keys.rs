//! Keys of doors: `doorctl devices connection-string` and `rotate-key`. Keys are written only to
//! files of mode 0600.

use std::fs;
use std::path::Path;

use iothub_protocol::bulk::BulkItem;
use iothub_protocol::connection_string::{DeviceConnectionString, DeviceCredential, HostName};
use iothub_protocol::identity::{Authentication, DeviceIdentity, SymmetricKey};
use iothub_protocol::sas::SharedAccessKey;
use iothub_protocol::{DeviceId, ErrorCode};
use serde::Serialize;

use super::bulk::is_certain_refusal;
use super::without_port;
use crate::cli::devices::change::{RotateKeyArgs, WhichKey};
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, sentence};
use crate::printer::Format;
use crate::private_file;
use crate::session::{Session, door};

/// Size of a generated key: that of the HMAC-SHA256 signature.
const KEY_BYTES: usize = 32;

/// The authentication type of doors with keys.
const SAS: &str = "sas";

/// A random key, in base64.
pub(super) fn random_key() -> anyhow::Result<String> {
    let key = SharedAccessKey::from_bytes(&rand::random::<[u8; KEY_BYTES]>())?;
    Ok(key.to_base64())
}

/// An authentication with two random keys.
pub(super) fn random_pair() -> anyhow::Result<Authentication> {
    Ok(Authentication {
        kind: SAS.to_owned(),
        symmetric_key: Some(SymmetricKey {
            primary_key: Some(random_key()?),
            secondary_key: Some(random_key()?),
        }),
        x509_thumbprint: None,
    })
}

/// The primary key of a door that is about to be created.
pub(super) fn primary_key(item: &BulkItem) -> Option<&str> {
    let authentication = item.authentication.as_ref()?;
    authentication
        .symmetric_key
        .as_ref()?
        .primary_key
        .as_deref()
}

/// The connection string of a door with this key, which is a secret. `host` is without a port.
pub(super) fn connection_string(
    host: &HostName,
    door: &DeviceId,
    key: &str,
) -> anyhow::Result<String> {
    Ok(DeviceConnectionString {
        host_name: host.clone(),
        device_id: door.clone(),
        gateway_host_name: None,
        credential: DeviceCredential::Key(SharedAccessKey::from_base64(key)?),
    }
    .expose_secret())
}

pub(super) async fn write_connection_string(
    name: &str,
    out: &Path,
    secondary: bool,
    session: &Session,
) -> anyhow::Result<()> {
    let id = door(name)?;
    let identity = session.of_door(&id, session.hub.device(&id).await).await?;
    let keys = identity
        .authentication
        .and_then(|authentication| authentication.symmetric_key);
    let key = keys.and_then(|keys| match secondary {
        true => keys.secondary_key,
        false => keys.primary_key,
    });
    let key = key.filter(|key| !key.is_empty()).ok_or_else(|| {
        Failure::new(format!("the hub returned no key of {id}")).next(
            "doors with certificates have none; otherwise use a policy that may read the registry",
        )
    })?;
    let text = connection_string(&without_port(session.hub.host_name())?, &id, &key)?;
    private_file::create(out, &format!("{text}\n"))?;
    session
        .printer
        .say(format!("wrote {}; keep it secret", out.display()));
    Ok(())
}

/// The result of a rotation, as JSON.
#[derive(Debug, Serialize)]
struct RotationReport<'a> {
    door: &'a DeviceId,
    key: WhichKey,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
}

/// `devices rotate-key`: writes the file before the old key is replaced, and removes it when the
/// replacement fails.
pub(super) async fn rotate(args: &RotateKeyArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let id = door(&args.door)?;
    let mut identity = session.of_door(&id, session.hub.device(&id).await).await?;
    let key = replace_keys(&mut identity, args.key)?;
    let text = connection_string(&without_port(session.hub.host_name())?, &id, &key)?;
    private_file::create(&args.out, &format!("{text}\n"))?;
    let changed = match session.hub.device_update(&identity).await {
        Ok(changed) => changed,
        Err(error) => {
            // This run created it; its key is invalid, or can be read from the hub.
            drop(fs::remove_file(&args.out));
            return Err(rotation_error(
                &id,
                args.key,
                error.code(),
                is_certain_refusal(&error),
                error.into(),
            ));
        }
    };
    report(args, session);
    if session.printer.format() != Format::Table {
        session.printer.document(&RotationReport {
            door: &id,
            key: args.key,
            file: args.out.display().to_string(),
            etag: changed.etag,
        })?;
    }
    Ok(ExitStatus::Success)
}

/// Puts random keys into an identity; returns the one for the file.
fn replace_keys(identity: &mut DeviceIdentity, which: WhichKey) -> anyhow::Result<String> {
    let id = identity.device_id.clone();
    let authentication = identity.authentication.as_mut();
    let keys = authentication
        .filter(|authentication| authentication.kind == SAS)
        .and_then(|authentication| authentication.symmetric_key.as_mut())
        .filter(|keys| keys.primary_key.is_some() && keys.secondary_key.is_some())
        .ok_or_else(|| {
            Failure::new(format!(
                "the hub returned no keys of {id}; nothing was changed"
            ))
            .next(
                "doors with certificates have none; otherwise use a policy that may write the \
                 registry",
            )
        })?;
    let key = random_key()?;
    match which {
        WhichKey::Primary => keys.primary_key = Some(key.clone()),
        WhichKey::Secondary => keys.secondary_key = Some(key.clone()),
        WhichKey::Both => {
            keys.primary_key = Some(key.clone());
            keys.secondary_key = Some(random_key()?);
        }
    }
    Ok(key)
}

fn rotation_error(
    id: &DeviceId,
    which: WhichKey,
    code: Option<ErrorCode>,
    nothing_was_done: bool,
    error: anyhow::Error,
) -> anyhow::Error {
    if code == Some(ErrorCode::PreconditionFailed) {
        return Failure::new(format!(
            "{id} was changed by another client meanwhile; no key was changed"
        ))
        .next("check it, then repeat the command: doorctl devices show NAME")
        .into();
    }
    if nothing_was_done {
        return error.context("no key was changed");
    }
    let flag = match which {
        WhichKey::Secondary => " --secondary",
        WhichKey::Primary | WhichKey::Both => "",
    };
    Failure::new(format!(
        "{}; it is unknown whether {id} has the new key",
        sentence(&error)
    ))
    .next(format!(
        "get its current key: doorctl devices connection-string {id}{flag} --out FILE"
    ))
    .into()
}

fn report(args: &RotateKeyArgs, session: &Session) {
    let (door, out) = (&args.door, args.out.display());
    let say = |text: String| session.printer.say(text);
    say(format!("wrote {out}; keep it secret"));
    match args.key {
        WhichKey::Secondary => {
            say(format!(
                "the old secondary key of {door} has stopped working: a door that used it must \
                 get {out} now; the primary key still works"
            ));
            say(format!(
                "when the door uses {out}: doorctl devices rotate-key {door} --key primary --out \
                 FILE"
            ));
        }
        WhichKey::Primary => say(format!(
            "the old primary key of {door} has stopped working: a door that used it must get \
             {out} now; the secondary key still works"
        )),
        WhichKey::Both => say(format!(
            "both old keys of {door} have stopped working: it is cut off until it gets {out}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::failure::next_step;

    fn identity(kind: &str) -> DeviceIdentity {
        serde_json::from_value(json!({
            "deviceId": "east", "connectionState": "Disconnected", "status": "enabled",
            "authentication": {
                "type": kind,
                "symmetricKey": {"primaryKey": "b25l", "secondaryKey": "dHdv"},
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_other_key_stays() {
        for (which, primary_stays, secondary_stays) in [
            (WhichKey::Primary, false, true),
            (WhichKey::Secondary, true, false),
            (WhichKey::Both, false, false),
        ] {
            let mut identity = identity("sas");
            let key = replace_keys(&mut identity, which).unwrap();
            let keys = identity.authentication.unwrap().symmetric_key.unwrap();
            let (primary, secondary) = (keys.primary_key.unwrap(), keys.secondary_key.unwrap());
            assert_eq!(
                (primary == "b25l", secondary == "dHdv"),
                (primary_stays, secondary_stays)
            );
            assert_eq!(key, if primary_stays { secondary } else { primary });
        }
    }

    #[test]
    fn a_door_with_a_certificate_has_no_key_to_rotate() {
        let error = replace_keys(&mut identity("selfSigned"), WhichKey::Both).unwrap_err();
        assert!(error.to_string().contains("no keys of east"), "{error}");
    }

    #[test]
    fn after_a_lost_response_the_hint_names_the_rotated_key() {
        let id = "east".parse().unwrap();
        for (which, command) in [
            (WhichKey::Primary, "connection-string east --out FILE"),
            (
                WhichKey::Secondary,
                "connection-string east --secondary --out FILE",
            ),
            (WhichKey::Both, "connection-string east --out FILE"),
        ] {
            let error = rotation_error(&id, which, None, false, anyhow::anyhow!("lost"));
            let next = next_step(&error).unwrap();
            assert!(next.ends_with(command), "{next}");
        }
    }
}

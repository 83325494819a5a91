//! Devices, by what their CONNECT says (IoT Hub developer guide, "Connecting using the MQTT protocol").

use iothub_protocol::id::{DeviceId, PolicyName};
use iothub_protocol::sas::{SasError, SasToken, audience_covers};
use thiserror::Error;

use super::{HostNames, is_current};
use crate::identity::{AuthenticationKind, DeviceAuthentication, Policy, Rights};

/// Client id, user name and password of a CONNECT.
#[derive(Clone, Copy)]
pub(crate) struct DeviceLogin<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) user_name: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
}

/// Whom a CONNECT claims to be: to be looked up before it is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim<'a> {
    pub(crate) device: DeviceId,
    pub(crate) host: &'a str,
}

/// A device that proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: DeviceId,
    /// When the proof ends, in seconds since 1970, skew included.
    pub(crate) expires_unix_s: u64,
}

/// Why a CONNECT is refused. Logged for the operator; the device only hears "not authorized".
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LoginError {
    #[error("there is no user name; expected <host name>/<device id>/?api-version=2021-04-12")]
    NoUserName,
    #[error("the user name is not <host name>/<device id>/?api-version=...")]
    UserName,
    #[error("the client id is not one a device can have: 1 to 128 of the letters IoT Hub allows")]
    DeviceId,
    #[error("modules are not served by this hub")]
    Module,
    #[error("the user name is for a hub of another name")]
    HostName,
    #[error("the client id is not the device id of the user name")]
    ClientId,
    #[error("there is no such device")]
    UnknownDevice,
    #[error("the device is disabled")]
    Disabled,
    #[error("there is no password; the device's type is `sas`")]
    NoPassword,
    #[error("the password is not a token: {0}")]
    Token(#[from] SasError),
    #[error("the password is not text")]
    TokenText,
    #[error("the token is for something else")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error(
        "no key of the device, and no policy's that may speak for devices, made the token's signature"
    )]
    Signature,
    #[error("the device's type is not `sas`")]
    NotSas,
}

impl<'a> DeviceLogin<'a> {
    /// Reads the user name: `{host}/{device}/?name=value&...`, or the older form without `?`. Nothing in it is percent-encoded.
    pub(crate) fn claim(&self) -> Result<Claim<'a>, LoginError> {
        let user_name = self.user_name.ok_or(LoginError::NoUserName)?;
        let segments: Vec<_> = user_name.split('/').collect();
        let (host, device) = match segments.as_slice() {
            [host, device, query]
                if query.is_empty() || query.starts_with('?') || query.contains('=') =>
            {
                (*host, *device)
            }
            [host, device] => (*host, *device),
            [_, _, _, query] if query.starts_with('?') || query.contains('=') => {
                return Err(LoginError::Module);
            }
            _ => return Err(LoginError::UserName),
        };
        if device != self.client_id {
            return Err(LoginError::ClientId);
        }
        let device = device.parse().map_err(|_| LoginError::DeviceId)?;
        Ok(Claim { device, host })
    }
}

/// Judges a login by what is stored of the device it claims to be.
pub(crate) fn authenticate_device(
    login: &DeviceLogin<'_>,
    claim: &Claim<'_>,
    names: &HostNames,
    stored: Option<&DeviceAuthentication>,
    policy: impl Fn(&PolicyName) -> Option<Policy>,
    now_unix_s: u64,
) -> Result<Identity, LoginError> {
    if !names.accept(claim.host) {
        return Err(LoginError::HostName);
    }
    let stored = stored.ok_or(LoginError::UnknownDevice)?;
    let AuthenticationKind::Sas(keys) = &stored.kind else {
        return Err(LoginError::NotSas);
    };
    let password = login.password.ok_or(LoginError::NoPassword)?;
    let token = SasToken::parse(std::str::from_utf8(password).map_err(|_| LoginError::TokenText)?)?;
    let host = token.audience().split('/').next().unwrap_or_default();
    if !names.accept(host)
        || !audience_covers(
            token.audience(),
            &format!("{host}/devices/{}", claim.device),
        )
    {
        return Err(LoginError::Audience);
    }
    let signed = match token.policy() {
        Some(name) => policy(name).is_some_and(|policy| {
            policy.rights.contain(Rights::DEVICE_CONNECT)
                && (token.verify(&policy.keys.primary) | token.verify(&policy.keys.secondary))
        }),
        None => token.verify(&keys.primary) | token.verify(&keys.secondary),
    };
    if !signed {
        return Err(LoginError::Signature);
    }
    if !is_current(token.expiry(), now_unix_s) {
        return Err(LoginError::Expired);
    }
    // Only now: a stranger learns nothing about which devices are disabled.
    if !stored.enabled {
        return Err(LoginError::Disabled);
    }
    let expires_unix_s = token
        .expiry()
        .saturating_add(iothub_protocol::sas::CLOCK_SKEW.as_secs());
    Ok(Identity {
        device: claim.device.clone(),
        expires_unix_s,
    })
}

//! Devices, by what their CONNECT says (IoT Hub developer guide, "Connecting using the MQTT
//! protocol").

use iothub_protocol::id::{DeviceId, PolicyName};
use iothub_protocol::sas::{CLOCK_SKEW, SasError, SasToken, audience_covers};
use thiserror::Error;

use super::certificate::{CertificateError, Chain, DeviceAuthorities, by_authority, by_thumbprint};
use super::{HostNames, is_current};
use crate::identity::{AuthenticationKind, DeviceAuthentication, Keys, Policy, Proof, Rights};

/// Client id, user name and password of a CONNECT, and what was shown in the TLS handshake before
/// it.
#[derive(Clone, Copy)]
pub(crate) struct DeviceLogin<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) user_name: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    pub(crate) certificates: &'a Chain,
}

/// What logins are judged by, beside the stored identity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust<'a> {
    /// The names this hub answers to.
    pub(crate) names: &'a HostNames,
    /// Whose certificates devices of type `certificateAuthority` may show.
    pub(crate) authorities: &'a DeviceAuthorities,
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
    /// By what it proved itself.
    pub(crate) proof: Proof,
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
    #[error("the device's type asks for a certificate, and there is a password")]
    Password,
    #[error("the device's certificate does not open: {0}")]
    Certificate(#[from] CertificateError),
    #[error("the device's type is `none`: it cannot connect")]
    TypeNone,
}

impl LoginError {
    /// Its name, for counting.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::NoUserName
            | Self::UserName
            | Self::DeviceId
            | Self::Module
            | Self::HostName
            | Self::ClientId => "name",
            Self::UnknownDevice => "unknown_device",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::NoPassword
            | Self::Token(_)
            | Self::TokenText
            | Self::Audience
            | Self::Signature
            | Self::Password
            | Self::Certificate(_)
            | Self::TypeNone => "credentials",
        }
    }
}

impl<'a> DeviceLogin<'a> {
    /// Reads the user name: `{host}/{device}/?name=value&...`, or the older form without `?`.
    /// Nothing in it is percent-encoded.
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
    trust: Trust<'_>,
    stored: Option<&DeviceAuthentication>,
    policy: impl Fn(&PolicyName) -> Option<Policy>,
    now_unix_s: u64,
) -> Result<Identity, LoginError> {
    if !trust.names.accept(claim.host) {
        return Err(LoginError::HostName);
    }
    let stored = stored.ok_or(LoginError::UnknownDevice)?;
    let (proof, expires_unix_s) = match &stored.kind {
        AuthenticationKind::Sas(keys) => by_token(login, claim, trust, keys, policy, now_unix_s)?,
        AuthenticationKind::SelfSigned {
            primary_thumbprint,
            secondary_thumbprint,
        } => {
            no_password(login)?;
            let registered = [primary_thumbprint, secondary_thumbprint].map(Option::as_deref);
            let until = by_thumbprint(login.certificates, registered, now_unix_s)?;
            // It is good through its last second (RFC 5280 section 4.1.2.5).
            (Proof::Certificate, until.saturating_add(1))
        }
        AuthenticationKind::CertificateAuthority => {
            no_password(login)?;
            let chain = login.certificates;
            let until = by_authority(chain, &claim.device, trust.authorities, now_unix_s)?;
            (Proof::Certificate, until.saturating_add(1))
        }
        AuthenticationKind::None => return Err(LoginError::TypeNone),
    };
    // Only now: a stranger learns nothing about which devices are disabled.
    if !stored.enabled {
        return Err(LoginError::Disabled);
    }
    Ok(Identity {
        device: claim.device.clone(),
        proof,
        expires_unix_s,
    })
}

/// Some clients send an empty password where they mean none.
fn no_password(login: &DeviceLogin<'_>) -> Result<(), LoginError> {
    match login.password {
        None | Some([]) => Ok(()),
        Some(_) => Err(LoginError::Password),
    }
}

/// Judges the password of a device that has keys; a certificate beside it says nothing.
fn by_token(
    login: &DeviceLogin<'_>,
    claim: &Claim<'_>,
    trust: Trust<'_>,
    keys: &Keys,
    policy: impl Fn(&PolicyName) -> Option<Policy>,
    now_unix_s: u64,
) -> Result<(Proof, u64), LoginError> {
    let password = login.password.ok_or(LoginError::NoPassword)?;
    let token = SasToken::parse(std::str::from_utf8(password).map_err(|_| LoginError::TokenText)?)?;
    let host = token.audience().split('/').next().unwrap_or_default();
    let resource = format!("{host}/devices/{}", claim.device);
    let covers = match token.policy() {
        Some(_) => audience_covers(token.audience(), &resource),
        // The documents ask for an audience in lower case, and the key is this one device's
        // whatever the audience says.
        None => audience_covers(
            &token.audience().to_ascii_lowercase(),
            &resource.to_ascii_lowercase(),
        ),
    };
    if !trust.names.accept(host) || !covers {
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
    let proof = token
        .policy()
        .map_or(Proof::DeviceKey, |name| Proof::Policy(name.clone()));
    Ok((proof, token.expiry().saturating_add(CLOCK_SKEW.as_secs())))
}

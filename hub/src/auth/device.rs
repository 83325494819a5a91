//! Authentication of devices by their CONNECT (IoT Hub developer guide, "Connecting using the MQTT
//! protocol").

use iothub_protocol::id::{DeviceId, PolicyName};
use iothub_protocol::sas::{CLOCK_SKEW, SasError, SasToken, audience_covers};
use percent_encoding::percent_decode_str;
use thiserror::Error;

use super::certificate::{
    CertificateError, Chain, DeviceAuthorities, check_chain, check_thumbprint,
};
use super::{HostNames, is_current};
use crate::identity::{AuthenticationKind, DeviceAuthentication, Keys, Policy, Proof, Rights};

/// The longest model id, in bytes (Digital Twins Definition Language v3); a longer one is ignored.
const MAX_MODEL_ID: usize = 2048;

/// Client id, user name and password of a CONNECT, and the client certificates of the TLS
/// handshake.
#[derive(Clone, Copy)]
pub(crate) struct DeviceLogin<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) user_name: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    pub(crate) certificates: &'a Chain,
}

/// What logins are checked against, besides the stored identity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust<'a> {
    /// The hub's own host names.
    pub(crate) names: &'a HostNames,
    /// The issuers of certificates for devices of type `certificateAuthority`.
    pub(crate) authorities: &'a DeviceAuthorities,
}

/// The device and the hub that a CONNECT names: the identity to look up before it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimedIdentity<'a> {
    pub(crate) device: DeviceId,
    pub(crate) host: &'a str,
    /// The model that the device announces (IoT Plug and Play).
    pub(crate) model_id: Option<String>,
}

/// An authenticated device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: DeviceId,
    pub(crate) proof: Proof,
    /// When its credential expires, in seconds since 1970, including the clock skew.
    pub(crate) expires_unix_s: u64,
}

/// Why a CONNECT is refused. Logged for the operator; the device only gets "not authorized".
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LoginError {
    #[error("no user name; expected <host name>/<device id>/?api-version=2021-04-12")]
    NoUserName,
    #[error("invalid user name; expected <host name>/<device id>/?api-version=...")]
    UserName,
    #[error("invalid device id; expected 1 to 128 of the characters that IoT Hub allows")]
    DeviceId,
    #[error("this hub does not support modules")]
    Module,
    #[error("the host name in the user name is not a name of this hub")]
    HostName,
    #[error("the client id does not match the device id in the user name")]
    ClientId,
    #[error("unknown device")]
    UnknownDevice,
    #[error("the device is disabled")]
    Disabled,
    #[error("no password; a device of type `sas` needs a token")]
    NoPassword,
    #[error("the password is not a token: {0}")]
    Token(#[from] SasError),
    #[error("the password is not UTF-8")]
    TokenText,
    #[error("the token's audience is another hub or device")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error(
        "the token's signature matches no key of the device and of no policy with DeviceConnect"
    )]
    Signature,
    #[error("the device must authenticate with a certificate, but it sent a password")]
    Password,
    #[error("the device's certificate was rejected: {0}")]
    Certificate(#[from] CertificateError),
    #[error("the device's type is `none`: it cannot connect")]
    TypeNone,
}

impl LoginError {
    /// The label of the metric.
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
    /// Parses the user name: `{host}/{device}/?name=value&...`, or the older form without `?`.
    /// Nothing in it is percent-encoded.
    pub(crate) fn claim(&self) -> Result<ClaimedIdentity<'a>, LoginError> {
        let user_name = self.user_name.ok_or(LoginError::NoUserName)?;
        let segments: Vec<_> = user_name.split('/').collect();
        let (host, device, query) = match segments.as_slice() {
            [host, device, query]
                if query.is_empty() || query.starts_with('?') || query.contains('=') =>
            {
                (*host, *device, *query)
            }
            [host, device] => (*host, *device, ""),
            [_, _, _, query] if query.starts_with('?') || query.contains('=') => {
                return Err(LoginError::Module);
            }
            _ => return Err(LoginError::UserName),
        };
        if device != self.client_id {
            return Err(LoginError::ClientId);
        }
        let device = device.parse().map_err(|_| LoginError::DeviceId)?;
        Ok(ClaimedIdentity {
            device,
            host,
            model_id: model_id(query),
        })
    }
}

/// `model-id` of a user name. Some clients percent-encode it and some do not; the first one counts.
fn model_id(query: &str) -> Option<String> {
    let query = query.strip_prefix('?').unwrap_or(query);
    let mut members = query.split('&').filter_map(|member| member.split_once('='));
    let (_, encoded) = members.find(|(name, _)| *name == "model-id")?;
    let model = percent_decode_str(encoded).decode_utf8().ok()?;
    let is_text = !model.is_empty() && !model.contains(char::is_control);
    (is_text && model.len() <= MAX_MODEL_ID).then(|| model.into_owned())
}

/// Checks a login against the stored facts about the device that it names.
pub(crate) fn authenticate_device(
    login: &DeviceLogin<'_>,
    claim: &ClaimedIdentity<'_>,
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
        AuthenticationKind::Sas(keys) => {
            check_token(login, claim, trust, keys, policy, now_unix_s)?
        }
        AuthenticationKind::SelfSigned(registered) => {
            reject_password(login)?;
            let registered = [
                registered.primary_thumbprint.as_deref(),
                registered.secondary_thumbprint.as_deref(),
            ];
            let until = check_thumbprint(login.certificates, registered, now_unix_s)?;
            // A certificate is valid through its last second (RFC 5280 section 4.1.2.5).
            (Proof::Certificate, until.saturating_add(1))
        }
        AuthenticationKind::CertificateAuthority => {
            reject_password(login)?;
            let chain = login.certificates;
            let until = check_chain(chain, &claim.device, trust.authorities, now_unix_s)?;
            (Proof::Certificate, until.saturating_add(1))
        }
        AuthenticationKind::None => return Err(LoginError::TypeNone),
    };
    // Checked last, so that an unauthenticated client cannot find out which devices are disabled.
    if !stored.enabled {
        return Err(LoginError::Disabled);
    }
    Ok(Identity {
        device: claim.device.clone(),
        proof,
        expires_unix_s,
    })
}

/// Accepts an empty password as none: some clients send one.
fn reject_password(login: &DeviceLogin<'_>) -> Result<(), LoginError> {
    match login.password {
        None | Some([]) => Ok(()),
        Some(_) => Err(LoginError::Password),
    }
}

/// Checks the token of a device with keys; ignores a client certificate.
fn check_token(
    login: &DeviceLogin<'_>,
    claim: &ClaimedIdentity<'_>,
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
        // Azure's documentation asks for a lower-case audience, and the key belongs to this device
        // alone whatever the audience says.
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
            policy.rights.contains(Rights::DEVICE_CONNECT)
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

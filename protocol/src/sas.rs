//! Shared access signatures: `SharedAccessSignature
//! sr={audience}&sig={signature}&se={expiry}[&skn={policy}]`.
//!
//! The signature is `HMAC-SHA256(key, sr + "\n" + se)` over both texts *as the token spells them*.
//! Clients differ in the case of their percent-encoding and in what they encode, so a token is
//! verified over its own text, never over a re-encoded one. Source: "Control access to IoT Hub with
//! shared access signatures", and the official clients.
//!
//! The caller, which has a clock, checks whether a token has expired: see [`SasToken::expiry`] and
//! [`CLOCK_SKEW`].

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::id::PolicyName;

/// How long after its expiry a token is still accepted, since clocks differ; as in Azure's clients
/// and edge hub.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// The scheme before the fields, as in the `Authorization` header.
pub const SCHEME: &str = "SharedAccessSignature";

/// Characters that are not encoded in a field (as JavaScript's `encodeURIComponent`, less `! ' ( )
/// *`).
const FIELD: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Decodes keys with and without padding.
const BASE64_LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The secret of a device or policy that signs tokens. `Debug` hides it.
#[derive(Clone)]
pub struct SharedAccessKey(Box<[u8]>);

/// Why a text or bytes are not a key. The message contains no part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is empty.
    #[error("the key is empty")]
    Empty,
    /// The text is not base64.
    #[error("the key is not base64")]
    NotBase64,
}

impl SharedAccessKey {
    /// A key from its bytes.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.is_empty() {
            Err(KeyError::Empty)
        } else {
            Ok(Self(bytes.into()))
        }
    }

    /// Decodes a key as spelled in connection strings and identities.
    ///
    /// # Errors
    ///
    /// If the text is empty or not base64.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = BASE64_LENIENT
            .decode(text)
            .map_err(|_| KeyError::NotBase64)?;
        Self::from_bytes(&bytes)
    }

    /// The key as spelled in connection strings and identities. A secret.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(&self.0)
    }

    /// The bytes of the key. A secret.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn hmac(&self, audience: &str, expiry: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(audience.as_bytes());
        mac.update(b"\n");
        mac.update(expiry.as_bytes());
        mac
    }
}

impl PartialEq for SharedAccessKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SharedAccessKey {}

impl fmt::Debug for SharedAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedAccessKey(..)")
    }
}

/// Signs a token for `audience` (not encoded: `{host}` or `{host}/devices/{deviceId}`) that expires
/// at `expiry_unix_s`. `key` belongs to `policy` or, without one, to the device.
#[must_use]
pub fn sign(
    audience: &str,
    key: &SharedAccessKey,
    expiry_unix_s: u64,
    policy: Option<&PolicyName>,
) -> String {
    let audience = utf8_percent_encode(audience, FIELD).to_string();
    let expiry = expiry_unix_s.to_string();
    let signature = BASE64_STANDARD.encode(key.hmac(&audience, &expiry).finalize().into_bytes());
    let signature = utf8_percent_encode(&signature, FIELD);
    let mut token = format!("{SCHEME} sr={audience}&sig={signature}&se={expiry}");
    if let Some(policy) = policy {
        token.push_str("&skn=");
        token.extend(utf8_percent_encode(policy.as_str(), FIELD));
    }
    token
}

/// A received token, not yet verified.
#[derive(Clone, PartialEq, Eq)]
pub struct SasToken<'a> {
    raw_audience: &'a str,
    raw_expiry: &'a str,
    audience: Cow<'a, str>,
    signature: Vec<u8>,
    expiry: u64,
    policy: Option<PolicyName>,
}

/// Why a text is not a token. The message contains no part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SasError {
    /// The scheme and a space are missing at the start.
    #[error("the token does not begin with `SharedAccessSignature `")]
    Scheme,
    /// A field is not `name=value`.
    #[error("a field of the token has no `=`")]
    Field,
    /// A field is repeated.
    #[error("the token has two fields `{0}`")]
    Repeated(&'static str),
    /// A field is missing.
    #[error("the token has no field `{0}`")]
    Missing(&'static str),
    /// The audience is not percent-encoded UTF-8.
    #[error("the token's `sr` is not percent-encoded UTF-8")]
    Audience,
    /// The signature is not the base64 of 32 bytes.
    #[error("the token's `sig` is not the percent-encoded base64 of 32 bytes")]
    Signature,
    /// The expiry is not a number of seconds.
    #[error("the token's `se` is not a number of seconds since 1970")]
    Expiry,
    /// The policy name is invalid.
    #[error("the token's `skn` is not the name of a policy")]
    Policy,
}

impl<'a> SasToken<'a> {
    /// Parses a token. Fields are accepted in any order, their names in any case; unknown ones are
    /// ignored.
    ///
    /// # Errors
    ///
    /// If a field is missing, repeated or malformed.
    pub fn parse(text: &'a str) -> Result<Self, SasError> {
        let fields = text
            .split_at_checked(SCHEME.len())
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
            .and_then(|(_, rest)| rest.strip_prefix(' '))
            .ok_or(SasError::Scheme)?;
        let [audience, signature, expiry, policy] = split_fields(fields)?;
        let raw_audience = audience.ok_or(SasError::Missing("sr"))?;
        let raw_expiry = expiry.ok_or(SasError::Missing("se"))?;
        Ok(Self {
            raw_audience,
            raw_expiry,
            audience: decode(raw_audience).ok_or(SasError::Audience)?,
            signature: read_signature(signature.ok_or(SasError::Missing("sig"))?)?,
            expiry: read_expiry(raw_expiry)?,
            policy: policy.map(read_policy).transpose()?,
        })
    }

    /// Whether `key` signed it. Compares in constant time.
    #[must_use]
    pub fn verify(&self, key: &SharedAccessKey) -> bool {
        let expected = key
            .hmac(self.raw_audience, self.raw_expiry)
            .finalize()
            .into_bytes();
        expected.as_slice().ct_eq(&self.signature).into()
    }

    /// The audience, decoded: `{host}` or `{host}/devices/{deviceId}`. See [`audience_covers`].
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The expiry, in seconds since 1970 UTC.
    #[must_use]
    pub const fn expiry(&self) -> u64 {
        self.expiry
    }

    /// The policy whose key signed it; `None` for a device's key.
    #[must_use]
    pub const fn policy(&self) -> Option<&PolicyName> {
        self.policy.as_ref()
    }
}

impl fmt::Debug for SasToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SasToken")
            .field("audience", &self.audience)
            .field("expiry", &self.expiry)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Whether a token for `audience` is valid for `resource` (both decoded).
///
/// An audience covers everything below it, by whole segments: `hub/devices/a` covers
/// `hub/devices/a/modules/m` but not `hub/devices/ab`. The host (the first segment) is not
/// case-sensitive.
#[must_use]
pub fn audience_covers(audience: &str, resource: &str) -> bool {
    let audience = audience.strip_suffix('/').unwrap_or(audience);
    let mut resource = resource.split('/');
    audience.split('/').enumerate().all(|(index, segment)| {
        resource.next().is_some_and(|other| match index {
            0 => !segment.is_empty() && segment.eq_ignore_ascii_case(other),
            _ => segment == other,
        })
    })
}

/// The raw values of `sr`, `sig`, `se` and `skn`.
fn split_fields(fields: &str) -> Result<[Option<&str>; 4], SasError> {
    const NAMES: [&str; 4] = ["sr", "sig", "se", "skn"];
    let mut values = [None; 4];
    for field in fields.split('&') {
        let (name, value) = field.split_once('=').ok_or(SasError::Field)?;
        let Some(index) = NAMES
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
        else {
            continue;
        };
        if values[index].replace(value).is_some() {
            return Err(SasError::Repeated(NAMES[index]));
        }
    }
    Ok(values)
}

fn decode(value: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(value)
        .decode_utf8()
        .ok()
        .filter(|text| !text.is_empty())
}

fn read_signature(value: &str) -> Result<Vec<u8>, SasError> {
    let text = decode(value).ok_or(SasError::Signature)?;
    BASE64_LENIENT
        .decode(text.as_bytes())
        .ok()
        .filter(|bytes| bytes.len() == 32)
        .ok_or(SasError::Signature)
}

/// Whole seconds. Some clients write a fraction, which is dropped.
fn read_expiry(value: &str) -> Result<u64, SasError> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_digits(whole) && is_digits(fraction) {
        whole.parse().map_err(|_| SasError::Expiry)
    } else {
        Err(SasError::Expiry)
    }
}

fn read_policy(value: &str) -> Result<PolicyName, SasError> {
    decode(value)
        .and_then(|name| name.parse().ok())
        .ok_or(SasError::Policy)
}

#[cfg(test)]
mod tests;

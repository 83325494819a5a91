//! Operators and their programs, by the `Authorization` header of a request.

use iothub_protocol::id::PolicyName;
use iothub_protocol::sas::{SasError, SasToken, audience_covers};
use thiserror::Error;

use super::{HostNames, is_current};
use crate::identity::{Policy, Rights};

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// By name of their policy.
    pub(crate) policy: PolicyName,
    /// What they may do.
    pub(crate) rights: Rights,
    /// How long the token is good.
    pub(crate) expires_unix_s: u64,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum AuthError {
    /// There is no `Authorization` header.
    #[error("Authorization header missing")]
    Missing,
    /// The header is not a token.
    #[error("the Authorization header is not a token: {0}")]
    Token(#[from] SasError),
    /// The token's audience is another hub, or does not cover the path.
    #[error("the token is not for this hub and path")]
    Audience,
    /// The token has no policy: a device's does not open the service API.
    #[error("the token names no policy (`skn`); a device's token does not open this API")]
    NoPolicy,
    /// The policy is unknown or its keys did not make the signature; which of the two is not told.
    #[error("the token's signature is not that of its policy")]
    Signature,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
}

impl AuthError {
    /// Its name, for counting.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Token(_) => "unreadable",
            Self::Audience => "audience",
            Self::NoPolicy => "no_policy",
            Self::Signature => "signature",
            Self::Expired => "expired",
        }
    }
}

/// Judges the header of a request for `path` (decoded, with its leading slash).
pub(crate) fn authorize_service(
    header: Option<&str>,
    names: &HostNames,
    policy: impl Fn(&PolicyName) -> Option<Policy>,
    path: &str,
    now_unix_s: u64,
) -> Result<Caller, AuthError> {
    let token = SasToken::parse(header.ok_or(AuthError::Missing)?)?;
    let host = token.audience().split('/').next().unwrap_or_default();
    if !names.accept(host) || !audience_covers(token.audience(), &format!("{host}{path}")) {
        return Err(AuthError::Audience);
    }
    let policy = policy(token.policy().ok_or(AuthError::NoPolicy)?).ok_or(AuthError::Signature)?;
    if !(token.verify(&policy.keys.primary) | token.verify(&policy.keys.secondary)) {
        return Err(AuthError::Signature);
    }
    if !is_current(token.expiry(), now_unix_s) {
        return Err(AuthError::Expired);
    }
    Ok(Caller {
        policy: policy.name,
        rights: policy.rights,
        expires_unix_s: token.expiry(),
    })
}

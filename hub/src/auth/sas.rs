//! Authentication of operators and their programs by the `Authorization` header of a request.

use iothub_protocol::id::PolicyName;
use iothub_protocol::sas::{SasError, SasToken, audience_covers};
use thiserror::Error;

use super::{HostNames, is_current};
use crate::identity::Policy;

/// An authenticated caller of the service API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) policy: Policy,
    /// Expiry of the token, in seconds since 1970.
    pub(crate) expires_unix_s: u64,
}

/// Why a request was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum AuthError {
    #[error("Authorization header missing")]
    Missing,
    #[error("the Authorization header is not a token: {0}")]
    Token(#[from] SasError),
    /// The token's audience is another hub or does not cover the path.
    #[error("the token is not for this hub and path")]
    Audience,
    /// The token has no policy: a device's token is not valid for the service API.
    #[error("the token has no policy (`skn`); a device's token is not valid for this API")]
    NoPolicy,
    /// The policy is unknown or the signature matches none of its keys; callers must not learn
    /// which.
    #[error("the token's signature does not match its policy")]
    Signature,
    #[error("the token has expired")]
    Expired,
}

impl AuthError {
    /// The label of the metric.
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

/// Checks the header of a request for `path` (decoded, with its leading slash).
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
        expires_unix_s: token.expiry(),
        policy,
    })
}

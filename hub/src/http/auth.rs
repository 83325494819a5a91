//! Who makes a request. The judgement is [`crate::auth`]'s; this is how it reaches the handlers,
//! and what a refusal looks like.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::PolicyName;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::HttpError;
use crate::auth::{HostNames, sas};
use crate::identity::Rights;
use crate::service::Services;

/// What tokens are judged by.
#[derive(Clone)]
pub(super) struct Authority {
    services: Services,
    names: HostNames,
}

impl Authority {
    pub(super) fn new(services: &Services, names: &HostNames) -> Self {
        Self {
            services: services.clone(),
            names: names.clone(),
        }
    }
}

/// Marks the answer to a request whose maker is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct LetIn;

/// Who makes the request, once it is known.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    policy: PolicyName,
    rights: Rights,
    expires_unix_s: u64,
}

impl Caller {
    /// The policy whose token it is.
    pub(super) const fn policy(&self) -> &PolicyName {
        &self.policy
    }

    /// When the token expires, in seconds since 1970.
    pub(super) const fn expires_unix_s(&self) -> u64 {
        self.expires_unix_s
    }

    /// Refuses what the caller's policy does not allow.
    pub(super) fn require(&self, needed: Rights) -> Result<(), HttpError> {
        if self.rights.contain(needed) {
            Ok(())
        } else {
            let message = format!(
                "Authorization rule '{}' does not allow access for this operation",
                self.policy
            );
            Err(HttpError::new(ErrorCode::IotHubUnauthorizedAccess, message))
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, HttpError> {
        // Every route is behind `authenticate`; one that is not lets nobody in.
        let unknown = || HttpError::new(ErrorCode::GenericUnauthorized, "nobody is signed in");
        parts.extensions.get().cloned().ok_or_else(unknown)
    }
}

/// Lets a request pass with its [`Caller`], or refuses it.
pub(super) async fn authenticate(
    State(authority): State<Authority>,
    mut request: Request,
    next: Next,
) -> Response {
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let policy = |name: &PolicyName| authority.services.policy(name);
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
    let judged = sas::authorize_service(header, &authority.names, policy, &path, now);
    match judged {
        Ok(caller) => {
            request.extensions_mut().insert(Caller {
                policy: caller.policy,
                rights: caller.rights,
                expires_unix_s: caller.expires_unix_s,
            });
            let mut response = next.run(request).await;
            response.extensions_mut().insert(LetIn);
            response
        }
        Err(error) => {
            let metrics = &authority.services.metrics;
            metrics.token_refused(error.name());
            tracing::debug!(%error, path = request.uri().path(), "a request is refused");
            HttpError::new(ErrorCode::IotHubUnauthorizedAccess, error.to_string()).into_response()
        }
    }
}

//! Authentication of requests: [`crate::auth`] checks the token; this module passes the caller to
//! the handlers, and rejects the others.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::PolicyName;
use iothub_protocol::rest::POLICY_RIGHTS;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::HttpError;
use crate::auth::{HostNames, sas};
use crate::identity::Rights;
use crate::service::Services;

/// What the check of a token needs.
#[derive(Clone)]
pub(super) struct AuthContext {
    services: Services,
    names: HostNames,
}

impl AuthContext {
    pub(super) fn new(services: &Services, names: &HostNames) -> Self {
        Self {
            services: services.clone(),
            names: names.clone(),
        }
    }
}

/// Marks the response to an authenticated request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Authenticated;

/// The authenticated caller of a request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    policy: PolicyName,
    rights: Rights,
    expires_unix_s: u64,
}

impl Caller {
    /// The policy whose token the request carries.
    pub(super) const fn policy(&self) -> &PolicyName {
        &self.policy
    }

    /// When the token expires, in seconds since 1970.
    pub(super) const fn expires_unix_s(&self) -> u64 {
        self.expires_unix_s
    }

    /// Rejects an operation that the caller's policy does not allow.
    pub(super) fn require(&self, needed: Rights) -> Result<(), HttpError> {
        if self.rights.contains(needed) {
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
        // Every route is behind `authenticate`; one that is not rejects every request.
        let unknown = || {
            HttpError::new(
                ErrorCode::GenericUnauthorized,
                "the request is not authenticated",
            )
        };
        parts.extensions.get().cloned().ok_or_else(unknown)
    }
}

/// Adds the [`Caller`] to a request, or rejects it.
pub(super) async fn authenticate(
    State(context): State<AuthContext>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get_all(AUTHORIZATION).iter().count();
    if given > 1 {
        let message = format!("the request has {given} Authorization headers; expected one");
        return HttpError::new(ErrorCode::ArgumentInvalid, message).into_response();
    }
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let policy = |name: &PolicyName| context.services.policy(name);
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
    let authorized = sas::authorize_service(header, &context.names, policy, &path, now);
    match authorized {
        Ok(caller) => {
            request.extensions_mut().insert(Caller {
                policy: caller.policy,
                rights: caller.rights,
                expires_unix_s: caller.expires_unix_s,
            });
            let mut response = next.run(request).await;
            response.extensions_mut().insert(Authenticated);
            if let Ok(rights) = HeaderValue::from_str(&caller.rights.to_string()) {
                response.headers_mut().insert(POLICY_RIGHTS, rights);
            }
            response
        }
        Err(error) => {
            let metrics = &context.services.metrics;
            metrics.token_refused(error.name());
            tracing::debug!(%error, path = request.uri().path(), "a request was rejected");
            HttpError::new(ErrorCode::IotHubUnauthorizedAccess, error.to_string()).into_response()
        }
    }
}

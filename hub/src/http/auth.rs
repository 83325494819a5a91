//! Authentication of requests: [`crate::auth`] checks the token; this module passes the caller to
//! the handlers, and rejects the others.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::PolicyName;
use iothub_protocol::policy::Bounds;
use iothub_protocol::rest::POLICY_RIGHTS;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::HttpError;
use super::ui::Page;
use crate::auth::{HostNames, sas};
use crate::identity::{Policy, Rights};
use crate::service::{PageHandle, Services};
use crate::types::{JobAuthor, Scope};

/// What the check of a token needs.
#[derive(Clone)]
pub(super) struct AuthContext {
    services: Services,
    names: HostNames,
    page: Page,
}

impl AuthContext {
    pub(super) fn new(services: &Services, names: &HostNames, page: Page) -> Self {
        Self {
            services: services.clone(),
            names: names.clone(),
            page,
        }
    }
}

/// Who sent a request, by its token or its session.
struct Sender {
    policy: Policy,
    expires_unix_s: u64,
    page: Option<PageHandle>,
}

/// Marks the response to an authenticated request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Authenticated;

/// The authenticated caller of a request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    policy: Arc<Policy>,
    /// `None`: everything exists for the caller.
    scope: Option<Arc<Scope>>,
    expires_unix_s: u64,
    policies: u64,
    /// The session, if the request comes from the page.
    page: Option<PageHandle>,
}

impl Caller {
    /// The policy whose token the request carries.
    pub(super) fn policy(&self) -> &PolicyName {
        &self.policy.name
    }

    pub(super) fn rights(&self) -> Rights {
        self.policy.rights
    }

    /// `None`: the rights alone limit the policy.
    pub(super) fn bounds(&self) -> Option<&Bounds> {
        self.policy.bounds.as_ref()
    }

    /// The policy as it was when the request came.
    pub(super) fn authority(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    /// The version of the policies by which the caller was authenticated.
    pub(super) const fn policies(&self) -> u64 {
        self.policies
    }

    /// The session of a request of the page.
    pub(super) const fn page(&self) -> Option<PageHandle> {
        self.page
    }

    /// What a job of the caller keeps.
    pub(super) fn author(&self) -> JobAuthor {
        JobAuthor {
            policy: self.policy().clone(),
            bounds: self.bounds().cloned(),
        }
    }

    /// When the token expires, in seconds since 1970.
    pub(super) const fn expires_unix_s(&self) -> u64 {
        self.expires_unix_s
    }

    /// Rejects an operation that the caller's policy does not allow.
    pub(super) fn require(&self, needed: Rights) -> Result<(), HttpError> {
        match self.rights().contains(needed) {
            true => Ok(()),
            false => Err(self.refusal("")),
        }
    }

    /// The refusal of an operation, with what is missing (`: text`) beyond a right.
    pub(super) fn refusal(&self, missing: &str) -> HttpError {
        let message = format!(
            "Authorization rule '{}' does not allow access for this operation{missing}",
            self.policy()
        );
        HttpError::new(ErrorCode::IotHubUnauthorizedAccess, message)
    }
}

/// The devices and jobs that exist for the caller.
pub(super) struct CallerScope(pub(super) Option<Arc<Scope>>);

impl<S: Send + Sync> FromRequestParts<S> for CallerScope {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, HttpError> {
        let caller: &Caller = parts.extensions.get().ok_or_else(unauthenticated)?;
        Ok(Self(caller.scope.clone()))
    }
}

/// Every route is behind `authenticate`; one that is not rejects every request.
fn unauthenticated() -> HttpError {
    HttpError::new(
        ErrorCode::GenericUnauthorized,
        "the request is not authenticated",
    )
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, HttpError> {
        parts.extensions.get().cloned().ok_or_else(unauthenticated)
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
    // Before the policy: a change in between makes the caller outdated, never current.
    let policies = context.services.policy.version();
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
    let of_page = match header {
        None => context.page.caller(request.headers()),
        Some(_) => None,
    };
    let sender = match of_page {
        Some(Ok(caller)) => Sender {
            policy: caller.policy,
            expires_unix_s: caller.expires_unix_s,
            page: Some(caller.handle),
        },
        Some(Err(error)) => {
            context.services.metrics.token_refused("session");
            return error.into_response();
        }
        None => {
            let policy = |name: &PolicyName| context.services.policy(name);
            match sas::authorize_service(header, &context.names, policy, &path, now) {
                Ok(caller) => Sender {
                    policy: caller.policy,
                    expires_unix_s: caller.expires_unix_s,
                    page: None,
                },
                Err(error) => {
                    let metrics = &context.services.metrics;
                    metrics.token_refused(error.name());
                    tracing::debug!(%error, path = request.uri().path(), "a request was rejected");
                    let message = error.to_string();
                    return HttpError::new(ErrorCode::IotHubUnauthorizedAccess, message)
                        .into_response();
                }
            }
        }
    };
    let scope = match scope_of(&sender.policy) {
        Ok(scope) => scope,
        Err(error) => return error.into_response(),
    };
    let rights = sender.policy.rights;
    request.extensions_mut().insert(Caller {
        policy: Arc::new(sender.policy),
        scope,
        expires_unix_s: sender.expires_unix_s,
        policies,
        page: sender.page,
    });
    let mut response = next.run(request).await;
    response.extensions_mut().insert(Authenticated);
    if let Ok(rights) = HeaderValue::from_str(&rights.to_string()) {
        response.headers_mut().insert(POLICY_RIGHTS, rights);
    }
    response
}

/// What exists for a policy; everything without bounds. The store has checked the bounds.
fn scope_of(policy: &Policy) -> Result<Option<Arc<Scope>>, HttpError> {
    let Some(bounds) = &policy.bounds else {
        return Ok(None);
    };
    let name = &policy.name;
    let condition = bounds.check().map_err(|error| {
        let message = format!("the bounds of policy `{name}` are invalid: {error}");
        HttpError::new(ErrorCode::IotHubUnauthorizedAccess, message)
    })?;
    let policy = name.clone();
    Ok(Some(Arc::new(Scope { policy, condition })))
}

//! Routes and what a caller needs for them, in one table: the rights of its policy and, if the
//! policy has bounds, what the bounds must allow. Both are checked before a service is called. What
//! depends on stored state (devices outside `where`, jobs of others) is left to the services, by
//! the caller's [`Scope`](crate::types::Scope).

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::job::JobRequest;
use iothub_protocol::method::MethodRequest;
use iothub_protocol::policy::Bounds;
use iothub_protocol::twin::TwinPatch;

use super::auth::Caller;
use super::request::read_document;
use super::{HttpError, Parameters, audit, deadline};
use crate::identity::Rights;
use crate::service::Services;

/// What a call needs.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    rights: Rights,
    /// `None`: a policy with bounds never gets it.
    bounded: Option<Bounded>,
}

/// What a call needs of bounds.
#[derive(Debug, Clone, Copy)]
enum Bounded {
    /// Nothing: it only reads.
    Read,
    /// Access `operate`.
    Operate,
    /// The method in the body.
    Method,
    /// The names in the patch in the body.
    Patch,
    /// What the job in the body does.
    Job,
}

const NONE: Rights = Rights::NONE;
const READ: Rights = Rights::REGISTRY_READ;
const WRITE: Rights = Rights::REGISTRY_WRITE;
const SERVICE: Rights = Rights::SERVICE_CONNECT;
const ALL: Rights = Rights::ALL;

/// Every call; the routes of a path are together. A call that is missing here is refused.
#[rustfmt::skip] // One line for each row.
pub(crate) static ROUTES: &[Route] = &[
    Route::new("GET", "/devices", READ, Some(Bounded::Read)),
    Route::new("POST", "/devices", WRITE, None),
    Route::new("GET", "/devices/{id}", READ, Some(Bounded::Read)),
    Route::new("PUT", "/devices/{id}", WRITE, None),
    Route::new("DELETE", "/devices/{id}", WRITE, None),
    // A query; see `only_query`.
    Route::new("POST", "/devices/{id}", SERVICE, Some(Bounded::Read)),
    Route::new("DELETE", "/devices/{id}/commands", SERVICE, None),
    Route::new("GET", "/devices/{id}/modules", READ, Some(Bounded::Read)),
    Route::new("POST", "/devices/keys/regenerate", WRITE, None),
    Route::new("GET", "/messages/serviceBound/feedback", SERVICE, None),
    Route::new(
        "DELETE",
        "/messages/serviceBound/feedback/{lock}",
        SERVICE,
        None,
    ),
    Route::new(
        "POST",
        "/messages/serviceBound/feedback/{lock}/abandon",
        SERVICE,
        None,
    ),
    // The audit log shows the calls of every policy: of the default policies only the owner's may
    // read it, and an auditor's policy needs no right to change identities.
    Route::new("GET", "/audit", READ.union(SERVICE), None),
    // The right that reading messages needs on Azure.
    Route::new("GET", "/events", SERVICE, Some(Bounded::Read)),
    Route::new("GET", "/statistics/devices", READ, None),
    Route::new("GET", "/statistics/service", SERVICE, None),
    // The metrics are numbers and reveal no secrets.
    Route::new("GET", "/metrics", READ, None),
    Route::new("GET", "/twins/{id}", SERVICE, Some(Bounded::Read)),
    Route::new("PATCH", "/twins/{id}", SERVICE, Some(Bounded::Patch)),
    Route::new("PUT", "/twins/{id}", SERVICE, None),
    Route::new(
        "POST",
        "/twins/{id}/methods",
        SERVICE,
        Some(Bounded::Method),
    ),
    Route::new("GET", "/jobs", READ, Some(Bounded::Read)),
    Route::new("GET", "/configurations", READ, Some(Bounded::Read)),
    Route::new("GET", "/jobs/v2/query", SERVICE, Some(Bounded::Read)),
    Route::new("PUT", "/jobs/v2/query", SERVICE, Some(Bounded::Operate)),
    Route::new("GET", "/jobs/v2/{id}", SERVICE, Some(Bounded::Read)),
    Route::new("PUT", "/jobs/v2/{id}", SERVICE, Some(Bounded::Job)),
    Route::new(
        "POST",
        "/jobs/v2/{id}/cancel",
        SERVICE,
        Some(Bounded::Operate),
    ),
    Route::new("GET", "/whoami", NONE, Some(Bounded::Read)),
    // A caller that changes policies can give itself every right.
    Route::new("GET", "/policies", ALL, None),
    Route::new("GET", "/policies/{name}", ALL, None),
    Route::new("PUT", "/policies/{name}", ALL, None),
    Route::new("DELETE", "/policies/{name}", ALL, None),
    Route::new("POST", "/policies/{name}/rotate", ALL, None),
    Route::new("GET", "/plans", SERVICE, None),
    // With bounds, of a plan on which a door of the policy stands.
    Route::new("GET", "/plans/{id}", SERVICE, Some(Bounded::Read)),
    Route::new("PUT", "/plans/{id}", SERVICE, None),
    Route::new("DELETE", "/plans/{id}", SERVICE, None),
];

impl Route {
    const fn new(
        method: &'static str,
        path: &'static str,
        rights: Rights,
        bounded: Option<Bounded>,
    ) -> Self {
        Self {
            method,
            path,
            rights,
            bounded,
        }
    }
}

impl Bounded {
    /// Checks what the head of a request shows.
    fn check_head(self, bounds: &Bounds) -> Result<(), String> {
        match self {
            Self::Read => Ok(()),
            _ => bounds.check_operate().map_err(|error| error.to_string()),
        }
    }

    /// Checks a body, which is parsed as its handler parses it.
    fn check_body(self, caller: &Caller, bounds: &Bounds, body: &[u8]) -> Result<(), HttpError> {
        let checked = match self {
            Self::Read | Self::Operate => Ok(()),
            Self::Method => {
                let call: MethodRequest = read_document(body)?;
                bounds.check_method(call.method_name())
            }
            Self::Patch => bounds.check_patch(&read_document::<TwinPatch>(body)?),
            Self::Job => bounds.check_action(&read_document::<JobRequest>(body)?.action),
        };
        checked.map_err(|error| caller.refusal(&format!(": {error}")))
    }
}

/// Rejects a request without `api-version`, as Azure does; any version is accepted.
async fn api_version_required(request: Request, next: Next) -> Response {
    match Parameters::of(request.uri()) {
        Ok(parameters) if parameters.get("api-version").is_some() => next.run(request).await,
        Ok(_) => {
            let message = "the query parameter api-version is missing; expected 2021-04-12";
            let error = HttpError::new(ErrorCode::InvalidProtocolVersion, message);
            match request.uri().path().ends_with("/methods") {
                true => error.for_method().into_response(),
                false => error.into_response(),
            }
        }
        Err(error) => error.into_response(),
    }
}

/// Whether Azure does not have the path.
fn is_own(path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or_default();
    ["audit", "events", "metrics", "plans", "policies", "whoami"].contains(&first)
}

/// The guard of a path.
#[derive(Clone)]
pub(super) struct Gate {
    /// For the audit log.
    pub(super) services: Services,
    routes: &'static [Route],
}

/// What remains to be checked of a request whose head is allowed.
#[derive(Clone, Copy)]
pub(super) struct BodyCheck<'a>(Option<(Bounded, &'a Bounds)>);

impl Gate {
    /// Checks the head of a request.
    pub(super) fn check<'a>(
        &self,
        caller: &'a Caller,
        method: &Method,
    ) -> Result<BodyCheck<'a>, HttpError> {
        let method = match *method {
            // axum answers it as GET without the body.
            Method::HEAD => "GET",
            ref other => other.as_str(),
        };
        let route = self.routes.iter().find(|route| route.method == method);
        let route = route.ok_or_else(|| caller.refusal(""))?;
        caller.require(route.rights)?;
        let Some(bounds) = caller.bounds() else {
            return Ok(BodyCheck(None));
        };
        let Some(bounded) = route.bounded else {
            return Err(caller.refusal(": it needs a policy without bounds"));
        };
        let checked = bounded.check_head(bounds);
        checked.map_err(|error| caller.refusal(&format!(": {error}")))?;
        Ok(BodyCheck(Some((bounded, bounds))))
    }
}

impl BodyCheck<'_> {
    /// Whether the body decides.
    pub(super) const fn needs_body(&self) -> bool {
        matches!(
            self.0,
            Some((Bounded::Method | Bounded::Patch | Bounded::Job, _))
        )
    }

    pub(super) fn check(&self, caller: &Caller, body: &[u8]) -> Result<(), HttpError> {
        self.0.map_or(Ok(()), |(bounded, bounds)| {
            bounded.check_body(caller, bounds, body)
        })
    }
}

/// Routes behind their gates.
pub(super) struct GuardedRoutes<S> {
    routes: Router<S>,
    services: Services,
}

impl<S: Clone + Send + Sync + 'static> GuardedRoutes<S> {
    pub(super) fn new(services: &Services) -> Self {
        Self {
            routes: Router::new(),
            services: services.clone(),
        }
    }

    /// Adds a path. Each request must complete within the request deadline.
    pub(super) fn at(self, path: &str, methods: MethodRouter<S>) -> Self {
        self.at_without_deadline(path, methods.route_layer(from_fn(deadline)))
    }

    /// Adds a path whose methods have their own deadlines.
    pub(super) fn at_without_deadline(mut self, path: &str, methods: MethodRouter<S>) -> Self {
        let methods = match is_own(path) {
            true => methods,
            false => methods.route_layer(from_fn(api_version_required)),
        };
        let is_here = |route: &&Route| route.path == path;
        let first = ROUTES.iter().take_while(|route| route.path != path).count();
        let count = ROUTES[first..].iter().take_while(is_here).count();
        let gate = Gate {
            services: self.services.clone(),
            routes: &ROUTES[first..first + count],
        };
        let guarded = methods.route_layer(from_fn_with_state(gate, audit::record));
        self.routes = self.routes.route(path, guarded);
        self
    }

    /// The routes, with the state of their handlers.
    pub(super) fn with_state(self, state: S) -> Router {
        self.routes.with_state(state)
    }
}

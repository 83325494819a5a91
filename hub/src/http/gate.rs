//! Routes and the rights they need, in one place. A caller's right is checked before anything but
//! the head of the request is read.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use iothub_protocol::error::ErrorCode;

use super::{HttpError, Parameters, audit, deadline};
use crate::identity::Rights;
use crate::service::Services;

/// Paths that Azure does not have.
const OWN_PATHS: [&str; 3] = ["/audit", "/events", "/metrics"];

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

/// The guard of a route.
#[derive(Clone)]
pub(super) struct Gate {
    /// For the audit log.
    pub(super) services: Services,
    /// The rights that the caller needs.
    pub(super) needed: Rights,
}

/// Routes, each with the rights that it needs.
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

    /// Adds a path, with the rights for each of its methods. Each request must complete within the
    /// request deadline.
    pub(super) fn at<const N: usize>(
        self,
        path: &str,
        methods: [(Rights, MethodRouter<S>); N],
    ) -> Self {
        let timed = methods.map(|(needed, method)| (needed, method.route_layer(from_fn(deadline))));
        self.at_without_deadline(path, timed)
    }

    /// Adds a path whose methods have their own deadlines.
    pub(super) fn at_without_deadline<const N: usize>(
        mut self,
        path: &str,
        methods: [(Rights, MethodRouter<S>); N],
    ) -> Self {
        for (needed, method) in methods {
            let method = match OWN_PATHS.contains(&path) {
                true => method,
                false => method.route_layer(from_fn(api_version_required)),
            };
            let gate = Gate {
                services: self.services.clone(),
                needed,
            };
            // axum merges two calls with the same path into one route.
            let guarded = method.route_layer(from_fn_with_state(gate, audit::record));
            self.routes = self.routes.route(path, guarded);
        }
        self
    }

    /// The routes, with the state of their handlers.
    pub(super) fn with_state(self, state: S) -> Router {
        self.routes.with_state(state)
    }
}

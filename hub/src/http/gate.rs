//! Routes and the rights they need, in one place. A caller's right is checked before anything but
//! the head of the request is read.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::MethodRouter;

use super::{audit, deadline};
use crate::identity::Rights;
use crate::service::Services;

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

//! Routes and the rights they take, in one place. Whether a caller may do what he asks for is known
//! before anything of his request but its head is read.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::MethodRouter;

use super::{audit, deadline};
use crate::identity::Rights;
use crate::service::Services;

/// What a route is guarded by.
#[derive(Clone)]
pub(super) struct Gate {
    /// Where it is recorded that somebody came.
    pub(super) services: Services,
    /// What whoever comes must have.
    pub(super) needed: Rights,
}

/// Routes, none of which is without its right.
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

    /// Adds a path, with the right that each of its methods takes. Each has to be done within the
    /// deadline of requests.
    pub(super) fn at<const N: usize>(
        self,
        path: &str,
        methods: [(Rights, MethodRouter<S>); N],
    ) -> Self {
        let timed = methods.map(|(needed, method)| (needed, method.route_layer(from_fn(deadline))));
        self.at_any_length(path, timed)
    }

    /// Adds a path whose methods have deadlines of their own.
    pub(super) fn at_any_length<const N: usize>(
        mut self,
        path: &str,
        methods: [(Rights, MethodRouter<S>); N],
    ) -> Self {
        for (needed, method) in methods {
            let gate = Gate {
                services: self.services.clone(),
                needed,
            };
            // Two calls with one path make one route.
            let guarded = method.route_layer(from_fn_with_state(gate, audit::record));
            self.routes = self.routes.route(path, guarded);
        }
        self
    }

    /// The routes, with what their handlers share.
    pub(super) fn with_state(self, state: S) -> Router {
        self.routes.with_state(state)
    }
}

//! The REST API for operators and the official service clients (api-version 2021-04-12; any version
//! is accepted), one file per resource.
//!
//! It parses requests, authorises them through [`crate::auth`], calls a service, and answers in IoT
//! Hub's format.

mod audit;
mod auth;
mod device;
mod error;
mod event;
mod gate;
mod health;
mod job;
mod message;
mod method;
mod metrics;
mod not_built;
mod page;
mod plan;
mod policy;
mod query;
mod request;
mod server;
mod twin;
mod ui;
mod websocket;
mod write_deadline;

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Request};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderMap, HeaderValue, Version};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Router};
use iothub_protocol::error::ErrorCode;
use iothub_protocol::health::Health;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use crate::auth::HostNames;
use crate::service::Services;

pub(crate) use error::HttpError;
use event::StopSignal;
use gate::GuardedRoutes;
pub(crate) use gate::ROUTES;
use metrics::Certificates;
use page::{PageRequest, page_response};
use request::{Document, Id, Parameters};
#[cfg(feature = "fuzzing")]
pub(crate) use request::{read_document, without_bom};
pub(crate) use server::serve;
use ui::Page;
pub(crate) use websocket::{DeviceSocket, ServeDevice};

/// The deadline of a request. Methods are exempt: their callers set two timeouts of their own.
const DEADLINE: Duration = Duration::from_secs(60);

/// The API as a tower service.
#[rustfmt::skip] // It would put the whole return type on one line of 106 columns.
pub(crate) fn service(
    services: &Services,
    names: &HostNames,
    health: Health,
    serve_device: ServeDevice,
    stop: CancellationToken,
    certificates: Certificates,
    https_port: u16,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
    let page = Page::new(services, names, &health.hub_name, https_port);
    router(services, names, certificates, &page)
        .merge(health::router(health, services, &stop))
        .merge(ui::router(page))
        .merge(not_built::device_router())
        .layer(Extension(StopSignal(stop)))
        .merge(websocket::router(serve_device))
        .layer(from_fn(host_required))
        .layer(map_response(secure))
        .map_request(without_trailing_slash)
}

fn router(
    services: &Services,
    names: &HostNames,
    certificates: Certificates,
    page: &Page,
) -> Router {
    let resources = GuardedRoutes::new(services)
        .at("/devices", get(device::list).post(device::bulk))
        .at(
            "/devices/{id}",
            get(device::get)
                .put(device::put)
                .delete(device::delete)
                .merge(post(query::post).layer(from_fn(only_query))),
        )
        .at("/devices/{id}/commands", delete(message::purge))
        .at("/devices/keys/regenerate", post(device::renew_keys))
        .at("/messages/serviceBound/feedback", get(message::feedback))
        .at(
            "/messages/serviceBound/feedback/{lock}",
            delete(message::feedback_settle),
        )
        .at(
            "/messages/serviceBound/feedback/{lock}/abandon",
            post(message::feedback_settle),
        )
        .at("/audit", get(audit::list))
        .at("/events", get(event::get))
        .at("/statistics/devices", get(device::registry_statistics))
        .at("/statistics/service", get(device::service_statistics))
        .at(
            "/twins/{id}",
            get(twin::get).patch(twin::patch).put(twin::put),
        )
        .at_without_deadline("/twins/{id}/methods", post(method::post))
        .at("/jobs", get(not_built::empty_list))
        .at("/configurations", get(not_built::empty_list))
        .at("/devices/{id}/modules", get(not_built::no_modules))
        .at("/jobs/v2/query", get(job::list).put(job::put_query))
        .at("/jobs/v2/{id}", put(job::put).get(job::get))
        .at("/jobs/v2/{id}/cancel", post(job::cancel))
        .at("/whoami", get(policy::whoami))
        .at("/policies", get(policy::list))
        .at(
            "/policies/{name}",
            get(policy::get).put(policy::put).delete(policy::delete),
        )
        .at("/policies/{name}/rotate", post(policy::rotate))
        .at("/plans", get(plan::list))
        .at(
            "/plans/{id}",
            get(plan::get).put(plan::put).delete(plan::delete),
        )
        .with_state(services.clone());
    let metrics = GuardedRoutes::new(services)
        .at("/metrics", get(metrics::get))
        .with_state((services.clone(), certificates));
    resources
        .merge(metrics)
        .fallback(no_such_resource)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(
            auth::AuthContext::new(services, names, page.clone()),
            auth::authenticate,
        ))
        .layer(from_fn_with_state(
            services.metrics.clone(),
            metrics::measure,
        ))
}

/// Sets the headers that protect a browser, on every answer: names and twins come from strangers.
async fn secure(mut response: Response) -> Response {
    door_dashboard::secure(response.headers_mut());
    response
}

/// Treats `/x/` as `/x`: clients send both. The addresses of the page are relative to `/ui/`.
fn without_trailing_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    if path == "/ui/" {
        return request;
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.len() < path.len() && !trimmed.is_empty() {
        let text = match request.uri().query() {
            Some(query) => format!("{trimmed}?{query}"),
            None => trimmed.to_owned(),
        };
        if let Ok(path_and_query) = text.parse::<PathAndQuery>() {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(path_and_query);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
    request
}

/// Rejects a request of HTTP/1.1 without Host, and any with several (RFC 9112, section 3.2).
async fn host_required(request: Request, next: Next) -> Response {
    let given = request.headers().get_all(HOST).iter().count();
    if given > 1 || (given == 0 && request.version() >= Version::HTTP_11) {
        let message = format!("the request has {given} Host headers; expected one");
        return HttpError::new(ErrorCode::ArgumentInvalid, message).into_response();
    }
    next.run(request).await
}

async fn deadline(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(DEADLINE, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let message = format!(
            "the request did not complete within {} s",
            DEADLINE.as_secs()
        );
        HttpError::new(ErrorCode::GenericTimeout, message).into_response()
    })
}

/// `POST /devices/query` shares the route of `/devices/{id}`, because a device may have the id
/// `query`. POST to any other device is rejected.
async fn only_query(Path(id): Path<String>, request: Request, next: Next) -> Response {
    if id == "query" {
        next.run(request).await
    } else {
        no_such_method(request).await.into_response()
    }
}

async fn no_such_resource(request: Request) -> HttpError {
    let path = request.uri().path();
    not_built::not_built(path).unwrap_or_else(|| nothing_at(path))
}

fn nothing_at(path: &str) -> HttpError {
    HttpError::new(
        ErrorCode::GenericNotFound,
        format!("there is no resource at {path}"),
    )
}

async fn no_such_method(request: Request) -> HttpError {
    let message = format!(
        "method {} is not allowed at {}",
        request.method(),
        request.uri().path()
    );
    HttpError::new(ErrorCode::GenericMethodNotAllowed, message)
}

fn json_response(document: &impl Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(body) => {
            let mut response = body.into_response();
            set_json_content_type(response.headers_mut());
            response
        }
        Err(error) => {
            tracing::error!(%error, "cannot serialise a response");
            HttpError::new(
                ErrorCode::ServerError,
                "the hub could not serialise its response",
            )
            .into_response()
        }
    }
}

/// Node's client parses a body only if its content type is JSON.
fn set_json_content_type(headers: &mut HeaderMap) {
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
}

/// The value of an `ETag` header: the etag in quotes.
fn etag_header(etag: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{etag}\"")).ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_trailing_slash_is_dropped_and_the_query_kept() {
        let trimmed = |uri: &str| {
            let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
            without_trailing_slash(request).uri().to_string()
        };
        assert_eq!(
            trimmed("/devices/?api-version=2021-04-12"),
            "/devices?api-version=2021-04-12"
        );
        assert_eq!(trimmed("/twins/a%25b/methods/"), "/twins/a%25b/methods");
        assert_eq!(trimmed("/devices"), "/devices");
        assert_eq!(trimmed("/"), "/");
    }
}

//! The REST API that operators and the official service clients call (api-version 2021-04-12; any is accepted), one file per resource.
//!
//! It parses requests, asks [`crate::auth`] whether they may be made, calls a service, and says what came of it the way IoT Hub says it.

mod audit;
mod auth;
mod device;
mod error;
mod event;
mod health;
mod job;
mod message;
mod method;
mod metrics;
mod not_built;
mod page;
mod query;
mod request;
mod server;
mod twin;
mod websocket;
mod write_deadline;

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Router};
use iothub_protocol::error::ErrorCode;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use crate::auth::HostNames;
use crate::service::Services;

pub(crate) use error::HttpError;
use event::Stopping;
pub(crate) use health::Health;
use metrics::CertificateEnd;
use page::{PageRequest, page_response};
pub(crate) use request::read_document;
use request::{Document, Id, Parameters};
pub(crate) use server::serve;
pub(crate) use websocket::{DeviceSocket, ServeDevice};

/// How long a request may take, methods aside: their callers set two timeouts of their own.
const DEADLINE: Duration = Duration::from_secs(60);

/// The API, as a service of requests.
pub(crate) fn service(
    services: &Services,
    names: &HostNames,
    health: Health,
    serve_device: ServeDevice,
    stop: CancellationToken,
    certificate_end: CertificateEnd,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
    router(services, names, certificate_end)
        .merge(health::router(health, services, &stop))
        .merge(not_built::device_router())
        .layer(Extension(Stopping(stop)))
        .merge(websocket::router(serve_device))
        .map_request(without_trailing_slash)
}

fn router(services: &Services, names: &HostNames, certificate_end: CertificateEnd) -> Router {
    let resources = Router::new()
        .route("/devices", get(device::list).post(device::bulk))
        .route(
            "/devices/{id}",
            put(device::put)
                .get(device::get)
                .delete(device::delete)
                .merge(post(query::post).layer(from_fn(only_query))),
        )
        .route("/devices/{id}/commands", delete(message::purge))
        .route("/messages/serviceBound/feedback", get(message::feedback))
        .route(
            "/messages/serviceBound/feedback/{lock}",
            delete(message::feedback_settle),
        )
        .route(
            "/messages/serviceBound/feedback/{lock}/abandon",
            post(message::feedback_settle),
        )
        .route("/audit", get(audit::list))
        .route("/events", get(event::get))
        .route("/statistics/devices", get(device::registry_statistics))
        .route("/statistics/service", get(device::service_statistics))
        .route(
            "/twins/{id}",
            get(twin::get).patch(twin::patch).put(twin::put),
        )
        .route("/jobs/v2/query", get(job::list).put(job::put_query))
        .route("/jobs/v2/{id}", put(job::put).get(job::get))
        .route("/jobs/v2/{id}/cancel", post(job::cancel))
        .layer(from_fn(deadline));
    let metrics = Router::new()
        .route("/metrics", get(metrics::get))
        .with_state((services.clone(), certificate_end));
    let methods = Router::new().route("/twins/{id}/methods", post(method::post));
    resources
        .merge(methods)
        .with_state(services.clone())
        .merge(metrics)
        .fallback(no_such_resource)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(services.clone(), audit::record))
        .layer(from_fn_with_state(
            auth::Authority::new(services, names),
            auth::authenticate,
        ))
        .layer(from_fn_with_state(
            services.metrics.clone(),
            metrics::measure,
        ))
}

/// `/x/` means `/x`: clients write both.
fn without_trailing_slash(mut request: Request) -> Request {
    let path = request.uri().path();
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

async fn deadline(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(DEADLINE, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let message = format!("the request was not done within {} s", DEADLINE.as_secs());
        HttpError::new(ErrorCode::GenericTimeout, message).into_response()
    })
}

/// `POST /devices/query` is no route of its own: a device may be called so. No other device is posted to.
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
        format!("there is nothing at {path}"),
    )
}

async fn no_such_method(request: Request) -> HttpError {
    let message = format!(
        "{} cannot be done to {}",
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
            tracing::error!(%error, "an answer cannot be written as JSON");
            HttpError::new(ErrorCode::ServerError, "the hub could not write its answer")
                .into_response()
        }
    }
}

/// Node's client parses only what says it is JSON.
fn set_json_content_type(headers: &mut HeaderMap) {
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
}

/// An etag as a header carries it: in quotes.
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

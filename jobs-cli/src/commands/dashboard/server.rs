//! The server of the page: the files below a random path, and the hub's REST API below `api/`,
//! signed with the context's key, which stays here.
//!
//! Other programs and other users of this machine, and every page that the browser has open, can
//! reach the port. It answers nothing without the random path; `session`, which hands out the
//! token, and `api/` refuse a browser that acts for another origin; and `api/` needs the token.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, IF_MATCH, IF_NONE_MATCH, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use iothub_client::ClientError;
use iothub_protocol::rest;
use reqwest::Body;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::session::Session;

/// Connections at once; others wait. A browser opens six.
const MAX_CONNECTIONS: usize = 128;

/// How long a client may take for the head of a request, and idle between requests.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// How long a client may take for the body of a request.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// The longest head of a request: a continuation token is the long part.
const MAX_HEAD: usize = 32 * 1024;

/// The longest body that door-hub accepts: a plan.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// How long running requests may take after Ctrl-C.
const DRAIN: Duration = Duration::from_secs(1);

/// Names a token of [`Server`].
const TOKEN: &str = "x-doorfleet-token";

/// Where a request comes from, by the browser.
const FETCH_SITE: &str = "sec-fetch-site";

/// Headers of a request that the hub gets.
const FORWARDED: [HeaderName; 8] = [
    ACCEPT,
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
    HeaderName::from_static(rest::LAST_EVENT_ID),
    HeaderName::from_static(rest::MAX_ITEM_COUNT),
    HeaderName::from_static(rest::CONTINUATION),
    HeaderName::from_static(rest::AUDIT_REASON),
];

/// Headers of a response that concern only the connection to the hub, or the hub's own origin.
const KEPT_BACK: [HeaderName; 6] = [
    CACHE_CONTROL,
    CONNECTION,
    TRANSFER_ENCODING,
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("access-control-allow-origin"),
];

/// A bound server.
pub(in crate::commands) struct Server {
    listener: TcpListener,
    port: u16,
    page: Arc<Page>,
}

/// What the requests need.
struct Page {
    session: Session,
    /// The only values of `Host`: a name that an attacker's DNS points here is none of them.
    hosts: [String; 2],
    /// The first segment of every path; 128 bits.
    folder: String,
    /// 128 bits.
    token: String,
}

/// A request that is not forwarded.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "GenericNotFound",
            "there is nothing at this path",
        )
    }

    /// In the hub's format.
    fn response(self) -> Response<Body> {
        let message = format!("ErrorCode:{};{}", self.code, self.message);
        let mut response = json_response(&json!({ "Message": message, "ExceptionMessage": "" }));
        *response.status_mut() = self.status;
        let name = HeaderName::from_static(rest::ERROR_CODE);
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(self.code));
        response
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unaddressable(_) => Self::not_found(),
            ClientError::TimedOut { .. } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "GenericTimeout",
                error.to_string(),
            ),
            error => {
                let chain = format!("{:#}", anyhow::Error::from(error));
                Self::new(StatusCode::BAD_GATEWAY, "HubUnavailable", chain)
            }
        }
    }
}

impl Server {
    /// Binds a port of this machine's loopback; 0 is any.
    pub(in crate::commands) async fn bind(session: &Session, port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(|| format!("--port {port}: cannot listen on it"))?;
        let port = listener.local_addr()?.port();
        let secret = || format!("{:032x}", rand::random::<u128>());
        let page = Page {
            session: session.clone(),
            hosts: ["127.0.0.1", "localhost"].map(|host| format!("{host}:{port}")),
            folder: secret(),
            token: secret(),
        };
        Ok(Self {
            listener,
            port,
            page: Arc::new(page),
        })
    }

    /// The address of the page; a secret of this user.
    pub(in crate::commands) fn address(&self) -> String {
        format!("http://127.0.0.1:{}/{}/", self.port, self.page.folder)
    }

    /// Serves until `stop`.
    pub(in crate::commands) async fn run(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = TaskTracker::new();
        let accept = async {
            while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
                let Ok((socket, _)) = self.listener.accept().await else {
                    // Probably out of descriptors: wait until some are closed.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (page, stop) = (Arc::clone(&self.page), stop.clone());
                connections.spawn(async move {
                    connection(socket, page, stop).await;
                    drop(slot);
                });
            }
        };
        stop.run_until_cancelled(accept).await;
        connections.close();
        connections.wait().await;
    }
}

async fn connection(socket: TcpStream, page: Arc<Page>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let page = Arc::clone(&page);
        async move { Ok::<_, Infallible>(page.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    // What ends a connection early concerns the browser, which shows it.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            drop(tokio::time::timeout(DRAIN, connection).await);
        }
    }
}

impl Page {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let routed = self.route(request).await;
        let mut response = routed.unwrap_or_else(Refusal::response);
        door_dashboard::secure(response.headers_mut());
        response
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
        let is_host = |host: &&HeaderValue| self.hosts.iter().any(|own| *host == own);
        if hosts.len() != 1 || !hosts.iter().all(is_host) || request.uri().scheme().is_some() {
            let message = format!("the host is not {}", self.hosts.join(" or "));
            return Err(Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                "GenericBadRequest",
                message,
            ));
        }
        let below = request.uri().path().strip_prefix('/').unwrap_or_default();
        let (folder, path) = below.split_once('/').unwrap_or_default();
        if !is_secret(folder, &self.folder) {
            return Err(Refusal::not_found());
        }
        if path == "session" || path.starts_with("api/") {
            // Absent in programs and old browsers, which need the path and the token all the same.
            let site = request.headers().get(FETCH_SITE);
            if !site.is_none_or(|site| site == "same-origin" || site == "none") {
                return Err(forbidden("the request comes from another site"));
            }
        }
        match (path, request.method()) {
            ("session", &Method::GET) => self.session().await,
            (path, _) if path.starts_with("api/") => self.forward(request).await,
            (path, &Method::GET | &Method::HEAD) => {
                let file = door_dashboard::file(path).ok_or_else(Refusal::not_found)?;
                Ok(file.response(request.headers()).map(Body::from))
            }
            _ => Err(not_allowed()),
        }
    }

    /// `GET session`: what the page starts with.
    async fn session(&self) -> Result<Response<Body>, Refusal> {
        let Session {
            hub, zone, context, ..
        } = &self.session;
        let events = hub.is_door_hub().await?;
        let whoami = match events {
            true => hub.door_hub_whoami().await?,
            false => None,
        };
        Ok(json_response(&json!({
            "token": self.token,
            "api": "api/",
            "hub": context,
            "policy": hub.policy(),
            "bounds": whoami.and_then(|whoami| whoami.bounds),
            "events": events,
            "zone": zone.iana_name(),
            "signOut": false,
        })))
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (head, body) = request.into_parts();
        let token = head
            .headers
            .get(TOKEN)
            .and_then(|token| token.to_str().ok());
        if !token.is_some_and(|token| is_secret(token, &self.token)) {
            return Err(forbidden(
                "the token is missing or wrong; load the page again",
            ));
        }
        if !matches!(
            head.method.as_str(),
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE"
        ) {
            return Err(not_allowed());
        }
        let below = self.folder.len() + "//api".len();
        let target = head
            .uri
            .path_and_query()
            .map_or("", |target| &target.as_str()[below..]);
        let target: PathAndQuery = target.parse().map_err(|_| Refusal::not_found())?;
        let mut headers = HeaderMap::new();
        for name in FORWARDED {
            if let Some(value) = head.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let body = read(body).await?;
        let response = self
            .session
            .hub
            .forward(head.method, &target, headers, body);
        let mut response = response.await?;
        for name in KEPT_BACK {
            response.headers_mut().remove(name);
        }
        Ok(response)
    }
}

async fn read(body: Incoming) -> Result<Vec<u8>, Refusal> {
    let too_long = || {
        let message = format!("the body is longer than {MAX_BODY} bytes");
        let code = "GenericRequestEntityTooLarge";
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, code, message)
    };
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_long());
    }
    let whole = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_DEADLINE, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(_)) => {
            let message = "the body is incomplete";
            Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "GenericBadRequest",
                message,
            ))
        }
        Err(_) => {
            let message = format!("the body did not arrive in {} s", BODY_DEADLINE.as_secs());
            Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "GenericTimeout",
                message,
            ))
        }
    }
}

/// Compares in constant time.
fn is_secret(given: &str, secret: &str) -> bool {
    given.as_bytes().ct_eq(secret.as_bytes()).into()
}

fn forbidden(message: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "GenericForbidden", message)
}

fn not_allowed() -> Refusal {
    let message = "this method is not allowed here";
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "GenericMethodNotAllowed",
        message,
    )
}

fn json_response(document: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(document.to_string()));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

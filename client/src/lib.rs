//! A client of IoT Hub's service API (api-version 2021-04-12), for Azure IoT Hub and door-hub.
//!
//! [`HubClient`] uses the paths and fields that Azure documents, so that it works with both hubs;
//! methods that begin with `door_hub` need door-hub. It signs, sends and retries requests and reads
//! responses. It retries reads after transient errors, and changes only after 429, when the hub did
//! not execute them. It follows the hub's clock, so that a wrong local one does no harm. It knows
//! nothing of doors, files or terminals; the types of the wire are those of `iothub-protocol`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use iothub_client::{ClientOptions, HubClient};
//!
//! let connection = std::fs::read_to_string("service-connection-string")?.trim().parse()?;
//! let ca = std::fs::read("ca.pem")?;
//! let options = ClientOptions { ca_pem: Some(ca), ..ClientOptions::default() };
//! let hub = HubClient::new(connection, &options)?;
//! let twin = hub.twin(&"lobby-east".parse()?).await?;
//! # Ok(()) }
//! ```

#![warn(missing_docs)]

mod audit;
mod backoff;
mod bulk;
mod clock;
mod device;
mod error;
mod event;
mod forward;
mod health;
mod job;
mod method;
mod page;
mod policy;
mod query;
mod rights;
mod sse;
mod tls;
mod token;
mod twin;
mod watcher;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iothub_protocol::connection_string::{HostName, ServiceConnectionString};
use iothub_protocol::rest;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use backoff::Backoff;
use clock::HubClock;
use token::{Token, TokenSource};

pub use device::{HubStatistics, NewDevice};
pub use error::{BuildError, CertificateProblem, ClientError, ErrorResponse};
pub use event::{EventStream, EventStreamItem, HubEvent};
pub use page::{ItemType, Page, Pages};
pub use rights::{PolicyRights, WIDER_BOUNDS};
pub use watcher::{RedactedBody, Traffic, Watcher};

/// Timeout of connecting to the hub.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const REASON: HeaderName = HeaderName::from_static(rest::AUDIT_REASON);

/// How a client connects and what it sends with each request.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// CA certificates in PEM, trusted in addition to the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Timeout of one request; a method call adds the device's timeouts.
    pub timeout: Duration,
    /// Called for each request, response and retry.
    pub watcher: Option<Watcher>,
    /// Reason of the requests, for door-hub's audit log; Azure ignores it.
    pub reason: Option<String>,
    /// Name and version of the program, for the `User-Agent` header.
    pub user_agent: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            ca_pem: None,
            timeout: Duration::from_secs(30),
            watcher: None,
            reason: None,
            user_agent: concat!("iothub-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A connection to a hub's service API. Cheap to clone; all clones share a connection pool.
#[derive(Clone)]
pub struct HubClient {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    base: Url,
    host_name: HostName,
    tokens: TokenSource,
    clock: HubClock,
    timeout: Duration,
    watcher: Option<Watcher>,
    /// Percent-encoded.
    reason: Option<HeaderValue>,
}

/// Omits the key.
impl fmt::Debug for HubClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubClient")
            .field("host_name", &self.inner.host_name)
            .finish_non_exhaustive()
    }
}

/// When a failed request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryPolicy {
    /// It only reads: also after a server error or a lost connection.
    Idempotent,
    /// It changes something: only after 429, when the hub did not execute it.
    IfThrottled,
}

/// A request before it is signed.
#[derive(Clone)]
struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    retry: RetryPolicy,
    timeout: Duration,
    /// Whether a body is a regular answer although the status is 400.
    is_answer: fn(&[u8]) -> bool,
}

/// A complete response.
struct Response {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl HubClient {
    /// Creates a client; sends nothing yet.
    ///
    /// # Errors
    ///
    /// When the CA certificates cannot be read, or there are none at all.
    pub fn new(
        connection: ServiceConnectionString,
        options: &ClientOptions,
    ) -> Result<Self, BuildError> {
        let host_name = connection.host_name.clone();
        let base = Url::parse(&format!("https://{host_name}/"))
            .map_err(|_| BuildError::HostName(host_name.clone()))?;
        let mut http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(options.ca_pem.as_deref())?)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(&options.user_agent);
        if is_loopback(host_name.host()) {
            // A proxy would connect to its own loopback.
            http = http.no_proxy();
        }
        let inner = Inner {
            http: http.build().map_err(BuildError::Http)?,
            base,
            host_name,
            tokens: TokenSource::new(connection),
            clock: HubClock::default(),
            timeout: options.timeout,
            watcher: options.watcher.clone(),
            reason: options.reason.as_deref().and_then(percent_encoded),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Host name in the connection string.
    #[must_use]
    pub fn host_name(&self) -> &HostName {
        &self.inner.host_name
    }

    /// Name of the policy in the connection string.
    #[must_use]
    pub fn policy(&self) -> &str {
        self.inner.tokens.policy()
    }

    /// The time of the hub's clock, or of the local clock before the first response.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// How far the local clock is ahead of the hub's; zero before the first response.
    #[must_use]
    pub fn clock_ahead(&self) -> SignedDuration {
        self.inner.clock.ahead().unwrap_or_default()
    }

    /// Asks the hub for its time, unless a response has shown it already.
    ///
    /// # Errors
    ///
    /// When there is no response.
    pub async fn ask_time(&self) -> Result<(), ClientError> {
        if self.inner.clock.ahead().is_some() {
            return Ok(());
        }
        // door-hub has this path, Azure does not; both responses have a `Date`.
        match self.send_once(&self.get(&["healthz"])?).await {
            Ok(_) | Err(ClientError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn get(&self, path: &[&str]) -> Result<Request, ClientError> {
        self.request(Method::GET, path, RetryPolicy::Idempotent)
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        retry: RetryPolicy,
    ) -> Result<Request, ClientError> {
        let mut url = self.inner.base.clone();
        for segment in path {
            if matches!(*segment, "." | "..") {
                return Err(ClientError::Unaddressable((*segment).to_owned()));
            }
        }
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        url.query_pairs_mut()
            .append_pair("api-version", rest::API_VERSION);
        Ok(Request {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            retry,
            timeout: self.inner.timeout,
            is_answer: |_| false,
        })
    }

    /// Sends a request and retries it as its policy allows; any other status than success is an
    /// error.
    async fn send(&self, request: &Request) -> Result<Response, ClientError> {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.send_once(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match backoff.next(&error, request.retry) {
                Some(wait) => {
                    self.notify(|| Traffic::Waiting {
                        error: &error,
                        wait,
                    });
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            }
        }
    }

    async fn send_once(&self, request: &Request) -> Result<Response, ClientError> {
        let token = self.token();
        match self.send_with(request, &token).await {
            Err(error) if self.has_skewed_token(&error, &token) => {
                self.send_with(request, &self.token()).await
            }
            sent => sent,
        }
    }

    fn token(&self) -> Token {
        self.inner.tokens.token(self.now())
    }

    /// Whether a token was refused that was signed with a wrong clock. The 401 has shown the right
    /// time by now.
    fn has_skewed_token(&self, error: &ClientError, token: &Token) -> bool {
        error.status() == Some(401) && !token.is_issued_near(self.now())
    }

    async fn send_with(&self, request: &Request, token: &Token) -> Result<Response, ClientError> {
        let start = Instant::now();
        let failed = |error: reqwest::Error| self.transport_error(error, request.timeout);
        let builder = self.signed(request, token).timeout(request.timeout);
        let response = builder.send().await.map_err(failed)?;
        self.read(response, start, request).await
    }

    /// Sends a request once and returns its response before the body is read: the body may be
    /// endless.
    async fn open(&self, request: &Request) -> Result<reqwest::Response, ClientError> {
        let token = self.token();
        match self.open_with(request, &token).await {
            Err(error) if self.has_skewed_token(&error, &token) => {
                self.open_with(request, &self.token()).await
            }
            opened => opened,
        }
    }

    async fn open_with(
        &self,
        request: &Request,
        token: &Token,
    ) -> Result<reqwest::Response, ClientError> {
        let start = Instant::now();
        let response = self.response_to(request, token).await?;
        if response.status().is_success() {
            self.notify_of_head(&response, start);
            return Ok(response);
        }
        let read = self.read(response, start, request);
        let read = tokio::time::timeout(request.timeout, read).await;
        match read {
            Ok(Err(error)) => Err(error),
            // The status is an error, so this is never a success. A body that does not end in time
            // is a timeout, too.
            Ok(Ok(_)) | Err(_) => Err(self.timed_out(request.timeout)),
        }
    }

    /// Sends a request and returns its response, of any status, before the body is read.
    async fn response_to(
        &self,
        request: &Request,
        token: &Token,
    ) -> Result<reqwest::Response, ClientError> {
        let sent = self.signed(request, token).send();
        let response = self.within(request.timeout, sent).await?;
        self.update_clock(response.headers());
        Ok(response)
    }

    fn notify_of_head(&self, response: &reqwest::Response, start: Instant) {
        self.notify(|| Traffic::Answered {
            status: response.status().as_u16(),
            after: start.elapsed(),
            body: RedactedBody(&[]),
        });
    }

    fn signed(&self, request: &Request, token: &Token) -> reqwest::RequestBuilder {
        let inner = &self.inner;
        self.notify(|| Traffic::Sent {
            method: &request.method,
            url: &request.url,
            body: request.body.as_deref().map(RedactedBody),
        });
        let mut headers = request.headers.clone();
        headers
            .entry(header::ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        if let Some(reason) = inner
            .reason
            .clone()
            .filter(|_| request.method != Method::GET)
        {
            headers.entry(REASON).or_insert(reason);
        }
        if request.body.is_some() {
            headers
                .entry(header::CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("application/json; charset=utf-8"));
        }
        let builder = inner
            .http
            .request(request.method.clone(), request.url.clone())
            .headers(headers)
            .header(header::AUTHORIZATION, token.text());
        match &request.body {
            Some(body) => builder.body(body.clone()),
            // Azure's front end answers 411 to a POST without a length.
            None if request.method == Method::POST => builder.header(header::CONTENT_LENGTH, 0),
            None => builder,
        }
    }

    async fn read(
        &self,
        response: reqwest::Response,
        start: Instant,
        request: &Request,
    ) -> Result<Response, ClientError> {
        let failed = |error: reqwest::Error| self.transport_error(error, request.timeout);
        let (status, headers) = (response.status(), response.headers().clone());
        self.update_clock(&headers);
        let body = response.bytes().await.map_err(failed)?.to_vec();
        self.notify(|| Traffic::Answered {
            status: status.as_u16(),
            after: start.elapsed(),
            body: RedactedBody(&body),
        });
        let also = || status == StatusCode::BAD_REQUEST && (request.is_answer)(&body);
        if status.is_success() || also() {
            Ok(Response { headers, body })
        } else {
            let mut refusal = ErrorResponse::read(status, &headers, &body);
            refusal.needed_rights = rights::missing(&refusal, &request.method, request.url.path());
            Err(ClientError::Refused(refusal))
        }
    }

    fn update_clock(&self, headers: &HeaderMap) {
        if let Some((local, hub)) = self.inner.clock.update(headers) {
            self.notify(|| Traffic::Clock { local, hub });
        }
    }

    fn notify<'a>(&self, traffic: impl FnOnce() -> Traffic<'a>) {
        if let Some(watcher) = &self.inner.watcher {
            watcher.notify(&traffic());
        }
    }

    /// The output of `step`, unless it takes longer than `limit`.
    async fn within<T>(
        &self,
        limit: Duration,
        step: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(limit, step).await {
            Ok(done) => done.map_err(|error| self.transport_error(error, limit)),
            Err(_) => Err(self.timed_out(limit)),
        }
    }

    fn timed_out(&self, after: Duration) -> ClientError {
        let host = self.inner.host_name.clone();
        ClientError::TimedOut { host, after }
    }

    fn transport_error(&self, error: reqwest::Error, timeout: Duration) -> ClientError {
        if error.is_timeout() && !error.is_connect() {
            return self.timed_out(timeout);
        }
        ClientError::Unreachable {
            host: self.inner.host_name.clone(),
            connected: !error.is_connect(),
            source: error.without_url(),
        }
    }
}

impl Request {
    fn json(mut self, body: &impl Serialize) -> Result<Self, ClientError> {
        self.body = Some(serde_json::to_vec(body).map_err(ClientError::Encode)?);
        Ok(self)
    }

    fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(value).map_err(|_| ClientError::Header(name))?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    /// Executes only if the resource still has this etag; `*`: if it exists.
    fn if_match(self, etag: Option<&str>) -> Result<Self, ClientError> {
        match etag {
            Some(etag) => self.header("if-match", &format!("\"{}\"", etag.trim_matches('"'))),
            None => Ok(self),
        }
    }
}

impl Response {
    fn json<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|source| ClientError::UnexpectedBody { what, source })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn percent_encoded(text: &str) -> Option<HeaderValue> {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    HeaderValue::from_str(&encoded).ok()
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

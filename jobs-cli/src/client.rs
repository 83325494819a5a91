//! How a request is signed, sent, repeated and read. What can be asked is in the modules below, one
//! per resource.

pub(crate) mod audit;
mod backoff;
pub(crate) mod bulk;
mod clock;
pub(crate) mod device;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod health;
mod job;
mod method;
mod page;
mod query;
mod sse;
mod tls;
mod token;
mod twin;
pub(crate) mod watcher;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iothub_protocol::connection_string::{HostName, ServiceConnectionString};
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use backoff::Backoff;
use clock::HubClock;
use error::{BuildError, ClientError, ErrorResponse};
use token::{Token, TokenSource};
use watcher::{Traffic, Watcher, redacted_body};

pub use device::HubStatistics;
pub use page::{ItemType, Page};

/// The version of the API that is asked for.
const API_VERSION: &str = "2021-04-12";

/// A hub that takes longer than this to accept a connection is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Header with the reason of a call, percent-encoded.
const REASON: HeaderName = HeaderName::from_static("x-audit-reason");

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// CA certificates in PEM, trusted besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long one request may take; a method call has the door's time on top.
    pub timeout: Duration,
    /// Who is told what goes on.
    pub watcher: Option<Watcher>,
    /// The reason of the calls, for door-hub's audit record; Azure ignores it.
    pub reason: Option<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            ca_pem: None,
            timeout: Duration::from_secs(30),
            watcher: None,
            reason: None,
        }
    }
}

/// An operator's connection to a hub. Cheap to clone; all clones share their connections.
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

/// Leaves the key out.
impl fmt::Debug for HubClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubClient")
            .field("host_name", &self.inner.host_name)
            .finish_non_exhaustive()
    }
}

/// Whether a request may be sent again when it is not known to have had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryPolicy {
    /// It only reads.
    Idempotent,
    /// It changes something: only when the hub said that it did nothing (429).
    IfThrottled,
}

/// One request, before it is signed.
struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    retry: RetryPolicy,
    timeout: Duration,
    /// Whether a body is an answer although the status (400) is an error's.
    is_answer: fn(&[u8]) -> bool,
}

/// What came back, read whole.
struct Response {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl HubClient {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the CA certificates cannot be read, or none at all are known.
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
            .user_agent(concat!("doorctl/", env!("CARGO_PKG_VERSION")));
        if is_loopback(host_name.host()) {
            // A proxy's own loopback is another machine's.
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

    /// The hub's name, as the connection string gives it.
    #[must_use]
    pub fn host_name(&self) -> &HostName {
        &self.inner.host_name
    }

    /// The time by the hub's clock, as its answers show it; by this machine's until there was one.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// How far this machine's clock is ahead of the hub's, as far as the hub has shown its own.
    #[must_use]
    pub fn clock_ahead(&self) -> SignedDuration {
        self.inner.clock.ahead().unwrap_or_default()
    }

    /// Asks the hub for its time, unless an answer has shown it already.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn ask_time(&self) -> Result<(), ClientError> {
        if self.inner.clock.ahead().is_some() {
            return Ok(());
        }
        // door-hub has this path and Azure has not: either answer carries the time.
        match self.send_once(&self.get(&["healthz"])?).await {
            Ok(_) | Err(ClientError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A request that only reads.
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
            .append_pair("api-version", API_VERSION);
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

    /// Sends a request, as often as it takes and is allowed; anything but success is an error.
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

    /// Whether a token was refused that a wrong clock made: the answer has shown the right time.
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

    /// Sends a request once and gives its answer while it still comes: there is no limit on how
    /// long it goes on.
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
        let sent = self.signed(request, token).send();
        let sent = tokio::time::timeout(request.timeout, sent).await;
        let response = match sent {
            Ok(sent) => sent.map_err(|error| self.transport_error(error, request.timeout))?,
            Err(_) => {
                return Err(ClientError::TimedOut {
                    host: self.inner.host_name.clone(),
                    after: request.timeout,
                });
            }
        };
        self.update_clock(response.headers());
        if response.status().is_success() {
            self.notify(|| Traffic::Answered {
                status: response.status().as_u16(),
                after: start.elapsed(),
                body: String::new(),
            });
            return Ok(response);
        }
        let read = self.read(response, start, request);
        let read = tokio::time::timeout(request.timeout, read).await;
        match read {
            Ok(Err(error)) => Err(error),
            // An error does not become a success while it is read; one that does not end is none
            // either.
            Ok(Ok(_)) | Err(_) => Err(ClientError::TimedOut {
                host: self.inner.host_name.clone(),
                after: request.timeout,
            }),
        }
    }

    /// A request as it is sent, and told.
    fn signed(&self, request: &Request, token: &Token) -> reqwest::RequestBuilder {
        let inner = &self.inner;
        self.notify(|| Traffic::Sent {
            method: &request.method,
            url: &request.url,
            body: request.body.as_deref().map(redacted_body),
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
            headers.insert(REASON, reason);
        }
        let builder = inner
            .http
            .request(request.method.clone(), request.url.clone())
            .headers(headers)
            .header(header::AUTHORIZATION, token.text());
        match &request.body {
            Some(body) => builder
                .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
                .body(body.clone()),
            // Azure's front end answers 411 to a POST that does not say how long it is.
            None if request.method == Method::POST => builder.header(header::CONTENT_LENGTH, 0),
            None => builder,
        }
    }

    /// Reads an answer whole.
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
            body: redacted_body(&body),
        });
        let also = || status == StatusCode::BAD_REQUEST && (request.is_answer)(&body);
        if status.is_success() || also() {
            Ok(Response { headers, body })
        } else {
            Err(ClientError::Refused(ErrorResponse::read(
                status, &headers, &body,
            )))
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

    fn transport_error(&self, error: reqwest::Error, timeout: Duration) -> ClientError {
        let host = self.inner.host_name.clone();
        if error.is_timeout() && !error.is_connect() {
            return ClientError::TimedOut {
                host,
                after: timeout,
            };
        }
        ClientError::Unreachable {
            host,
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

    /// Only when the resource's etag is still this one; `*`: only when it exists.
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

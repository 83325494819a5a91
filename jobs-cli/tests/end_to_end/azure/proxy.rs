//! A proxy in front of a real hub with the resources, limits and errors of Azure IoT Hub only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use doorfleet_testing::{Received, certified, trusting, write_secret};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::rules::{Refusal, Request, Served};
use crate::support::Lab;

/// Response headers that Azure has, too.
const PASSED: [&str; 5] = [
    "content-type",
    "etag",
    "x-ms-item-type",
    "x-ms-continuation",
    "iothub-errorcode",
];

/// Query limit: number per time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queries {
    pub(crate) most: usize,
    pub(crate) within: Duration,
}

impl Queries {
    /// Limit of one unit of S1 or S2.
    pub(crate) const AZURE: Self = Self {
        most: 20,
        within: Duration::from_secs(60),
    };
}

/// The proxy; stops when dropped.
pub(crate) struct Azure {
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    upstream: reqwest::Client,
    hub: String,
    limit: Queries,
    queries: Mutex<VecDeque<Instant>>,
    strays: Mutex<Vec<String>>,
    throttled: Mutex<usize>,
    trouble: Mutex<Option<(String, Trouble)>>,
    /// Deleted devices that queries still return; `None`: no lag.
    lingering: Mutex<Option<BTreeSet<String>>>,
    /// How jobs are shown in each response.
    shown: Mutex<BTreeMap<String, VecDeque<Shown>>>,
    /// Jobs whose cancellation is not visible yet: their former state and until when it is shown.
    cancelled: Mutex<BTreeMap<String, (Value, Instant)>>,
}

/// How long a cancellation stays invisible.
const CANCELLATION_SHOWS_AFTER: Duration = Duration::from_millis(1_500);

/// How the next response shows a job.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown {
    /// Unchanged.
    AsItIs,
    /// As missing: 200, type and status `unknown`.
    Unknown,
    /// With this status.
    Status(&'static str),
    /// With this type.
    Type(&'static str),
}

/// Fault of a bulk call that creates a certain device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// This device is refused, the others are created: bulk calls may succeed partly.
    Refused,
    /// The call is executed, and the connection breaks before the response.
    NoAnswer,
    /// Like [`Self::Refused`], and a bulk call that removes never gets a response.
    NoWayBack,
}

impl Azure {
    /// Puts the proxy in front of the lab's hub and makes it the operator's current context.
    pub(crate) fn before(lab: &Lab, limit: Queries) -> Self {
        let (acceptor, ca) = certified();
        let folder = lab.folder();
        let connection =
            std::fs::read_to_string(lab.data.join("service-connection-string")).unwrap();
        let hub = connection.trim().strip_prefix("HostName=").unwrap();
        let (hub, rest) = hub.split_once(';').unwrap();
        let state = Arc::new(State {
            upstream: upstream(&lab.data.join("ca.pem")),
            hub: hub.to_owned(),
            limit,
            queries: Mutex::default(),
            strays: Mutex::default(),
            throttled: Mutex::default(),
            trouble: Mutex::default(),
            lingering: Mutex::default(),
            shown: Mutex::default(),
            cancelled: Mutex::default(),
        });
        let listener = lab
            .runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = lab
            .runtime
            .spawn(serve(listener, acceptor, Arc::clone(&state)));
        let secret = folder.join("azure.connection-string");
        write_secret(secret, format!("HostName=localhost:{port};{rest}\n"));
        std::fs::write(folder.join("azure.pem"), ca).unwrap();
        lab.run(
            "context add azure --connection-string-file azure.connection-string --ca azure.pem",
        )
        .expect(0)
        .says(&["answers: "]);
        Self { state, serving }
    }

    /// Requests that Azure does not support, since the last call.
    pub(crate) fn strays(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.strays.lock().unwrap())
    }

    /// Resets the query limit, as after a minute without queries.
    pub(crate) fn new_minute(&self) {
        self.state.queries.lock().unwrap().clear();
    }

    /// Number of admitted queries since then.
    pub(crate) fn queries(&self) -> usize {
        self.state.queries.lock().unwrap().len()
    }

    /// Injects a fault into the bulk call that creates `device`.
    pub(crate) fn trouble(&self, device: &str, trouble: Trouble) {
        *self.state.trouble.lock().unwrap() = Some((device.to_owned(), trouble));
    }

    /// Makes queries return deleted devices, as Azure's do for half an hour.
    pub(crate) fn let_deleted_devices_linger(&self) {
        *self.state.lingering.lock().unwrap() = Some(BTreeSet::new());
    }

    /// Sets how the next responses show a job; the last one stays.
    pub(crate) fn show(&self, job: &str, shown: &[Shown]) {
        let shown = shown.iter().copied().collect();
        self.state
            .shown
            .lock()
            .unwrap()
            .insert(job.to_owned(), shown);
    }

    /// Number of throttled queries.
    pub(crate) fn throttled(&self) -> usize {
        *self.state.throttled.lock().unwrap()
    }
}

impl Drop for Azure {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn upstream(ca_file: &Path) -> reqwest::Client {
    let client = reqwest::Client::builder().tls_backend_preconfigured(trusting(ca_file));
    client.no_proxy().build().unwrap()
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move { answer(socket, acceptor, &state).await });
    }
}

/// Serves the requests of a connection in turn. After a 429 it is closed without notice. A client
/// that hangs up before the response is ignored.
async fn answer(socket: TcpStream, acceptor: TlsAcceptor, state: &State) -> Option<()> {
    let mut stream = acceptor.accept(socket).await.ok()?;
    loop {
        let request = Request::from(Received::read(&mut stream).await?);
        let (status, headers, body) = state.answer(&request).await?;
        let mut head = format!("HTTP/1.1 {status} so\r\n");
        // A request without a body has no length.
        if status != 204 {
            head += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .await
            .ok()?;
        stream.write_all(&body).await.ok()?;
        stream.flush().await.ok()?;
        if status == 429 {
            return stream.shutdown().await.ok();
        }
    }
}

type Answer = (u16, Vec<(String, String)>, Vec<u8>);

impl State {
    /// `None`: the connection breaks without a response.
    async fn answer(&self, request: &Request) -> Option<Answer> {
        // doorctl detects the kind of hub by this path.
        if request.target.starts_with("/healthz?") {
            let html = vec![("content-type".to_owned(), "text/html".to_owned())];
            return Some((404, html, b"<h2>404 - Not Found</h2>".to_vec()));
        }
        let served = match request.judge() {
            Ok(served) => served,
            Err(refusal) => {
                let (_, _, text) = &refusal;
                let stray = format!("{} {}: {text}", request.method, request.target);
                self.strays.lock().unwrap().push(stray);
                return Some(refused(&refusal));
            }
        };
        if let Some(refusal) = self.over_limit(request, &served).await {
            return Some(refused(&refusal));
        }
        if let Some(answer) = self.deleted(request).await {
            return Some(answer);
        }
        match self.trouble_of(request) {
            None => Some(self.pass(request, &served).await),
            Some((_, Trouble::NoAnswer)) => {
                self.pass(request, &served).await;
                None
            }
            Some((_, Trouble::NoWayBack)) if removes(request) => std::future::pending().await,
            Some((device, Trouble::Refused | Trouble::NoWayBack)) => {
                Some(self.pass_but(request, &device).await)
            }
        }
    }

    /// The fault of a request.
    fn trouble_of(&self, request: &Request) -> Option<(String, Trouble)> {
        let (device, trouble) = self.trouble.lock().unwrap().clone()?;
        let is_bulk = request.method == "POST" && request.target.starts_with("/devices?");
        let items: Vec<Value> = match is_bulk {
            true => serde_json::from_slice(&request.body).unwrap(),
            false => return None,
        };
        let makes = |item: &Value| item["id"] == device.as_str() && item["importMode"] == "create";
        let is_stuck = matches!(trouble, Trouble::NoWayBack) && removes(request);
        (is_stuck || items.iter().any(makes)).then_some((device, trouble))
    }

    /// Executes the call without one device.
    async fn pass_but(&self, request: &Request, device: &str) -> Answer {
        let mut items: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
        items.retain(|item| item["id"] != device);
        let rest = Request {
            body: serde_json::to_vec(&items).unwrap(),
            ..request.clone()
        };
        if !items.is_empty() {
            self.forward(&rest).await;
        }
        let json = "application/json; charset=utf-8".to_owned();
        let error = json!({
            "deviceId": device, "errorCode": "ServerBusy", "errorStatus": "come back later",
        });
        let body = json!({"isSuccessful": false, "errors": [error], "warnings": []});
        (
            400,
            vec![("content-type".to_owned(), json)],
            body.to_string().into_bytes(),
        )
    }

    /// Checks Azure's limits.
    async fn over_limit(&self, request: &Request, served: &Served) -> Option<Refusal> {
        if served.is_query && !self.admit() {
            *self.throttled.lock().unwrap() += 1;
            let text = "Too many requests, wait 10 seconds before the next".to_owned();
            return Some((429, "ThrottlingException", text));
        }
        if served.is_new_job && self.has_active_job(request).await {
            let text = "Too many active jobs, wait 10 seconds before the next".to_owned();
            return Some((429, "ThrottlingMaxActiveJobCountExceeded", text));
        }
        None
    }

    fn admit(&self) -> bool {
        let mut queries = self.queries.lock().unwrap();
        while queries
            .front()
            .is_some_and(|asked| asked.elapsed() >= self.limit.within)
        {
            queries.pop_front();
        }
        let admitted = queries.len() < self.limit.most;
        if admitted {
            queries.push_back(Instant::now());
        }
        admitted
    }

    /// One job at a time. Scheduled jobs count, which is the strictest reading.
    async fn has_active_job(&self, request: &Request) -> bool {
        let list = Request {
            method: "GET".to_owned(),
            target: "/jobs/v2/query?api-version=2021-04-12".to_owned(),
            body: Vec::new(),
            headers: request.headers.clone(),
        };
        let (_, _, body) = self.forward(&list).await;
        let jobs: Vec<Value> = serde_json::from_slice(&body).unwrap();
        let jobs: Vec<Value> = jobs.into_iter().map(|job| self.lagging(job)).collect();
        let active = ["queued", "scheduled", "running"];
        jobs.iter()
            .any(|job| active.iter().any(|status| job["status"] == *status))
    }

    async fn pass(&self, request: &Request, served: &Served) -> Answer {
        if let Some(refusal) = self.judge_identity(request).await {
            return refused(&refusal);
        }
        let before = self.job_to_cancel(request).await;
        let (status, headers, body) = self.forward(&with_authentication(request)).await;
        let headers: Vec<(String, String)> = headers
            .into_iter()
            .filter(|(name, _)| PASSED.contains(&name.as_str()))
            .collect();
        let item_type = headers.iter().find(|(name, _)| name == "x-ms-item-type");
        let body = match status {
            200..=299 => served.strip(item_type.map(|(_, value)| value.as_str()), &body),
            _ => body,
        };
        if let (200..=299, Some(before)) = (status, before) {
            let id = before["jobId"].as_str().unwrap().to_owned();
            let until = Instant::now() + CANCELLATION_SHOWS_AFTER;
            let mut cancelled = self.cancelled.lock().unwrap();
            cancelled.insert(id, (before["status"].clone(), until));
        }
        self.as_azure_shows_it(request, (status, headers, body))
    }

    /// A PUT without `If-Match` only creates; with it, it only updates.
    async fn judge_identity(&self, request: &Request) -> Option<Refusal> {
        let ("PUT", segments) = request.route() else {
            return None;
        };
        let ["devices", id] = segments[..] else {
            return None;
        };
        let exists = self.get(request).await.is_some();
        match (request.headers.contains_key("if-match"), exists) {
            (false, true) => Some((409, "DeviceAlreadyExists", format!("{id} exists"))),
            (true, false) => Some((404, "DeviceNotFound", format!("no device {id}"))),
            _ => None,
        }
    }

    /// The document that a request addresses.
    async fn get(&self, request: &Request) -> Option<Value> {
        let get = Request {
            method: "GET".to_owned(),
            body: Vec::new(),
            ..request.clone()
        };
        match self.forward(&get).await {
            (200, _, body) => Some(serde_json::from_slice(&body).unwrap()),
            _ => None,
        }
    }

    /// The job that a request cancels, before the call.
    async fn job_to_cancel(&self, request: &Request) -> Option<Value> {
        let ("POST", segments) = request.route() else {
            return None;
        };
        let ["jobs", "v2", _, "cancel"] = segments[..] else {
            return None;
        };
        let job = Request {
            target: request.target.replace("/cancel?", "?"),
            ..request.clone()
        };
        self.get(&job).await
    }

    /// Changes the hub's response to Azure's.
    fn as_azure_shows_it(&self, request: &Request, answer: Answer) -> Answer {
        let (status, headers, body) = answer;
        let of_document = |body: &[u8], change: &dyn Fn(Value) -> Value| {
            let document: Value = serde_json::from_slice(body).unwrap();
            let changed = match document {
                Value::Array(items) => items.into_iter().map(change).collect(),
                one => change(one),
            };
            changed.to_string().into_bytes()
        };
        let body = match (status, request.route()) {
            (404, ("GET", segments)) if segments.starts_with(&["jobs", "v2"]) => {
                return unknown_job(headers);
            }
            (200, ("GET", segments)) if segments.starts_with(&["jobs", "v2"]) => {
                match self.next_shown(segments[2]) {
                    Some(Shown::Unknown) => return unknown_job(headers),
                    shown => of_document(&body, &|job| self.shown_job(job, shown)),
                }
            }
            (200, ("POST", segments)) if segments.starts_with(&["jobs", "v2"]) => {
                of_document(&body, &|job| self.shown_job(job, None))
            }
            (200, ("GET", segments)) if segments == ["statistics", "service"] => {
                // The response lags.
                json!({"connectedDeviceCount": 0}).to_string().into_bytes()
            }
            (400, ("POST", segments)) if segments == ["devices", "query"] => {
                return refused(&(400, "ArgumentInvalid", "BadRequest".to_owned()));
            }
            (200, (_, segments)) if segments[0] == "twins" || segments == ["devices", "query"] => {
                of_document(&body, &with_large_thumbprints)
            }
            _ => body,
        };
        (status, headers, body)
    }

    fn next_shown(&self, job: &str) -> Option<Shown> {
        let mut shown = self.shown.lock().unwrap();
        let shown = shown.get_mut(job)?;
        match shown.len() {
            0 | 1 => shown.front().copied(),
            _ => shown.pop_front(),
        }
    }

    fn shown_job(&self, job: Value, shown: Option<Shown>) -> Value {
        let mut job = self.lagging(job);
        match shown {
            Some(Shown::Status(word)) => job["status"] = json!(word),
            Some(Shown::Type(word)) => job["type"] = json!(word),
            _ => {}
        }
        // Azure returns the payload as the bytes of its text.
        if let Some(payload) = job.pointer_mut("/cloudToDeviceMethod/payload") {
            *payload = json!(payload.to_string().into_bytes());
        }
        job
    }

    /// Hides a recent cancellation.
    fn lagging(&self, mut job: Value) -> Value {
        let id = job["jobId"].as_str().unwrap_or_default();
        if let Some((before, until)) = self.cancelled.lock().unwrap().get(id) {
            if Instant::now() < *until {
                job["status"] = before.clone();
            }
        }
        job
    }

    /// The response to a deletion of a lingering device, or a request about one; `None`: use the
    /// hub's.
    async fn deleted(&self, request: &Request) -> Option<Answer> {
        let mut gone = self.lingering.lock().unwrap().clone()?;
        let (method, segments) = request.route();
        let answer = match (method, &segments[..]) {
            ("POST", ["devices"]) => {
                let mut items: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
                let mut left = Vec::new();
                for item in items.drain(..) {
                    let id = item["id"].as_str().unwrap().to_owned();
                    match item["importMode"] == "delete" {
                        true => drop(gone.insert(id)),
                        false => {
                            self.delete_if(gone.remove(&id), &id, request).await;
                            left.push(item);
                        }
                    }
                }
                let done = json!({"isSuccessful": true, "errors": [], "warnings": []});
                match left.is_empty() {
                    true => Some((200, json_type(), done.to_string().into_bytes())),
                    // No call of doorctl both creates and deletes.
                    false => None,
                }
            }
            ("PUT", ["devices", id]) => {
                self.delete_if(gone.remove(*id), id, request).await;
                None
            }
            (_, ["devices" | "twins", id, ..]) if *id != "query" => {
                let is_gone = gone.contains(*id);
                match (is_gone, method, self.get(request).await) {
                    (false, "DELETE", Some(_)) => {
                        gone.insert((*id).to_owned());
                        Some((204, Vec::new(), Vec::new()))
                    }
                    (true, ..) | (false, "DELETE", None) => {
                        Some(refused(&(404, "DeviceNotFound", format!("no device {id}"))))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        *self.lingering.lock().unwrap() = Some(gone);
        answer
    }

    /// Deletes a device at the hub, so that it can be created again.
    async fn delete_if(&self, is_gone: bool, id: &str, request: &Request) {
        if is_gone {
            let mut headers = request.headers.clone();
            headers.insert("if-match".to_owned(), "*".to_owned());
            let delete = Request {
                method: "DELETE".to_owned(),
                target: format!("/devices/{id}?api-version=2021-04-12"),
                headers,
                body: Vec::new(),
            };
            assert_eq!(self.forward(&delete).await.0, 204);
        }
    }

    async fn forward(&self, request: &Request) -> Answer {
        let url = format!("https://{}{}", self.hub, request.target);
        let method = reqwest::Method::from_bytes(request.method.as_bytes()).unwrap();
        let mut builder = self.upstream.request(method, url);
        for name in [
            "authorization",
            "content-type",
            "if-match",
            "x-ms-max-item-count",
            "x-ms-continuation",
        ] {
            if let Some(value) = request.headers.get(name) {
                builder = builder.header(name, value);
            }
        }
        let builder = match request.method.as_str() {
            "GET" | "DELETE" => builder,
            _ => builder.body(request.body.clone()),
        };
        let response = builder.send().await.unwrap();
        let status = response.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = response.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        (status, headers, response.bytes().await.unwrap().to_vec())
    }
}

/// An update of an identity without `authentication` generates new keys.
fn with_authentication(request: &Request) -> Request {
    let mut request = request.clone();
    let is_update = request.headers.contains_key("if-match");
    if let (true, ("PUT", segments)) = (is_update, request.route()) {
        if segments[0] == "devices" {
            let mut body: Value = serde_json::from_slice(&request.body).unwrap();
            if body.get("authentication").is_none_or(Value::is_null) {
                let key = "bmV3IGtleXMsIG1hZGUgYnkgQXp1cmUgSW9UIEh1YiE=";
                let keys = json!({"primaryKey": key, "secondaryKey": key});
                body["authentication"] = json!({"type": "sas", "symmetricKey": keys});
            }
            request.body = body.to_string().into_bytes();
        }
    }
    request
}

fn unknown_job(headers: Vec<(String, String)>) -> Answer {
    let body = json!({"type": "unknown", "status": "unknown"});
    let headers = headers
        .into_iter()
        .filter(|(name, _)| name == "content-type");
    (200, headers.collect(), body.to_string().into_bytes())
}

/// Spells the thumbprints of a twin as Azure does.
fn with_large_thumbprints(mut twin: Value) -> Value {
    if let Some(Value::Object(thumbprints)) = twin.get_mut("x509Thumbprint") {
        *thumbprints = std::mem::take(thumbprints)
            .into_iter()
            .map(|(key, value)| (key[..1].to_uppercase() + &key[1..], value))
            .collect();
    }
    twin
}

fn json_type() -> Vec<(String, String)> {
    let json = "application/json; charset=utf-8".to_owned();
    vec![("content-type".to_owned(), json)]
}

/// Whether a bulk call removes devices.
fn removes(request: &Request) -> bool {
    let items: Vec<Value> = serde_json::from_slice(&request.body).unwrap_or_default();
    items.iter().any(|item| item["importMode"] == "delete")
}

/// An error in Azure's first format.
fn refused((status, name, text): &Refusal) -> Answer {
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("iothub-errorcode", name),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let body = json!({
        "Message": format!("ErrorCode:{name};{text}"),
        "ExceptionMessage": "Tracking \
         ID:651347e20da64d6b8b424979941eacc0-G:11-TimeStamp:09/29/2017 15:53:06",
    });
    (*status, headers.into(), body.to_string().into_bytes())
}

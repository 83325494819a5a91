//! Azure IoT Hub as doorctl meets it: in front of a real hub, with Azure's resources, limits and errors and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::rules::{Refusal, Request, Served};
use crate::support::Lab;

/// Headers of an answer that Azure's have too.
const PASSED: [&str; 5] = [
    "content-type",
    "etag",
    "x-ms-item-type",
    "x-ms-continuation",
    "iothub-errorcode",
];

/// How many queries in which time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queries {
    pub(crate) most: usize,
    pub(crate) within: Duration,
}

impl Queries {
    /// Of one unit of S1 or S2.
    pub(crate) const AZURE: Self = Self {
        most: 20,
        within: Duration::from_secs(60),
    };
}

/// The proxy; ends when dropped.
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
}

/// What befalls a bulk call that is to make a certain device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// That device is refused, the others are made: a call may be done in part.
    Refused,
    /// It is done, and the connection breaks before the answer.
    NoAnswer,
    /// As [`Self::Refused`], and a bulk call that removes is never answered.
    NoWayBack,
}

impl Azure {
    /// Puts Azure in front of the lab's hub, and makes it the operator's current context.
    pub(crate) fn before(lab: &Lab, limit: Queries) -> Self {
        let (acceptor, ca) = certified();
        let folder = lab.operator.folder();
        let connection =
            std::fs::read_to_string(lab.data.join("service-connection-string")).unwrap();
        let hub = connection.trim().strip_prefix("HostName=").unwrap();
        let (hub, rest) = hub.split_once(';').unwrap();
        let state = Arc::new(State {
            upstream: upstream(&std::fs::read(lab.data.join("ca.pem")).unwrap()),
            hub: hub.to_owned(),
            limit,
            queries: Mutex::default(),
            strays: Mutex::default(),
            throttled: Mutex::default(),
            trouble: Mutex::default(),
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
        std::fs::write(&secret, format!("HostName=localhost:{port};{rest}\n")).unwrap();
        std::fs::write(folder.join("azure.pem"), ca).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, mode).unwrap();
        lab.operator
            .run(&[
                "context",
                "add",
                "azure",
                "--connection-string-file",
                "azure.connection-string",
                "--ca",
                "azure.pem",
            ])
            .expect(0)
            .says(&["answers: "]);
        Self { state, serving }
    }

    /// What was asked that Azure does not have, since the last time.
    pub(crate) fn strays(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.strays.lock().unwrap())
    }

    /// As if no query had been asked for a minute.
    pub(crate) fn new_minute(&self) {
        self.state.queries.lock().unwrap().clear();
    }

    /// From now on, this befalls the bulk call that is to make `device`.
    pub(crate) fn trouble(&self, device: &str, trouble: Trouble) {
        *self.state.trouble.lock().unwrap() = Some((device.to_owned(), trouble));
    }

    /// How often a query was refused because there were too many.
    pub(crate) fn throttled(&self) -> usize {
        *self.state.throttled.lock().unwrap()
    }
}

impl Drop for Azure {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn certified() -> (TlsAcceptor, String) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca.pem())
}

fn upstream(ca: &[u8]) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(config);
    client.no_proxy().build().unwrap()
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move { answer(socket, acceptor, &state).await });
    }
}

/// One request a connection. Whoever goes away before the answer has nothing more to be told.
async fn answer(socket: TcpStream, acceptor: TlsAcceptor, state: &State) -> Option<()> {
    let mut stream = acceptor.accept(socket).await.ok()?;
    let request = read(&mut stream).await?;
    let (status, headers, body) = state.answer(&request).await?;
    let mut head = format!(
        "HTTP/1.1 {status} so\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream
        .write_all(format!("{head}\r\n").as_bytes())
        .await
        .ok()?;
    stream.write_all(&body).await.ok()?;
    stream.shutdown().await.ok()
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let fields = lines.filter_map(|line| line.split_once(": "));
        let headers: BTreeMap<String, String> = fields
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        assert!(
            !headers.contains_key("transfer-encoding"),
            "a body in chunks"
        );
        let length = headers.get("content-length");
        let length = length.map_or(0, |length| length.parse().unwrap());
        while bytes.len() < end + 4 + length {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let body = bytes[end + 4..].to_vec();
        return Some(Request {
            method,
            target,
            headers,
            body,
        });
    }
}

type Answer = (u16, Vec<(String, String)>, Vec<u8>);

impl State {
    /// None when the connection breaks first.
    async fn answer(&self, request: &Request) -> Option<Answer> {
        // How doorctl finds out whose hub it is.
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

    /// What befalls this request.
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

    /// Has all done but for one device.
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
        let error = json!({"deviceId": device, "errorCode": "ServerBusy", "errorStatus": "come back later"});
        let body = json!({"isSuccessful": false, "errors": [error], "warnings": []});
        (
            400,
            vec![("content-type".to_owned(), json)],
            body.to_string().into_bytes(),
        )
    }

    /// What Azure's limits say of it.
    async fn over_limit(&self, request: &Request, served: &Served) -> Option<Refusal> {
        if served.is_query && !self.admit() {
            *self.throttled.lock().unwrap() += 1;
            return Some((429, "ThrottlingException", "too many queries".to_owned()));
        }
        if served.is_new_job && self.has_active_job(request).await {
            let text = "Job creation failed: Too many active jobs.".to_owned();
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

    /// One at a time: scheduled ones count, which is the strictest reading.
    async fn has_active_job(&self, request: &Request) -> bool {
        let list = Request {
            method: "GET".to_owned(),
            target: "/jobs/v2/query?api-version=2021-04-12".to_owned(),
            body: Vec::new(),
            headers: request.headers.clone(),
        };
        let (_, _, body) = self.forward(&list).await;
        let jobs: Vec<Value> = serde_json::from_slice(&body).unwrap();
        let active = ["queued", "scheduled", "running"];
        jobs.iter()
            .any(|job| active.iter().any(|status| job["status"] == *status))
    }

    async fn pass(&self, request: &Request, served: &Served) -> Answer {
        let (status, headers, body) = self.forward(request).await;
        let headers: Vec<(String, String)> = headers
            .into_iter()
            .filter(|(name, _)| PASSED.contains(&name.as_str()))
            .collect();
        let item_type = headers.iter().find(|(name, _)| name == "x-ms-item-type");
        let body = match status {
            200..=299 => served.strip(item_type.map(|(_, value)| value.as_str()), &body),
            _ => body,
        };
        (status, headers, body)
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

/// Whether a bulk call removes devices.
fn removes(request: &Request) -> bool {
    let items: Vec<Value> = serde_json::from_slice(&request.body).unwrap_or_default();
    items.iter().any(|item| item["importMode"] == "delete")
}

/// An error in Azure's first dialect.
fn refused((status, name, text): &Refusal) -> Answer {
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("iothub-errorcode", name),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let body = json!({
        "Message": format!("ErrorCode:{name};{text}"),
        "ExceptionMessage": "Tracking ID:651347e20da64d6b8b424979941eacc0-G:11-TimeStamp:09/29/2017 15:53:06",
    });
    (*status, headers.into(), body.to_string().into_bytes())
}

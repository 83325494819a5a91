//! A TLS server that answers each request, mostly with the next reply of a script, and records the
//! requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub struct Reply(Act);

enum Act {
    Answer {
        status: u16,
        headers: String,
        body: String,
    },
    HangUp,
    Silence,
}

impl Reply {
    pub fn ok(body: &str) -> Self {
        Self::status(200, body)
    }

    pub fn status(status: u16, body: &str) -> Self {
        Self(Act::Answer {
            status,
            headers: String::new(),
            body: body.to_owned(),
        })
    }

    /// Closes the connection without a response.
    pub fn hang_up() -> Self {
        Self(Act::HangUp)
    }

    /// Keeps the connection open without a response.
    pub fn silence() -> Self {
        Self(Act::Silence)
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        if let Act::Answer { headers, .. } = &mut self.0 {
            headers.push_str(&format!("{name}: {value}\r\n"));
        }
        self
    }
}

#[derive(Debug, Clone)]
pub struct Received {
    /// Method and target.
    pub line: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The next request of a connection; `None` when it ends.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut bytes = Vec::new();
        loop {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let mut lines = head.lines();
            let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
            let headers: BTreeMap<String, String> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            assert!(
                !headers.contains_key("transfer-encoding"),
                "a body in chunks"
            );
            let length = headers
                .get("content-length")
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                let body = body.to_owned();
                return Some(Self {
                    line,
                    headers,
                    body,
                });
            }
        }
    }
}

/// The server; stops when dropped.
pub struct Server {
    port: u16,
    pub ca_pem: String,
    received: Arc<Mutex<Vec<Received>>>,
    serving: JoinHandle<()>,
}

impl Server {
    pub async fn play(script: Vec<Reply>) -> Self {
        let mut script = VecDeque::from(script);
        Self::answering(move |_| {
            let reply = script.pop_front();
            reply.expect("the script has no reply for this request")
        })
        .await
    }

    /// A server whose requests may arrive in any order.
    pub async fn answering(answer: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        Self::presenting(certified(), answer).await
    }

    /// A server that no client talks to, because of its certificate.
    pub async fn with_bad_certificate(fault: CertificateFault) -> Self {
        Self::presenting(certified_with(Some(fault)), |_| Reply::hang_up()).await
    }

    async fn presenting(
        (acceptor, ca_pem): (TlsAcceptor, String),
        answer: impl FnMut(&Received) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let serving = tokio::spawn(serve(listener, acceptor, answer, Arc::clone(&received)));
        Self {
            port,
            ca_pem,
            received,
            serving,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn connection_string(&self) -> String {
        let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        format!(
            "HostName=localhost:{};SharedAccessKeyName=service;SharedAccessKey={key}",
            self.port
        )
    }

    pub fn requests(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What is wrong with a server's certificate.
#[derive(Debug, Clone, Copy)]
pub enum CertificateFault {
    Expired,
    NotValidYet,
    /// It is one of an authority (`CA:TRUE`).
    IsAuthority,
    /// It has the names `door-hub` and 10.9.8.7.
    OtherNames,
    ForClients,
    /// The CA in `ca_pem` has the name of the right one.
    UnknownAuthority,
}

/// The acceptor of a server called `localhost`, and its CA.
pub fn certified() -> (TlsAcceptor, String) {
    certified_with(None)
}

fn certified_with(fault: Option<CertificateFault>) -> (TlsAcceptor, String) {
    let authority = || {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap()
    };
    let (ca, mut trusted) = (authority(), None);
    let key = KeyPair::generate().unwrap();
    let mut names = vec!["localhost".to_owned()];
    if let Some(CertificateFault::OtherNames) = fault {
        names = vec!["door-hub".to_owned(), "10.9.8.7".to_owned()];
    }
    let mut leaf = CertificateParams::new(names).unwrap();
    match fault {
        Some(CertificateFault::Expired) => leaf.not_after = date_time_ymd(2020, 1, 1),
        Some(CertificateFault::NotValidYet) => leaf.not_before = date_time_ymd(3000, 1, 1),
        Some(CertificateFault::IsAuthority) => {
            leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        Some(CertificateFault::ForClients) => {
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        Some(CertificateFault::UnknownAuthority) => trusted = Some(authority().pem()),
        Some(CertificateFault::OtherNames) | None => {}
    }
    let leaf = leaf.signed_by(&key, &ca).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![leaf.der().clone()],
        PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    )
    .unwrap();
    let trusted = trusted.unwrap_or_else(|| ca.pem());
    (TlsAcceptor::from(Arc::new(config)), trusted)
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    mut answer: impl FnMut(&Received) -> Reply,
    received: Arc<Mutex<Vec<Received>>>,
) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        // A client that does not trust the certificate hangs up here.
        let Ok(mut stream) = acceptor.accept(socket).await else {
            continue;
        };
        let Some(request) = Received::read(&mut stream).await else {
            continue;
        };
        let reply = answer(&request);
        received.lock().unwrap().push(request);
        match reply.0 {
            Act::Answer {
                status,
                headers,
                body,
            } => {
                let text = format!(
                    "HTTP/1.1 {status} so\r\nconnection: close\r\ncontent-length: \
                     {}\r\ncontent-type: application/json\r\n{headers}\r\n{body}",
                    body.len()
                );
                stream.write_all(text.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
            Act::HangUp => {}
            Act::Silence => tokio::time::sleep(Duration::from_secs(60)).await,
        }
    }
}

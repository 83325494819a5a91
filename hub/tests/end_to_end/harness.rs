//! A running hub, an operator and devices.

mod device;
pub(crate) mod peer;

use std::future::Future;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use door_hub::config::HubConfig;
use door_hub::{Hub, RunningHub};
use iothub_protocol::connection_string::ServiceConnectionString;
use iothub_protocol::sas::{self, SharedAccessKey};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) use device::Device;

/// Deadline of every wait in these tests; it passes only when something is broken.
const DEADLINE: Duration = Duration::from_secs(20);

/// A hub on free ports, and its operator.
pub(crate) struct TestHub {
    pub(crate) hub: RunningHub,
    pub(crate) folder: TempDir,
    operator: Operator,
}

/// A client of a hub's API, with the owner's policy.
pub(crate) struct Operator {
    client: reqwest::Client,
    owner: ServiceConnectionString,
    pub(crate) mqtt_port: u16,
    pub(crate) tls: rustls::ClientConfig,
}

/// A response of the API.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl TestHub {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn start_in(folder: TempDir) -> Self {
        Self::start_with(folder, |_| {}).await
    }

    /// Starts a hub with other settings.
    pub(crate) async fn start_with(folder: TempDir, change: impl FnOnce(&mut HubConfig)) -> Self {
        let mut config = HubConfig::loopback(folder.path().to_owned());
        change(&mut config);
        let hub = Hub::start(config).await.unwrap();
        let owner = hub.service_connection_string().clone();
        let operator = Operator::new(owner, hub.mqtt_address().port(), hub.ca_file());
        Self {
            hub,
            folder,
            operator,
        }
    }

    /// Drops the hub like a kill of its process, and starts another on the same data.
    pub(crate) async fn restart_after_kill(self) -> Self {
        let Self { hub, folder, .. } = self;
        drop(hub);
        Self::start_in(folder).await
    }
}

impl Deref for TestHub {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.operator
    }
}

impl Operator {
    pub(crate) fn new(owner: ServiceConnectionString, mqtt_port: u16, ca_file: &Path) -> Self {
        let tls = trusting(ca_file);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .no_proxy()
            .timeout(DEADLINE)
            .build()
            .unwrap();
        Self {
            client,
            owner,
            mqtt_port,
            tls,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.owner.host_name)
    }

    pub(crate) fn anonymous(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// A request with the owner's token.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, path)
            .header(AUTHORIZATION, self.owner_token())
    }

    pub(crate) fn owner_token(&self) -> String {
        let audience = self.owner.host_name.as_str();
        sas::sign(
            audience,
            &self.owner.key,
            in_an_hour(),
            Some(&self.owner.policy),
        )
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.request(method, path);
        answer(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Creates a device and returns its key.
    pub(crate) async fn add_device(&self, id: &str) -> SharedAccessKey {
        self.add_device_at(id, id).await
    }

    /// Creates a device whose id is spelled `path` in the path of the request.
    pub(crate) async fn add_device_at(&self, id: &str, path: &str) -> SharedAccessKey {
        let made = self
            .put(
                &format!("/devices/{path}?api-version=2021-04-12"),
                json!({ "deviceId": id }),
            )
            .await;
        assert_eq!(made.status, 200, "{}", made.body);
        let key = made.body["authentication"]["symmetricKey"]["primaryKey"]
            .as_str()
            .unwrap();
        SharedAccessKey::from_base64(key).unwrap()
    }

    /// Creates devices `d0`, `d1`, .. with these desired properties.
    pub(crate) async fn add_devices(&self, desired: &[Value]) {
        for (number, desired) in desired.iter().enumerate() {
            self.add_device(&format!("d{number}")).await;
            let twin = json!({ "properties": { "desired": desired } });
            assert_eq!(
                self.patch(&format!("/twins/d{number}"), twin).await.status,
                200
            );
        }
    }

    pub(crate) async fn query(&self, text: &str) -> Answer {
        self.post("/devices/query", json!({ "query": text })).await
    }

    /// The ids of the devices that match a condition.
    pub(crate) async fn find(&self, condition: &str) -> Vec<String> {
        let found = self
            .query(&format!("SELECT * FROM devices WHERE {condition}"))
            .await;
        assert_eq!(found.status, 200, "{condition}: {}", found.body);
        let id = |twin: &Value| twin["deviceId"].as_str().unwrap().to_owned();
        found.body.as_array().unwrap().iter().map(id).collect()
    }

    /// Waits until the job has one of these statuses.
    pub(crate) async fn job(&self, id: &str, statuses: &[&str]) -> Value {
        eventually(&format!("job {id} is one of {statuses:?}"), || async {
            let job = self.get(&format!("/jobs/v2/{id}")).await.body;
            statuses.contains(&job["status"].as_str()?).then_some(job)
        })
        .await
    }

    /// The device records of a job, sorted by device.
    pub(crate) async fn device_jobs(&self, id: &str) -> Vec<Value> {
        let found = self
            .query(&format!(
                "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{id}'"
            ))
            .await;
        assert_eq!(found.headers["x-ms-item-type"], "DeviceJob");
        let mut rows = found.body.as_array().unwrap().clone();
        rows.sort_by_key(|row| row["deviceId"].as_str().unwrap().to_owned());
        rows
    }

    /// Connects a device that answers every method with `status` and the payload of the call;
    /// returns when it is subscribed.
    pub(crate) async fn connect(&self, id: &str, key: &SharedAccessKey, status: u16) -> Device {
        let mut device = Device::dial(self, id, key);
        device.subscribe("$iothub/methods/POST/#").await;
        device.answer_methods(status)
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    Answer {
        status,
        headers,
        body,
    }
}

/// Polls until `check` returns a value, within the deadline.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    check: impl Fn() -> F,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn in_an_hour() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 3600
}

/// A TLS configuration that trusts only the hub's authority.
pub(crate) fn tls(hub: &RunningHub) -> rustls::ClientConfig {
    trusting(hub.ca_file())
}

/// The hub's authority as trust anchor.
pub(crate) fn roots(ca_file: &Path) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca_file).unwrap())
        .unwrap();
    roots
}

fn trusting(ca_file: &Path) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca_file))
        .with_no_client_auth()
}

//! A client of a hub's REST API, with the owner's policy.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use iothub_protocol::connection_string::ServiceConnectionString;
use iothub_protocol::rest::API_VERSION;
use iothub_protocol::sas::{self, SharedAccessKey};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::Device;

/// Deadline of an answer of the hub, and of what it shows; reached only on a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub struct Operator {
    client: reqwest::Client,
    owner: ServiceConnectionString,
    pub mqtt_port: u16,
    pub tls: rustls::ClientConfig,
}

/// A response of the API.
pub struct Answer {
    url: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The body, if the status is 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}: {}", self.url, self.body);
        self.body
    }

    /// Asserts a failure whose message contains all these texts.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str, parts: &[&str]) {
        let message = self.body["Message"].as_str().unwrap_or_default();
        assert_eq!(self.status, status, "{}: {}", self.url, self.body);
        let found = &self.headers["iothub-errorcode"];
        assert_eq!(found, code, "{}: {message}", self.url);
        // Those of methods hold a document instead.
        let is_named = message.starts_with(&format!("ErrorCode:{code};"));
        assert!(is_named || message.starts_with('{'), "{message}");
        for part in parts {
            let is_there = message.contains(part);
            assert!(is_there, "{}: {part:?} is missing: {message}", self.url);
        }
    }
}

/// A text member of each item of a list.
#[track_caller]
pub fn texts(list: &Value, member: &str) -> Vec<String> {
    let text = |item: &Value| item[member].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(text).collect()
}

impl Operator {
    pub fn new(owner: ServiceConnectionString, mqtt_port: u16, ca_file: &Path) -> Self {
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

    /// The operator of the hub with this data folder.
    pub fn of_folder(folder: &Path, mqtt_port: u16) -> Self {
        let owner = std::fs::read_to_string(folder.join("service-connection-string")).unwrap();
        Self::new(owner.parse().unwrap(), mqtt_port, &folder.join("ca.pem"))
    }

    /// The client, for requests that [`Self::request`] would complete.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Host name and port of the API.
    pub fn https_host(&self) -> &str {
        self.owner.host_name.as_str()
    }

    /// The URL of a path, with an api-version unless it has one.
    pub fn url(&self, path: &str) -> String {
        let separator = if path.contains('?') { '&' } else { '?' };
        let version = match path.contains("api-version=") {
            true => String::new(),
            false => format!("{separator}api-version={API_VERSION}"),
        };
        format!("https://{}{path}{version}", self.owner.host_name)
    }

    pub fn anonymous(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// A request with the owner's token.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, path)
            .header(AUTHORIZATION, self.owner_token())
    }

    pub fn owner_token(&self) -> String {
        let audience = self.owner.host_name.as_str();
        sas::sign(
            audience,
            &self.owner.key,
            in_an_hour(),
            Some(&self.owner.policy),
        )
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.request(method, path);
        answer(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Updates an identity, whatever its etag is.
    pub async fn update_device(&self, id: &str, body: Value) -> Answer {
        let request = self.request(Method::PUT, &format!("/devices/{id}"));
        answer(request.header("If-Match", "*").json(&body)).await
    }

    /// Creates a device and returns its key.
    pub async fn add_device(&self, id: &str) -> SharedAccessKey {
        self.add_device_at(id, id).await
    }

    /// Creates a device whose id is spelled `path` in the path of the request.
    pub async fn add_device_at(&self, id: &str, path: &str) -> SharedAccessKey {
        let made = self
            .put(
                &format!("/devices/{path}?api-version=2021-04-12"),
                json!({ "deviceId": id }),
            )
            .await
            .ok();
        let key = made["authentication"]["symmetricKey"]["primaryKey"]
            .as_str()
            .unwrap();
        SharedAccessKey::from_base64(key).unwrap()
    }

    /// Creates devices `d0`, `d1`, .. with these desired properties.
    pub async fn add_devices(&self, desired: &[Value]) {
        for (number, desired) in desired.iter().enumerate() {
            self.add_device(&format!("d{number}")).await;
            self.set_desired(&format!("d{number}"), desired.clone())
                .await;
        }
    }

    pub async fn query(&self, text: &str) -> Answer {
        self.post("/devices/query", json!({ "query": text })).await
    }

    /// The ids of the devices that match a condition.
    pub async fn find(&self, condition: &str) -> Vec<String> {
        let found = self
            .query(&format!("SELECT * FROM devices WHERE {condition}"))
            .await;
        texts(&found.ok(), "deviceId")
    }

    /// Waits until the job has one of these statuses.
    pub async fn job(&self, id: &str, statuses: &[&str]) -> Value {
        eventually(&format!("job {id} is one of {statuses:?}"), || async {
            let job = self.get(&format!("/jobs/v2/{id}")).await.body;
            statuses.contains(&job["status"].as_str()?).then_some(job)
        })
        .await
    }

    /// The device records of a job, sorted by device.
    pub async fn device_jobs(&self, id: &str) -> Vec<Value> {
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
    pub async fn connect(&self, id: &str, key: &SharedAccessKey, status: u16) -> Device {
        let device = self.subscriber(id, key, "$iothub/methods/POST/#").await;
        device.answer_methods(status)
    }

    /// Connects a device with one subscription.
    pub async fn subscriber(&self, id: &str, key: &SharedAccessKey, filter: &str) -> Device {
        let mut device = Device::dial(self, id, key);
        device.subscribe(filter).await;
        device
    }

    /// Creates a device and returns its connection string.
    pub async fn add_door(&self, id: &str) -> String {
        self.connection_string(id, &self.add_device(id).await.to_base64())
    }

    pub fn connection_string(&self, id: &str, key: &str) -> String {
        let host = self.owner.host_name.host();
        format!("HostName={host};DeviceId={id};SharedAccessKey={key}")
    }

    /// Calls a method of a connected device: status and body of the hub's answer.
    pub async fn invoke(&self, device: &str, method: &str, payload: Value) -> (u16, Value) {
        self.invoke_within(device, method, payload, 0).await
    }

    /// Like [`Self::invoke`], but waits for the device to connect.
    pub async fn invoke_when_online(
        &self,
        device: &str,
        method: &str,
        payload: Value,
    ) -> (u16, Value) {
        self.invoke_within(device, method, payload, 20).await
    }

    async fn invoke_within(
        &self,
        device: &str,
        method: &str,
        payload: Value,
        connect_timeout: u64,
    ) -> (u16, Value) {
        let call = json!({
            "methodName": method,
            "payload": payload,
            "responseTimeoutInSeconds": 20,
            "connectTimeoutInSeconds": connect_timeout,
        });
        let answer = self.post(&format!("/twins/{device}/methods"), call).await;
        (answer.status.as_u16(), answer.body)
    }

    /// Every message of `device`, in the order of arrival at the hub.
    pub async fn events(&self, device: &str) -> Vec<Value> {
        self.events_of("telemetry", device).await
    }

    /// Every event of a kind that concerns `device`.
    pub async fn events_of(&self, kind: &str, device: &str) -> Vec<Value> {
        let path = format!("/events?kind={kind}&device={device}&after=0&follow=false");
        let response = self.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let text = response.text().await.unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let documents = data.map(|data| serde_json::from_str(data).unwrap());
        // The last one marks the end.
        documents
            .filter(|documents: &Value| documents.get("kind").is_some())
            .collect()
    }

    pub async fn set_desired(&self, device: &str, desired: Value) {
        let body = json!({ "properties": { "desired": desired } });
        let answer = self.patch(&format!("/twins/{device}"), body).await;
        answer.ok();
    }

    /// The reported properties without `$metadata`.
    pub async fn reported(&self, device: &str) -> Value {
        let twin = self.get(&format!("/twins/{device}")).await.ok();
        let mut reported = twin["properties"]["reported"].clone();
        reported.as_object_mut().unwrap().remove("$metadata");
        reported
    }

    /// Waits until the reported properties satisfy `condition`, and returns them.
    pub async fn reported_until(&self, device: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let reported = self.reported(device).await;
            if condition(&reported) {
                return reported;
            }
            assert!(begin.elapsed() < DEADLINE, "still {reported:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a reported property at a JSON pointer has this value.
    pub async fn reports(&self, device: &str, pointer: &str, value: impl Into<Value>) -> Value {
        let value = value.into();
        self.reported_until(device, |reported| reported.pointer(pointer) == Some(&value))
            .await
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let url = response.url().to_string();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    Answer {
        url,
        status,
        headers,
        body,
    }
}

/// Polls until `check` returns a value, within the deadline.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn in_an_hour() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 3600
}

/// The hub's authority as trust anchor.
pub fn roots(ca_file: &Path) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca_file).unwrap())
        .unwrap();
    roots
}

/// A TLS client that trusts only this CA.
pub fn trusting(ca_file: &Path) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca_file))
        .with_no_client_auth()
}

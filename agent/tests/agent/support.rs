//! A real hub on loopback, and helpers for its REST API.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use door_agent::config::{AgentConfig, HubConfig};
use door_agent::tls::TlsCache;
use door_agent::{Agent, RunningAgent, Shared};
use door_hub::config::HubConfig as Settings;
use door_hub::{Hub, RunningHub};
use iothub_protocol::connection_string::{DeviceConnectionString, ServiceConnectionString};
use iothub_protocol::sas;
use serde_json::{Value, json};

/// Sufficient for a busy machine; only a failure takes this long.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct TestHub {
    home: tempfile::TempDir,
    hub: Option<RunningHub>,
    service: ServiceConnectionString,
    http: reqwest::Client,
    mqtt_port: u16,
    https_port: u16,
}

/// Starts something whose predecessor has just ended, with retries: until a process forked by
/// another test executes its program, it may still hold a port or a lock.
async fn until_started<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    start: impl Fn() -> F,
) -> T {
    let begin = Instant::now();
    loop {
        match start().await {
            Ok(started) => return started,
            Err(error) if begin.elapsed() > DEADLINE => panic!("{what}: {error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Starts an agent on the state of one that has just ended.
pub(crate) async fn start_agent_again(config: &AgentConfig, shared: &Shared) -> RunningAgent {
    until_started("the agent", || Agent::start(config.clone(), shared)).await
}

impl TestHub {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let hub = Hub::start(hub_config(home.path(), 0, 0)).await.unwrap();
        let service = hub.service_connection_string().clone();
        let tls = TlsCache::default();
        let tls = tls.client_config(Some(hub.ca_file()), None).unwrap();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
            .timeout(DEADLINE)
            .build()
            .unwrap();
        Self {
            mqtt_port: hub.mqtt_address().port(),
            https_port: hub.https_address().port(),
            home,
            hub: Some(hub),
            service,
            http,
        }
    }

    /// Stops the hub; its data and ports remain for [`TestHub::start_again`].
    pub(crate) async fn stop(&mut self) {
        self.hub.take().unwrap().shutdown().await;
    }

    pub(crate) async fn start_again(&mut self) {
        let config = hub_config(self.home.path(), self.mqtt_port, self.https_port);
        let hub = until_started("the hub", || Hub::start(config.clone()));
        self.hub = Some(hub.await);
    }

    /// Creates a device and returns its connection string.
    pub(crate) async fn add_device(&self, name: &str) -> String {
        let identity = self
            .call(
                "PUT",
                &format!("/devices/{name}"),
                &json!({"deviceId": name}),
            )
            .await
            .1;
        let key = identity["authentication"]["symmetricKey"]["primaryKey"]
            .as_str()
            .unwrap();
        self.connection_string(name, key)
    }

    /// Creates a device with the thumbprint of its certificate.
    pub(crate) async fn add_device_with_thumbprint(&self, name: &str, thumbprint: &str) {
        let authentication = json!({
            "type": "selfSigned",
            "x509Thumbprint": {"primaryThumbprint": thumbprint},
        });
        let body = json!({"deviceId": name, "authentication": authentication});
        let (status, answer) = self.call("PUT", &format!("/devices/{name}"), &body).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub(crate) fn connection_string(&self, name: &str, key: &str) -> String {
        let host = self.service.host_name.host();
        format!("HostName={host};DeviceId={name};SharedAccessKey={key}")
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.request(method, &format!("{path}?api-version=2021-04-12"));
        let response = request.json(body).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let host = self.service.host_name.host();
        let token = sas::sign(
            host,
            &self.service.key,
            jiff::Timestamp::now().as_second().unsigned_abs() + 600,
            Some(&self.service.policy),
        );
        let url = format!("https://{host}:{}{path}", self.https_port);
        let request = self.http.request(method.parse().unwrap(), url);
        request.header("authorization", token)
    }

    pub(crate) async fn invoke(&self, device: &str, method: &str, payload: Value) -> (u16, Value) {
        let body = json!({
            "methodName": method,
            "payload": payload,
            "responseTimeoutInSeconds": 20,
            "connectTimeoutInSeconds": 0,
        });
        self.call("POST", &format!("/twins/{device}/methods"), &body)
            .await
    }

    /// Like [`TestHub::invoke`], but waits for the device to connect.
    pub(crate) async fn invoke_when_online(
        &self,
        device: &str,
        method: &str,
        payload: Value,
    ) -> (u16, Value) {
        let body = json!({
            "methodName": method,
            "payload": payload,
            "responseTimeoutInSeconds": 20,
            "connectTimeoutInSeconds": 20,
        });
        self.call("POST", &format!("/twins/{device}/methods"), &body)
            .await
    }

    /// Every message of `device`, in the order of arrival at the hub.
    pub(crate) async fn events(&self, device: &str) -> Vec<Value> {
        let path = format!("/events?kind=telemetry&device={device}&after=0&follow=false");
        let response = self.request("GET", &path).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let text = response.text().await.unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let documents = data.map(|data| serde_json::from_str(data).unwrap());
        // The last one marks the end.
        documents
            .filter(|documents: &Value| documents.get("kind").is_some())
            .collect()
    }

    pub(crate) async fn set_desired(&self, device: &str, desired: Value) {
        let body = json!({"properties": {"desired": desired}});
        let (status, answer) = self.call("PATCH", &format!("/twins/{device}"), &body).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub(crate) async fn reported(&self, device: &str) -> Value {
        let (status, mut twin) = self
            .call("GET", &format!("/twins/{device}"), &Value::Null)
            .await;
        assert_eq!(status, 200, "{twin}");
        let mut reported = twin["properties"]["reported"].take();
        reported.as_object_mut().unwrap().remove("$metadata");
        reported
    }

    /// Waits until the reported properties satisfy `condition`, and returns them.
    pub(crate) async fn reported_until(
        &self,
        device: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> Value {
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

    /// The configuration of a simulated door for this hub.
    pub(crate) fn agent_config(&self, connection_string: &str, state: &Path) -> AgentConfig {
        let connection: DeviceConnectionString = connection_string.parse().unwrap();
        let mut hub = HubConfig::new(connection);
        hub.ca_file = Some(self.hub().ca_file().to_path_buf());
        hub.mqtt_port = self.mqtt_port;
        hub.reconnect_min = Duration::from_millis(100);
        hub.reconnect_max = Duration::from_secs(1);
        AgentConfig::simulated(hub, state.to_path_buf())
    }

    pub(crate) fn hub(&self) -> &RunningHub {
        self.hub.as_ref().unwrap()
    }

    /// Starts a simulated door with its own device.
    pub(crate) async fn start_agent(&self, name: &str, home: &Path) -> RunningAgent {
        let connection = self.add_device(name).await;
        let config = self.agent_config(&connection, &home.join(name));
        Agent::start(config, &Shared::new().unwrap()).await.unwrap()
    }
}

/// Waits until a snapshot of the agent satisfies `condition`.
pub(crate) async fn agent_until(
    agent: &RunningAgent,
    condition: impl Fn(&door_agent::AgentSnapshot) -> bool,
) {
    let begin = Instant::now();
    while !condition(&agent.snapshot()) {
        assert!(begin.elapsed() < DEADLINE, "still {:?}", agent.snapshot());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn hub_config(data: &Path, mqtt_port: u16, https_port: u16) -> Settings {
    let loopback = |port| (Ipv4Addr::LOCALHOST, port).into();
    Settings {
        mqtt_address: loopback(mqtt_port),
        https_address: loopback(https_port),
        ..Settings::loopback(data.to_path_buf())
    }
}

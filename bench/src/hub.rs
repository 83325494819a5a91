//! The hub under test: a child process of this program, used only over REST.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use door_hub::Hub as DoorHub;
use door_hub::config::HubConfig;
use iothub_protocol::connection_string::ServiceConnectionString;
use iothub_protocol::id::DeviceId;
use iothub_protocol::sas::{self, SharedAccessKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::fleet::{Device, Endpoint};
use crate::mosquitto::REQUEST;
use crate::process::Process;

/// Concurrent registrations.
const AT_ONCE: u32 = 16;

/// Pause between two calls that are timed during something else.
const BETWEEN_CALLS: Duration = Duration::from_millis(2);

/// Runs the hub in this process until standard input ends; prints its addresses as one line of
/// JSON.
pub(crate) async fn serve(data: PathBuf, mqtt_port: u16) -> anyhow::Result<()> {
    let mut config = HubConfig::loopback(data);
    config.mqtt_address.set_port(mqtt_port);
    let hub = DoorHub::start(config).await?;
    println!(
        "{}",
        json!({"mqtt": hub.mqtt_address().to_string(), "https": hub.https_address().to_string()})
    );
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    hub.shutdown().await;
    Ok(())
}

/// Paths of the certificate that both servers under test present, and of its CA.
pub(crate) struct Certificate {
    pub(crate) ca: PathBuf,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// A TLS client that trusts only the CA in the file `ca`.
pub(crate) fn client_config(ca: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).context("the hub's CA")?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The child, and an operator's access to it.
pub(crate) struct Hub {
    pub(crate) process: Process,
    pub(crate) endpoint: Endpoint,
    pub(crate) certificate: Certificate,
    operator: Operator,
    /// Killed when dropped.
    _child: Child,
    // The child also ends with its standard input.
    _stdin: tokio::process::ChildStdin,
}

#[derive(Clone)]
struct Operator {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Operator {
    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let url = format!("{}{path}?api-version=2021-04-12", self.base);
        let answer = self
            .client
            .request(method, url)
            .header("authorization", &self.token)
            .json(body)
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}?api-version=2021-04-12", self.base);
        Ok(self
            .client
            .get(url)
            .header("authorization", &self.token)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }
}

impl Hub {
    /// Starts the child on a data folder below `scratch`.
    pub(crate) async fn start(scratch: &Path) -> anyhow::Result<Self> {
        Self::start_at(scratch, 0).await
    }

    /// Like [`Hub::start`], with a fixed MQTT port.
    pub(crate) async fn start_at(scratch: &Path, mqtt_port: u16) -> anyhow::Result<Self> {
        let data = scratch.join("hub");
        let mut child = Command::new(std::env::current_exe()?)
            .arg("hub")
            .arg("--data")
            .arg(&data)
            .args(["--mqtt-port", &mqtt_port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the hub")?;
        let stdin = child.stdin.take().context("the hub's standard input")?;
        let stdout = child.stdout.take().context("the hub's standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line())
            .await
            .context("the hub did not start within 20 s")??
            .context("the hub ended without printing its addresses")?;
        let addresses: Value = serde_json::from_str(&line)?;
        let address = |key: &str| {
            addresses[key]
                .as_str()
                .context("an address")
                .and_then(|text| Ok(text.parse::<SocketAddr>()?))
        };

        let certificate = Certificate {
            ca: data.join("ca.pem"),
            chain: data.join("server.pem"),
            key: data.join("server.key"),
        };
        let tls = client_config(&certificate.ca)?;
        let service: ServiceConnectionString =
            std::fs::read_to_string(data.join("service-connection-string"))?
                .trim()
                .parse()?;
        let expiry = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs()
            + 3600;
        let token = sas::sign(
            service.host_name.as_str(),
            &service.key,
            expiry,
            Some(&service.policy),
        );
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .timeout(Duration::from_secs(60))
            .build()?;
        let operator = Operator {
            client,
            base: format!("https://localhost:{}", address("https")?.port()),
            token,
        };
        Ok(Self {
            process: Process::of("door-hub", &child)?,
            _child: child,
            endpoint: Endpoint {
                address: address("mqtt")?,
                tls,
            },
            certificate,
            operator,
            _stdin: stdin,
        })
    }

    /// Registers identities `names` and creates the login of each.
    pub(crate) async fn register(
        &self,
        names: impl Iterator<Item = String>,
    ) -> anyhow::Result<Vec<Device>> {
        let mut devices = Vec::new();
        let mut pending = JoinSet::new();
        for name in names {
            let operator = self.operator.clone();
            pending.spawn(async move { register_one(&operator, name).await });
            if pending.len() >= AT_ONCE as usize {
                devices.push(pending.join_next().await.context("a registration")???);
            }
        }
        while let Some(device) = pending.join_next().await {
            devices.push(device??);
        }
        Ok(devices)
    }

    /// Registers a device and returns its connection string.
    pub(crate) async fn add_device(&self, name: &str) -> anyhow::Result<String> {
        let key = register(&self.operator, name).await?.to_base64();
        Ok(format!(
            "HostName=localhost;DeviceId={name};SharedAccessKey={key}"
        ))
    }

    /// Waits until `name` is connected and answers methods.
    pub(crate) async fn wait_for_device(&self, name: &str, within: Duration) -> anyhow::Result<()> {
        let path = format!("/twins/{name}/methods");
        let ping = json!({
            "methodName": "getState",
            "payload": {},
            "connectTimeoutInSeconds": within.as_secs(),
            "responseTimeoutInSeconds": within.as_secs(),
        });
        self.operator
            .send(reqwest::Method::POST, &path, &ping)
            .await?;
        Ok(())
    }

    /// Calls a method and returns the device's answer.
    pub(crate) async fn call(
        &self,
        name: &str,
        method: &str,
        payload: &Value,
    ) -> anyhow::Result<Value> {
        let path = format!("/twins/{name}/methods");
        let body =
            json!({"methodName": method, "payload": payload, "responseTimeoutInSeconds": 30});
        let answer = self
            .operator
            .send(reqwest::Method::POST, &path, &body)
            .await?;
        ensure!(answer["status"] == 200, "{method} was answered {answer}");
        Ok(answer)
    }

    /// Waits until the hub counts every door as connected.
    pub(crate) async fn wait_for_connected(&self, doors: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let counted =
                self.operator.get("/statistics/service").await?["connectedDeviceCount"].as_u64();
            if counted == Some(u64::from(doors)) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the hub counts {counted:?} of {doors} doors after 60 s"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Times `calls` single method calls through REST, one after another, over doors in turn.
    pub(crate) async fn time_calls(&self, doors: u32, calls: u32) -> anyhow::Result<Vec<Duration>> {
        let mut taken = Vec::with_capacity(calls as usize);
        for n in 0..calls {
            taken.push(self.time_call(n % doors).await?);
        }
        Ok(taken)
    }

    /// Times such calls for `duration`; also returns the peak of the hub's resident bytes.
    pub(crate) async fn time_calls_for(
        &self,
        doors: u32,
        duration: Duration,
    ) -> anyhow::Result<(Vec<Duration>, u64)> {
        let end = Instant::now() + duration;
        let (mut taken, mut resident) = (Vec::new(), 0);
        for n in (0..doors).cycle() {
            if Instant::now() >= end {
                break;
            }
            taken.push(self.time_call(n).await?);
            if taken.len() % 100 == 0 {
                resident = resident.max(self.process.usage()?.resident);
            }
            // Like an operator's tools: a loop without a pause would itself be the load.
            tokio::time::sleep(BETWEEN_CALLS).await;
        }
        Ok((taken, resident))
    }

    async fn time_call(&self, door: u32) -> anyhow::Result<Duration> {
        let body = json!({
            "methodName": "lockDoor",
            "payload": serde_json::from_str::<Value>(REQUEST)?,
            "responseTimeoutInSeconds": 30,
        });
        let started = Instant::now();
        let path = format!("/twins/door-{door:05}/methods");
        let answer = self
            .operator
            .send(reqwest::Method::POST, &path, &body)
            .await?;
        let taken = started.elapsed();
        ensure!(answer["status"] == 200, "unexpected answer {answer}");
        Ok(taken)
    }

    /// Runs a lock job over every door; returns the wall time until every outcome is committed.
    pub(crate) async fn lock_all(&self, round: u32, doors: u32) -> anyhow::Result<Duration> {
        let id = format!("bench-{round}");
        let body = json!({
            "jobId": id,
            "type": "scheduleDeviceMethod",
            "queryCondition": "*",
            "maxExecutionTimeInSeconds": 300,
            "cloudToDeviceMethod": {
                "methodName": "lockDoor",
                "payload": serde_json::from_str::<Value>(REQUEST)?,
                "responseTimeoutInSeconds": 60,
            },
        });
        let started = Instant::now();
        let path = format!("/jobs/v2/{id}");
        self.operator
            .send(reqwest::Method::PUT, &path, &body)
            .await?;
        loop {
            let job = self.operator.get(&path).await?;
            match job["status"].as_str() {
                Some("completed") => {
                    let taken = started.elapsed();
                    ensure!(
                        job["deviceJobStatistics"]["succeededCount"] == doors,
                        "not every door answered: {job}"
                    );
                    return Ok(taken);
                }
                Some("failed" | "cancelled") | None => bail!("the job did not complete: {job}"),
                Some(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
            ensure!(
                started.elapsed() < Duration::from_secs(120),
                "the job did not end within 120 s: {job}"
            );
        }
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    Ok(file?.write_all(text.as_bytes())?)
}

async fn register(operator: &Operator, name: &str) -> anyhow::Result<SharedAccessKey> {
    let body = json!({"deviceId": name, "status": "enabled", "authentication": {"type": "sas"}});
    let identity = operator
        .send(reqwest::Method::PUT, &format!("/devices/{name}"), &body)
        .await?;
    let key = identity["authentication"]["symmetricKey"]["primaryKey"]
        .as_str()
        .context("a generated key")?;
    Ok(SharedAccessKey::from_base64(key)?)
}

async fn register_one(operator: &Operator, name: String) -> anyhow::Result<Device> {
    let key = register(operator, &name).await?;
    let id: DeviceId = name.parse()?;
    let expiry = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs()
        + 3600;
    Ok(Device {
        client_id: name,
        login: Some((
            format!("localhost/{id}/?api-version=2021-04-12"),
            sas::sign(&format!("localhost/devices/{id}"), &key, expiry, None),
        )),
        filter: "$iothub/methods/POST/#".to_owned(),
    })
}

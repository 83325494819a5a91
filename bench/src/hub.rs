//! The hub under test: a child process of this program, used only over REST.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use door_hub::Hub as DoorHub;
use door_hub::config::HubConfig;
use iothub_client::{ClientOptions, HubClient, NewDevice};
use iothub_protocol::id::{DeviceId, JobId};
use iothub_protocol::job::{JobAction, JobRequest, JobStatus};
use iothub_protocol::method::MethodRequest;
use iothub_protocol::sas::{self, SharedAccessKey};
use iothub_protocol::twin::{SectionPatch, TwinPatch};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::fleet::{Device, Endpoint};
use crate::mosquitto::REQUEST;
use crate::process::Worker;

/// Concurrent registrations.
const AT_ONCE: u32 = 16;

/// Pause between two calls that are timed during something else.
pub(crate) const BETWEEN_CALLS: Duration = Duration::from_millis(2);

/// Runs the hub in this process until standard input ends; prints its MQTT address as a line of
/// JSON. Operators find the other one in their connection string.
pub(crate) async fn serve(data: PathBuf, mqtt_port: u16) -> anyhow::Result<()> {
    let mut config = HubConfig::loopback(data);
    config.mqtt_address.set_port(mqtt_port);
    let hub = DoorHub::start(config).await?;
    println!("{}", json!(hub.mqtt_address()));
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

impl Certificate {
    /// Those in a hub's data folder.
    pub(crate) fn below(data: &Path) -> Self {
        Self {
            ca: data.join("ca.pem"),
            chain: data.join("server.pem"),
            key: data.join("server.key"),
        }
    }
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

/// An operator's access to the hub with this data folder.
pub(crate) fn operator(data: &Path) -> anyhow::Result<HubClient> {
    let connection = std::fs::read_to_string(data.join("service-connection-string"))?;
    let options = ClientOptions {
        ca_pem: Some(std::fs::read(Certificate::below(data).ca)?),
        timeout: Duration::from_secs(60),
        ..ClientOptions::default()
    };
    Ok(HubClient::new(connection.trim().parse()?, &options)?)
}

/// Times a call to `door`.
pub(crate) async fn time_call(operator: &HubClient, door: &str) -> anyhow::Result<Duration> {
    let door = door.parse()?;
    let call = lock_call()?;
    let started = Instant::now();
    let answer = operator.invoke(&door, &call).await?;
    let taken = started.elapsed();
    ensure!(answer.status == 200, "unexpected answer {answer:?}");
    Ok(taken)
}

/// The child, and an operator's access to it.
pub(crate) struct Hub {
    pub(crate) worker: Worker,
    pub(crate) endpoint: Endpoint,
    pub(crate) certificate: Certificate,
    pub(crate) operator: HubClient,
    /// The hub's data folder.
    pub(crate) data: PathBuf,
}

impl Hub {
    /// Starts the child on a data folder below `scratch`.
    pub(crate) async fn start(scratch: &Path) -> anyhow::Result<Self> {
        Self::start_at(scratch, 0).await
    }

    /// Like [`Hub::start`], with a fixed MQTT port.
    pub(crate) async fn start_at(scratch: &Path, mqtt_port: u16) -> anyhow::Result<Self> {
        let data = scratch.join("hub");
        let port = mqtt_port.to_string();
        let folder = data.to_str().context("a path in UTF-8")?;
        let mut worker = Worker::start("hub", &["--data", folder, "--mqtt-port", &port])?;
        let address = worker.receive().await?;
        let certificate = Certificate::below(&data);
        let tls = client_config(&certificate.ca)?;
        Ok(Self {
            worker,
            endpoint: Endpoint { address, tls },
            operator: operator(&data)?,
            certificate,
            data,
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

    /// Assigns the doors whose names begin with `prefix` to a floor.
    pub(crate) async fn assign(
        &self,
        prefix: &str,
        building: u32,
        floor: u32,
    ) -> anyhow::Result<()> {
        let patch = TwinPatch {
            etag: Some("*".to_owned()),
            desired: SectionPatch::Values(
                [("building", building), ("floor", floor)]
                    .map(|(key, value)| (key.to_owned(), json!(value)))
                    .into_iter()
                    .collect(),
            ),
            ..TwinPatch::default()
        };
        let doors = format!("STARTSWITH(deviceId, '{prefix}')");
        let id = format!("assign-{prefix}");
        let job = self.start_job(id, JobAction::UpdateTwin(patch), &doors);
        let job = job.await?;
        while !self.operator.job(&job).await?.status.is_over() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
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
        let ping = MethodRequest::new("getState".parse()?)
            .with_payload(to_raw_value(&json!({}))?)
            .with_connect_timeout(within)?
            .with_response_timeout(within)?;
        self.operator.invoke(&name.parse()?, &ping).await?;
        Ok(())
    }

    /// Calls a method, which the device must answer with 200.
    pub(crate) async fn call(
        &self,
        name: &str,
        method: &str,
        payload: &Value,
    ) -> anyhow::Result<()> {
        let call = MethodRequest::new(method.parse()?).with_payload(to_raw_value(payload)?);
        let answer = self.operator.invoke(&name.parse()?, &call).await?;
        ensure!(answer.status == 200, "{method} was answered {answer:?}");
        Ok(())
    }

    /// Gives a door 20 timed entries and a week with 24 holidays, and waits until it has both.
    pub(crate) async fn schedule(&self, name: &str, within: Duration) -> anyhow::Result<()> {
        let reason = "the building is closed over night";
        let entry = |day| {
            json!({"want": "locked", "from": format!("2090-01-{day:02}T21:00:00Z"),
                "until": format!("2090-01-{day:02}T22:00:00Z"), "by": "bench", "reason": reason})
        };
        let entries = (1..=20).map(|day| (format!("night-{day}"), entry(day)));
        let open = json!({"days": "mon-fri", "from": "06:00", "to": "22:00", "want": "released"});
        let holidays: Vec<_> = (1..=24).map(|day| format!("2090-02-{day:02}")).collect();
        let text = json!({"name": "office-hours", "zone": "Europe/Berlin", "window": [open],
            "exception": [{"dates": holidays}]})
        .to_string();
        let digest: String = Sha256::digest(&text)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let week = json!({"digest": digest, "text": text, "now": false});
        let desired = json!({"timed": entries.collect::<Value>(), "schedule": week});
        self.desire(name, &desired, within).await
    }

    /// Sets desired properties of an agent, and waits until its timed entries are armed and its
    /// week is in force.
    pub(crate) async fn desire(
        &self,
        name: &str,
        desired: &Value,
        within: Duration,
    ) -> anyhow::Result<()> {
        let count = |value: &Value| value.as_object().map_or(0, serde_json::Map::len);
        let values = desired.as_object().cloned().unwrap_or_default();
        let patch = TwinPatch {
            desired: SectionPatch::Values(values.into_iter().collect()),
            ..TwinPatch::default()
        };
        let id = name.parse()?;
        self.operator.twin_patch(&id, &patch, None).await?;
        let began = Instant::now();
        loop {
            let twin = self.operator.twin(&id).await?;
            let reported = json!(twin.properties.reported.values);
            let armed = reported["timed"].as_object().map_or(0, |timed| {
                let states = timed.values().filter(|entry| entry["state"] == "armed");
                states.count()
            });
            let has_week = desired.get("schedule").is_none() || reported["schedule"]["ac"] == 200;
            if armed == count(&desired["timed"]) && has_week {
                return Ok(());
            }
            ensure!(
                began.elapsed() < within,
                "{name} did not take its schedule: {reported}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the hub counts every door as connected.
    pub(crate) async fn wait_for_connected(&self, doors: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let counted = self.operator.statistics().await?.connected_device_count;
            if counted == u64::from(doors) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the hub counts {counted} of {doors} doors after 60 s"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Times `calls` single method calls through REST, one after another, over doors in turn.
    pub(crate) async fn time_calls(&self, doors: u32, calls: u32) -> anyhow::Result<Vec<Duration>> {
        let mut taken = Vec::with_capacity(calls as usize);
        for n in 0..calls {
            taken.push(time_call(&self.operator, &door(n % doors)).await?);
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
            taken.push(time_call(&self.operator, &door(n)).await?);
            if taken.len() % 100 == 0 {
                resident = resident.max(self.worker.process.usage()?.resident);
            }
            // Like an operator's tools: a loop without a pause would itself be the load.
            tokio::time::sleep(BETWEEN_CALLS).await;
        }
        Ok((taken, resident))
    }

    /// Starts a lock job over every door.
    pub(crate) async fn start_lock(&self, round: u32) -> anyhow::Result<JobId> {
        let call = lock_call()?.with_response_timeout(Duration::from_secs(60))?;
        self.start_job(format!("bench-{round}"), JobAction::Method(call), "*")
            .await
    }

    /// Locks down every door as `doorctl lockdown` does: a count of older doors, a method job, a
    /// twin job.
    pub(crate) async fn lock_down_all(&self, round: u32, doors: u32) -> anyhow::Result<()> {
        let name = format!("lockdown-{round}");
        let patch = desire("lockdown", json!({"id": name, "by": "bench"}));
        let call = MethodRequest::new("lockdown".parse()?)
            .with_payload(to_raw_value(&json!({"commandId": name, "by": "bench"}))?)
            .with_response_timeout(Duration::from_secs(60))?;
        let older = "SELECT COUNT() AS doors FROM devices WHERE is_defined(properties.reported.door) \
                     AND NOT is_defined(properties.reported.device.features.lockdown)";
        self.operator.query::<Value>(older).await?;
        let method = self
            .start_job(name.clone(), JobAction::Method(call), "*")
            .await?;
        let twin = self
            .start_job(format!("{name}-twin"), JobAction::UpdateTwin(patch), "*")
            .await?;
        self.wait_for_job(&method, doors).await?;
        self.wait_for_job(&twin, doors).await
    }

    /// Starts a twin job that stages a timed entry at every door of the fleet, and at no other.
    pub(crate) async fn start_staging(
        &self,
        round: u32,
        id: &str,
        entry: Value,
    ) -> anyhow::Result<JobId> {
        let patch = desire("timed", json!({ id: entry }));
        let doors = "STARTSWITH(deviceId, 'door-')";
        let name = format!("{id}-{round}-stage");
        self.start_job(name, JobAction::UpdateTwin(patch), doors)
            .await
    }

    async fn start_job(&self, id: String, action: JobAction, on: &str) -> anyhow::Result<JobId> {
        let id: JobId = id.parse()?;
        let request = JobRequest {
            job_id: Some(id.clone()),
            action,
            query_condition: on.to_owned(),
            start_time: None,
            max_execution_time: Duration::from_secs(300),
        };
        self.operator.job_create(&id, &request).await?;
        Ok(id)
    }

    pub(crate) async fn wait_for_job(&self, id: &JobId, doors: u32) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let job = self.operator.job(id).await?;
            match job.status {
                JobStatus::Completed => {
                    let counted = job.device_job_statistics.as_ref();
                    ensure!(
                        counted.is_some_and(|counted| counted.succeeded_count == u64::from(doors)),
                        "not every door answered: {job:?}"
                    );
                    return Ok(());
                }
                JobStatus::Failed | JobStatus::Cancelled => {
                    bail!("the job did not complete: {job:?}")
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
            ensure!(
                started.elapsed() < Duration::from_secs(120),
                "the job did not end within 120 s: {job:?}"
            );
        }
    }
}

fn door(n: u32) -> String {
    format!("door-{n:05}")
}

/// The patch of a twin job that sets one desired property.
fn desire(key: &str, value: Value) -> TwinPatch {
    TwinPatch {
        etag: Some("*".to_owned()),
        desired: SectionPatch::Values([(key.to_owned(), value)].into_iter().collect()),
        ..TwinPatch::default()
    }
}

/// The call that is measured.
fn lock_call() -> anyhow::Result<MethodRequest> {
    let payload = RawValue::from_string(REQUEST.to_owned())?;
    Ok(MethodRequest::new("lockDoor".parse()?).with_payload(payload))
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    Ok(file?.write_all(text.as_bytes())?)
}

async fn register(operator: &HubClient, name: &str) -> anyhow::Result<SharedAccessKey> {
    let device = NewDevice::with_generated_keys(name.parse()?);
    let identity = operator.device_create(&device).await?;
    let keys = identity.authentication.and_then(|auth| auth.symmetric_key);
    let key = keys.and_then(|keys| keys.primary_key);
    Ok(SharedAccessKey::from_base64(
        &key.context("a generated key")?,
    )?)
}

async fn register_one(operator: &HubClient, name: String) -> anyhow::Result<Device> {
    let key = register(operator, &name).await?;
    let id: DeviceId = name.parse()?;
    let expiry = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs()
        + 24 * 3600;
    Ok(Device {
        client_id: name,
        login: Some((
            format!("localhost/{id}/?api-version=2021-04-12"),
            sas::sign(&format!("localhost/devices/{id}"), &key, expiry, None),
        )),
        filter: "$iothub/methods/POST/#".to_owned(),
    })
}

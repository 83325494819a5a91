//! A hub in this process or in its own, with its operator.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use door_hub::config::HubConfig;
use door_hub::{Hub, RunningHub};
use iothub_protocol::sas;
use tempfile::TempDir;

use crate::{DEADLINE, Operator, Process, free_port, in_an_hour};

/// A hub in this process on free ports, and its operator.
pub struct TestHub {
    pub hub: RunningHub,
    pub folder: TempDir,
    operator: Operator,
}

/// The data folder and the ports of a hub that was shut down.
pub struct StoppedHub {
    pub folder: TempDir,
    mqtt_port: u16,
    https_port: u16,
}

impl TestHub {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub async fn start_in(folder: TempDir) -> Self {
        Self::start_with(folder, |_| {}).await
    }

    /// Starts a hub with other settings.
    pub async fn start_with(folder: TempDir, change: impl FnOnce(&mut HubConfig)) -> Self {
        let mut config = HubConfig::loopback(folder.path().to_owned());
        config.mqtt_address.set_port(free_port());
        config.https_address.set_port(free_port());
        change(&mut config);
        Self::of(Hub::start(config).await.unwrap(), folder)
    }

    fn of(hub: RunningHub, folder: TempDir) -> Self {
        let owner = hub.service_connection_string().clone();
        let operator = Operator::new(owner, hub.mqtt_address().port(), hub.ca_file());
        Self {
            hub,
            folder,
            operator,
        }
    }

    /// Drops the hub like a kill of its process, and starts another on the same data.
    pub async fn restart_after_kill(self) -> Self {
        let Self { hub, folder, .. } = self;
        drop(hub);
        Self::start_in(folder).await
    }

    /// A token that one of the hub's policies signs.
    pub fn policy_token(&self, policy: &str, audience: &str) -> String {
        let policy = self.hub.policy(policy).unwrap();
        let key = &policy.keys.primary;
        sas::sign(audience, key, in_an_hour(), Some(&policy.name))
    }

    pub async fn stop(self) -> StoppedHub {
        let stopped = StoppedHub {
            mqtt_port: self.hub.mqtt_address().port(),
            https_port: self.hub.https_address().port(),
            folder: self.folder,
        };
        self.hub.shutdown().await;
        stopped
    }
}

impl StoppedHub {
    /// Starts it again on the same ports.
    pub async fn start(self) -> TestHub {
        let mut config = HubConfig::loopback(self.folder.path().to_owned());
        config.mqtt_address.set_port(self.mqtt_port);
        config.https_address.set_port(self.https_port);
        let hub = until_started("the hub", || Hub::start(config.clone())).await;
        TestHub::of(hub, self.folder)
    }
}

impl Deref for TestHub {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.operator
    }
}

/// Starts something whose predecessor has just ended, with retries: until a process forked by
/// another test executes its program, it may still hold a port or a lock.
pub(crate) async fn until_started<T, E: Debug, F: Future<Output = Result<T, E>>>(
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

/// A `door-hub serve` on loopback, and its operator.
pub struct HubProcess {
    pub process: Process,
    pub operator: Operator,
    pub data: PathBuf,
    pub https_port: u16,
    program: PathBuf,
}

impl HubProcess {
    /// Starts `program` on free ports; `change` adds arguments or environment. Its log goes to
    /// `hub.log` in the data folder.
    pub fn start(program: &Path, data: &Path, change: impl FnOnce(&mut Command)) -> Self {
        Self::start_on(program, data, (free_port(), free_port()), change)
    }

    /// Like [`Self::start`], on these ports for MQTT and HTTPS.
    pub fn start_on(
        program: &Path,
        data: &Path,
        (mqtt_port, https_port): (u16, u16),
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let mut folder = std::fs::DirBuilder::new();
        folder.recursive(true).mode(0o700).create(data).unwrap();
        let log = std::fs::File::create(data.join("hub.log")).unwrap();
        let mut command = Command::new(program);
        command
            .args(["serve", "--name", "localhost", "--listen", "127.0.0.1"])
            .args(["--mqtt-port", &mqtt_port.to_string()])
            .args(["--https-port", &https_port.to_string(), "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        change(&mut command);
        let mut process = Process::spawn(&mut command);
        let stdout = process.stdout();
        let (tx, rx) = mpsc::channel();
        std::thread::spawn(move || stdout.map(|line| tx.send(line)).all(|sent| sent.is_ok()));
        let (mut mqtt_port, mut https_port) = (None, None);
        loop {
            let line = rx.recv_timeout(DEADLINE);
            let line = line.expect("the hub does not serve; hub.log has the reason");
            let port = || line.rsplit(':').next().unwrap().parse().ok();
            if line.contains("MQTT") {
                mqtt_port = port();
            } else if line.contains("REST") {
                https_port = port();
            } else if line.contains("operator") {
                break;
            }
        }
        Self {
            process,
            operator: Operator::of_folder(data, mqtt_port.unwrap()),
            data: data.to_owned(),
            https_port: https_port.unwrap(),
            program: program.to_owned(),
        }
    }

    /// Kills the hub, as a power cut does; returns what starts it again on its ports.
    pub fn kill(self) -> impl FnOnce() -> Self {
        let ports = (self.operator.mqtt_port, self.https_port);
        let Self {
            process,
            data,
            program,
            ..
        } = self;
        process.kill();
        move || Self::start_on(&program, &data, ports, |_| {})
    }

    /// The address of the REST API.
    pub fn https(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.https_port))
    }

    /// An operator with a new connection.
    pub fn new_operator(&self) -> Operator {
        Operator::of_folder(&self.data, self.operator.mqtt_port)
    }
}

//! The peer: mosquitto over TLS with the hub's certificate, a plain request/response fan-out at QoS
//! 0 without storage.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, Publish};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::fleet::{self, Connection, Device, Endpoint};
use crate::hub::{Certificate, client_config};
use crate::process::Process;

/// Requests written in a row before answers are read.
const SLICE: u32 = 64;

/// The request as the hub sends it to each door, byte for byte, so that both carry the same load.
pub(crate) const REQUEST: &str =
    r#"{"lockTime":"10m","commandId":"bench-lock","until":"2026-11-23T22:10:00Z"}"#;

pub(crate) struct Mosquitto {
    pub(crate) process: Process,
    endpoint: Endpoint,
    /// Killed when dropped.
    _child: Child,
}

/// The connected fleet and the client that sends the requests.
pub(crate) struct Fanout {
    requester: Connection,
    doors: u32,
    _fleet: JoinSet<anyhow::Result<()>>,
}

impl Mosquitto {
    /// Starts mosquitto on a free loopback port.
    pub(crate) async fn start(scratch: &Path, certificate: &Certificate) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let config = scratch.join("mosquitto.conf");
        // `user` lets a mosquitto started by root read its key.
        std::fs::write(
            &config,
            format!(
                "listener {} 127.0.0.1\nallow_anonymous true\nuser root\ncertfile {}\nkeyfile {}\n\
                 max_queued_messages 0\nset_tcp_nodelay true\n",
                address.port(),
                certificate.chain.display(),
                certificate.key.display()
            ),
        )?;
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context(
                "starting mosquitto (Debian package `mosquitto`; `--no-peer` runs without it)",
            )?;
        let endpoint = Endpoint {
            address,
            tls: client_config(&certificate.ca)?,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if Instant::now() > deadline {
                bail!("mosquitto did not listen on {address} within 10 s");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self {
            process: Process::of("mosquitto", &child)?,
            _child: child,
            endpoint,
        })
    }

    /// Connects `doors` answering clients and one requesting client.
    pub(crate) async fn connect_fleet(&self, doors: u32) -> anyhow::Result<Fanout> {
        let devices = (0..doors)
            .map(|n| Device {
                client_id: format!("door-{n:05}"),
                login: None,
                filter: format!("request/door-{n:05}"),
            })
            .collect();
        let answer = |topic: &str| Some(format!("answer/{}", topic.strip_prefix("request/")?));
        let (fleet, _) = fleet::connect(&self.endpoint, devices, answer, &[]).await?;
        let requester = Device {
            client_id: "asker".to_owned(),
            login: None,
            filter: "answer/+".to_owned(),
        };
        let requester = Connection::open(&self.endpoint, &requester).await?;
        Ok(Fanout {
            requester,
            doors,
            _fleet: fleet,
        })
    }
}

impl Fanout {
    /// Sends one request per door and waits for all answers; returns the wall time.
    pub(crate) async fn request_all(&mut self, limit: Duration) -> anyhow::Result<Duration> {
        let started = Instant::now();
        tokio::time::timeout(limit, async {
            let mut answered = 0;
            let mut requested = 0;
            while answered < self.doors {
                // Stay ahead of the answers: enough to keep the broker busy, little enough for it
                // to drop nothing.
                while requested < self.doors && requested - answered < 8 * SLICE {
                    for n in requested..(requested + SLICE).min(self.doors) {
                        self.requester.queue(&Packet::Publish(Publish::new(
                            format!("request/door-{n:05}"),
                            QoS::AtMostOnce,
                            REQUEST,
                        )))?;
                    }
                    self.requester.flush().await?;
                    requested = (requested + SLICE).min(self.doors);
                }
                if let Packet::Publish(_) = self.requester.next().await? {
                    answered += 1;
                }
            }
            anyhow::Ok(())
        })
        .await
        .with_context(|| format!("mosquitto did not carry every answer within {limit:?}"))??;
        Ok(started.elapsed())
    }
}

//! The peer: mosquitto with the hub's certificate, a plain request/response fan-out at QoS 0
//! without storage.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::fleet::Device;
use crate::hub::Certificate;
use crate::process::Process;

/// The request as the hub sends it to each door, byte for byte, so that both carry the same load.
pub(crate) const REQUEST: &str =
    r#"{"lockTime":"10m","commandId":"bench-lock","until":"2026-11-23T22:10:00Z"}"#;

pub(crate) struct Mosquitto {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// Killed when dropped.
    pub(crate) child: Child,
}

impl Mosquitto {
    /// Starts mosquitto on a free loopback port, with TLS if there is a certificate.
    pub(crate) async fn start(
        scratch: &Path,
        certificate: Option<&Certificate>,
    ) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let config = scratch.join("mosquitto.conf");
        // `user` lets a mosquitto started by root read its key.
        let mut text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n\
             set_tcp_nodelay true\n",
            address.port()
        );
        if let Some(Certificate { chain, key, .. }) = certificate {
            let (chain, key) = (chain.display(), key.display());
            text += &format!("certfile {chain}\nkeyfile {key}\n");
        }
        std::fs::write(&config, text)?;
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context(
                "starting mosquitto (Debian package `mosquitto`); `--sides hub,floor` needs none",
            )?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if Instant::now() > deadline {
                bail!("mosquitto did not listen on {address} within 10 s");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self {
            process: Process::of("mosquitto", &child)?,
            child,
            address,
        })
    }

    /// The doors, each with a topic of its own.
    pub(crate) fn devices(doors: u32) -> Vec<Device> {
        let device = |n| Device {
            client_id: format!("door-{n:05}"),
            login: None,
            filter: format!("request/door-{n:05}"),
        };
        (0..doors).map(device).collect()
    }
}

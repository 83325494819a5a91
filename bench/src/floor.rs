//! The floor: a server that does nothing but move the bytes of a fan-out, on one thread over epoll
//! with rustls. What it costs is the kernel's and TLS's share of any server's cost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use mio::event::Source as _;
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::generator::{FAN_OUT, command, reply};
use crate::link::{Buffers, Link};
use crate::mosquitto::REQUEST;
use crate::mqtt;

/// Requests that are sent between two looks at the sockets.
const SLICE: usize = 64;
/// As long as the hub's.
const TOPIC: &[u8] = b"$iothub/methods/POST/lockDoor/?$rid=1";

const LISTENER: Token = Token(usize::MAX);
const COMMANDS: Token = Token(usize::MAX - 1);

/// The first line on standard input.
#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Certificate chain and key; none: no TLS.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

/// Prints its address, and a line for each fan-out when the last answer is there.
pub(crate) fn run() -> anyhow::Result<()> {
    let orders: Orders = serde_json::from_str(&command()?)?;
    let tls = orders.certificate.map(server_config).transpose()?;
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    SourceFd(&0).register(poll.registry(), COMMANDS, Interest::READABLE)?;
    reply(&listener.local_addr()?)?;

    let (mut events, mut buffers) = (Events::with_capacity(1024), Buffers::new());
    let mut request = Vec::new();
    mqtt::write_publish(&mut request, [TOPIC, b""], REQUEST.as_bytes());
    let mut links: Vec<Link> = Vec::new();
    let (mut requested, mut answered) = (usize::MAX, 0);
    loop {
        let rest = links.get_mut(requested..).unwrap_or_default();
        for link in rest.iter_mut().take(SLICE) {
            link.send(&request)?;
            requested += 1;
        }
        let timeout = (requested < links.len()).then_some(Duration::ZERO);
        poll.poll(&mut events, timeout)?;
        for event in &events {
            match event.token() {
                COMMANDS => match command()?.trim() {
                    "" => return Ok(()),
                    FAN_OUT => (requested, answered) = (0, 0),
                    other => bail!("unknown command `{other}`"),
                },
                LISTENER => {
                    while let Ok((mut socket, _)) = listener.accept() {
                        let interest = Interest::READABLE | Interest::WRITABLE;
                        let token = Token(links.len());
                        poll.registry().register(&mut socket, token, interest)?;
                        let tls = tls.clone().map(rustls::ServerConnection::new).transpose()?;
                        links.push(Link::new(socket, tls.map(Into::into))?);
                    }
                }
                Token(n) => {
                    let link = links.get_mut(n).context("a closed link")?;
                    link.send(&[])?;
                    if event.is_readable() {
                        let open = link.receive(&mut buffers, |frame, out| {
                            match frame.kind() {
                                1 => out.extend(mqtt::CONNACK),
                                8 => out.extend(mqtt::SUBACK),
                                _ => answered += 1,
                            }
                            Ok(())
                        })?;
                        if !open {
                            return Ok(());
                        }
                    }
                }
            }
        }
        if answered == links.len() && requested == answered {
            (requested, answered) = (usize::MAX, 0);
            reply(&())?;
        }
    }
}

fn server_config((chain, key): (PathBuf, PathBuf)) -> anyhow::Result<Arc<ServerConfig>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(chain)?.collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain?, PrivateKeyDer::from_pem_file(key)?)?;
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

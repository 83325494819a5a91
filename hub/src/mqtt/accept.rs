//! From a new socket to an accepted CONNECT. Until then the peer is unauthenticated: it may send
//! little and take only little time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use iothub_protocol::id::DeviceId;
use thiserror::Error;

use super::codec::{self, Connect, ConnectReturn, Malformed, Packet};
use super::link::{Received, SocketLink};
use super::listener::Gateway;
use super::machine::{LastWill, Session, Violation};
use crate::auth::{DeviceLogin, Identity, LoginError, Trust, authenticate_device};
use crate::identity::Proof;
use crate::listen::ConnectionSlot;
use crate::service::ServiceError;
use crate::session::Entry;
use crate::types::ConnectionEpoch;

/// The most bytes of handshake and CONNECT together; a token has a few hundred.
const MAX_BEFORE_CONNECT: usize = 8 * 1024;

/// The deadline for both together.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The longest idle timeout. It is one and a half times the keep alive, and at most this (Azure:
/// 29.45 minutes).
const MAX_IDLE_TIMEOUT: Duration = Duration::from_secs(1767);

pub(super) struct Accepted {
    pub(super) session: Session,
    pub(super) entry: Arc<Entry>,
    pub(super) epoch: ConnectionEpoch,
    /// Bytes that arrived after CONNECT.
    pub(super) unread: Vec<u8>,
}

/// Why a connection was refused.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    #[error("the connection failed")]
    Socket(#[from] io::Error),
    #[error("the peer closed it before CONNECT")]
    Closed,
    #[error("it was idle while others waited")]
    Evicted,
    #[error("more than {MAX_BEFORE_CONNECT} bytes without a complete CONNECT")]
    TooManyBytes,
    #[error("malformed packet: {0}")]
    Malformed(#[from] Malformed),
    #[error("the first packet is not CONNECT")]
    NotConnect,
    #[error("protocol level {0}; expected 4, MQTT 3.1.1")]
    Level(u8),
    #[error("`{device}` may not connect: {error}")]
    Login { device: String, error: LoginError },
    #[error("`{device}` may not connect: {error}")]
    Will { device: DeviceId, error: Violation },
    #[error("`{device}` cannot be served now: policies have just been changed")]
    PolicyChanged { device: DeviceId },
    #[error("`{device}` cannot be served now")]
    Service {
        device: String,
        #[source]
        error: ServiceError,
    },
}

impl Refusal {
    /// The reason's label in the metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Socket(_) => "socket",
            Self::Closed => "closed",
            Self::Evicted => "gave_way",
            Self::TooManyBytes => "too_long",
            Self::Malformed(_) | Self::NotConnect | Self::Will { .. } => "not_allowed",
            Self::Level(_) => "protocol_level",
            Self::Login { error, .. } => error.name(),
            Self::PolicyChanged { .. } | Self::Service { .. } => "unavailable",
        }
    }

    /// The return code sent before the connection is closed; none if the peer does not speak MQTT.
    const fn code(&self) -> Option<ConnectReturn> {
        match self {
            Self::Level(_) => Some(ConnectReturn::UnacceptableProtocol),
            Self::Login {
                error: LoginError::DeviceId,
                ..
            } => Some(ConnectReturn::IdentifierRejected),
            Self::Login { .. } => Some(ConnectReturn::NotAuthorized),
            Self::PolicyChanged { .. } | Self::Service { .. } => {
                Some(ConnectReturn::ServerUnavailable)
            }
            Self::Socket(_)
            | Self::Closed
            | Self::Evicted
            | Self::TooManyBytes
            | Self::Malformed(_)
            | Self::NotConnect
            | Self::Will { .. } => None,
        }
    }
}

/// Reads the handshake and CONNECT, authenticates the device, and adds it to the registry. When
/// this returns `Ok`, CONNACK has been sent.
pub(super) async fn accept(
    link: &Arc<SocketLink>,
    gateway: &Gateway,
    slot: &ConnectionSlot,
    peer: SocketAddr,
) -> Result<Accepted, Refusal> {
    let accepted = connect(link, gateway, slot, peer).await;
    if let Some(code) = accepted.as_ref().err().and_then(Refusal::code) {
        let mut answer = Vec::new();
        codec::write_connack(&mut answer, false, code);
        // The peer may be gone already.
        let _ = link.send(&answer);
    }
    accepted
}

async fn connect(
    link: &Arc<SocketLink>,
    gateway: &Gateway,
    slot: &ConnectionSlot,
    peer: SocketAddr,
) -> Result<Accepted, Refusal> {
    let mut plain = Vec::new();
    let mut allowance = MAX_BEFORE_CONNECT;
    loop {
        link.ready().await?;
        link.flush()?;
        match link.receive(&mut plain, allowance)? {
            Received::End => return Err(Refusal::Closed),
            Received::Nothing => continue,
            Received::Bytes(count) => allowance -= count,
        }
        if let Some((packet, length)) = codec::decode(&plain, MAX_BEFORE_CONNECT)? {
            let connect = match packet {
                Packet::Connect(connect) => connect,
                Packet::ConnectOfLevel(level) => return Err(Refusal::Level(level)),
                _ => return Err(Refusal::NotConnect),
            };
            // From here on the peer waits for the hub.
            slot.set_busy();
            let (session, entry, epoch) = authenticate(&connect, link, gateway, peer).await?;
            plain.drain(..length);
            return Ok(Accepted {
                session,
                entry,
                epoch,
                unread: plain,
            });
        }
        if allowance == 0 {
            return Err(Refusal::TooManyBytes);
        }
    }
}

async fn authenticate(
    connect: &Connect<'_>,
    link: &Arc<SocketLink>,
    gateway: &Gateway,
    peer: SocketAddr,
) -> Result<(Session, Arc<Entry>, ConnectionEpoch), Refusal> {
    let policies = gateway.services.policy.version();
    let (identity, etag, model_id) = login(connect, link, gateway).await?;
    let device = identity.device.clone();
    let will = connect
        .will
        .as_ref()
        .map(|will| LastWill::new(will, &device))
        .transpose();
    let will = will.map_err(|error| Refusal::Will {
        device: device.clone(),
        error,
    })?;

    // The registry comes before the store: a concurrent change of the identity is either seen
    // there, or finds the connection here.
    let epoch = gateway.services.session.begin();
    let now = Instant::now();
    let entry = Arc::new(Entry::new(
        device.clone(),
        identity.proof,
        Arc::clone(link) as _,
        epoch.0,
        now,
        idle_timeout(connect.keep_alive_s),
        Some(
            now + Duration::from_secs(identity.expires_unix_s.saturating_sub(unix_now_s()))
                .min(MAX_TOKEN_LIFE),
        ),
    ));
    entry.set_peer(peer);
    gateway.registry.insert(&entry);
    let pending = PendingConnection {
        gateway,
        entry: &entry,
        epoch,
        accepted: false,
    };
    if matches!(entry.proof(), Proof::Policy(_)) && gateway.services.policy.version() != policies {
        // The search for connections of the changed policy may have missed this one.
        return Err(Refusal::PolicyChanged { device });
    }
    let started = gateway
        .services
        .session
        .connected(&device, etag, epoch, connect.clean_session, model_id)
        .await;
    let start = started.map_err(|error| Refusal::Service {
        device: device.to_string(),
        error,
    })?;
    let mut answer = Vec::new();
    codec::write_connack(&mut answer, start.session_present, ConnectReturn::Accepted);
    link.send(&answer)?;
    pending.accepted();
    let session = Session::new(device, start.subscriptions, will);
    // After CONNACK: a call that waited for the device may be sent now.
    gateway.registry.subscribed(&entry, session.subscriptions());
    Ok((session, entry, epoch))
}

/// Removes a connection that is not accepted in the end from the registry and the store, also when
/// its deadline passes while the store is slow.
struct PendingConnection<'a> {
    gateway: &'a Gateway,
    entry: &'a Arc<Entry>,
    epoch: ConnectionEpoch,
    accepted: bool,
}

impl PendingConnection<'_> {
    fn accepted(mut self) {
        self.accepted = true;
    }
}

impl Drop for PendingConnection<'_> {
    fn drop(&mut self) {
        if !self.accepted {
            self.gateway.remove_in_background(self.entry, self.epoch);
        }
    }
}

/// A cap that avoids overflow of the clock; a device whose token never expires must reconnect after
/// ten years.
const MAX_TOKEN_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The identity, the etag of the stored identity that authenticated it, and the announced model.
async fn login(
    connect: &Connect<'_>,
    link: &SocketLink,
    gateway: &Gateway,
) -> Result<(Identity, String, Option<String>), Refusal> {
    let refused = |error| Refusal::Login {
        device: printable(connect.client_id),
        error,
    };
    let certificates = link.peer_certificates();
    let login = DeviceLogin {
        client_id: connect.client_id,
        user_name: connect.user_name,
        password: connect.password,
        certificates: &certificates,
    };
    let claim = login.claim().map_err(refused)?;
    let stored = gateway.services.device.authentication(&claim.device).await;
    let stored = stored.map_err(|error| Refusal::Service {
        device: claim.device.to_string(),
        error,
    })?;
    let policy = |name: &_| gateway.services.policy(name);
    let identity = authenticate_device(
        &login,
        &claim,
        Trust {
            names: &gateway.names,
            authorities: &gateway.authorities,
        },
        stored.as_ref(),
        policy,
        unix_now_s(),
    )
    .map_err(refused)?;
    Ok((
        identity,
        stored.map(|stored| stored.etag).unwrap_or_default(),
        claim.model_id,
    ))
}

/// The claimed client id, made safe for the log: at most as long as an id, and on one line.
fn printable(client_id: &str) -> String {
    client_id
        .chars()
        .take(128)
        .flat_map(char::escape_debug)
        .collect()
}

fn idle_timeout(keep_alive_s: u16) -> Duration {
    match keep_alive_s {
        0 => MAX_IDLE_TIMEOUT,
        seconds => (Duration::from_secs(seconds.into()) * 3 / 2).min(MAX_IDLE_TIMEOUT),
    }
}

fn unix_now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes as official clients interpret them: they retry after 3 and give up after the
    /// others.
    #[test]
    fn each_refusal_has_its_return_code_or_none() {
        let login = |error| Refusal::Login {
            device: "lobby".to_owned(),
            error,
        };
        let device: DeviceId = "lobby".parse().unwrap();
        for (refused, code) in [
            (Refusal::Level(5), Some(1)),
            (login(LoginError::DeviceId), Some(2)),
            (
                Refusal::PolicyChanged {
                    device: device.clone(),
                },
                Some(3),
            ),
            (
                Refusal::Service {
                    device: device.to_string(),
                    error: ServiceError::argument("the store is busy"),
                },
                Some(3),
            ),
            (login(LoginError::UnknownDevice), Some(5)),
            (login(LoginError::Disabled), Some(5)),
            (login(LoginError::Signature), Some(5)),
            (login(LoginError::Expired), Some(5)),
            (login(LoginError::Password), Some(5)),
            (login(LoginError::ClientId), Some(5)),
            (
                Refusal::Will {
                    device,
                    error: Violation::Qos2,
                },
                None,
            ),
            (Refusal::NotConnect, None),
            (Refusal::TooManyBytes, None),
            (Refusal::Closed, None),
        ] {
            let return_code = refused.code().map(|code| code as u8);
            assert_eq!(return_code, code, "{refused}");
        }
    }

    #[test]
    fn a_client_id_cannot_forge_log_lines() {
        assert_eq!(printable("door-1"), "door-1");
        assert_eq!(
            printable("a\n2026 INFO \u{1b}[2Jb"),
            "a\\n2026 INFO \\u{1b}[2Jb"
        );
        assert_eq!(printable(&"x".repeat(60_000)).len(), 128);
    }
}

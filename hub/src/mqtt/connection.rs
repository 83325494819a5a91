//! The life of one connected device: read, decode, check, process and answer its packets, strictly
//! in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use iothub_protocol::downlink::Downlink;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::accept::{Accepted, CONNECT_DEADLINE, Refusal, accept};
use super::codec::{self, Malformed};
use super::error_body::error_body;
use super::link::{Received, SocketLink};
use super::listener::Gateway;
use super::machine::{Effect, Session, Violation};
use super::rate_limiter::RateLimiter;
use crate::identity::Proof;
use crate::listen::ConnectionSlot;
use crate::service::ServiceError;
use crate::session::{DisconnectReason, Entry};
use crate::types::ConnectionEpoch;

/// The longest packet: a message of 256 KiB after a topic of 64 KiB.
const MAX_PACKET: usize = 256 * 1024 + 64 * 1024 + 4;

/// Bytes of answers that are collected before they are sent.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why a connection ended, for its log line and the event log.
#[derive(Debug, Error)]
enum ConnectionEnd {
    #[error("the device disconnected")]
    Disconnected,
    #[error("the device's connection ended without DISCONNECT")]
    Lost,
    #[error("the hub ended it: {0}")]
    Hub(DisconnectReason),
    #[error("malformed packet: {0}")]
    Malformed(#[from] Malformed),
    #[error("not allowed: {0}")]
    Violation(#[from] Violation),
    #[error("its request could not be stored: {0}")]
    Service(#[from] ServiceError),
    #[error("the connection failed: {0}")]
    Socket(#[from] io::Error),
}

impl ConnectionEnd {
    /// The reason's label in the metrics.
    const fn name(&self) -> &'static str {
        match self {
            Self::Disconnected => "disconnect",
            Self::Lost => "lost",
            Self::Hub(DisconnectReason::TakenOver) => "taken_over",
            Self::Hub(DisconnectReason::Disabled) => "disabled",
            Self::Hub(DisconnectReason::Deleted) => "deleted",
            Self::Hub(DisconnectReason::CredentialsChanged) => "credentials_changed",
            Self::Hub(DisconnectReason::TokenExpired) => "token_expired",
            Self::Hub(DisconnectReason::KeepAlive) => "keep_alive",
            Self::Hub(DisconnectReason::SlowConsumer) => "slow_consumer",
            Self::Hub(DisconnectReason::Shutdown) => "shutdown",
            Self::Malformed(_) => "malformed",
            Self::Violation(_) => "not_allowed",
            Self::Service(_) => "store",
            Self::Socket(_) => "socket",
        }
    }
}

/// Serves a socket until it ends.
pub(super) async fn serve(
    link: SocketLink,
    peer: SocketAddr,
    gateway: Arc<Gateway>,
    slot: ConnectionSlot,
    stop: CancellationToken,
) {
    let link = Arc::new(link);
    // Boxed, like everything rare: an idle connection keeps only this function's own state.
    let accept = tokio::time::timeout(
        CONNECT_DEADLINE,
        Box::pin(accept(&link, &gateway, &slot, peer)),
    );
    // A hub that stops does not wait for unauthenticated peers.
    let accepted = tokio::select! {
        accepted = accept => accepted,
        () = slot.evicted() => Ok(Err(Refusal::Evicted)),
        () = stop.cancelled() => return link.finish(),
    };
    drop(stop);
    let accepted = match accepted {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(refusal)) => {
            gateway.services.metrics.refused(refusal.name());
            log_refusal(&gateway, peer, &refusal.to_string());
            return link.finish();
        }
        Err(_) => {
            gateway.services.metrics.refused("too_late");
            let seconds = CONNECT_DEADLINE.as_secs();
            log_refusal(&gateway, peer, &format!("no CONNECT within {seconds} s"));
            return link.finish();
        }
    };
    // The device is authenticated: its place is free for others.
    drop(slot);
    let Accepted {
        session,
        entry,
        epoch,
        unread,
    } = accepted;
    tracing::debug!(%peer, device = %entry.device(), proof = ?entry.proof(), "connected");
    if let Some(earlier) = entry.identity_conflict() {
        Box::pin(record_conflict(&gateway, &entry, earlier, peer)).await;
    }
    gateway.services.metrics.connected(match entry.proof() {
        Proof::DeviceKey => "device_key",
        Proof::Policy(_) => "policy",
        Proof::Certificate => "certificate",
    });
    let mut connection = Connection {
        link: &link,
        session,
        entry: &entry,
        epoch,
        gateway: &gateway,
        rate_limiter: RateLimiter::new(Instant::now()),
    };
    let end = connection.run(unread).await;
    link.finish();
    Box::pin(connection.ended(end)).await;
}

/// Two clients displace each other's connections: each connects again when it is displaced.
async fn record_conflict(gateway: &Gateway, entry: &Entry, earlier: SocketAddr, later: SocketAddr) {
    let device = entry.device();
    tracing::warn!(%device, %earlier, %later, "two clients take turns with one identity");
    let reason = format!("{earlier} and {later} take turns with this identity");
    let recorded = gateway.services.session.identity_conflict(device, reason);
    if let Err(error) = recorded.await {
        tracing::warn!(%device, "cannot record an identity conflict: {error}");
    }
}

/// Logs a refused connection; an attacker can cause any number of them.
fn log_refusal(gateway: &Gateway, peer: SocketAddr, reason: &str) {
    match gateway.refusals.permit() {
        Some(0) => tracing::info!(%peer, "connection refused: {reason}"),
        Some(left_out) => tracing::info!(%peer, left_out, "connection refused: {reason}"),
        None => tracing::debug!(%peer, "connection refused: {reason}"),
    }
}

struct Connection<'a> {
    link: &'a Arc<SocketLink>,
    session: Session,
    entry: &'a Arc<Entry>,
    epoch: ConnectionEpoch,
    gateway: &'a Gateway,
    rate_limiter: RateLimiter,
}

impl Connection<'_> {
    /// Runs until the connection ends. `plain` holds the incomplete packet that has arrived so far;
    /// it is empty while the device is idle.
    async fn run(&mut self, mut plain: Vec<u8>) -> ConnectionEnd {
        loop {
            if !plain.is_empty() {
                match Box::pin(self.handle_all(&mut plain)).await {
                    Ok(()) => {}
                    Err(end) => return end,
                }
            }
            if let Some(reason) = self.link.closing() {
                return ConnectionEnd::Hub(reason);
            }
            if let Err(error) = self.link.ready().await {
                return error.into();
            }
            match self
                .link
                .flush()
                .and_then(|_| self.link.receive(&mut plain, usize::MAX))
            {
                Ok(Received::Bytes(_)) => self.entry.received(Instant::now()),
                Ok(Received::Nothing) => {}
                Ok(Received::End) => return ConnectionEnd::Lost,
                Err(error) => return error.into(),
            }
        }
    }

    /// Processes the complete packets in `plain` and leaves the incomplete rest. Answers to several
    /// packets are sent in one write.
    async fn handle_all(&mut self, plain: &mut Vec<u8>) -> Result<(), ConnectionEnd> {
        let mut answers = Vec::new();
        let mut consumed = 0;
        let outcome = loop {
            match codec::decode(&plain[consumed..], MAX_PACKET) {
                Ok(None) => break Ok(()),
                Err(malformed) => break Err(malformed.into()),
                Ok(Some((packet, length))) => {
                    let handled = match self.session.handle(&packet) {
                        Ok(effect) => self.apply(effect, &mut answers).await,
                        Err(violation) => Err(violation.into()),
                    };
                    consumed += length;
                    if let Err(end) = handled {
                        break Err(end);
                    }
                    let wait = self.rate_limiter.charge(Instant::now(), length);
                    if answers.len() >= MAX_ANSWER_BYTES || wait.is_some() {
                        self.flush_answers(&mut answers).await?;
                    }
                    if let Some(wait) = wait {
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        };
        // Packets before an invalid one are acknowledged all the same.
        let sent = if answers.is_empty() {
            Ok(())
        } else {
            self.link.send(&answers)
        };
        outcome?;
        sent?;
        if consumed == plain.len() {
            *plain = Vec::new();
        } else {
            plain.drain(..consumed);
        }
        Ok(())
    }

    /// Sends the answers so far and waits until the socket has taken them: small requests can have
    /// large answers, and a device that does not read them gets no more.
    async fn flush_answers(&self, answers: &mut Vec<u8>) -> Result<(), ConnectionEnd> {
        self.link.send(&std::mem::take(answers))?;
        while !self.link.flush()? {
            if let Some(reason) = self.link.closing() {
                return Err(ConnectionEnd::Hub(reason));
            }
            self.link.ready().await?;
        }
        Ok(())
    }

    /// Processes a packet's effect; answers are appended to `answers`.
    async fn apply(
        &mut self,
        effect: Effect<'_>,
        answers: &mut Vec<u8>,
    ) -> Result<(), ConnectionEnd> {
        let device = self.session.device();
        let services = &self.gateway.services;
        match effect {
            Effect::TwinGet { rid, ack } => {
                write_ack(answers, ack);
                match services.twin.device_view(device).await {
                    Ok(body) => self.write_twin_response(answers, 200, rid, None, &body),
                    Err(error) => self.write_twin_error(answers, rid, &error),
                }
            }
            Effect::ReportedPatch {
                rid,
                if_version,
                body,
                ack,
            } => {
                write_ack(answers, ack);
                match services
                    .twin
                    .patch_reported(device, Bytes::copy_from_slice(body), if_version)
                    .await
                {
                    Ok(version) => self.write_twin_response(answers, 204, rid, Some(version), &[]),
                    Err(error) => self.write_twin_error(answers, rid, &error),
                }
            }
            Effect::MethodResponse {
                rid,
                status,
                body,
                ack,
            } => {
                self.entry.answered(rid, status, body);
                write_ack(answers, ack);
            }
            Effect::Telemetry {
                properties,
                body,
                ack,
            } => {
                services
                    .telemetry
                    .accept(
                        device,
                        self.entry.proof(),
                        properties,
                        Bytes::copy_from_slice(body),
                    )
                    .await?;
                write_ack(answers, ack);
            }
            Effect::Subscribed {
                packet_id,
                granted,
                changed,
            } => {
                if changed {
                    self.subscriptions_changed().await?;
                }
                codec::write_suback(answers, packet_id, &granted);
                // A waiting call is sent after SUBACK.
                self.link.send(&std::mem::take(answers))?;
                self.gateway
                    .registry
                    .subscribed(self.entry, self.session.subscriptions());
            }
            Effect::Unsubscribed { packet_id } => {
                self.gateway
                    .registry
                    .subscribed(self.entry, self.session.subscriptions());
                self.subscriptions_changed().await?;
                codec::write_unsuback(answers, packet_id);
            }
            Effect::Pong => codec::write_pingresp(answers),
            Effect::Nothing => {}
            Effect::Disconnect => return Err(ConnectionEnd::Disconnected),
        }
        Ok(())
    }

    fn write_twin_response(
        &self,
        answers: &mut Vec<u8>,
        status: u16,
        rid: &str,
        version: Option<u64>,
        body: &[u8],
    ) {
        let response = Downlink::TwinResponse {
            status,
            rid,
            version,
        };
        if self.session.wants_twin_response(&response) {
            codec::write_publish(answers, &response.topic(), body, None);
        }
    }

    fn write_twin_error(&self, answers: &mut Vec<u8>, rid: &str, error: &ServiceError) {
        let (status, body) = error_body(error);
        self.write_twin_response(answers, status, rid, None, &body);
    }

    async fn subscriptions_changed(&self) -> Result<(), ServiceError> {
        let session = &self.session;
        self.gateway
            .services
            .session
            .subscriptions_changed(session.device(), self.epoch, session.subscriptions())
            .await
    }

    /// Cleans up: the registry, the calls, the will, the stored connection state.
    async fn ended(&mut self, end: ConnectionEnd) {
        let device = self.session.device().clone();
        self.gateway.services.metrics.disconnected(end.name());
        let reason = end.to_string();
        match &end {
            ConnectionEnd::Disconnected | ConnectionEnd::Lost | ConnectionEnd::Hub(_) => {
                tracing::debug!(%device, "{end}");
            }
            ConnectionEnd::Malformed(_)
            | ConnectionEnd::Violation(_)
            | ConnectionEnd::Service(_)
            | ConnectionEnd::Socket(_) => {
                tracing::info!(%device, "{end}");
            }
        }
        if let Some(will) = self.session.take_will() {
            if let Err(error) = self
                .gateway
                .services
                .telemetry
                .accept(
                    &device,
                    self.entry.proof(),
                    will.properties,
                    will.body.into(),
                )
                .await
            {
                tracing::warn!(%device, "cannot store the device's will: {error}");
            }
        }
        self.gateway.remove(self.entry, self.epoch, reason).await;
    }
}

fn write_ack(answers: &mut Vec<u8>, ack: Option<u16>) {
    if let Some(packet_id) = ack {
        codec::write_puback(answers, packet_id);
    }
}

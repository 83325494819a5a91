//! The task that owns the connection: connects, polls, dispatches what arrives, and reconnects.
//!
//! It awaits only the connection itself: a task that polls rumqttc and also waits for room in its
//! queue can deadlock. Each connection gets a new client and event loop, so that no packet of a
//! dead connection is sent on the next one; what must not be lost is in the event log.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use door_core::ClockQuality;
use iothub_protocol::connection_string::DeviceCredential;
use iothub_protocol::downlink::Downlink;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::Subscription;
use jiff::Timestamp;
use log::{debug, info, warn};
use rumqttc::{
    AsyncClient, Event, EventLoop, Outgoing, Packet, Publish, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::connect;
use super::methods::{self, Methods};
use super::pace::{BackOff, Displacements, Renewal};
use super::problem::{ConnectProblem, HubTarget, is_closed};
use super::{LinkEvent, LinkSettings, LinkState, LinkStatus};
use crate::config::HubConfig;
use crate::controller::Snapshot;
use crate::tls::{CertificateAge, FlooredClock, TlsCache, certificate_end};

/// Added to the keep-alive: without any event for this long the connection counts as lost.
const SILENCE_MARGIN: Duration = Duration::from_secs(60);
/// How often a due renewal checks whether no method call is pending.
const TICK: Duration = Duration::from_secs(1);
/// How often a drain checks whether the last method call is answered.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// How long a drain waits for methods to be answered, and then for DISCONNECT to be written.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// An unchanged problem is logged again after this time.
const REPEAT_PROBLEM: Duration = Duration::from_secs(600);

/// Lifetime of a connection that has no token to expire.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

pub(super) struct Driver {
    pub(super) config: Arc<HubConfig>,
    /// Why no connection is possible, if the configuration rules it out.
    pub(super) unusable: Option<String>,
    pub(super) tls: Arc<TlsCache>,
    /// New values of `config` and `unusable`.
    pub(super) settings: watch::Receiver<LinkSettings>,
    pub(super) clock: FlooredClock,
    /// Shows whether the system time is trusted.
    pub(super) snapshot: watch::Receiver<Snapshot>,
    pub(super) methods: Methods,
    pub(super) publisher: mpsc::Sender<LinkEvent>,
    /// False while [`crate::RunningAgent::disconnect_link`] holds the link down.
    pub(super) plugged: watch::Receiver<bool>,
    pub(super) status: watch::Sender<LinkStatus>,
    pub(super) stop: CancellationToken,
}

/// Why a connection ended.
enum ConnectionEnd {
    /// The agent shuts down.
    Stopped,
    /// The link was cut by [`crate::RunningAgent::disconnect_link`].
    Unplugged,
    /// The token is about to expire.
    Renewal,
    /// The settings have changed.
    Replaced,
    Lost(ConnectProblem),
    /// The hub, or the network, has closed an established connection.
    Closed(ConnectProblem),
}

/// Result of one wait in [`Driver::connection`].
enum Wakeup {
    Event(Result<Event, rumqttc::ConnectionError>),
    End(ConnectionEnd),
}

impl Driver {
    /// Runs until the agent shuts down.
    pub(super) async fn run(mut self) {
        let mut back_off = BackOff::new(self.config.reconnect_min, self.config.reconnect_max);
        let mut displacements = Displacements::default();
        let mut last_logged: Option<(ConnectProblem, Instant)> = None;
        while self.wait_until_plugged().await {
            if self.adopt_settings() {
                back_off = BackOff::new(self.config.reconnect_min, self.config.reconnect_max);
                last_logged = None;
            }
            let mut connected_at = None;
            let end = self.connection(&mut connected_at).await;
            let lasted = connected_at.map_or(Duration::ZERO, |at: Instant| at.elapsed());
            back_off.connection_ended(lasted);
            let displaced = match &end {
                ConnectionEnd::Closed(_) => displacements.closed_after(lasted),
                ConnectionEnd::Lost(_) => {
                    displacements.interrupted();
                    false
                }
                _ => false,
            };
            // The event loop is dropped by now, so the publisher cannot be waiting for it: this
            // send does not deadlock.
            if self.publisher.send(LinkEvent::Offline).await.is_err() {
                return;
            }
            match end {
                ConnectionEnd::Stopped => return,
                ConnectionEnd::Replaced => {
                    info!("{}: reconnecting with new settings", self.device());
                }
                ConnectionEnd::Unplugged => {
                    info!("{}: link cut", self.device());
                }
                ConnectionEnd::Renewal => {
                    debug!("{}: reconnecting with a new token", self.device());
                }
                ConnectionEnd::Lost(problem) | ConnectionEnd::Closed(problem) => {
                    let problem = match displaced {
                        true => self.displaced_problem(&problem),
                        false => self.name_ended_certificate(problem),
                    };
                    let wait = back_off.next(&mut rand::rng());
                    self.log_problem(&problem, wait, &mut last_logged);
                    self.set_state(LinkState::Waiting, Some(&problem.what));
                    self.pause(wait).await;
                }
            }
        }
    }

    /// Waits until the link may connect; false when the agent shuts down.
    async fn wait_until_plugged(&mut self) -> bool {
        if !*self.plugged.borrow() {
            self.set_state(LinkState::Unplugged, None);
        }
        tokio::select! {
            () = self.stop.cancelled() => false,
            plugged = self.plugged.wait_for(|plugged| *plugged) => plugged.is_ok(),
        }
    }

    /// Adopts new settings; returns whether there were any.
    fn adopt_settings(&mut self) -> bool {
        let changed = self.settings.has_changed().unwrap_or(false);
        if changed {
            let LinkSettings {
                config, unusable, ..
            } = self.settings.borrow_and_update().clone();
            self.config = config;
            self.unusable = unusable;
        }
        changed
    }

    /// Lifetime of the credential. The hub checks the validity of a certificate; SIGHUP reloads a
    /// replaced one.
    fn proof_lifetime(&self) -> Duration {
        match self.config.connection.credential {
            DeviceCredential::X509 => CERTIFICATE_LIFETIME,
            _ => self.config.sas_lifetime,
        }
    }

    async fn pause(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut snapshot = self.snapshot.clone();
        tokio::select! {
            // What failed for lack of a trusted time is retried at once.
            () = turns_true(&mut snapshot, is_clock_synchronized) => {}
            () = settings_changed(&mut self.settings) => {}
            () = sleep_until(until) => {}
            () = self.stop.cancelled() => {}
            () = link_cut(&mut self.plugged) => {}
        }
    }

    /// Runs one connection until it ends.
    async fn connection(&mut self, connected_at: &mut Option<Instant>) -> ConnectionEnd {
        self.show_certificate();
        // Loaded for each connection: a missing or replaced file needs no restart.
        let tls = match self.trust() {
            Ok(tls) => tls,
            Err(problem) => return ConnectionEnd::Lost(problem),
        };
        self.set_state(LinkState::Connecting, None);
        let token_created = Instant::now();
        let renewal = Renewal::of_token(self.proof_lifetime(), &mut rand::rng());
        let trusted = is_clock_synchronized(&self.snapshot.borrow());
        self.clock.set_trusted(trusted);
        let (client, mut event_loop) = connect::prepare(&self.config, &tls, self.clock.unix_s());
        let mut draining: Option<Instant> = None;
        let mut replacing = false;
        let end = loop {
            let wakeup = {
                // Never drop the poll half-way while the connection stays in use: a packet being
                // written would be lost.
                let mut poll = pin!(event_loop.poll());
                let silent_at = Instant::now() + self.config.keep_alive + SILENCE_MARGIN;
                loop {
                    let renew_in = renewal.from.saturating_sub(token_created.elapsed());
                    let check_in = match draining {
                        Some(_) => DRAIN_TICK,
                        None if replacing => DRAIN_TICK,
                        None => renew_in.max(TICK),
                    };
                    tokio::select! {
                        event = &mut poll => break Wakeup::Event(event),
                        () = self.stop.cancelled(), if draining.is_none() => {
                            if connected_at.is_none() {
                                break Wakeup::End(ConnectionEnd::Stopped);
                            }
                            draining = Some(Instant::now());
                        }
                        () = link_cut(&mut self.plugged) => {
                            break Wakeup::End(ConnectionEnd::Unplugged);
                        }
                        () = settings_changed(&mut self.settings), if !replacing => {
                            if connected_at.is_none() {
                                break Wakeup::End(ConnectionEnd::Replaced);
                            }
                            replacing = true;
                        }
                        () = sleep_until(silent_at) => {
                            break Wakeup::End(ConnectionEnd::Lost(self.silence_problem()));
                        }
                        () = sleep(check_in) => {
                            let idle = self.methods.is_idle();
                            let drained =
                                |since: Instant| idle || since.elapsed() >= DRAIN_TIMEOUT;
                            if draining.is_some_and(drained) {
                                break Wakeup::End(ConnectionEnd::Stopped);
                            }
                            let token_age = token_created.elapsed();
                            if connected_at.is_some() && renewal.is_due(token_age, idle) {
                                break Wakeup::End(ConnectionEnd::Renewal);
                            }
                            if replacing && idle {
                                break Wakeup::End(ConnectionEnd::Replaced);
                            }
                        }
                    }
                }
            };
            let end = match wakeup {
                Wakeup::Event(Ok(event)) => self.handle_event(event, &client, connected_at),
                Wakeup::Event(Err(error)) => {
                    let problem = ConnectProblem::of(&error, self.target());
                    Some(match connected_at {
                        Some(_) if is_closed(&error) => ConnectionEnd::Closed(problem),
                        _ => ConnectionEnd::Lost(problem),
                    })
                }
                Wakeup::End(end) => Some(end),
            };
            if let Some(end) = end {
                break end;
            }
        };
        if connected_at.is_some()
            && matches!(
                end,
                ConnectionEnd::Stopped | ConnectionEnd::Renewal | ConnectionEnd::Replaced
            )
        {
            disconnect(&client, &mut event_loop).await;
        }
        end
    }

    /// Publishes when the device's certificate ends.
    fn show_certificate(&self) {
        let files = self.config.certificate.as_ref();
        // One that cannot be read is a problem of the connection.
        let end = files.and_then(|files| certificate_end(files).ok());
        self.status.send_if_modified(|status| {
            let changed = status.certificate_end != end;
            status.certificate_end = end;
            changed
        });
    }

    /// Names an ended certificate first: a hub refuses it like an unknown one.
    fn name_ended_certificate(&self, problem: ConnectProblem) -> ConnectProblem {
        let Some(end) = self.status.borrow().certificate_end else {
            return problem;
        };
        let now = i64::try_from(self.clock.unix_s()).map(Timestamp::from_second);
        match now {
            Ok(Ok(now)) if CertificateAge::of(end, now) == CertificateAge::Ended => {
                ConnectProblem {
                    what: format!(
                        "the certificate of {} ended at {end:.0}; {}",
                        self.device(),
                        problem.what
                    ),
                    check: "hub.certificate_file, then this machine's clock".to_owned(),
                }
            }
            _ => problem,
        }
    }

    /// Loads the trust; an error says why no connection is possible.
    fn trust(&self) -> Result<Arc<ClientConfig>, ConnectProblem> {
        if let Some(reason) = &self.unusable {
            return Err(ConnectProblem {
                what: reason.clone(),
                check: "[hub] and its files (`door-agent check`)".to_owned(),
            });
        }
        let hub = &self.config;
        let trust = self
            .tls
            .client_config(hub.ca_file.as_deref(), hub.certificate.as_ref());
        trust.map_err(|error| ConnectProblem {
            what: format!("{:#}", anyhow::Error::from(error)),
            check: "that file".to_owned(),
        })
    }

    /// Handles one event; `Some` ends the connection.
    fn handle_event(
        &self,
        event: Event,
        client: &AsyncClient,
        connected_at: &mut Option<Instant>,
    ) -> Option<ConnectionEnd> {
        let result = match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                *connected_at = Some(Instant::now());
                return self.subscribe(client).err();
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    return Some(ConnectionEnd::Lost(ConnectProblem {
                        what: "the hub refused a subscription".to_owned(),
                        check: "that HostName is an IoT hub".to_owned(),
                    }));
                }
                info!(
                    "{}: connected to {}",
                    self.device(),
                    self.config.connection.host_name
                );
                self.set_state(LinkState::Connected, None);
                self.publisher.try_send(LinkEvent::Online(client.clone()))
            }
            Event::Incoming(Packet::Publish(publish)) => {
                return self.handle_publish(publish, client);
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                self.publisher.try_send(LinkEvent::Acknowledged(ack.pkid))
            }
            Event::Outgoing(Outgoing::Publish(pkid)) if pkid != 0 => {
                self.publisher.try_send(LinkEvent::Sent(pkid))
            }
            Event::Incoming(_) | Event::Outgoing(_) => Ok(()),
        };
        result
            .err()
            .map(|_| ConnectionEnd::Lost(publisher_is_stuck()))
    }

    fn subscribe(&self, client: &AsyncClient) -> Result<(), ConnectionEnd> {
        let filters = [
            Subscription::MethodRequests,
            Subscription::DesiredPatches,
            Subscription::TwinResponses,
        ];
        // QoS 0: methods are never queued, and the twin's versions reveal a missed notification.
        let filters = filters.map(|subscription| {
            SubscribeFilter::new(subscription.filter(self.device()), QoS::AtMostOnce)
        });
        client
            .try_subscribe_many(filters)
            .map_err(|_| ConnectionEnd::Lost(publisher_is_stuck()))
    }

    fn handle_publish(&self, publish: Publish, client: &AsyncClient) -> Option<ConnectionEnd> {
        let message = match Downlink::parse(&publish.topic) {
            Ok(Downlink::MethodRequest { method, rid }) => {
                let request = methods::MethodRequest {
                    method: method.to_string(),
                    rid: rid.to_string(),
                    payload: publish.payload.into(),
                };
                self.methods.start(request, client);
                return None;
            }
            Ok(Downlink::TwinResponse { status, rid, .. }) => LinkEvent::TwinResponse {
                status,
                rid: rid.to_string(),
                body: publish.payload.into(),
            },
            Ok(Downlink::DesiredPatch { version }) => LinkEvent::DesiredPatch {
                version,
                body: publish.payload.into(),
            },
            Ok(_) | Err(_) => {
                warn!(
                    "{}: ignoring a message on the unexpected topic {}",
                    self.device(),
                    publish.topic
                );
                return None;
            }
        };
        let sent = self.publisher.try_send(message);
        sent.err()
            .map(|_| ConnectionEnd::Lost(publisher_is_stuck()))
    }

    fn target(&self) -> HubTarget<'_> {
        let connection = &self.config.connection;
        HubTarget {
            host: connect::dialled_host(connection).host(),
            port: self.config.mqtt_port,
            device: connection.device_id.as_ref(),
        }
    }

    fn device(&self) -> &DeviceId {
        &self.config.connection.device_id
    }

    /// The hub keeps closing young connections: `problem` is the latest end.
    fn displaced_problem(&self, problem: &ConnectProblem) -> ConnectProblem {
        let device = self.device();
        ConnectProblem {
            what: format!(
                "{}, again soon after the start: another agent probably connects as {device}",
                problem.what
            ),
            check: format!(
                "which machines have this connection string (`doorctl events --door {device} \
                 --event identityConflict` shows their addresses)"
            ),
        }
    }

    fn silence_problem(&self) -> ConnectProblem {
        ConnectProblem {
            what: format!("nothing received from {}", self.target().host),
            check: "the network".to_owned(),
        }
    }

    /// Logs a problem if it is new or was last logged [`REPEAT_PROBLEM`] ago.
    fn log_problem(
        &self,
        problem: &ConnectProblem,
        wait: Duration,
        last_logged: &mut Option<(ConnectProblem, Instant)>,
    ) {
        let known = last_logged
            .as_ref()
            .is_some_and(|(known, at)| known == problem && at.elapsed() < REPEAT_PROBLEM);
        let ConnectProblem { what, check } = problem;
        if known {
            debug!("{}: {what}; retrying in {wait:.1?}", self.device());
        } else {
            warn!(
                "{}: hub away: {what}; check {check}; retrying in {wait:.1?}, then less often",
                self.device()
            );
            *last_logged = Some((problem.clone(), Instant::now()));
        }
    }

    fn set_state(&self, state: LinkState, problem: Option<&str>) {
        self.status.send_modify(|status| {
            if state == LinkState::Connected {
                status.connections += 1;
            }
            status.state = state;
            if let Some(problem) = problem {
                status.last_problem = Some(problem.to_owned());
            }
        });
    }
}

/// Resolves when the link is cut.
async fn link_cut(plugged: &mut watch::Receiver<bool>) {
    if plugged.wait_for(|plugged| !*plugged).await.is_err() {
        // The sender is gone: nothing can cut the link any more.
        std::future::pending::<()>().await;
    }
}

/// Resolves when the predicate turns true; pends forever if it already holds.
async fn turns_true<T>(watched: &mut watch::Receiver<T>, so: impl Fn(&T) -> bool) {
    let already = so(&watched.borrow());
    if already || watched.wait_for(so).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Resolves when there are new settings, without adopting them.
async fn settings_changed(settings: &mut watch::Receiver<LinkSettings>) {
    loop {
        match settings.has_changed() {
            Ok(true) => return,
            // The sender is gone: the settings cannot change any more.
            Err(_) => std::future::pending::<()>().await,
            Ok(false) => {}
        }
        settings.clone().changed().await.ok();
    }
}

/// Whether the wall clock is synchronised.
fn is_clock_synchronized(snapshot: &Snapshot) -> bool {
    snapshot.clock == ClockQuality::Synchronized.as_str()
}

/// Sends DISCONNECT, so that the hub notices at once.
async fn disconnect(client: &AsyncClient, event_loop: &mut EventLoop) {
    // A full queue means that the connection is stuck: just drop it.
    if client.try_disconnect().is_err() {
        return;
    }
    let written = async {
        loop {
            match event_loop.poll().await {
                Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    // The caller drops the connection in any case.
    let _ = timeout(DRAIN_TIMEOUT, written).await;
}

/// The queue to the publisher holds more than a connection can have open. If it is full, only a
/// new connection helps: it re-reads the twin and resends what was not acknowledged.
fn publisher_is_stuck() -> ConnectProblem {
    ConnectProblem {
        what: "the agent cannot keep up with the hub's messages".to_owned(),
        check: "the load of this machine".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_the_clock_becomes_trusted_but_not_if_it_already_was() {
        let within = Duration::from_secs(60);
        let (clock, mut watched) = watch::channel(false);
        let set = |set: &bool| *set;
        assert!(
            timeout(within, turns_true(&mut watched, set))
                .await
                .is_err()
        );
        let setting = async {
            sleep(Duration::from_secs(1)).await;
            clock.send_replace(true);
        };
        let (resolved, ()) = tokio::join!(timeout(within, turns_true(&mut watched, set)), setting);
        assert!(resolved.is_ok());
        assert!(
            timeout(within, turns_true(&mut watched, set))
                .await
                .is_err()
        );
    }
}

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
use super::pace::{BackOff, Renewal};
use super::problem::{Problem, Target};
use super::{FromHub, LinkSettings, LinkState, LinkStatus};
use crate::config::HubConfig;
use crate::controller::Snapshot;
use crate::tls::{FlooredClock, TlsCache};

/// Added to the keep-alive: without any event for this long the connection counts as lost.
const SILENCE_MARGIN: Duration = Duration::from_secs(60);
/// How often a due renewal checks whether no method call is pending.
const TICK: Duration = Duration::from_secs(1);
/// How often a drain checks whether the last method call is answered.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// How long a drain waits for methods to be answered, and then for DISCONNECT to be written.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);
/// An unchanged problem is logged again after this time.
const REPEAT_PROBLEM: Duration = Duration::from_secs(600);

/// Lifetime of a connection that has no token to expire.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

pub(super) struct Driver {
    pub(super) config: Arc<HubConfig>,
    /// Why no connection is possible, if the configuration rules it out.
    pub(super) away: Option<String>,
    pub(super) tls: Arc<TlsCache>,
    /// New values of `config` and `away`.
    pub(super) settings: watch::Receiver<LinkSettings>,
    pub(super) clock: FlooredClock,
    /// Shows whether the system time is trusted.
    pub(super) snapshot: watch::Receiver<Snapshot>,
    pub(super) methods: Methods,
    pub(super) publisher: mpsc::Sender<FromHub>,
    /// False while [`crate::RunningAgent::disconnect_link`] holds the link down.
    pub(super) plugged: watch::Receiver<bool>,
    pub(super) status: watch::Sender<LinkStatus>,
    pub(super) stop: CancellationToken,
}

/// Why a connection ended.
enum End {
    /// The agent shuts down.
    Stopped,
    /// The link was cut by [`crate::RunningAgent::disconnect_link`].
    Unplugged,
    /// The token is about to expire.
    Renewal,
    /// The settings have changed.
    Replaced,
    Lost(Problem),
}

/// Result of one wait in [`Driver::connection`].
enum Turn {
    Event(Result<Event, rumqttc::ConnectionError>),
    End(End),
}

impl Driver {
    /// Runs until the agent shuts down.
    pub(super) async fn run(mut self) {
        let mut back_off = BackOff::new(self.config.reconnect_min, self.config.reconnect_max);
        let mut told: Option<(Problem, Instant)> = None;
        while self.wait_until_plugged().await {
            if self.adopt_settings() {
                back_off = BackOff::new(self.config.reconnect_min, self.config.reconnect_max);
                told = None;
            }
            let mut connected_at = None;
            let end = self.connection(&mut connected_at).await;
            let stood = connected_at.map_or(Duration::ZERO, |at: Instant| at.elapsed());
            back_off.connection_ended(stood);
            // The event loop is dropped by now, so the publisher cannot be waiting for it: this
            // send does not deadlock.
            if self.publisher.send(FromHub::Offline).await.is_err() {
                return;
            }
            match end {
                End::Stopped => return,
                End::Replaced => info!("{}: reconnecting with new settings", self.device()),
                End::Unplugged => {
                    info!("{}: link cut", self.device());
                }
                End::Renewal => debug!("{}: reconnecting with a new token", self.device()),
                End::Lost(problem) => {
                    let wait = back_off.next(&mut rand::rng());
                    self.tell(&problem, wait, &mut told);
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
            let LinkSettings { config, away, .. } = self.settings.borrow_and_update().clone();
            self.config = config;
            self.away = away;
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
            () = becomes(&mut snapshot, is_set) => {}
            () = replaced(&mut self.settings) => {}
            () = sleep_until(until) => {}
            () = self.stop.cancelled() => {}
            () = unplugged(&mut self.plugged) => {}
        }
    }

    /// Runs one connection until it ends.
    async fn connection(&mut self, connected_at: &mut Option<Instant>) -> End {
        // Loaded for each connection: a missing or replaced file needs no restart.
        let tls = match self.trust() {
            Ok(tls) => tls,
            Err(problem) => return End::Lost(problem),
        };
        self.set_state(LinkState::Connecting, None);
        let token_made = Instant::now();
        let renewal = Renewal::of_token(self.proof_lifetime(), &mut rand::rng());
        let trusted = is_set(&self.snapshot.borrow());
        self.clock.set_trusted(trusted);
        let (client, mut event_loop) = connect::prepare(&self.config, &tls, self.clock.unix_s());
        let mut draining: Option<Instant> = None;
        let mut replacing = false;
        let end = loop {
            let turn = {
                // Never drop the poll half-way while the connection stays in use: a packet being
                // written would be lost.
                let mut poll = pin!(event_loop.poll());
                let silent_at = Instant::now() + self.config.keep_alive + SILENCE_MARGIN;
                loop {
                    let renew_in = renewal.from.saturating_sub(token_made.elapsed());
                    let look_in = match draining {
                        Some(_) => DRAIN_TICK,
                        None if replacing => DRAIN_TICK,
                        None => renew_in.max(TICK),
                    };
                    tokio::select! {
                        event = &mut poll => break Turn::Event(event),
                        () = self.stop.cancelled(), if draining.is_none() => {
                            if connected_at.is_none() {
                                break Turn::End(End::Stopped);
                            }
                            draining = Some(Instant::now());
                        }
                        () = unplugged(&mut self.plugged) => {
                            break Turn::End(End::Unplugged);
                        }
                        () = replaced(&mut self.settings), if !replacing => {
                            if connected_at.is_none() {
                                break Turn::End(End::Replaced);
                            }
                            replacing = true;
                        }
                        () = sleep_until(silent_at) => {
                            break Turn::End(End::Lost(self.silence()));
                        }
                        () = sleep(look_in) => {
                            let idle = self.methods.is_idle();
                            let drained =
                                |since: Instant| idle || since.elapsed() >= DRAIN_WITHIN;
                            if draining.is_some_and(drained) {
                                break Turn::End(End::Stopped);
                            }
                            let token_age = token_made.elapsed();
                            if connected_at.is_some() && renewal.is_due(token_age, idle) {
                                break Turn::End(End::Renewal);
                            }
                            if replacing && idle {
                                break Turn::End(End::Replaced);
                            }
                        }
                    }
                }
            };
            let end = match turn {
                Turn::Event(Ok(event)) => self.handle_event(event, &client, connected_at),
                Turn::Event(Err(error)) => Some(End::Lost(Problem::of(&error, self.target()))),
                Turn::End(end) => Some(end),
            };
            if let Some(end) = end {
                break end;
            }
        };
        if connected_at.is_some() && matches!(end, End::Stopped | End::Renewal | End::Replaced) {
            disconnect(&client, &mut event_loop).await;
        }
        end
    }

    /// Loads the trust; an error says why no connection is possible.
    fn trust(&self) -> Result<Arc<ClientConfig>, Problem> {
        if let Some(reason) = &self.away {
            return Err(Problem {
                what: reason.clone(),
                check: "[hub] and its files (`door-agent check`)".to_owned(),
            });
        }
        let hub = &self.config;
        let trust = self
            .tls
            .client_config(hub.ca_file.as_deref(), hub.certificate.as_ref());
        trust.map_err(|error| Problem {
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
    ) -> Option<End> {
        let result = match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                *connected_at = Some(Instant::now());
                return self.subscribe(client).err();
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    return Some(End::Lost(Problem {
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
                self.publisher.try_send(FromHub::Online(client.clone()))
            }
            Event::Incoming(Packet::Publish(publish)) => {
                return self.handle_publish(publish, client);
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                self.publisher.try_send(FromHub::Acknowledged(ack.pkid))
            }
            Event::Outgoing(Outgoing::Publish(pkid)) if pkid != 0 => {
                self.publisher.try_send(FromHub::Sent(pkid))
            }
            Event::Incoming(_) | Event::Outgoing(_) => Ok(()),
        };
        result.err().map(|_| End::Lost(publisher_is_stuck()))
    }

    fn subscribe(&self, client: &AsyncClient) -> Result<(), End> {
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
            .map_err(|_| End::Lost(publisher_is_stuck()))
    }

    fn handle_publish(&self, publish: Publish, client: &AsyncClient) -> Option<End> {
        let message = match Downlink::parse(&publish.topic) {
            Ok(Downlink::MethodRequest { method, rid }) => {
                let request = methods::Request {
                    method: method.to_string(),
                    rid: rid.to_string(),
                    payload: publish.payload.into(),
                };
                self.methods.start(request, client);
                return None;
            }
            Ok(Downlink::TwinResponse { status, rid, .. }) => FromHub::TwinResponse {
                status,
                rid: rid.to_string(),
                body: publish.payload.into(),
            },
            Ok(Downlink::DesiredPatch { version }) => FromHub::DesiredPatch {
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
        sent.err().map(|_| End::Lost(publisher_is_stuck()))
    }

    fn target(&self) -> Target<'_> {
        let connection = &self.config.connection;
        Target {
            host: connect::dialled(connection).host(),
            port: self.config.mqtt_port,
            device: connection.device_id.as_ref(),
        }
    }

    fn device(&self) -> &DeviceId {
        &self.config.connection.device_id
    }

    fn silence(&self) -> Problem {
        Problem {
            what: format!("nothing received from {}", self.target().host),
            check: "the network".to_owned(),
        }
    }

    /// Logs a problem if it is new or was last logged [`REPEAT_PROBLEM`] ago.
    fn tell(&self, problem: &Problem, wait: Duration, told: &mut Option<(Problem, Instant)>) {
        let known = told
            .as_ref()
            .is_some_and(|(known, at)| known == problem && at.elapsed() < REPEAT_PROBLEM);
        let Problem { what, check } = problem;
        if known {
            debug!("{}: {what}; retrying in {wait:.1?}", self.device());
        } else {
            warn!(
                "{}: hub away: {what}; check {check}; retrying in {wait:.1?}, then less often",
                self.device()
            );
            *told = Some((problem.clone(), Instant::now()));
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
async fn unplugged(plugged: &mut watch::Receiver<bool>) {
    if plugged.wait_for(|plugged| !*plugged).await.is_err() {
        // The sender is gone: nothing can cut the link any more.
        std::future::pending::<()>().await;
    }
}

/// Resolves when the predicate turns true; pends forever if it already holds.
async fn becomes<T>(watched: &mut watch::Receiver<T>, so: impl Fn(&T) -> bool) {
    let already = so(&watched.borrow());
    if already || watched.wait_for(so).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Resolves when there are new settings, without adopting them.
async fn replaced(settings: &mut watch::Receiver<LinkSettings>) {
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
fn is_set(snapshot: &Snapshot) -> bool {
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
    let _ = timeout(DRAIN_WITHIN, written).await;
}

/// The queue to the publisher holds more than a connection can have open. If it is full, only a
/// new connection helps: it re-reads the twin and resends what was not acknowledged.
fn publisher_is_stuck() -> Problem {
    Problem {
        what: "the agent cannot keep up with the hub's messages".to_owned(),
        check: "the load of this machine".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_the_clock_is_set_and_not_because_it_was() {
        let within = Duration::from_secs(60);
        let (clock, mut watched) = watch::channel(false);
        let set = |set: &bool| *set;
        assert!(timeout(within, becomes(&mut watched, set)).await.is_err());
        let setting = async {
            sleep(Duration::from_secs(1)).await;
            clock.send_replace(true);
        };
        let (told, ()) = tokio::join!(timeout(within, becomes(&mut watched, set)), setting);
        assert!(told.is_ok());
        assert!(timeout(within, becomes(&mut watched, set)).await.is_err());
    }
}

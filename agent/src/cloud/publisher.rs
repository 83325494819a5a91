//! The task that publishes reported properties and events, and handles the twin.
//!
//! It learns of the connection only through [`LinkEvent`] and never awaits it: its open requests
//! always fit the connection's queue, so each publish is a `try_publish`.

use std::collections::BTreeMap;
use std::time::Duration;

use door_core::DesiredDoor;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::PropertyBag;
use iothub_protocol::uplink::Uplink;
use log::{debug, error, info, warn};
use rumqttc::{AsyncClient, QoS};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::handover::HandOver;
use super::reported::{PatchOutcome, Reported};
use super::timed::{Pace, TimedProperty};
use super::twin::{ApplyProblems, Desired, KEYS, TwinAction};
use super::window::Window;
use super::{DesiredStatus, LinkEvent, LinkStatus};
use crate::controller::{ControllerHandle, Snapshot};
use crate::fail_point;
use crate::storage::{DiskStatus, DoorStorage, LogRecord, SiteLocation, StartReason};

/// How long to wait before the twin is requested again after a missing or bad answer.
const TWIN_TIMEOUT: Duration = Duration::from_secs(20);
/// What many doors report of the same instant is spread over this time.
const SPREAD: Duration = Duration::from_secs(10);
/// How long a report waits at most for the result of a timed entry that has begun.
const RESULT_TIMEOUT: Duration = Duration::from_secs(15);
/// Prefix of the request ids of twin reads; [`Reported`] makes those of patches.
const READ_PREFIX: &str = "g";

pub(super) struct Publisher {
    device: DeviceId,
    link_events: mpsc::Receiver<LinkEvent>,
    storage: DoorStorage,
    snapshot: watch::Receiver<Snapshot>,
    answered: watch::Receiver<u64>,
    link: watch::Receiver<LinkStatus>,
    start_reason: StartReason,
    boot_reason: Value,
    config_problem: watch::Receiver<Option<String>>,
    /// Epoch of the times passed to [`Reported`].
    started: Instant,
    client: Option<AsyncClient>,
    desired: Desired,
    desired_status: watch::Sender<DesiredStatus>,
    location: watch::Sender<SiteLocation>,
    read: TwinRead,
    reported: Reported,
    timed: TimedProperty,
    /// Which rules of time zones are in use.
    zoneinfo: String,
    controller: ControllerHandle,
    doors: HandOver<DesiredDoor>,
    /// Handed over once the hand-over of an earlier one has finished.
    next_door: Option<DesiredDoor>,
    /// Acknowledgements wait until the location is saved.
    locations: HandOver<SiteLocation>,
    /// The acknowledgements to report are those of what is applied now; before, no patch is sent.
    is_acknowledged: bool,
    disk: watch::Receiver<DiskStatus>,
    /// The disk has a fault: retry failed saves once it recovers.
    disk_failed: bool,
    /// Position of the newest record in the event log.
    newest: watch::Receiver<u64>,
    window: Window,
    next_rid: u64,
}

/// What may be new to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// Only events have been sent.
    Nothing,
    /// The state of the door.
    Door,
    Any,
}

#[derive(Debug, PartialEq, Eq)]
enum TwinRead {
    Done,
    Due,
    Requested { rid: String, retry_at: Instant },
}

/// The answer to a twin read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Twin {
    desired: Map<String, Value>,
    reported: BTreeMap<String, Box<RawValue>>,
}

/// Dependencies of the publisher.
pub(super) struct PublisherParts {
    pub(super) device: DeviceId,
    pub(super) link_events: mpsc::Receiver<LinkEvent>,
    pub(super) storage: DoorStorage,
    pub(super) controller: ControllerHandle,
    /// Count of answered methods.
    pub(super) answered: watch::Receiver<u64>,
    pub(super) link: watch::Receiver<LinkStatus>,
    pub(super) start_reason: StartReason,
    pub(super) boot_reason: Value,
    pub(super) config_problem: watch::Receiver<Option<String>>,
    pub(super) desired: Desired,
    /// The same for people.
    pub(super) desired_status: watch::Sender<DesiredStatus>,
    /// The location, for other readers.
    pub(super) location: watch::Sender<SiteLocation>,
}

impl Publisher {
    pub(super) fn new(parts: PublisherParts) -> Self {
        let newest = parts.storage.newest_record();
        let disk = parts.storage.disk();
        let location = parts.desired.location().clone();
        Self {
            device: parts.device,
            link_events: parts.link_events,
            storage: parts.storage,
            snapshot: parts.controller.snapshot(),
            answered: parts.answered,
            link: parts.link,
            start_reason: parts.start_reason,
            boot_reason: parts.boot_reason,
            config_problem: parts.config_problem,
            started: Instant::now(),
            client: None,
            desired: parts.desired,
            desired_status: parts.desired_status,
            location: parts.location,
            read: TwinRead::Done,
            reported: Reported::default(),
            timed: TimedProperty::default(),
            zoneinfo: door_core::schedule::zoneinfo(),
            controller: parts.controller,
            doors: HandOver::new(None),
            next_door: None,
            locations: HandOver::new(Some(location)),
            is_acknowledged: false,
            disk,
            disk_failed: false,
            newest,
            window: Window::default(),
            next_rid: 0,
        }
    }

    /// Runs until the driver ends.
    pub(super) async fn run(mut self) {
        let mut news = News::Any;
        loop {
            self.is_acknowledged &= news != News::Any && self.is_applied();
            // A patch that goes now has the newest state of the door, whatever else came first.
            let has_changed = self.snapshot.has_changed().unwrap_or_default();
            if news != News::Nothing || has_changed || !self.is_acknowledged {
                self.report();
            }
            // After the report, which reads the last result: the next hand-over may start.
            self.hand_over_door();
            self.publish_due().await;
            let wake = self.poll_timeout();
            news = tokio::select! {
                message = self.link_events.recv() => match message {
                    Some(message) => self.handle(message),
                    None => return,
                },
                Ok(()) = self.snapshot.changed() => News::Door,
                Ok(()) = self.answered.changed() => {
                    self.reported.command_answered();
                    News::Nothing
                }
                Ok(()) = self.newest.changed() => News::Nothing,
                Ok(()) = self.disk.changed() => News::Any,
                Ok(()) = self.config_problem.changed() => News::Any,
                () = self.locations.changed() => News::Any,
                () = self.doors.changed() => News::Any,
                () = sleep_until(wake) => News::Any,
            };
        }
    }

    fn handle(&mut self, message: LinkEvent) -> News {
        match message {
            LinkEvent::Online(client) => {
                self.client = Some(client);
                self.desired.connected();
                self.read = TwinRead::Due;
            }
            LinkEvent::Offline => {
                self.client = None;
                self.read = TwinRead::Done;
                self.reported.offline();
                self.window.restart();
            }
            LinkEvent::TwinResponse { status, rid, body } => {
                self.twin_response(status, &rid, &body);
            }
            LinkEvent::DesiredPatch { version, body } => match parse_object(&body) {
                Ok(patch) => {
                    let next = self.desired.handle_patch(version, &patch);
                    self.act_on(next);
                }
                Err(problem) => {
                    warn!(
                        "{}: invalid desired notification: expected a JSON object: {problem}",
                        self.device
                    );
                    self.read = TwinRead::Due;
                }
            },
            LinkEvent::Sent(pkid) => {
                self.window.written(pkid);
                return News::Nothing;
            }
            LinkEvent::Acknowledged(pkid) => {
                fail_point::reach("event-acknowledged");
                if let Some(position) = self.window.acknowledged(pkid) {
                    self.storage.acknowledge(position);
                }
                return News::Nothing;
            }
        }
        News::Any
    }

    fn twin_response(&mut self, status: u16, rid: &str, body: &[u8]) {
        if !rid.starts_with(READ_PREFIX) {
            let now = self.started.elapsed();
            match self.reported.answered(rid, status, now, rand::random()) {
                PatchOutcome::Accepted | PatchOutcome::Unknown => {}
                PatchOutcome::Refused { will_retry } => error!(
                    "{}: the hub refused reported properties: {status} {}; {}",
                    self.device,
                    String::from_utf8_lossy(&body[..body.len().min(400)]),
                    if will_retry {
                        "retrying"
                    } else {
                        "not resent until they change"
                    }
                ),
            }
            return;
        }
        if !matches!(&self.read, TwinRead::Requested { rid: requested, .. } if requested == rid) {
            return;
        }
        // After a failure the read stays pending and is repeated after TWIN_WITHIN.
        let twin = match serde_json::from_slice::<Twin>(body) {
            Ok(twin) if status == 200 => twin,
            Ok(_) | Err(_) => {
                warn!(
                    "{}: reading the twin failed with status {status}; retrying",
                    self.device
                );
                return;
            }
        };
        self.read = TwinRead::Done;
        self.reported.twin_read(twin.reported);
        let next = self.desired.handle_document(&twin.desired);
        self.act_on(next);
    }

    fn act_on(&mut self, next: TwinAction) {
        match next {
            TwinAction::Nothing => {}
            TwinAction::ReadAgain => {
                debug!(
                    "{}: missed desired notifications; re-reading the twin",
                    self.device
                );
                self.read = TwinRead::Due;
            }
            TwinAction::Apply => self.apply(),
        }
    }

    /// Hands over the desired state and saves the location, unless unchanged since a success.
    fn apply(&mut self) {
        let door = self.desired.door();
        if self.next_door.is_some() || self.doors.needs(&door) {
            self.next_door = Some(door);
        }
        self.hand_over_door();
        self.save_location();
    }

    /// Hands the desired state over to the controller, one at a time. Does not wait for it.
    fn hand_over_door(&mut self) {
        if !self.doors.is_idle() {
            return;
        }
        let Some(door) = self.next_door.take() else {
            return;
        };
        let finish = self.doors.start(door.clone());
        let controller = self.controller.clone();
        tokio::spawn(async move { finish(controller.desire(door).await.err()) });
    }

    /// Whether the desired state is handed over and the location saved, or either has failed.
    fn is_applied(&self) -> bool {
        self.next_door.is_none() && self.doors.is_idle() && self.locations.is_idle()
    }

    /// When to retry what could not be handed over or saved.
    fn apply_again(&self) -> Option<Instant> {
        let times = [self.doors.retry_at(), self.locations.retry_at()];
        times.into_iter().flatten().min()
    }

    fn save_location(&mut self) {
        let location = self.desired.location().clone();
        if !self.locations.needs(&location) {
            return;
        }
        self.location.send_replace(location.clone());
        let shown = |value: &Option<Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "unknown".to_owned(),
        };
        let (building, floor) = (shown(&location.building), shown(&location.floor));
        info!(
            BUILDING = building.as_str(), FLOOR = floor.as_str();
            "{}: located in building {building}, floor {floor}", self.device
        );
        let finish = self.locations.start(location.clone());
        self.storage.save_location(location, |result| {
            finish(result.err().map(|error| error.to_string()));
        });
    }

    fn acknowledge(&self) -> [(&'static str, Option<String>); 7] {
        let unsaved = self.locations.problem();
        let problems = ApplyProblems {
            location: unsaved
                .map(|problem| format!("applied, but not saved for the next start: {problem}")),
            door: self.doors.problem(),
        };
        let acknowledgements = self.desired.acknowledgements(&problems);
        let status = DesiredStatus {
            location: self.desired.location().clone(),
            refused: refused(&acknowledgements),
        };
        self.desired_status.send_if_modified(|present| {
            let changed = *present != status;
            *present = status;
            changed
        });
        acknowledgements
    }

    /// Updates the properties to report.
    fn report(&mut self) {
        // Until then `timed` stays as it is.
        let is_applied = self.is_applied();
        let snapshot = self.snapshot.borrow_and_update();
        let door = serde_json::to_string(&snapshot.report);
        let clock = snapshot.clock;
        let has_progressed = self.timed.has_progressed(&snapshot);
        let pace = match is_applied {
            true => self.timed.follow(&snapshot),
            false => Pace::Unchanged,
        };
        drop(snapshot);
        let is_due = is_applied && (has_progressed || !self.is_acknowledged);
        let acknowledgements = is_due.then(|| self.acknowledge());
        self.is_acknowledged |= is_applied;
        for (key, acknowledgement) in acknowledgements.into_iter().flatten() {
            let value = match key {
                "timed" => acknowledgement.and_then(|text| self.timed.join(&text)),
                _ => acknowledgement,
            };
            self.reported.set(key, value);
        }
        let now = self.started.elapsed();
        match pace {
            Pace::Unchanged => {}
            Pace::Begun => self.reported.defer(now, RESULT_TIMEOUT),
            Pace::AsOrdered => self.reported.defer(now, SPREAD.mul_f64(rand::random())),
            Pace::Otherwise => self.reported.hurry(),
        }
        match door {
            Ok(door) => self.reported.set("door", Some(door)),
            Err(problem) => error!("{}: cannot report the door's state: {problem}", self.device),
        }
        let problem = self.disk.borrow_and_update().problem.clone();
        let recovered = self.disk_failed && problem.is_none();
        self.disk_failed = problem.is_some();
        let due = self.apply_again().is_some_and(|at| at <= Instant::now());
        if (recovered || due) && self.read == TwinRead::Done && self.client.is_some() {
            self.apply();
            self.is_acknowledged = false;
        }
        let link = self.link.borrow();
        let device = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "features": {"lockdown": true, "timed": true, "schedule": true},
            "zoneinfo": self.zoneinfo,
            "startReason": self.start_reason,
            "bootReason": self.boot_reason,
            "clock": clock,
            "link": {"connections": link.connections, "lastProblem": link.last_problem},
            "disk": {"problem": problem},
            "config": {"problem": *self.config_problem.borrow_and_update()},
        });
        drop(link);
        self.reported.set("device", Some(device.to_string()));
    }

    /// Publishes everything that may be sent now.
    async fn publish_due(&mut self) {
        let Some(client) = self.client.clone() else {
            return;
        };
        let now = Instant::now();
        let timed_out =
            matches!(&self.read, TwinRead::Requested { retry_at, .. } if *retry_at <= now);
        if self.read == TwinRead::Due || timed_out {
            self.next_rid += 1;
            let rid = format!("{READ_PREFIX}{}", self.next_rid);
            let topic = Uplink::TwinGet { rid: &rid }.topic(&self.device);
            publish(&client, topic, QoS::AtMostOnce, Vec::new());
            self.read = TwinRead::Requested {
                rid,
                retry_at: now + TWIN_TIMEOUT,
            };
        }
        // A pending read may change what is to be reported.
        if self.read == TwinRead::Done && self.is_acknowledged {
            if let Some((rid, patch)) = self
                .reported
                .next_patch(self.started.elapsed(), &owned_keys())
            {
                fail_point::reach("report-before");
                let topic = Uplink::ReportedPatch {
                    rid: &rid,
                    if_version: None,
                }
                .topic(&self.device);
                publish(&client, topic, QoS::AtMostOnce, patch.into_bytes());
                fail_point::reach("report-sent");
            }
        }
        self.publish_events(&client).await;
    }

    async fn publish_events(&mut self, client: &AsyncClient) {
        let newest = *self.newest.borrow_and_update();
        let room = self.window.room();
        if room == 0 || self.window.sent() >= newest {
            return;
        }
        match self.storage.records_after(self.window.sent(), room).await {
            Ok(records) => {
                if records.is_empty() {
                    self.window.skip_to(newest);
                }
                for record in records {
                    fail_point::reach("event-send-before");
                    let topic = event_topic(&self.device, &record);
                    if !publish(client, topic, QoS::AtLeastOnce, record.body) {
                        return;
                    }
                    self.window.handed_over(record.position);
                    fail_point::reach("event-sent");
                }
            }
            Err(problem) => {
                error!("{}: cannot read events to send: {problem}", self.device);
                // Retried with the next event or the next connection.
                self.window.skip_to(newest);
            }
        }
    }

    fn poll_timeout(&self) -> Instant {
        // No patch is sent before the twin was read.
        let patch = match self.read {
            TwinRead::Done => self.reported.poll_timeout().map(|at| self.started + at),
            TwinRead::Requested { .. } | TwinRead::Due => None,
        };
        let read = match &self.read {
            TwinRead::Requested { retry_at, .. } => Some(*retry_at),
            TwinRead::Done | TwinRead::Due => None,
        };
        let again = self.apply_again().filter(|_| self.read == TwinRead::Done);
        let times = [patch, read, again].into_iter().flatten();
        let far = Instant::now() + Duration::from_secs(3600);
        match self.client {
            Some(_) => times.fold(far, Instant::min),
            None => far,
        }
    }
}

/// The desired properties that are not in force, with the reason.
fn refused(acknowledgements: &[(&str, Option<String>)]) -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct Acknowledgement {
        ac: u16,
        ad: String,
    }
    let reason = |text: &str| {
        let Acknowledgement { ac, ad } = serde_json::from_str(text).ok()?;
        (ac >= 400).then_some(ad)
    };
    let mut refused = BTreeMap::new();
    for (key, text) in acknowledgements {
        let Some(text) = text else { continue };
        refused.extend(reason(text).map(|reason| ((*key).to_owned(), reason)));
        // Each setting and each timed entry has an acknowledgement of its own.
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
        let inner = members.into_iter();
        let inner =
            inner.filter_map(|(name, it)| Some((format!("{key}.{name}"), reason(it.get())?)));
        refused.extend(inner);
    }
    refused
}

/// The reported properties owned by the agent.
fn owned_keys() -> Vec<&'static str> {
    KEYS.into_iter().chain(["door", "device"]).collect()
}

/// False when the queue is closed or full; the driver then reports the end of the connection.
fn publish(client: &AsyncClient, topic: String, qos: QoS, body: Vec<u8>) -> bool {
    client.try_publish(topic, qos, false, body).is_ok()
}

fn event_topic(device: &DeviceId, record: &LogRecord) -> String {
    let mut properties = PropertyBag::default();
    properties.insert("$.mid", &record.mid);
    properties.insert("$.ct", "application/json");
    properties.insert("$.ce", "utf-8");
    Uplink::Telemetry { properties }.topic(device)
}

fn parse_object(body: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    serde_json::from_slice(body)
}

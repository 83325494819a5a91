//! Steps of the enrolment at the hub.

use anyhow::Context as _;
use iothub_client::NewDevice;
use iothub_protocol::ErrorCode;
use iothub_protocol::identity::DeviceIdentity;
use iothub_protocol::twin::{ConnectionState, DeviceStatus, Twin};
use tokio::time::Instant;

use super::Enrolment;
use super::pi::Pi;
use super::script::Script;
use super::ssh::Ssh;
use super::steps::Steps;
use crate::commands::devices::{add, keys};
use crate::commands::twin_patch;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;

/// Poll interval for the door's report.
const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

impl Enrolment<'_> {
    /// Returns the door's identity; registers the door when it is new.
    pub(super) async fn register(&self, steps: &mut Steps<'_>) -> anyhow::Result<DeviceIdentity> {
        let hub = &self.session.hub;
        let identity = match hub.device(&self.door).await {
            Ok(identity) => {
                steps.done("registered", format!("{} is registered already", self.door));
                identity
            }
            Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => {
                let new = NewDevice::with_generated_keys(self.door.clone());
                let created = hub.device_create(&new).await;
                let created = created.with_context(|| format!("cannot register {}", self.door))?;
                steps.done("registered", format!("{} is registered now", self.door));
                created
            }
            Err(error) => return Err(error.into()),
        };
        if identity.status == DeviceStatus::Disabled {
            return Err(Failure::new(format!(
                "{} is disabled at the hub and could not connect",
                self.door
            ))
            .next(format!("doorctl devices enable {}", self.door))
            .status(ExitStatus::Refused)
            .into());
        }
        Ok(identity)
    }

    /// Assigns building and floor where they are given and differ. Returns the twin after that.
    pub(super) async fn assign(&self, pi: &Pi, steps: &mut Steps<'_>) -> anyhow::Result<Twin> {
        let hub = &self.session.hub;
        let twin = hub.twin(&self.door).await?;
        let mut desired = Vec::new();
        let mut assigned = Vec::new();
        for (key, text) in [
            ("building", &self.args.building),
            ("floor", &self.args.floor),
        ] {
            let Some(text) = text else { continue };
            let wanted = add::parse_place(text);
            assigned.push(format!("{key} {text}"));
            if twin.properties.desired.values.get(key) != Some(&wanted) {
                desired.push((key.to_owned(), wanted));
            }
        }
        let assigned = assigned.join(", ");
        if twin.connection_state == ConnectionState::Connected && !pi.runs {
            self.session.printer.warn(format!(
                "another client is connected to the hub as {}; this Pi will take over its \
                 connection",
                self.door
            ));
        }
        if desired.is_empty() {
            if !assigned.is_empty() {
                steps.done("assigned", format!("{assigned} already"));
            }
            return Ok(twin);
        }
        let twin = hub
            .twin_patch(
                &self.door,
                &twin_patch::from_assignments(&desired, &[])?,
                None,
            )
            .await;
        let twin = twin.with_context(|| format!("cannot assign {}", self.door))?;
        steps.done("assigned", assigned);
        Ok(twin)
    }

    pub(super) fn connection_string(&self, identity: &DeviceIdentity) -> anyhow::Result<String> {
        let keys = identity
            .authentication
            .as_ref()
            .and_then(|auth| auth.symmetric_key.as_ref());
        let key = keys
            .and_then(|keys| keys.primary_key.as_ref())
            .filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| {
            Failure::new(format!("the hub returned no key of {}", self.door)).next(
                "doors with certificates have no key and are set up by hand; otherwise use \
                 a policy that may read the registry",
            )
        })?;
        let text = keys::connection_string(&self.hub_host, &self.door, key)?;
        Ok(format!("{text}\n"))
    }

    /// Waits until the door is connected and has reported; with `seen`, until it has reported a
    /// later version than that.
    pub(super) async fn wait(
        &self,
        ssh: &Ssh,
        seen: Option<u64>,
        steps: &mut Steps<'_>,
    ) -> anyhow::Result<Twin> {
        let ends_at = Instant::now() + self.args.deadline;
        loop {
            let twin = self.session.hub.twin(&self.door).await?;
            let reported = &twin.properties.reported;
            let is_new_report = seen.is_none_or(|seen| reported.version > seen);
            if twin.connection_state == ConnectionState::Connected
                && is_new_report
                && reported.values.contains_key("door")
            {
                steps.done(
                    "reports",
                    format!("{} is connected and has reported", self.door),
                );
                return Ok(twin);
            }
            if Instant::now() >= ends_at {
                let lacks = match twin.connection_state {
                    ConnectionState::Connected => "is connected but has not reported",
                    ConnectionState::Disconnected => "is not connected to the hub",
                };
                let status = ssh
                    .run(&Script::status(self.name()), None)
                    .await
                    .map(|ran| ran.last_lines());
                return Err(Failure::new(format!(
                    "{} {lacks} after {} s; status on {}:\n  {}",
                    self.door,
                    self.args.deadline.as_secs(),
                    ssh.host(),
                    status.unwrap_or_else(|error| error.to_string())
                ))
                .next(format!(
                    "{} journalctl -u door-agent@{} -f; then repeat this command",
                    ssh.by_hand(),
                    self.door
                ))
                .status(ExitStatus::Deadline)
                .into());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

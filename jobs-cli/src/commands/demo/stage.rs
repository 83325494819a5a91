//! The running hub and doors, and the operator's connection to the hub.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use door_hub::config::HubConfig;
use door_hub::{Hub, RunningHub};
use doorctl::{ClientOptions, HubClient};
use iothub_protocol::twin::{ConnectionState, Twin};
use jiff::tz::TimeZone;

use super::cast::Cast;
use super::check::Problem;
use super::fleet::{self, Address, Fleet};
use crate::cli::Global;
use crate::commands::jobs::follow::Pace;
use crate::commands::jobs::view::View;
use crate::config::{Context, Contexts};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::Printer;

/// Timeout of each wait of the demo.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Poll interval.
const LOOK: Duration = Duration::from_millis(200);

/// Shorter than [`Pace::REMOTE`], because this hub has no rate limits.
pub(super) const PACE: Pace = Pace {
    tick: Duration::from_millis(100),
    far: Duration::from_millis(500),
    doors: Duration::from_millis(300),
};

pub(super) struct Stage {
    /// The operator's connection to the hub.
    pub(super) client: HubClient,
    pub(super) fleet: Fleet,
    pub(super) printer: Printer,
    /// The operator's context file.
    pub(super) config_file: PathBuf,
    verbose: bool,
    hub: RunningHub,
    begun: Instant,
}

impl Stage {
    /// Starts the hub, registers the doors and starts their agents.
    pub(super) async fn set(
        cast: &Cast,
        global: &Global,
        folder: &Path,
        printer: &Printer,
        verbose: bool,
    ) -> anyhow::Result<Self> {
        let count = cast.doors.len();
        printer.say(format!(
            "doorfleet demo: one hub and {count} doors on this machine. Only the locks are simulated;\n\
             hub, agents, MQTT over TLS, keys and jobs are the real ones.\n"
        ));
        let hub = Hub::start(HubConfig::loopback(folder.join("hub")))
            .await
            .context("cannot start the hub")?;
        let ca_file = hub.ca_file().to_owned();
        let ca = fs::read_to_string(&ca_file).context("cannot read the hub's authority")?;
        let connection = hub.service_connection_string().clone();
        let options = ClientOptions {
            ca_pem: Some(ca.clone().into_bytes()),
            timeout: global.timeout,
            ..ClientOptions::default()
        };
        let address = Address {
            host_name: hub.name().parse()?,
            mqtt_port: hub.mqtt_address().port(),
            ca_file,
        };
        let config_file = folder.join("doorctl.toml");
        contexts(connection.expose_secret(), ca).write(&config_file)?;
        let client = HubClient::new(connection, &options)?;
        printer.say(format!(
            "hub      REST API on https://{}, MQTT over TLS on {}; everything is in {}",
            client.host_name(),
            hub.mqtt_address(),
            folder.display()
        ));

        let begun = Instant::now();
        let identities = fleet::register(&client, cast).await?;
        let fleet = Fleet::start(identities, &address, &folder.join("doors")).await?;
        Ok(Self {
            client,
            fleet,
            printer: printer.clone(),
            config_file,
            verbose,
            hub,
            begun,
        })
    }

    /// Waits until the hub counts all doors as connected.
    pub(super) async fn until_connected(&self, cast: &Cast) -> anyhow::Result<()> {
        let count = cast.doors.len();
        loop {
            let connected = self.client.statistics().await?.connected_device_count;
            if usize::try_from(connected) == Ok(count) {
                self.printer.say(format!(
                    "doors    {count} registered, each with a key of its own; {count} agents connected, after {:.1} s",
                    self.begun.elapsed().as_secs_f32()
                ));
                return Ok(());
            }
            if self.begun.elapsed() > PATIENCE {
                return Err(late(&format!("{connected} of {count} doors are connected")).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Checks the states and keys of all identities.
    pub(super) async fn check_identities(&self, cast: &Cast) -> anyhow::Result<Vec<Problem>> {
        let identities = fleet::identities(&self.client, cast).await?;
        let mut keys = HashSet::new();
        let mut problems = Vec::new();
        for identity in &identities {
            if identity.connection_state != ConnectionState::Connected {
                problems.push(Problem::new(format!(
                    "{} is not connected",
                    identity.device_id
                )));
            }
            let pair = identity
                .authentication
                .as_ref()
                .and_then(|authentication| authentication.symmetric_key.as_ref());
            keys.extend(pair.and_then(|pair| pair.primary_key.clone()));
        }
        if keys.len() != cast.doors.len() {
            let message = format!(
                "{} doors have {} different keys",
                cast.doors.len(),
                keys.len()
            );
            problems.push(Problem::new(message));
        }
        Ok(problems)
    }

    /// A view of a job; it prints lines when logs go to the terminal.
    pub(super) fn view(&self) -> View {
        match self.verbose {
            true => View::plain(&self.printer, &TimeZone::system()),
            false => View::new(&self.printer, &TimeZone::system()),
        }
    }

    /// The twins of all doors, by name.
    pub(super) async fn twins(&self) -> anyhow::Result<BTreeMap<String, Twin>> {
        self.find("SELECT * FROM devices").await
    }

    /// The twins that the query returns, by name.
    pub(super) async fn find(&self, query: &str) -> anyhow::Result<BTreeMap<String, Twin>> {
        let twins: Vec<Twin> = self.client.query(query).await?;
        Ok(twins
            .into_iter()
            .map(|twin| (twin.device_id.to_string(), twin))
            .collect())
    }

    /// Waits until the twins that `query` returns satisfy `wanted`; a timeout names `what` did not
    /// happen.
    pub(super) async fn until(
        &self,
        what: &str,
        query: &str,
        patience: Duration,
        wanted: impl Fn(&BTreeMap<String, Twin>) -> bool,
    ) -> anyhow::Result<BTreeMap<String, Twin>> {
        let begun = Instant::now();
        loop {
            let asked = Instant::now();
            let twins = self.find(query).await?;
            if wanted(&twins) {
                return Ok(twins);
            }
            if begun.elapsed() > patience {
                return Err(late(what).into());
            }
            // A large fleet takes a while to read: spend at most half of the time on polling.
            tokio::time::sleep(LOOK.max(asked.elapsed())).await;
        }
    }

    /// Stops doors and hub.
    pub(super) async fn strike(self) {
        self.fleet.stop().await;
        self.hub.shutdown().await;
    }
}

fn contexts(connection_string: String, ca: String) -> Contexts {
    let context = Context {
        connection_string,
        ca: Some(ca),
        zone: None,
    };
    Contexts {
        current: Some("demo".to_owned()),
        by_name: BTreeMap::from([("demo".to_owned(), context)]),
    }
}

fn late(what: &str) -> Failure {
    Failure::new(format!("timed out waiting for: {what}"))
        .next("run it again with --verbose; on a busy machine with fewer --doors")
        .status(ExitStatus::Deadline)
}

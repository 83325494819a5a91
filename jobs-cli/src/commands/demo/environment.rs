//! The running hub and doors, and the operator's connection to the hub.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use door_hub::config::HubConfig;
use door_hub::{Hub, RunningHub};
use iothub_client::HubClient;
use iothub_protocol::JobId;
use iothub_protocol::twin::{ConnectionState, Twin};
use jiff::tz::TimeZone;
use tokio::sync::Mutex;

use super::check::Problem;
use super::doors::DemoDoors;
use super::fleet::{self, Address, Fleet};
use crate::cli::Global;
use crate::commands::job_follow::{self, FinishedJob, PollIntervals};
use crate::commands::job_view::View;
use crate::config::{Context, Contexts};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::outcome::JobGoal;
use crate::printer::Printer;
use crate::session::client_options;

/// Timeout of each wait of the demo.
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval of polls of this hub.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Shorter than [`PollIntervals::REMOTE`], because this hub has no rate limits.
const POLL_INTERVALS: PollIntervals = PollIntervals {
    tick: Duration::from_millis(100),
    far: Duration::from_millis(500),
    doors: Duration::from_millis(300),
};

pub(super) struct Environment {
    /// The operator's connection to the hub.
    pub(super) client: HubClient,
    pub(super) fleet: Fleet,
    pub(super) printer: Printer,
    /// The operator's context file.
    pub(super) config_file: PathBuf,
    verbose: bool,
    hub: Mutex<Option<RunningHub>>,
    hub_config: HubConfig,
    started: Instant,
}

impl Environment {
    /// Starts the hub, registers the doors and starts their agents.
    pub(super) async fn start(
        demo: &DemoDoors,
        global: &Global,
        folder: &Path,
        printer: &Printer,
        verbose: bool,
    ) -> anyhow::Result<Self> {
        let count = demo.doors.len();
        printer.say(format!(
            "doorfleet demo: one hub and {count} doors on this machine. \
             Only the locks are simulated;\n\
             hub, agents, MQTT over TLS, keys and jobs are the real ones.\n"
        ));
        let mut hub_config = HubConfig::loopback(folder.join("hub"));
        let hub = Hub::start(hub_config.clone())
            .await
            .context("cannot start the hub")?;
        // A restarted hub is where doors and operator know it.
        hub_config.mqtt_address = hub.mqtt_address();
        hub_config.https_address = hub.https_address();
        let ca_file = hub.ca_file().to_owned();
        let ca = fs::read_to_string(&ca_file).context("cannot read the hub's authority")?;
        let connection = hub.service_connection_string().clone();
        let options = client_options(Some(&ca), global.timeout);
        let address = Address {
            host_name: hub.name().parse()?,
            mqtt_port: hub.mqtt_address().port(),
            ca_file,
        };
        let config_file = folder.join("doorctl.toml");
        Contexts::change(&config_file, |present| {
            *present = contexts(connection.expose_secret(), ca);
            Ok(())
        })?;
        let client = HubClient::new(connection, &options)?;
        printer.say(format!(
            "hub      REST API on https://{}, MQTT over TLS on {}; everything is in {}",
            client.host_name(),
            hub.mqtt_address(),
            folder.display()
        ));

        let started = Instant::now();
        let identities = fleet::register(&client, demo).await?;
        let fleet = Fleet::start(identities, &client, &address, &folder.join("doors")).await?;
        Ok(Self {
            client,
            fleet,
            printer: printer.clone(),
            config_file,
            verbose,
            hub: Mutex::new(Some(hub)),
            hub_config,
            started,
        })
    }

    /// Waits until the hub counts all doors as connected.
    pub(super) async fn until_connected(&self, demo: &DemoDoors) -> anyhow::Result<()> {
        let count = demo.doors.len();
        loop {
            let connected = self.client.statistics().await?.connected_device_count;
            if usize::try_from(connected) == Ok(count) {
                self.printer.say(format!(
                    "doors    {count} registered, each with a key of its own; {count} agents \
                     connected, after {:.1} s",
                    self.started.elapsed().as_secs_f32()
                ));
                return Ok(());
            }
            if self.started.elapsed() > WAIT_TIMEOUT {
                return Err(
                    timeout_error(&format!("{connected} of {count} doors are connected")).into(),
                );
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Checks the states and keys of all identities.
    pub(super) async fn check_identities(&self, demo: &DemoDoors) -> anyhow::Result<Vec<Problem>> {
        let identities = fleet::identities(&self.client, demo).await?;
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
        if keys.len() != demo.doors.len() {
            let message = format!(
                "{} doors have {} different keys",
                demo.doors.len(),
                keys.len()
            );
            problems.push(Problem::new(message));
        }
        Ok(problems)
    }

    pub(super) fn say(&self, text: impl AsRef<str>) {
        self.printer.say(text);
    }

    /// Follows a job to its end; prints lines when logs go to the terminal.
    pub(super) async fn follow(&self, id: &JobId, goal: JobGoal) -> anyhow::Result<FinishedJob> {
        let mut view = match self.verbose {
            true => View::plain(&self.printer, &TimeZone::system()),
            false => View::new(&self.printer, &TimeZone::system()),
        };
        job_follow::follow(&self.client, id, goal, POLL_INTERVALS, &mut view).await
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
        timeout: Duration,
        wanted: impl Fn(&BTreeMap<String, Twin>) -> bool,
    ) -> anyhow::Result<BTreeMap<String, Twin>> {
        let started = Instant::now();
        loop {
            let asked = Instant::now();
            let twins = self.find(query).await?;
            if wanted(&twins) {
                return Ok(twins);
            }
            if started.elapsed() > timeout {
                return Err(timeout_error(what).into());
            }
            // A large fleet takes a while to read: spend at most half of the time on polling.
            tokio::time::sleep(POLL_INTERVAL.max(asked.elapsed())).await;
        }
    }

    pub(super) async fn stop_hub(&self) {
        if let Some(hub) = self.hub.lock().await.take() {
            hub.shutdown().await;
        }
    }

    pub(super) async fn start_hub(&self) -> anyhow::Result<()> {
        let hub = Hub::start(self.hub_config.clone())
            .await
            .context("cannot start the hub again")?;
        *self.hub.lock().await = Some(hub);
        Ok(())
    }

    /// Stops doors and hub.
    pub(super) async fn shut_down(self) {
        let hub = self.hub.into_inner();
        self.fleet.stop().await;
        if let Some(hub) = hub {
            hub.shutdown().await;
        }
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

fn timeout_error(what: &str) -> Failure {
    Failure::new(format!("timed out waiting for: {what}"))
        .next("run it again with --verbose; on a busy machine with fewer --doors")
        .status(ExitStatus::Deadline)
}

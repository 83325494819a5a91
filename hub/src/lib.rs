//! door-hub: a self-hosted hub that is wire-compatible with Azure IoT Hub.
//!
//! ```text
//!   devices ──MQTT/TLS──► mqtt ──┐            ┌──► session   live connections and their calls
//!                                ├─► service ─┤
//! operators ──HTTPS────► http ───┘            └──► store     identities, twins, jobs, events
//!      listen: accept and limit    auth: authenticate, authorize    pki, tls: server certificate
//! ```
//!
//! Dependencies point to the right; only this file sees all modules. The hub knows nothing about
//! doors. Startup runs everything that can fail (settings, data folder, ports, database,
//! certificates) before it serves anything; shutdown runs in reverse order.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod audit;
mod auth;
pub mod backup;
pub mod check;
pub mod config;
mod data;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http;
pub mod identity;
mod listen;
mod live;
mod metrics;
mod mqtt;
mod pki;
pub mod policies;
mod service;
mod session;
mod store;
mod tls;
mod types;
mod webhook;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use iothub_protocol::connection_string::ServiceConnectionString;
use iothub_protocol::health::Health;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigError, HubConfig};
use crate::data::DataDirectory;
use crate::identity::Policy;
use crate::live::ReloadableState;
use crate::metrics::Metrics;
use crate::mqtt::Gateway;
use crate::service::{OWNER, Services, default_policies};
use crate::store::{Committed, PolicyFile, Store};

pub use crate::data::DataError;
pub use crate::error::StartError;
pub use crate::listen::{WANTED_DESCRIPTORS, raise_descriptor_limit};
pub use crate::pki::{PkiError, ProvidedCertificate, default_host_name, local_addresses};
pub use crate::service::{PolicyError, PolicyKey, ServiceError};
pub use crate::session::Registry;
pub use crate::store::StoreError;
pub use crate::webhook::{SendError, Target, WebhookError};

/// The file with the hub's address and the owner's key, for the operator's tools.
const SERVICE_CONNECTION_STRING: &str = "service-connection-string";

const DATABASE: &str = "hub.db";

/// Files that a hub writes after its database and policies: if one exists, a database existed.
const AFTER_DATABASE: [&str; 2] = ["ca.key", SERVICE_CONNECTION_STRING];

/// The port implied by a host name without a port.
const HTTPS: u16 = 443;

/// Grace period of a shutdown for requests and jobs.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Grace period of a shutdown for devices, after that for requests and jobs; a little longer than
/// the gateway's own limit for each connection.
const DEVICES_DEADLINE: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub struct Hub;

/// Result of [`Hub::init`].
#[derive(Debug)]
pub struct Initialised {
    /// The CA certificate that doors and operators must trust.
    pub ca_file: PathBuf,
    /// The file with the operator's connection string.
    pub service_connection_string_file: PathBuf,
}

/// A hub that runs until [`RunningHub::shutdown`]. Dropping it stops it at once, like a kill.
pub struct RunningHub {
    name: String,
    mqtt_address: SocketAddr,
    https_address: SocketAddr,
    ca_file: PathBuf,
    live: Arc<ReloadableState>,
    connection_string: ServiceConnectionString,
    connection_string_file: PathBuf,
    services: Services,
    registry: Registry,
    store: Store,
    stop: ShutdownTokens,
    runner: AbortHandle,
    /// Requests and jobs: tasks that need the devices to be connected.
    tasks: JoinSet<()>,
    /// Device connections.
    gateway: JoinSet<()>,
}

/// Cancels the parts in shutdown order: each part needs those below it until it has stopped.
#[derive(Default)]
struct ShutdownTokens {
    requests: CancellationToken,
    jobs: CancellationToken,
    devices: CancellationToken,
}

/// Method and path of every route behind a token, for the tests of who may call what.
#[doc(hidden)]
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    http::ROUTES.iter().map(|route| (route.method, route.path))
}

impl Hub {
    /// Creates the data folder with certificates, database and keys. Starts nothing.
    pub async fn init(config: &HubConfig) -> Result<Initialised, StartError> {
        let data = open_data_directory(config).await?;
        check_for_loss(config, &data)?;
        let store = Store::open(&data.file(DATABASE), Box::new(|_| {}), ())?;
        let policies = store.policy_list(default_policies()).await?;
        let (_, identity) = live::certify(config, Timestamp::now())?;
        let string = connection_string(config, config.https_address.port(), &policies)?;
        let file = data.write_secret(SERVICE_CONNECTION_STRING, &string.expose_secret())?;
        store.close().await;
        Ok(Initialised {
            ca_file: identity.ca_file,
            service_connection_string_file: file,
        })
    }

    /// Starts a hub: creates what is missing in the data folder, binds both ports, opens the
    /// database, and serves. On an error nothing is left running.
    pub async fn start(config: HubConfig) -> Result<RunningHub, StartError> {
        let data = open_data_directory(&config).await?;
        let (mqtt_listener, mqtt_address) = listen(config.mqtt_address, "--mqtt-port")?;
        let (https_listener, https_address) = listen(config.https_address, "--https-port")?;
        check_for_loss(&config, &data)?;
        let metrics = Metrics::new();
        let registry = Registry::new();
        let database = data.file(DATABASE);
        let connection_string_path = data.file(SERVICE_CONNECTION_STRING);
        let store = Store::open(
            &database,
            after_commit(registry.clone(), metrics.clone()),
            data.lock(),
        )?;
        // Before all other files: an interrupted first start must not look like a hub that has
        // lost its database.
        let policies = store.policy_list(default_policies()).await?;
        let (live, ca_file) = ReloadableState::start(&config)?;
        let live = Arc::new(live);
        let tls = tls::server_config(live.certificate.clone())?;
        store.session_reset(Timestamp::now()).await?;
        let connection_string = connection_string(&config, https_address.port(), &policies)
            .or_else(|error| previous_connection_string(&data).ok_or(error))?;
        data.write_secret(
            SERVICE_CONNECTION_STRING,
            &connection_string.expose_secret(),
        )?;
        store.limit_events(config.events);
        let services = Services::new(&store, &registry, policies, config.audit, metrics);
        services.page_sessions.load().await?;
        let webhooks =
            webhook::start(&config.webhooks, &store, &services.event, &services.metrics).await?;

        let stop = ShutdownTokens::default();
        let mut tasks = JoinSet::new();
        let runner = services.job.runner(stop.jobs.clone()).await?;
        let runner = tasks.spawn(runner.run());
        let gateway = Arc::new(Gateway::new(
            services.clone(),
            registry.clone(),
            live.names.clone(),
            live.authorities.clone(),
            Arc::clone(&tls),
            stop.devices.clone(),
        ));
        let mut gateway_task = JoinSet::new();
        gateway_task.spawn(Arc::clone(&gateway).serve(mqtt_listener));
        let policy_file = PolicyFile::open(&database)?;
        let policies = services.policy.clone();
        let keep_owner = keep_owner(data, connection_string.clone());
        tasks.spawn(policies.watch(policy_file, keep_owner, stop.requests.clone()));
        let (state, stopped) = (Arc::clone(&live), stop.jobs.clone());
        tasks.spawn(async move { state.run_maintenance(stopped).await });
        for webhook in webhooks {
            tasks.spawn(webhook.run(stop.requests.clone()));
        }
        tasks.spawn(services.clone().run_maintenance(stop.requests.clone()));
        tasks.spawn(services.clone().run_integrity_checks(stop.requests.clone()));
        let health = Health {
            hub_name: config.name.clone(),
            mqtt_port: mqtt_address.port(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            problem: None,
            damage: None,
        };
        let serve_device = move |device: http::DeviceSocket| {
            gateway.serve_websocket(device.socket, device.tls, device.early, device.peer);
        };
        let state = Arc::clone(&live);
        let certificates = Arc::new(move || state.certificate_times());
        let router = http::service(
            &services,
            &live.names,
            health,
            Arc::new(serve_device),
            stop.requests.clone(),
            certificates,
            https_address.port(),
        );
        tasks.spawn(http::serve(
            https_listener,
            tls.into(),
            router,
            stop.requests.clone(),
        ));
        Ok(RunningHub {
            name: config.name,
            mqtt_address,
            https_address,
            ca_file,
            live,
            connection_string,
            connection_string_file: connection_string_path,
            services,
            registry,
            store,
            stop,
            runner,
            tasks,
            gateway: gateway_task,
        })
    }
}

impl RunningHub {
    /// The host name that connection strings carry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bound address of MQTT over TLS; holds the actual port if port 0 was requested.
    #[must_use]
    pub const fn mqtt_address(&self) -> SocketAddr {
        self.mqtt_address
    }

    /// The bound address of the REST API.
    #[must_use]
    pub const fn https_address(&self) -> SocketAddr {
        self.https_address
    }

    /// The certificate that doors and operators must trust: the hub's own authority, or the
    /// certificate that the operator provided.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Applies the settings that can change at run time: certificates, aliases, device
    /// authorities. Logs those that need a restart. On an error nothing changes.
    pub fn reload(&self, config: HubConfig) -> Result<(), StartError> {
        self.live.reload(config)
    }

    /// When the server certificate ends, in seconds since 1970.
    #[must_use]
    pub fn certificate_not_after(&self) -> i64 {
        self.live.certificate.not_after()
    }

    /// The operator's connection string. Its `Debug` shows no key.
    #[must_use]
    pub const fn service_connection_string(&self) -> &ServiceConnectionString {
        &self.connection_string
    }

    /// The file that holds the operator's connection string.
    #[must_use]
    pub fn service_connection_string_file(&self) -> &Path {
        &self.connection_string_file
    }

    #[must_use]
    pub fn policy(&self, name: &str) -> Option<Policy> {
        name.parse()
            .ok()
            .and_then(|name| self.services.policy(&name))
    }

    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Drains: accepts no new connections, lets requests and jobs finish what they started,
    /// disconnects devices, and writes the queued operations.
    pub async fn shutdown(mut self) {
        self.stop.requests.cancel();
        self.stop.jobs.cancel();
        // Devices stay connected to answer pending calls. A request that outlasts the deadline does
        // not keep them from being disconnected.
        drain(&mut self.tasks, "requests and jobs", DRAIN_DEADLINE).await;
        self.stop.devices.cancel();
        drain(&mut self.gateway, "devices", DEVICES_DEADLINE).await;
        self.store.close().await;
    }
}

impl Drop for RunningHub {
    /// After [`RunningHub::shutdown`] there is nothing left to stop.
    fn drop(&mut self) {
        self.runner.abort();
        self.stop.requests.cancel();
        self.stop.devices.cancel();
        self.tasks.detach_all();
        self.gateway.detach_all();
    }
}

impl std::fmt::Debug for RunningHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningHub")
            .field("name", &self.name)
            .field("mqtt_address", &self.mqtt_address)
            .field("https_address", &self.https_address)
            .finish_non_exhaustive()
    }
}

/// Waits for `tasks` to end; aborts those that exceed the deadline.
async fn drain(tasks: &mut JoinSet<()>, what: &str, deadline: Duration) {
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(deadline, ended).await.is_err() {
        let seconds = deadline.as_secs();
        tracing::warn!(seconds, "{what} did not finish in time; aborted");
        tasks.shutdown().await;
    }
}

/// Checks the settings and locks the data folder.
async fn open_data_directory(config: &HubConfig) -> Result<DataDirectory, StartError> {
    config.check()?;
    let path = config.data_directory.clone();
    // Blocks while a previous hub releases the lock.
    let open = move || -> Result<_, DataError> {
        let data = DataDirectory::open(&path)?;
        data.check_modes()?;
        Ok(data)
    };
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(opened.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?)
}

/// Rejects a database that has lost data, unless the operator accepts that with `--accept-older`.
fn check_for_loss(config: &HubConfig, data: &DataDirectory) -> Result<(), StartError> {
    match store::check_for_loss(&data.file(DATABASE), &AFTER_DATABASE) {
        Err(error) if config.accept_older && error.is_loss() => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "started anyway because of --accept-older");
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Binds a port; the error names the flag that sets it.
fn listen(
    address: SocketAddr,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = listen::bind(address).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse {
            address,
            flag,
            source,
        },
        _ => StartError::Listen {
            address,
            flag,
            source,
        },
    })
}

/// Sends committed desired changes, in commit order, to devices that are connected and subscribed.
fn after_commit(registry: Registry, metrics: Metrics) -> store::AfterCommit {
    Box::new(move |committed: Committed| {
        for change in committed.changes {
            registry.notify_desired(&change.device, change.version, &change.body);
        }
        metrics.committed(committed.operations, committed.took);
    })
}

/// The connection string of an earlier start, for a start on which the owner's policy cannot be
/// read: doors are served anyway.
fn previous_connection_string(data: &DataDirectory) -> Option<ServiceConnectionString> {
    let kept = std::fs::read_to_string(data.file(SERVICE_CONNECTION_STRING)).ok()?;
    let kept = kept.trim().parse().ok()?;
    tracing::error!(
        "the policy `{OWNER}` is damaged or missing; create it again, with new keys: \
             door-hub policy add {OWNER} --rights RegistryWrite,ServiceConnect,DeviceConnect"
    );
    Some(kept)
}

/// Writes the operator's connection string again when the owner has another key.
fn keep_owner(
    data: DataDirectory,
    mut owner: ServiceConnectionString,
) -> impl FnMut(&[Policy]) + Send {
    move |policies| {
        let found = policies.iter().find(|policy| policy.name == owner.policy);
        let Some(policy) = found.filter(|policy| policy.keys.primary != owner.key) else {
            return;
        };
        owner.key = policy.keys.primary.clone();
        if let Err(error) = data.write_secret(SERVICE_CONNECTION_STRING, &owner.expose_secret()) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "cannot write the operator's connection string");
        }
    }
}

fn connection_string(
    config: &HubConfig,
    port: u16,
    policies: &[Policy],
) -> Result<ServiceConnectionString, StartError> {
    let host = if port == HTTPS {
        config.name.clone()
    } else {
        format!("{}:{port}", config.name)
    };
    let host_name = host.parse().map_err(|_| ConfigError::Name {
        name: host,
        role: "the hub's name (--name)",
    })?;
    let owner = policies
        .iter()
        .find(|policy| policy.name == OWNER)
        .ok_or(StartError::NoOwner)?;
    Ok(ServiceConnectionString {
        host_name,
        policy: owner.name.clone(),
        key: owner.keys.primary.clone(),
    })
}

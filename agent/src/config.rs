//! The agent's configuration: read in layers, validated as a whole and converted to types before
//! anything is bound or driven.
//!
//! `/etc/door-agent/<name>.toml`, drop-ins in `<name>.toml.d/`, then the environment
//! (`DOOR_AGENT__HUB__MQTT_PORT=8884`). Paths in a file are relative to the main file's directory.
//! Library users may build an [`AgentConfig`] without any file.

mod connection;
mod error;
mod layers;
mod schema;
mod times;
mod value;

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use door_core::config::{Egress, StrikeKind};
use door_core::{DoorConfig, DoorSettings, StrikeConfig};
use iothub_protocol::connection_string::{DeviceConnectionString, DeviceCredential};
use log::LevelFilter;

use crate::gpio::BoardConfig;
use crate::reboot;

pub use error::{ConfigError, ConfigErrors};
use layers::{Layers, Rules};
use value::Period;

/// Default port of MQTT over TLS.
const MQTT_PORT: u16 = 8883;
/// Default bound of the event log: about 10,000 events.
const EVENT_LOG_BYTES: u64 = 4 << 20;
/// Default parent of the state directories.
const STATE_HOME: &str = "/var/lib/door-agent";

/// Allowed values of `board.kind`.
const BOARD_KINDS: &str = r#""simulated", "raspberry-pi" or "gpio""#;

/// The complete configuration of an agent.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    pub hub: HubConfig,
    pub door: DoorSettings,
    pub strike: StrikeConfig,
    pub board: BoardConfig,
    pub state: StateConfig,
    pub log_level: LevelFilter,
    /// Where to request a reboot of the machine; see [`crate::reboot`]. `None` disables reboots.
    pub reboot_directory: Option<PathBuf>,
    /// Values in the files that are invalid now but were accepted by version 0.1, and the values
    /// used instead.
    pub problems: Vec<String>,
    /// Why the hub cannot be used; `hub` then only names the door.
    pub hub_unusable: Option<String>,
}

/// The hub and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// Device identity and host of the hub. The key is never logged.
    pub connection: DeviceConnectionString,
    /// CA certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The client certificate, when the connection string says `x509=true`.
    pub certificate: Option<CertificateFiles>,
    /// Port of MQTT over TLS.
    pub mqtt_port: u16,
    /// How long a token is valid; the connection is renewed between 85 and 95 % of it.
    pub sas_lifetime: Duration,
    /// Ceiling of the first wait before reconnecting.
    pub reconnect_min: Duration,
    /// Highest ceiling of the waits.
    pub reconnect_max: Duration,
    /// MQTT keep-alive: a dead link is noticed within twice this time.
    pub keep_alive: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateConfig {
    pub directory: PathBuf,
    pub event_log_bytes: u64,
}

/// A device's certificate and private key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// The private key; no other user may have access.
    pub key: PathBuf,
}

impl HubConfig {
    /// A hub with the default settings.
    #[must_use]
    pub fn new(connection: DeviceConnectionString) -> Self {
        Self {
            connection,
            ca_file: None,
            certificate: None,
            mqtt_port: MQTT_PORT,
            sas_lifetime: Duration::from_secs(3600),
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(60),
            keep_alive: Duration::from_secs(60),
        }
    }
}

impl StateConfig {
    /// A state directory with the default bounds.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            event_log_bytes: EVENT_LOG_BYTES,
        }
    }
}

impl AgentConfig {
    /// A simulated door with a motor lock and the default timings.
    #[must_use]
    pub fn simulated(hub: HubConfig, state_directory: PathBuf) -> Self {
        Self {
            hub,
            door: DoorSettings::default(),
            strike: StrikeConfig::motor_lock(),
            board: BoardConfig::simulated(),
            state: StateConfig::new(state_directory),
            log_level: LevelFilter::Info,
            reboot_directory: None,
            problems: Vec::new(),
            hub_unusable: None,
        }
    }

    /// Reads `path`, its drop-ins and the process's environment.
    ///
    /// # Errors
    /// Every mistake, with its place, key, value and what was expected.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_by(path, Rules::Strict)
    }

    /// Reads the same for a door that must start: a value accepted by version 0.1 is clamped to
    /// the allowed range and reported in `problems`; a mistake that affects only the hub does not
    /// stop the door and is reported in `hub_unusable`.
    ///
    /// # Errors
    /// Every mistake, one of which prevents the door from working.
    pub fn load_to_run(path: &Path) -> Result<Self, ConfigErrors> {
        match Self::load_by(path, Rules::Lenient) {
            Err(errors) if errors.are_about_hub() => {
                let mut config = Self::load_without_hub(path)?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let problem = errors.line();
                config.hub_unusable = Some(format!(
                    "{problem}; fix it, then `door-agent restart {name}`"
                ));
                Ok(config)
            }
            loaded => loaded,
        }
    }

    fn load_without_hub(path: &Path) -> Result<Self, ConfigErrors> {
        let tables = |table: &str| table != "hub";
        let layers = Layers::read_tables(path, tables, environment(), Rules::Lenient);
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        // Never dialled; the door's name usually is the device id.
        let connection = Ok(placeholder(&name));
        let mut config = Self::from_layers(path, layers, connection, None)?;
        config.follow_service();
        Ok(config)
    }

    /// Uses the writable directory from the service manager; see `StateDirectory=` in
    /// systemd.exec(5).
    fn follow_service(&mut self) {
        if let Some(directory) = service_directory() {
            self.state.directory = directory;
        }
    }

    fn load_by(path: &Path, rules: Rules) -> Result<Self, ConfigErrors> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let mut config = Self::load_from(path, environment(), credentials.as_deref(), rules)?;
        config.follow_service();
        Ok(config)
    }

    /// Reads `path` as the service of this door does at its next start, but from outside the
    /// service: the connection string comes from `NAME.connection-string` beside the file, which
    /// the unit passes as a credential, or else from the file that the configuration names.
    ///
    /// # Errors
    /// Every mistake that would make that start fail.
    pub fn load_for_service(path: &Path) -> Result<Self, ConfigErrors> {
        let layers = Layers::read(path, environment(), Rules::Strict);
        let handed_over = path.with_extension("connection-string");
        let file = if handed_over.exists() {
            Some(handed_over)
        } else {
            connection_file(path, &layers)
        };
        let connection = connection::read(path, file.as_deref(), None);
        Self::from_layers(path, layers, connection, None)
    }

    /// Reads `[board]` alone, so that the strike can be de-energised despite mistakes elsewhere or
    /// a missing connection string.
    ///
    /// # Errors
    /// Every mistake in that table, or a file that is not TOML.
    pub fn load_board(path: &Path) -> Result<BoardConfig, ConfigErrors> {
        Self::load_board_from(path, environment(), Rules::Lenient)
    }

    fn load_board_from(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Result<BoardConfig, ConfigErrors> {
        let tables = |table: &str| table == "board";
        let mut layers = Layers::read_tables(path, tables, environment, rules);
        match board(&mut layers) {
            Some(board) if layers.errors.is_empty() => Ok(board),
            _ => Err(ConfigErrors(layers.errors)),
        }
    }

    /// Reads `[board]`, `[strike]` and `[door]` alone and checks that they fit together: for
    /// testing the wiring before there is a key.
    ///
    /// # Errors
    /// Every mistake in those tables, or a file that is not TOML.
    pub fn load_wiring(path: &Path) -> Result<(BoardConfig, StrikeConfig), ConfigErrors> {
        let tables = |table: &str| ["board", "strike", "door"].contains(&table);
        let mut layers = Layers::read_tables(path, tables, environment(), Rules::Strict);
        match wiring(&mut layers) {
            Some((_, board, strike)) if layers.errors.is_empty() => Ok((board, strike)),
            _ => Err(ConfigErrors(layers.errors)),
        }
    }

    /// Reads `[state] directory` alone: a user who queries a running agent need not be able to
    /// read its key.
    ///
    /// # Errors
    /// Every mistake in that table, or a file that is not TOML.
    pub fn load_state_directory(path: &Path) -> Result<PathBuf, ConfigErrors> {
        let state = |table: &str| table == "state";
        let layers = Layers::read_tables(path, state, environment(), Rules::Lenient);
        if !layers.errors.is_empty() {
            return Err(ConfigErrors(layers.errors));
        }
        if let Some(directory) = service_directory() {
            return Ok(directory);
        }
        Ok(match &layers.document.state.directory {
            Some(directory) => path.parent().unwrap_or(Path::new("")).join(directory),
            None => Self::service_state(path),
        })
    }

    /// The files that `[hub]` names by paths below the configuration's folder, except the
    /// connection string, each with whether it is a secret. Mistakes are left to
    /// [`AgentConfig::load`].
    #[must_use]
    pub fn relative_hub_files(path: &Path) -> Vec<(PathBuf, bool)> {
        let hub = |table: &str| table == "hub";
        let layers = Layers::read_tables(path, hub, environment(), Rules::Lenient);
        let hub = layers.document.hub;
        let files = [
            (hub.ca_file, false),
            (hub.certificate_file, false),
            (hub.key_file, true),
        ];
        let named = files
            .into_iter()
            .filter_map(|(file, secret)| Some((file?, secret)));
        let is_below = |file: &Path| {
            file.components()
                .all(|part| matches!(part, Component::Normal(_)))
        };
        named.filter(|(file, _)| is_below(file)).collect()
    }

    /// The state directory of the service whose configuration is `path`.
    #[must_use]
    pub fn service_state(path: &Path) -> PathBuf {
        Path::new(STATE_HOME).join(path.file_stem().unwrap_or_default())
    }

    fn load_from(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
        credentials_directory: Option<&Path>,
        rules: Rules,
    ) -> Result<Self, ConfigErrors> {
        let layers = Layers::read(path, environment, rules);
        let file = connection_file(path, &layers);
        let connection = connection::read(path, file.as_deref(), credentials_directory);
        Self::from_layers(path, layers, connection, credentials_directory)
    }

    /// Parses `text` as the configuration file `path`, overridden by `variables`, with the given
    /// connection string.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn read_text(
        path: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
        connection: DeviceConnectionString,
    ) -> Result<Self, ConfigErrors> {
        let layers = Layers::read_text(path, text, variables);
        Self::from_layers(path, layers, Ok(connection), None)
    }

    /// Converts the merged layers to types.
    fn from_layers(
        path: &Path,
        mut layers: Layers,
        connection: Result<DeviceConnectionString, ConfigError>,
        credentials_directory: Option<&Path>,
    ) -> Result<Self, ConfigErrors> {
        let home = path.parent().unwrap_or(Path::new(""));
        let hub = hub(&mut layers, connection, home, credentials_directory);
        let wiring = wiring(&mut layers);
        let document = &layers.document;
        let mut state = StateConfig::new(match &document.state.directory {
            Some(directory) => home.join(directory),
            None => Self::service_state(path),
        });
        let level = document.log.level;
        let reboot_directory = match &document.machine.reboot_directory {
            Some(directory) => home.join(directory),
            None => PathBuf::from(reboot::DIRECTORY),
        };
        match document.state.event_log_kib {
            Some(kib) if !(64..=1 << 20).contains(&kib) => layers.errors.push(layers.invalid(
                "state.event_log_kib",
                format!("{kib}, expected from 64 to 1048576 (KiB)"),
            )),
            Some(kib) => state.event_log_bytes = kib << 10,
            None => {}
        }
        match wiring {
            Some((door, board, strike)) if layers.errors.is_empty() => Ok(Self {
                hub,
                door,
                strike,
                board,
                state,
                log_level: level.map_or(LevelFilter::Info, |level| level.0),
                reboot_directory: Some(reboot_directory),
                problems: layers.problems,
                hub_unusable: None,
            }),
            _ => Err(ConfigErrors(layers.errors)),
        }
    }
}

/// The connection string of a door that cannot be connected.
fn placeholder(name: &str) -> DeviceConnectionString {
    let of = |name: &str| {
        format!("HostName=hub.invalid;DeviceId={name};SharedAccessKey=bm9ib2R5").parse()
    };
    let connection = of(name).or_else(|_| of("door"));
    connection.expect("the name `door` is valid in a connection string")
}

/// The connection string file named by the configuration in `path`.
fn connection_file(path: &Path, layers: &Layers) -> Option<PathBuf> {
    let file = layers.document.hub.connection_string_file.as_deref()?;
    Some(path.parent().unwrap_or(Path::new("")).join(file))
}

fn board(layers: &mut Layers) -> Option<BoardConfig> {
    let board = layers.document.board.clone();
    if board.is_none() && !layers.is_unreadable() {
        layers.refuse_missing("board.kind", BOARD_KINDS);
    }
    board
}

/// Reads `[door]`, `[board]` and `[strike]`, and checks that they work together.
fn wiring(layers: &mut Layers) -> Option<(DoorSettings, BoardConfig, StrikeConfig)> {
    // A value that is missing because it is invalid must not cause another mistake.
    let is_whole = !["door", "strike", "board"]
        .iter()
        .any(|table| layers.has_error_in(table));
    let door = door(layers);
    let strike = layers.document.strike;
    if strike.is_none() && !layers.is_unreadable() {
        layers.refuse_missing("strike.kind", StrikeKind::EXPECTED);
    }
    let board = board(layers);
    let (board, strike) = board.zip(strike)?;
    if is_whole {
        check_fit(layers, &board, strike, door);
    }
    Some((door, board, strike))
}

/// Reads `[door]`: the extended strike time is at least the strike time.
fn door(layers: &mut Layers) -> DoorSettings {
    const EXTENDED: &str = "door.extended_strike_time";
    let mut door = layers.document.door;
    let (extended, least) = (door.extended_strike_time, door.strike_time);
    if extended < least {
        if layers.contains_key(EXTENDED) && !layers.has_error_in("door") {
            let problem = format!(
                "{extended:?} is shorter than door.strike_time, expected at least {least:?}"
            );
            layers.refuse(EXTENDED, problem, &format!("{least:?} is used"));
        }
        door.extended_strike_time = least;
    }
    door
}

/// Checks that board, strike and settings work together.
fn check_fit(
    layers: &mut Layers,
    board: &BoardConfig,
    strike: StrikeConfig,
    settings: DoorSettings,
) {
    let unfit = board.mistakes(&strike).into_iter();
    let unfit = unfit.map(|error| (error.key(), error.to_string()));
    let unfit: Vec<_> = unfit
        .chain(
            DoorConfig::mistakes(&settings, &strike, board.fitted())
                .into_iter()
                .map(|error| (error.key(), error.to_string())),
        )
        .collect();
    for (key, problem) in unfit {
        layers.errors.push(layers.invalid(&key, problem));
    }
    if board.fitted().rex_reports_only && !names_another_way_out(settings.egress) {
        let problem = "false releases nothing, and [door] egress does not name another way out: \
                       expected egress = \"free-mechanical\" or \"hardware-release\"";
        layers
            .errors
            .push(layers.invalid("board.inputs.rex.releases", problem));
    }
    if let Err(error) = DoorConfig::check_egress(settings.egress, &strike) {
        layers.refuse("door.egress", error.to_string(), "the door keeps working");
    }
}

/// The state directory that the service manager has made.
fn service_directory() -> Option<PathBuf> {
    std::env::var_os("STATE_DIRECTORY").map(PathBuf::from)
}

fn names_another_way_out(egress: Option<Egress>) -> bool {
    matches!(
        egress,
        Some(Egress::FreeMechanical | Egress::HardwareRelease)
    )
}

/// The environment variables that are valid Unicode.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Name of the credential (`LoadCredential=`) that takes precedence over `hub.key_file`.
const KEY_CREDENTIAL: &str = "key";

/// The certificate files of a device with `x509=true`.
fn certificate(
    layers: &mut Layers,
    connection: &DeviceConnectionString,
    home: &Path,
    credentials_directory: Option<&Path>,
) -> Option<CertificateFiles> {
    let table = &layers.document.hub;
    let [certificate, key] = [&table.certificate_file, &table.key_file]
        .map(|file| file.as_ref().map(|file| home.join(file)));
    if !matches!(connection.credential, DeviceCredential::X509) {
        let named = [("hub.certificate_file", certificate), ("hub.key_file", key)];
        if let Some((key, _)) = named.iter().find(|(_, file)| file.is_some()) {
            let problem = "needs a connection string with x509=true, found one with a key";
            layers.errors.push(layers.invalid(key, problem));
        }
        return None;
    }
    let credential = credentials_directory.map(|directory| directory.join(KEY_CREDENTIAL));
    let credential = credential.filter(|credential| credential.exists());
    if let (None, Some(key)) = (&credential, &key) {
        match connection::check_private(key) {
            // Not fatal at a start: the file is read again for each connection.
            Err(ConfigError::Read { .. }) if !layers.is_strict() => {}
            Err(error) => layers.errors.push(error),
            Ok(()) => {}
        }
    }
    let key = credential.or(key);
    let files = [
        ("hub.certificate_file", &certificate),
        ("hub.key_file", &key),
    ];
    for (name, _) in files.into_iter().filter(|(_, file)| file.is_none()) {
        layers.refuse_missing(name, "a PEM file: the connection string says x509=true");
    }
    let (certificate, key) = certificate.zip(key)?;
    Some(CertificateFiles { certificate, key })
}

fn hub(
    layers: &mut Layers,
    connection: Result<DeviceConnectionString, ConfigError>,
    home: &Path,
    credentials_directory: Option<&Path>,
) -> HubConfig {
    // Without its file, or with a key that is invalid, there is no other mistake to report.
    let is_explained = layers.is_unreadable() || layers.has_error("hub.connection_string_file");
    let connection = match connection {
        Ok(connection) => Some(connection),
        Err(ConfigError::NoConnectionString { .. }) if is_explained => None,
        Err(error) => {
            layers.errors.push(error);
            None
        }
    };
    let certificate = connection
        .as_ref()
        .and_then(|connection| certificate(layers, connection, home, credentials_directory));
    let table = &layers.document.hub;
    let mut hub = HubConfig::new(connection.unwrap_or_else(|| placeholder("unknown")));
    hub.certificate = certificate;
    hub.ca_file = table.ca_file.as_ref().map(|file| home.join(file));
    if let Some(port) = table.mqtt_port {
        hub.mqtt_port = port.0;
    }
    for (time, period) in [
        (&mut hub.sas_lifetime, table.sas_lifetime),
        (&mut hub.reconnect_min, table.reconnect_min),
        (&mut hub.reconnect_max, table.reconnect_max),
        (&mut hub.keep_alive, table.keep_alive),
    ] {
        *time = period.map_or(*time, |Period(period)| period);
    }
    let is_whole = !["hub.reconnect_min", "hub.reconnect_max"]
        .iter()
        .any(|key| layers.has_error(key));
    if hub.reconnect_min > hub.reconnect_max && is_whole {
        let problem = format!(
            "{:?} is above hub.reconnect_max, expected at most {:?}",
            hub.reconnect_min, hub.reconnect_max
        );
        layers
            .errors
            .push(layers.invalid("hub.reconnect_min", problem));
    }
    hub
}

#[cfg(test)]
mod tests;

//! The agent's configuration: read in layers, judged whole, and turned into types before anything
//! is bound or driven.
//!
//! `/etc/door-agent/<name>.toml`, drop-ins in `<name>.toml.d/`, then the environment
//! (`DOOR_AGENT__HUB__MQTT_PORT=8884`). Paths in a file are relative to the main file's directory.
//! Whoever links the agent as a library may build an [`AgentConfig`] without any file.

mod connection;
mod error;
mod layers;
mod schema;
mod times;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

use door_core::config::StrikeKind;
use door_core::{DoorConfig, DoorSettings, StrikeConfig};
use iothub_protocol::connection_string::{DeviceConnectionString, DeviceCredential};
use log::LevelFilter;

use crate::gpio::BoardConfig;
use crate::reboot;

pub use error::ConfigError;
use layers::{Layers, Rules};
use value::Period;

/// Port of MQTT over TLS.
const MQTT_PORT: u16 = 8883;
/// Bound of the event log when the configuration gives none: about 10,000 events.
const EVENT_LOG_BYTES: u64 = 4 << 20;
/// Where the state of an agent is kept when the configuration does not say.
const STATE_HOME: &str = "/var/lib/door-agent";

/// What `board.kind` may be.
const BOARD_KINDS: &str = r#""simulated" or "raspberry-pi""#;

/// Everything an agent needs to know to start.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The hub and how to reach it.
    pub hub: HubConfig,
    /// How the door behaves.
    pub door: DoorSettings,
    /// What locks it.
    pub strike: StrikeConfig,
    /// What it is wired to.
    pub board: BoardConfig,
    /// What the door keeps on disk, and where.
    pub state: StateConfig,
    /// What is logged.
    pub log_level: LevelFilter,
    /// Where to ask for a reboot of the machine; see [`crate::reboot`]. Without it there is none.
    pub reboot_directory: Option<PathBuf>,
    /// What its files say that is not allowed, though version 0.1 took it, and what is used in its
    /// place.
    pub problems: Vec<String>,
    /// Why there can be no hub; then `hub` names the door and nothing else.
    pub hub_away: Option<String>,
}

/// The hub and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// Who we are and where the hub is; its key shows in no log.
    pub connection: DeviceConnectionString,
    /// CA certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate that proves who we are, when the connection string says `x509=true`.
    pub certificate: Option<CertificateFiles>,
    /// Port of MQTT over TLS.
    pub mqtt_port: u16,
    /// How long a token is valid; the connection is renewed between 85 and 95 % of it.
    pub sas_lifetime: Duration,
    /// Ceiling of the first wait before connecting again.
    pub reconnect_min: Duration,
    /// Ceiling that the waits grow to.
    pub reconnect_max: Duration,
    /// MQTT keep-alive: a dead link is noticed within twice this time.
    pub keep_alive: Duration,
}

/// What the door keeps on disk, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateConfig {
    /// The door's directory.
    pub directory: PathBuf,
    /// Bound of the event log.
    pub event_log_bytes: u64,
}

/// A device's certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key; nobody else may read it.
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
            hub_away: None,
        }
    }

    /// Reads `path`, its drop-ins and the process's environment.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place, key, value and what was expected.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_by(path, Rules::Strict)
    }

    /// Reads the same for a door that is to run now: what version 0.1 took is taken, as near to it
    /// as is allowed, and told in `problems`; what only the hub needs keeps no door from its
    /// buttons and is told in `hub_away`.
    ///
    /// # Errors
    /// The first thing that the door itself cannot be without.
    pub fn load_to_run(path: &Path) -> Result<Self, ConfigError> {
        match Self::load_by(path, Rules::AsBefore) {
            Err(error) if error.is_about_hub() => {
                let mut config = Self::load_without_hub(path)?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                config.hub_away = Some(format!(
                    "{:#}; mend it, then `door-agent restart {name}`",
                    anyhow::Error::from(error)
                ));
                Ok(config)
            }
            loaded => loaded,
        }
    }

    fn load_without_hub(path: &Path) -> Result<Self, ConfigError> {
        let mut layers = Layers::read_without(path, "hub", environment(), Rules::AsBefore)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        // Never dialled: it stands for the name of the door, which is its device's by custom.
        let nobody = |name: &str| {
            format!("HostName=hub.invalid;DeviceId={name};SharedAccessKey=bm9ib2R5").parse()
        };
        let connection = nobody(&name).or_else(|_| nobody("door"));
        let connection = connection.map_err(|error| ConfigError::ConnectionString {
            path: path.to_path_buf(),
            problem: format!("{error}"),
        })?;
        let mut config = Self::judge(path, &mut layers, connection, None)?;
        config.follow_service();
        Ok(config)
    }

    /// What the service manager has made for us is where we may write; see `StateDirectory=` in
    /// systemd.exec(5).
    fn follow_service(&mut self) {
        if let Some(directory) = std::env::var_os("STATE_DIRECTORY") {
            self.state.directory = PathBuf::from(directory);
        }
    }

    fn load_by(path: &Path, rules: Rules) -> Result<Self, ConfigError> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let mut config = Self::load_from(path, environment(), credentials.as_deref(), rules)?;
        config.follow_service();
        Ok(config)
    }

    /// Reads `path` as the service of this door does at its next start, by somebody outside of it:
    /// the connection string is the one that the unit hands over, `NAME.connection-string`
    /// beside the file, and, if there is none, the one that the file names.
    ///
    /// # Errors
    /// The first thing that would keep that start from succeeding.
    pub fn load_for_service(path: &Path) -> Result<Self, ConfigError> {
        let mut layers = Layers::read(path, environment(), Rules::Strict)?;
        let handed_over = path.with_extension("connection-string");
        let file = if handed_over.exists() {
            Some(handed_over)
        } else {
            connection_file(path, &layers)
        };
        let connection = connection::read(path, file.as_deref(), None)?;
        Self::judge(path, &mut layers, connection, None)
    }

    /// Reads `[board]` alone: what is wrong elsewhere, or a connection string that is missing, does
    /// not keep anyone from de-energising it.
    ///
    /// # Errors
    /// The first thing that is wrong with that table, or a file that is not TOML at all.
    pub fn load_board(path: &Path) -> Result<BoardConfig, ConfigError> {
        Self::load_board_from(path, environment(), Rules::AsBefore)
    }

    fn load_board_from(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Result<BoardConfig, ConfigError> {
        let layers = Layers::read_table(path, "board", environment, rules)?;
        match &layers.document.board {
            Some(board) => Ok(board.clone()),
            None => Err(layers.invalid("board.kind", format!("missing, expected {BOARD_KINDS}"))),
        }
    }

    /// Reads `[board]`, `[strike]` and `[door]` alone, and checks that they fit together: for
    /// whoever tries the wiring before there is a key.
    ///
    /// # Errors
    /// The first thing that is wrong with those tables, or a file that is not TOML at all.
    pub fn load_wiring(path: &Path) -> Result<(BoardConfig, StrikeConfig), ConfigError> {
        let rules = Rules::Strict;
        let board = Self::load_board_from(path, environment(), rules)?;
        let mut layers = Layers::read_table(path, "strike", environment(), rules)?;
        let strike = strike(&layers)?;
        let settings = door(&mut Layers::read_table(path, "door", environment(), rules)?)?;
        fits(&mut layers, &board, strike, settings)?;
        Ok((board, strike))
    }

    /// Reads `[state] directory` alone: whoever looks at a running agent need not be able to read
    /// its key.
    ///
    /// # Errors
    /// The first thing that is wrong with that table, or a file that is not TOML at all.
    pub fn load_state_directory(path: &Path) -> Result<PathBuf, ConfigError> {
        let layers = Layers::read_table(path, "state", environment(), Rules::AsBefore)?;
        Ok(match &layers.document.state.directory {
            Some(directory) => path.parent().unwrap_or(Path::new("")).join(directory),
            None => Self::service_state(path),
        })
    }

    /// Where a service keeps the state of the door whose configuration is `path`.
    #[must_use]
    pub fn service_state(path: &Path) -> PathBuf {
        Path::new(STATE_HOME).join(path.file_stem().unwrap_or_default())
    }

    fn load_from(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
        credentials_directory: Option<&Path>,
        rules: Rules,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::read(path, environment, rules)?;
        let file = connection_file(path, &layers);
        let connection = connection::read(path, file.as_deref(), credentials_directory)?;
        Self::judge(path, &mut layers, connection, credentials_directory)
    }

    /// Reads `text` as the configuration in the file `path`, with `variables` over it; the
    /// connection string is given.
    pub(crate) fn read_text(
        path: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
        connection: DeviceConnectionString,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::read_text(path, text, variables)?;
        Self::judge(path, &mut layers, connection, None)
    }

    /// Turns what the layers say into types.
    fn judge(
        path: &Path,
        layers: &mut Layers,
        connection: DeviceConnectionString,
        credentials_directory: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let door = door(layers)?;
        let home = path.parent().unwrap_or(Path::new(""));
        let document = &layers.document;
        let hub = hub(layers, connection, home, credentials_directory)?;
        let mut state = StateConfig::new(match &document.state.directory {
            Some(directory) => home.join(directory),
            None => Self::service_state(path),
        });
        if let Some(kib) = document.state.event_log_kib {
            if !(64..=1 << 20).contains(&kib) {
                return Err(layers.invalid(
                    "state.event_log_kib",
                    format!("{kib}, expected from 64 to 1048576 (KiB)"),
                ));
            }
            state.event_log_bytes = kib << 10;
        }
        let strike = strike(layers)?;
        let board = document.board.clone();
        let board = board.ok_or_else(|| missing(layers, "board.kind", BOARD_KINDS))?;
        let level = document.log.level;
        let reboot_directory = match &document.machine.reboot_directory {
            Some(directory) => home.join(directory),
            None => PathBuf::from(reboot::DIRECTORY),
        };
        fits(layers, &board, strike, door)?;
        Ok(Self {
            hub,
            door,
            strike,
            board,
            state,
            log_level: level.map_or(LevelFilter::Info, |level| level.0),
            reboot_directory: Some(reboot_directory),
            problems: std::mem::take(&mut layers.problems),
            hub_away: None,
        })
    }
}

/// The connection string's file, as the configuration in `path` names it.
fn connection_file(path: &Path, layers: &Layers) -> Option<PathBuf> {
    let file = layers.document.hub.connection_string_file.as_deref()?;
    Some(path.parent().unwrap_or(Path::new("")).join(file))
}

fn strike(layers: &Layers) -> Result<StrikeConfig, ConfigError> {
    let strike = layers.document.strike;
    strike.ok_or_else(|| missing(layers, "strike.kind", StrikeKind::EXPECTED))
}

fn missing(layers: &Layers, key: &str, expected: &str) -> ConfigError {
    layers.invalid(key, format!("missing, expected {expected}"))
}

/// The table `[door]`: whoever needs longer has at least as long as anybody.
fn door(layers: &mut Layers) -> Result<DoorSettings, ConfigError> {
    const EXTENDED: &str = "door.extended_strike_time";
    let mut door = layers.document.door;
    let (extended, least) = (door.extended_strike_time, door.strike_time);
    if extended < least {
        if layers.names(EXTENDED) {
            let problem = format!(
                "{extended:?} is shorter than door.strike_time, expected at least {least:?}"
            );
            layers.refuse(EXTENDED, problem, &format!("{least:?} is used"))?;
        }
        door.extended_strike_time = least;
    }
    Ok(door)
}

/// Checks that board, strike and settings can work together.
fn fits(
    layers: &mut Layers,
    board: &BoardConfig,
    strike: StrikeConfig,
    settings: DoorSettings,
) -> Result<(), ConfigError> {
    board
        .check(&strike)
        .map_err(|error| layers.invalid("board", error.to_string()))?;
    DoorConfig::new(settings, strike, board.fitted())
        .map(drop)
        .map_err(|error| layers.invalid("strike", error.to_string()))?;
    match DoorConfig::check_egress(settings.egress, &strike) {
        Ok(()) => Ok(()),
        Err(error) => layers.refuse("door.egress", error.to_string(), "the door works on"),
    }
}

/// The process's environment, as far as it is text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Name of the credential that goes before `hub.key_file`, as `LoadCredential=` gives it.
const KEY_CREDENTIAL: &str = "key";

/// The files of a device that proves itself by a certificate.
fn certificate(
    layers: &Layers,
    connection: &DeviceConnectionString,
    home: &Path,
    credentials_directory: Option<&Path>,
) -> Result<Option<CertificateFiles>, ConfigError> {
    let table = &layers.document.hub;
    let files = (&table.certificate_file, &table.key_file);
    if !matches!(connection.credential, DeviceCredential::X509) {
        let named = [("hub.certificate_file", files.0), ("hub.key_file", files.1)];
        return match named.iter().find(|(_, file)| file.is_some()) {
            None => Ok(None),
            Some((key, _)) => Err(layers.invalid(
                key,
                "means nothing beside a connection string with a key, expected one with x509=true",
            )),
        };
    }
    let needed = |key: &str, file: &Option<PathBuf>| {
        let file = file.as_ref().map(|file| home.join(file));
        file.ok_or_else(|| {
            missing(
                layers,
                key,
                "a PEM file: the connection string says x509=true",
            )
        })
    };
    let certificate = needed("hub.certificate_file", files.0)?;
    let credential = credentials_directory.map(|directory| directory.join(KEY_CREDENTIAL));
    let key = match credential.filter(|credential| credential.exists()) {
        Some(credential) => credential,
        None => {
            let key = needed("hub.key_file", files.1)?;
            match connection::refuse_when_open_to_others(&key) {
                // It is read again with each connection.
                Err(ConfigError::Read { .. }) if !layers.is_strict() => {}
                judged => judged?,
            }
            key
        }
    };
    Ok(Some(CertificateFiles { certificate, key }))
}

fn hub(
    layers: &Layers,
    connection: DeviceConnectionString,
    home: &Path,
    credentials_directory: Option<&Path>,
) -> Result<HubConfig, ConfigError> {
    let table = &layers.document.hub;
    let mut hub = HubConfig::new(connection);
    hub.certificate = certificate(layers, &hub.connection, home, credentials_directory)?;
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
    if hub.reconnect_min > hub.reconnect_max {
        return Err(layers.invalid(
            "hub.reconnect_min",
            format!(
                "{:?} is above hub.reconnect_max, expected at most {:?}",
                hub.reconnect_min, hub.reconnect_max
            ),
        ));
    }
    Ok(hub)
}

#[cfg(test)]
mod tests;

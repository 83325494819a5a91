//! Tables and keys of the configuration file. All are optional here: required keys are checked
//! after the layers are merged.

use std::path::PathBuf;

use door_core::{DoorSettings, StrikeConfig};
use serde::Deserialize;

use crate::gpio::BoardConfig;

use super::value::{Level, Period, Port};

/// A whole file, or one layer of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Document {
    pub(super) hub: HubTable,
    pub(super) door: DoorSettings,
    pub(super) strike: Option<StrikeConfig>,
    pub(super) board: Option<BoardConfig>,
    pub(super) state: StateTable,
    pub(super) log: LogTable,
    pub(super) machine: MachineTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HubTable {
    pub(super) connection_string_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) mqtt_port: Option<Port>,
    pub(super) sas_lifetime: Option<Period>,
    pub(super) reconnect_min: Option<Period>,
    pub(super) reconnect_max: Option<Period>,
    pub(super) keep_alive: Option<Period>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StateTable {
    pub(super) directory: Option<PathBuf>,
    pub(super) event_log_kib: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogTable {
    pub(super) level: Option<Level>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MachineTable {
    pub(super) reboot_directory: Option<PathBuf>,
}

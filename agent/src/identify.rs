//! Which door on which machine this is: the method `identify`.
//!
//! It moves and lights nothing. What it answers stands on the label of the board, and a line in the
//! journal and an event name the moment, so that an installer at the machine and an operator at the
//! hub can tell that they mean the same one.

use std::fs;
use std::io::Read;

use door_core::contract::Identity;
use door_core::{DoorConfig, MethodReply};
use iothub_protocol::id::DeviceId;
use log::info;
use serde_json::Map;
use tokio::sync::watch;

use crate::controller::Clock;
use crate::storage::{DoorStorage, EventRecord, Place};

/// Longest text that the machine says of itself.
const MAX_BYTES: u64 = 256;
/// Where Linux says what the machine is and which one.
const MODEL: &str = "/sys/firmware/devicetree/base/model";
const SERIAL_NUMBER: &str = "/sys/firmware/devicetree/base/serial-number";
const HOST_NAME: &str = "/etc/hostname";

/// Answers the method.
#[derive(Debug, Clone)]
pub(crate) struct Identifier {
    pub(crate) device: DeviceId,
    pub(crate) door: DoorConfig,
    pub(crate) place: watch::Receiver<Place>,
    pub(crate) clock: Clock,
    pub(crate) storage: DoorStorage,
}

impl Identifier {
    /// Judges a call, notes it and answers.
    pub(crate) fn answer(&mut self, payload: &[u8]) -> MethodReply {
        if let Err(refused) = Identity::judge(payload) {
            return refused;
        }
        info!(
            "{}: identify: this is the machine that is meant",
            self.device
        );
        let now = self.clock.now();
        self.storage.append(EventRecord {
            at: now.wall,
            clock: now.quality.as_str().to_owned(),
            kind: Identity::METHOD.to_owned(),
            urgent: false,
            fields: Map::new(),
        });
        let Place { building, floor } = self.place.borrow().clone();
        Identity {
            device_id: self.device.to_string(),
            building,
            floor,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host_name: read(HOST_NAME),
            model: read(MODEL),
            serial_number: read(SERIAL_NUMBER),
            strike: self.door.strike_kind(),
            inputs: self.door.inputs().into_iter().map(str::to_owned).collect(),
        }
        .reply()
    }
}

/// A line that the system says; nothing where it does not.
fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    // The device tree ends its texts with NUL.
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_without_its_end_and_absence_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model");
        let read_back = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read(path.to_str().unwrap())
        };
        assert_eq!(
            read_back(b"Raspberry Pi 4\0").as_deref(),
            Some("Raspberry Pi 4")
        );
        assert_eq!(read_back(b"pi-3f\n").as_deref(), Some("pi-3f"));
        assert_eq!(read_back(b"\n"), None);
        assert_eq!(read_back(b"\xff"), None);
        assert_eq!(read("/nowhere/model"), None);
    }
}

//! The method `identify`: which door on which machine this is.
//!
//! It moves nothing and lights nothing. Its answer contains what is printed on the board's label; a
//! line in the journal and an event mark the moment, so that an installer at the machine and an
//! operator at the hub can agree that they see the same one.

use std::fs;
use std::io::Read;

use door_core::contract::Identity;
use door_core::{DoorConfig, Event, EventKind, MethodReply};
use iothub_protocol::id::DeviceId;
use log::info;
use tokio::sync::watch;

use crate::controller::Clock;
use crate::storage::{DoorStorage, SiteLocation};

/// Maximum length of a text from the system.
const MAX_BYTES: u64 = 256;
/// Linux device tree: model and serial number.
const MODEL: &str = "/sys/firmware/devicetree/base/model";
const SERIAL_NUMBER: &str = "/sys/firmware/devicetree/base/serial-number";
const HOST_NAME: &str = "/etc/hostname";

#[derive(Debug, Clone)]
pub(crate) struct Identifier {
    pub(crate) device: DeviceId,
    pub(crate) door: DoorConfig,
    pub(crate) location: watch::Receiver<SiteLocation>,
    pub(crate) clock: Clock,
    pub(crate) storage: DoorStorage,
}

impl Identifier {
    /// Validates a call, records it and answers.
    pub(crate) fn answer(&mut self, payload: &[u8]) -> MethodReply {
        if let Err(refused) = Identity::judge(payload) {
            return refused;
        }
        info!("{}: identify called for this machine", self.device);
        let now = self.clock.now();
        self.storage.append(Event::new(&now, EventKind::Identify));
        let SiteLocation { building, floor } = self.location.borrow().clone();
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

/// Reads a line from a system file; `None` if that fails.
fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    // Strings of the device tree end with NUL.
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_text_is_trimmed_and_a_missing_one_is_none() {
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

//! Clocks of a machine whose power fails and whose time is stepped, for tests of the program.
//!
//! Only in builds with debug assertions: `DOOR_AGENT_CLOCK` names a JSON file with [`Simulated`],
//! which is read whenever the time is. It is replaced, not rewritten.

use std::time::Duration;

use door_core::{BootId, ClockQuality, Now};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

#[derive(Deserialize)]
struct Simulated {
    /// Id of the boot, read at the start.
    boot: String,
    /// How far the boot clock is ahead of the machine's.
    boot_ahead_ms: u64,
    /// How far the wall clock is ahead of the machine's.
    wall_ahead_ms: i64,
    is_synchronized: bool,
}

fn read() -> Option<Simulated> {
    let path = std::env::var_os("DOOR_AGENT_CLOCK")?;
    let text = std::fs::read(path).expect("the file of the simulated clock is readable");
    Some(serde_json::from_slice(&text).expect("the simulated clock is valid"))
}

pub(super) fn boot_id() -> Option<BootId> {
    Some(BootId::new(&read()?.boot))
}

pub(super) fn now(boot: &BootId) -> Option<Now> {
    let clock = read()?;
    let wall = SignedDuration::from_millis(clock.wall_ahead_ms);
    Some(Now {
        boottime: super::boottime() + Duration::from_millis(clock.boot_ahead_ms),
        boot_id: boot.clone(),
        wall: Timestamp::now().checked_add(wall).ok(),
        quality: match clock.is_synchronized {
            true => ClockQuality::Synchronized,
            false => ClockQuality::Unsynchronized,
        },
    })
}

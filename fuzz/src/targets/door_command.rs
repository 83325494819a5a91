//! The door's contract: a call is a command or an error, and printed durations parse to the same.

use door_core::contract::duration;
use door_core::contract::{Command, METHODS};

use crate::{Seeds, texts};

/// Longest reply to an invalid payload; IoT Hub accepts 128 KiB.
const LONGEST_REPLY: usize = 8 * 1024;

pub(crate) fn run(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (method, payload) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let Ok(method) = std::str::from_utf8(method) else {
        return;
    };
    match Command::parse(method, payload) {
        Ok(command) => {
            assert_eq!(command.method(), method);
            assert!(METHODS.contains(&method));
            let time = match &command {
                Command::Lock(lock) => lock.lock_time,
                Command::Unlock(unlock) => unlock.unlock_time,
                // The others have no duration.
                _ => None,
            };
            if let Some(time) = time {
                assert_eq!(duration::parse(&duration::to_text(time)), Ok(time));
            }
        }
        Err(reply) => {
            assert!(!reply.is_success());
            let body = reply.body_json();
            assert!(
                body.len() <= LONGEST_REPLY.max(8 * method.len()),
                "{} bytes",
                body.len()
            );
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        }
    }
    if let Some(time) = std::str::from_utf8(payload)
        .ok()
        .and_then(|text| duration::parse(text).ok())
    {
        assert!(time <= duration::MAX && !time.is_zero());
        assert_eq!(duration::parse(&duration::to_text(time)), Ok(time));
    }
}

pub(crate) fn seeds() -> Seeds {
    texts([
        "lockDoor\n\
         {\"lockTime\":\"10m\",\"commandId\":\"lock-1\",\"notAfter\":\"2026-11-23T22:00:00Z\"}",
        "lockDoor\n{\"until\":\"2026-11-23T22:10:00+01:00\"}",
        "lockDoor\n\"{\\\"lockTime\\\":600}\"",
        "unlockDoor\n{\"unlockTime\":\"PT1H30M\"}",
        "relinquish\nnull",
        "setMode\n{\"mode\":\"lockdown\",\"commandId\":\"fire-drill\"}",
        "getState\n",
        "reboot\n1d2h3m4s",
    ])
}

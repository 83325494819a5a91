//! Telling somebody what goes to the hub and what comes back: for a person who waits, and for one
//! who wonders. Never a secret.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, Url};
use serde_json::Value;

use super::error::ClientError;

/// Bodies are told up to so many characters.
const TOLD: usize = 2_000;

/// Members whose values are secrets.
const SECRETS: [&str; 4] = [
    "primaryKey",
    "secondaryKey",
    "sharedAccessKey",
    "connectionString",
];

/// What happens on the way to the hub.
#[derive(Debug)]
#[non_exhaustive]
pub enum Traffic<'a> {
    /// A request leaves.
    Sent {
        /// `GET`, `PUT` ...
        method: &'a Method,
        /// Its address; it carries no secret.
        url: &'a Url,
        /// Its body, secrets struck out.
        body: Option<String>,
    },
    /// An answer is there.
    Answered {
        /// Its HTTP status.
        status: u16,
        /// How long it took.
        after: Duration,
        /// Its body, secrets struck out.
        body: String,
    },
    /// The hub cannot do it now; it is asked again.
    Waiting {
        /// What it said.
        error: &'a ClientError,
        /// In how long.
        wait: Duration,
    },
    /// The first answer has shown the hub's clock.
    Clock {
        /// This machine's time then.
        ours: Timestamp,
        /// The hub's.
        hubs: Timestamp,
    },
}

/// Who is told.
#[derive(Clone)]
pub struct Watcher(Arc<dyn Fn(&Traffic<'_>) + Send + Sync>);

impl Watcher {
    /// `told` is called for everything that happens, on the task that asks: it must not block.
    pub fn new(told: impl Fn(&Traffic<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    pub(super) fn tell(&self, traffic: &Traffic<'_>) {
        (self.0)(traffic);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher(..)")
    }
}

/// A body as it may be told: what is not JSON is told by its length alone.
pub(super) fn tellable(body: &[u8]) -> String {
    if body.is_empty() {
        return String::new();
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
        return format!("({} bytes that are not JSON)", body.len());
    };
    strike_out(&mut value);
    let text = value.to_string();
    match text.char_indices().nth(TOLD) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], body.len()),
        None => text,
    }
}

fn strike_out(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match SECRETS
                    .iter()
                    .any(|secret| secret.eq_ignore_ascii_case(name))
                {
                    true if member.is_string() => *member = Value::from("(secret)"),
                    _ => strike_out(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strike_out),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_struck_out_wherever_they_are() {
        let body = br#"[{"deviceId":"a","authentication":{"symmetricKey":{"primaryKey":"c2VjcmV0","secondaryKey":null}}}]"#;
        let told = tellable(body);
        assert_eq!(
            told,
            r#"[{"deviceId":"a","authentication":{"symmetricKey":{"primaryKey":"(secret)","secondaryKey":null}}}]"#
        );
    }

    #[test]
    fn long_bodies_are_cut_and_strange_ones_counted() {
        let long = format!("\"{}\"", "ä".repeat(5_000));
        let told = tellable(long.as_bytes());
        assert!(told.ends_with("... (10002 bytes)"), "{told}");
        assert_eq!(tellable(b"<html>"), "(6 bytes that are not JSON)");
        assert_eq!(tellable(b""), "");
    }
}

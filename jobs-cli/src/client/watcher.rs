//! Telling somebody what goes to the hub and what comes back: for a person who waits, and for one
//! who wonders. Never a secret.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, Url};
use serde_json::Value;

use super::error::ClientError;

/// Bodies are text up to so many characters.
const MAX_LOGGED_CHARS: usize = 2_000;

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
        local: Timestamp,
        /// The hub's.
        hub: Timestamp,
    },
}

/// Who is text.
#[derive(Clone)]
pub struct Watcher(Arc<dyn Fn(&Traffic<'_>) + Send + Sync>);

impl Watcher {
    /// `text` is called for everything that happens, on the task that asks: it must not block.
    pub fn new(text: impl Fn(&Traffic<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(text))
    }

    pub(super) fn notify(&self, traffic: &Traffic<'_>) {
        (self.0)(traffic);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher(..)")
    }
}

/// A body as it may be text: what is not JSON is text by its length alone.
pub(super) fn redacted_body(body: &[u8]) -> String {
    if body.is_empty() {
        return String::new();
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
        return format!("({} bytes that are not JSON)", body.len());
    };
    redact(&mut value);
    let text = value.to_string();
    match text.char_indices().nth(MAX_LOGGED_CHARS) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], body.len()),
        None => text,
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match SECRETS
                    .iter()
                    .any(|secret| secret.eq_ignore_ascii_case(name))
                {
                    true if member.is_string() => *member = Value::from("(secret)"),
                    _ => redact(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_redacted_at_any_depth() {
        let body = br#"[{"deviceId":"a","authentication":{"symmetricKey":{"primaryKey":"c2VjcmV0","secondaryKey":null}}}]"#;
        let text = redacted_body(body);
        assert_eq!(
            text,
            r#"[{"deviceId":"a","authentication":{"symmetricKey":{"primaryKey":"(secret)","secondaryKey":null}}}]"#
        );
    }

    #[test]
    fn long_bodies_are_truncated_and_non_json_bodies_shown_by_length() {
        let long = format!("\"{}\"", "ä".repeat(5_000));
        let text = redacted_body(long.as_bytes());
        assert!(text.ends_with("... (10002 bytes)"), "{text}");
        assert_eq!(redacted_body(b"<html>"), "(6 bytes that are not JSON)");
        assert_eq!(redacted_body(b""), "");
    }
}

//! Notifications about requests and responses, for progress and `--verbose`. Secrets are redacted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, Url};
use serde_json::Value;

use super::error::ClientError;

/// Longest body in a notification, in characters.
const MAX_LOGGED_CHARS: usize = 2_000;

/// JSON members with secret values.
const SECRETS: [&str; 4] = [
    "primaryKey",
    "secondaryKey",
    "sharedAccessKey",
    "connectionString",
];

/// A step of the communication with the hub.
#[derive(Debug)]
#[non_exhaustive]
pub enum Traffic<'a> {
    /// A request is about to be sent.
    Sent {
        /// The HTTP method.
        method: &'a Method,
        /// Has no secret.
        url: &'a Url,
        /// The body, if it has one.
        body: Option<RedactedBody<'a>>,
    },
    /// A response arrived.
    Answered {
        /// The HTTP status.
        status: u16,
        /// Time since the request.
        after: Duration,
        /// The body; empty if it is read later.
        body: RedactedBody<'a>,
    },
    /// The request is retried after a wait.
    Waiting {
        /// Why the last attempt failed.
        error: &'a ClientError,
        /// Time until the next attempt.
        wait: Duration,
    },
    /// An item of a list cannot be read and is left out.
    Skipped {
        /// What was expected.
        what: &'static str,
        /// Why the item is not that.
        error: &'a serde_json::Error,
    },
    /// The first response has shown the hub's clock.
    Clock {
        /// The local time of the response.
        local: Timestamp,
        /// The hub's time.
        hub: Timestamp,
    },
}

/// A callback for [`Traffic`].
#[derive(Clone)]
pub struct Watcher(Arc<dyn Fn(&Traffic<'_>) + Send + Sync>);

impl Watcher {
    /// `callback` runs on the task that sends the request: it must not block.
    pub fn new(callback: impl Fn(&Traffic<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
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

/// A body for a notification. Shown redacted and truncated; other content than JSON by its length.
/// Nothing is read before that: a body may have megabytes.
#[derive(Clone, Copy)]
pub struct RedactedBody<'a>(pub(super) &'a [u8]);

impl fmt::Display for RedactedBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.0;
        if body.is_empty() {
            return Ok(());
        }
        let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
            return write!(f, "({} bytes that are not JSON)", body.len());
        };
        redact(&mut value);
        let text = value.to_string();
        match text.char_indices().nth(MAX_LOGGED_CHARS) {
            Some((end, _)) => write!(f, "{}... ({} bytes)", &text[..end], body.len()),
            None => f.write_str(&text),
        }
    }
}

impl fmt::Debug for RedactedBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
        let body = concat!(
            r#"[{"deviceId":"a","authentication":{"symmetricKey":"#,
            r#"{"primaryKey":"c2VjcmV0","secondaryKey":null}}}]"#
        );
        let text = RedactedBody(body.as_bytes()).to_string();
        assert_eq!(
            text,
            concat!(
                r#"[{"deviceId":"a","authentication":{"symmetricKey":"#,
                r#"{"primaryKey":"(secret)","secondaryKey":null}}}]"#
            )
        );
    }

    #[test]
    fn long_bodies_are_truncated_and_non_json_bodies_shown_by_length() {
        let long = format!("\"{}\"", "ä".repeat(5_000));
        let text = RedactedBody(long.as_bytes()).to_string();
        assert!(text.ends_with("... (10002 bytes)"), "{text}");
        assert_eq!(
            RedactedBody(b"<html>").to_string(),
            "(6 bytes that are not JSON)"
        );
        assert_eq!(RedactedBody(b"").to_string(), "");
    }
}

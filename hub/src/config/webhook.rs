//! The settings of a webhook, `[[webhook]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use iothub_protocol::event::EventKind;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::webhook::{WebhookError, is_loopback};

/// The longest name of a webhook.
const MAX_NAME: usize = 64;

/// A receiver of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Identifies the webhook, and how far it has got: 1 to 64 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Where to POST: `https://`, or `http://` on this machine.
    pub url: String,
    /// The file with the secret that signs requests; mode 0600.
    pub secret_file: PathBuf,
    /// The certificates (PEM) that the receiver's must come from, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The kinds of events to send; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Conditions that all must hold: a JSON pointer into the event's document, and the values of
    /// which the document must have one there.
    #[serde(default, rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<String, Vec<Value>>,
}

impl WebhookSettings {
    /// The files that the settings refer to.
    pub(super) fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        std::iter::once(&mut self.secret_file).chain(&mut self.ca_file)
    }

    /// The address.
    ///
    /// # Errors
    ///
    /// When it is not a URL that may be used.
    pub fn parsed_url(&self) -> Result<Url, WebhookError> {
        let allowed = |url: &Url| {
            let is_secure = match url.scheme() {
                "https" => true,
                "http" => is_loopback(url),
                _ => false,
            };
            is_secure
                && url.host().is_some()
                && url.username().is_empty()
                && url.password().is_none()
        };
        let url = Url::parse(&self.url).ok().filter(allowed);
        url.ok_or_else(|| WebhookError::Setting {
            name: self.name.clone(),
            key: "url",
            // What follows the scheme may be a secret.
            value: match self.url.split_once("://") {
                Some((scheme, _)) if scheme.len() < 10 => format!("{scheme}://…"),
                _ => "…".to_owned(),
            },
            expected: "an address that begins with https://, or http:// on this machine, without \
                       user and password",
        })
    }

    /// The kinds of events to send.
    pub(crate) fn event_kinds(&self) -> Result<Vec<EventKind>, WebhookError> {
        let parse = |kind: &String| {
            EventKind::parse(kind).ok_or_else(|| WebhookError::Setting {
                name: self.name.clone(),
                key: "kinds",
                value: kind.clone(),
                expected: "some of telemetry, connection, twin, device and job",
            })
        };
        self.kinds.iter().map(parse).collect()
    }
}

/// Checks what the types leave open.
pub(super) fn check(webhooks: &[WebhookSettings]) -> Result<(), WebhookError> {
    for (index, webhook) in webhooks.iter().enumerate() {
        let name = &webhook.name;
        let is_name = (1..=MAX_NAME).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !is_name {
            return Err(WebhookError::Setting {
                name: name.clone(),
                key: "name",
                value: name.clone(),
                expected: "1 to 64 of a-z, 0-9 and -",
            });
        }
        if webhooks[..index].iter().any(|other| other.name == *name) {
            return Err(WebhookError::Duplicate(name.clone()));
        }
        webhook.parsed_url()?;
        webhook.event_kinds()?;
        for (pointer, values) in &webhook.conditions {
            let problem = match (pointer.starts_with('/'), values.is_empty()) {
                (false, _) => Some("a JSON pointer such as \"/body/kind\""),
                (true, true) => Some("at least one value"),
                (true, false) => None,
            };
            if let Some(expected) = problem {
                return Err(WebhookError::Setting {
                    name: name.clone(),
                    key: "match",
                    value: pointer.clone(),
                    expected,
                });
            }
        }
    }
    Ok(())
}

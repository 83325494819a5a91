//! Events of doors and hub (`/events`), stored or live. door-hub only.

use std::collections::VecDeque;
use std::time::Duration;

use iothub_protocol::event::EventRequest;
use iothub_protocol::rest::LAST_EVENT_ID;
use iothub_protocol::twin::Object;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ClientError;
use super::sse::{Message, Parser};
use super::{HubClient, clock};

/// Longest silence of an event stream; the hub sends a keep-alive every 15 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// An event of a device or of the hub.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubEvent {
    /// Increases with each event.
    pub id: i64,
    /// `telemetry`, `connection`, `twin`, `device` or `job`.
    pub kind: String,
    /// When the hub received it.
    #[serde(deserialize_with = "time")]
    pub time: Timestamp,
    /// The device; `None` for a job.
    #[serde(default)]
    pub device_id: Option<String>,
    /// The job, if it is an event of one.
    #[serde(default)]
    pub job_id: Option<String>,
    /// A duplicate: the device has sent a message with this id before.
    #[serde(default)]
    pub repeated: bool,
    /// Application properties of a message; for other kinds, `opType` and `iothub-message-schema`.
    #[serde(default)]
    pub properties: Object,
    /// The content if it is JSON. JSON that a [`Value`] cannot hold (nested too deeply, a number
    /// out of range, half a surrogate pair) is kept as text.
    #[serde(default, deserialize_with = "body")]
    pub body: Option<Value>,
    /// The content in base64 if it is not JSON.
    #[serde(default)]
    pub body_base64: Option<String>,
    /// The whole event as the hub sent it: JSON on one line.
    #[serde(skip)]
    pub document: String,
}

/// An item of an event stream.
#[derive(Debug, Clone)]
pub enum EventStreamItem {
    /// The next event.
    Event(Box<HubEvent>),
    /// The events of these ids are no longer stored.
    Lost {
        /// The first id.
        from: i64,
        /// The last id.
        to: i64,
    },
    /// The end of the stored events, unless `follow` is set.
    End,
}

impl EventStreamItem {
    /// The id to continue after.
    #[must_use]
    pub fn id(&self) -> Option<i64> {
        match self {
            Self::Event(event) => Some(event.id),
            Self::Lost { to, .. } => Some(*to),
            Self::End => None,
        }
    }
}

#[derive(Deserialize)]
struct Lost {
    from: i64,
    to: i64,
}

/// A stream of events; see [`HubClient::door_hub_events`].
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    parser: Parser,
    messages: VecDeque<Message>,
    hub: HubClient,
}

impl HubClient {
    /// Opens an event stream. door-hub only: Azure's events are read from another host by other
    /// protocols.
    ///
    /// # Errors
    ///
    /// `ThrottlingException` when there are too many readers, `ArgumentInvalid` when `after` is an
    /// id that never existed, or any other [`ClientError`].
    pub async fn door_hub_events(
        &self,
        request: &EventRequest,
    ) -> Result<EventStream, ClientError> {
        let mut query = self
            .get(&["events"])?
            .header("accept", "text/event-stream")?;
        if let Some(device) = &request.filter.device {
            query = query.query("device", device.as_str());
        }
        let kinds = &request.filter.kinds;
        if !kinds.is_empty() {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            query = query.query("kind", &names.join(","));
        }
        if let Some(since) = request.filter.since {
            query = query.query("since", &since.to_string());
        }
        if let Some(after) = request.after {
            query = query.header(LAST_EVENT_ID, &after.to_string())?;
        }
        if !request.follow {
            query = query.query("follow", "false");
        }
        Ok(EventStream {
            response: self.open(&query).await?,
            parser: Parser::default(),
            messages: VecDeque::new(),
            hub: self.clone(),
        })
    }
}

impl EventStream {
    /// The hub's time of the response, in whole seconds: no event after it is missed.
    #[must_use]
    pub fn begun(&self) -> Option<Timestamp> {
        clock::date(self.response.headers())
    }

    /// The next item; `None` at the end of the stream. After [`EventStreamItem::End`] the stream is
    /// complete; otherwise, reconnect with the last id.
    ///
    /// # Errors
    ///
    /// When the connection breaks or is silent for too long, or a message is not an event.
    pub async fn next(&mut self) -> Result<Option<EventStreamItem>, ClientError> {
        loop {
            while let Some(message) = self.messages.pop_front() {
                if let Some(item) = parse_message(message)? {
                    return Ok(Some(item));
                }
            }
            let chunk = self.hub.within(IDLE_TIMEOUT, self.response.chunk());
            let Some(chunk) = chunk.await? else {
                return Ok(None);
            };
            let pushed = self.parser.push(&chunk, &mut self.messages);
            pushed.map_err(|_| ClientError::TooLong { what: "an event" })?;
        }
    }
}

/// `None` for a kind of message that this version does not know.
fn parse_message(message: Message) -> Result<Option<EventStreamItem>, ClientError> {
    let malformed = |source| ClientError::UnexpectedBody {
        what: "an event",
        source,
    };
    Ok(match message.name.as_str() {
        "lost" => {
            let Lost { from, to } = serde_json::from_str(&message.data).map_err(malformed)?;
            Some(EventStreamItem::Lost { from, to })
        }
        "end" => Some(EventStreamItem::End),
        "message" => None,
        _ => {
            let mut event: HubEvent = serde_json::from_str(&message.data).map_err(malformed)?;
            event.document = message.data;
            Some(EventStreamItem::Event(Box::new(event)))
        }
    })
}

fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    iothub_protocol::time::parse(&text).map_err(serde::de::Error::custom)
}

/// The hub passes device messages on byte for byte: a malformed body of one device must not end the
/// stream of all.
fn body<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let raw = Option::<Box<RawValue>>::deserialize(deserializer)?;
    Ok(raw.map(|raw| {
        serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::String(raw.get().to_owned()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: &str) -> HubEvent {
        let message = Message {
            name: "telemetry".to_owned(),
            data: format!(
                "{{\"id\":7,\"kind\":\"telemetry\",\"time\":\"2026-11-23T21:00:00Z\",\
                 \"deviceId\":\"d\",\"body\":{body}}}"
            ),
        };
        match parse_message(message) {
            Ok(Some(EventStreamItem::Event(event))) => *event,
            other => panic!("{body} is no event: {other:?}"),
        }
    }

    #[test]
    fn a_body_that_no_value_can_hold_is_kept_as_text() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for body in [deep.as_str(), "1e999", r#"{"a":"\ud800"}"#] {
            let event = event(body);
            assert_eq!(event.body, Some(Value::String(body.to_owned())));
            assert!(event.document.contains(body), "{}", event.document);
        }
        assert_eq!(event(r#"{"a":1}"#).body, Some(serde_json::json!({"a": 1})));
        assert_eq!(event("null").body, None);
    }
}

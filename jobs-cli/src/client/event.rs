//! What happened, as it happens (`/events`). door-hub's alone.

use std::collections::VecDeque;
use std::time::Duration;

use iothub_protocol::DeviceId;
use iothub_protocol::twin::Object;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::HubClient;
use super::error::ClientError;
use super::sse::{Message, Parser};

/// The hub says every 15 s that it is there; one that is silent for longer than this is not.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
pub struct EventRequest {
    /// Only this device's.
    pub device: Option<DeviceId>,
    /// Only of these kinds (`telemetry`, `connection`, `twin`, `device`, `job`); of all when
    /// empty.
    pub kinds: Vec<String>,
    /// From this time on, as far as it is kept.
    pub since: Option<Timestamp>,
    /// Behind the event of this id; 0 is all that is kept. It wins over `since`; without both,
    /// from now on.
    pub after: Option<i64>,
    /// Whether to go on with what happens from now on.
    pub follow: bool,
}

/// Something that happened.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubEvent {
    /// Rises from event to event.
    pub id: i64,
    /// `telemetry`, `connection`, `twin`, `device` or `job`.
    pub kind: String,
    /// When the hub took it in.
    #[serde(deserialize_with = "time")]
    pub time: Timestamp,
    /// The device it is about.
    #[serde(default)]
    pub device_id: Option<String>,
    /// The job it is about.
    #[serde(default)]
    pub job_id: Option<String>,
    /// The device has sent a message of this id before.
    #[serde(default)]
    pub repeated: bool,
    /// A message's own properties; of the rest, `opType` and `iothub-message-schema`.
    #[serde(default)]
    pub properties: Object,
    /// What it tells, when that is JSON; as text what no [`Value`] can hold: what is nested too
    /// deep, a number too large, half a character.
    #[serde(default, deserialize_with = "body")]
    pub body: Option<Value>,
    /// What it tells, in base64, when that is not JSON.
    #[serde(default)]
    pub body_base64: Option<String>,
    /// All of it as the hub wrote it: a JSON document on one line.
    #[serde(skip)]
    pub document: String,
}

/// What a stream of events tells.
#[derive(Debug, Clone)]
pub enum EventStreamItem {
    /// An event.
    Event(Box<HubEvent>),
    /// The events of these ids are not kept any more.
    Lost {
        /// The first.
        from: i64,
        /// The last.
        to: i64,
    },
    /// This was all; only whoever does not follow is told.
    End,
}

impl EventStreamItem {
    /// What to go on behind.
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

/// Events as they come.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    parser: Parser,
    messages: VecDeque<Message>,
    hub: HubClient,
}

impl HubClient {
    /// Begins to read events. door-hub's alone: Azure's are read by other protocols, behind another
    /// host.
    ///
    /// # Errors
    ///
    /// `ThrottlingException` when too many read already, `ArgumentInvalid` when there was never an
    /// event `after`, or any other [`ClientError`].
    pub async fn door_hub_events(
        &self,
        request: &EventRequest,
    ) -> Result<EventStream, ClientError> {
        let mut query = self
            .get(&["events"])?
            .header("accept", "text/event-stream")?;
        if let Some(device) = &request.device {
            query = query.query("device", device.as_str());
        }
        if !request.kinds.is_empty() {
            query = query.query("kind", &request.kinds.join(","));
        }
        if let Some(since) = request.since {
            query = query.query("since", &since.to_string());
        }
        if let Some(after) = request.after {
            query = query.header("last-event-id", &after.to_string())?;
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
    /// The hub's time when it began to answer, to the second: from there on nothing is missed.
    #[must_use]
    pub fn begun(&self) -> Option<Timestamp> {
        let date = self.response.headers().get(header::DATE)?.to_str().ok()?;
        Some(rfc2822::parse(date).ok()?.timestamp())
    }

    /// What comes next; `None` when the stream ends: behind [`EventStreamItem::End`] all was told, else
    /// whoever wants the rest comes back with the last id.
    ///
    /// # Errors
    ///
    /// When the connection breaks or falls silent, or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<EventStreamItem>, ClientError> {
        loop {
            while let Some(message) = self.messages.pop_front() {
                if let Some(item) = parse_message(message)? {
                    return Ok(Some(item));
                }
            }
            let chunk = tokio::time::timeout(IDLE_TIMEOUT, self.response.chunk()).await;
            let chunk = match chunk {
                Ok(chunk) => {
                    chunk.map_err(|error| self.hub.transport_error(error, IDLE_TIMEOUT))?
                }
                Err(_) => {
                    return Err(ClientError::TimedOut {
                        host: self.hub.host_name().clone(),
                        after: IDLE_TIMEOUT,
                    });
                }
            };
            let Some(chunk) = chunk else {
                return Ok(None);
            };
            let pushed = self.parser.push(&chunk, &mut self.messages);
            pushed.map_err(|_| ClientError::TooLong { what: "an event" })?;
        }
    }
}

/// What a message tells; `None` for one of a kind that came after us.
fn parse_message(message: Message) -> Result<Option<EventStreamItem>, ClientError> {
    let malformed = |source| ClientError::UnexpectedBody {
        what: "an event",
        source,
    };
    match message.name.as_str() {
        "lost" => {
            let Lost { from, to } = serde_json::from_str(&message.data).map_err(malformed)?;
            Ok(Some(EventStreamItem::Lost { from, to }))
        }
        "end" => Ok(Some(EventStreamItem::End)),
        "message" => Ok(None),
        _ => {
            let mut event: HubEvent = serde_json::from_str(&message.data).map_err(malformed)?;
            event.document = message.data;
            Ok(Some(EventStreamItem::Event(Box::new(event))))
        }
    }
}

fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    iothub_protocol::time::parse(&text).map_err(serde::de::Error::custom)
}

/// A hub passes on what a device wrote, byte for byte: what one device can write must not end the
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
                r#"{{"id":7,"kind":"telemetry","time":"2026-11-23T21:00:00Z","deviceId":"d","body":{body}}}"#
            ),
            id: "7".to_owned(),
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

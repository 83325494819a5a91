//! `GET /events`: the event log as server-sent events (WHATWG HTML, section 9.2), resumable by id.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::event::{EventFilter, EventKind, EventRequest};
use iothub_protocol::id::DeviceId;
use iothub_protocol::rest::LAST_EVENT_ID;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::auth::{Caller, CallerScope};
use super::{HttpError, Parameters};
use crate::auth::is_current;
use crate::service::{
    EventBatch, EventStream, PageHandle, PageSessions, PolicyService, ServiceError, Services,
};

/// Poll interval for the token of an idle reader; a token that expired or was revoked still gets
/// events at most this long.
const AUTH_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of the comments that keep an idle connection alive for the reader and any proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Event at the end of a stream that does not follow; a stream without it was cut short. It has no
/// id, because nobody resumes after it.
const END: &str = "end";

/// The hub's stop signal, for responses that would not end on their own.
#[derive(Debug, Clone)]
pub(super) struct StopSignal(pub(super) CancellationToken);

/// `GET /events?device=D&kind=telemetry,twin&since=TIME&after=ID&follow=false`.
pub(super) async fn get(
    State(services): State<Services>,
    Extension(StopSignal(stop)): Extension<StopSignal>,
    caller: Caller,
    CallerScope(scope): CallerScope,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, HttpError> {
    let request = event_request(&headers, &parameters)?;
    let stream = services.event.follow(
        request.filter,
        request.after,
        scope,
        caller.page().is_some(),
    )?;
    let reader = Reader {
        stream,
        follow: request.follow,
        state: ReaderState::HasMore,
        ready: VecDeque::new(),
        read_at: Instant::now(),
        policies: caller.policies(),
        policy: services.policy,
        expires_unix_s: caller.expires_unix_s(),
        page: caller.page().map(|handle| (services.page_sessions, handle)),
        stop,
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let events = stream::unfold(reader, Reader::step);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Reads what a reader requests.
fn event_request(headers: &HeaderMap, parameters: &Parameters) -> Result<EventRequest, HttpError> {
    let invalid = |name: &str, text: &str, expected: &str| {
        let message = format!("{name} is `{text}`; expected {expected}");
        HttpError::new(ErrorCode::ArgumentInvalid, message)
    };
    let device = parameters.get("device").map(|text| {
        let parsed = text.parse::<DeviceId>();
        parsed.map_err(|error| invalid("device", text, &error.to_string()))
    });
    let kinds = parameters.get("kind").unwrap_or_default().split(',');
    let kinds = kinds.filter(|name| !name.is_empty()).map(|name| {
        let known = EventKind::ALL.map(|(_, name)| name).join(", ");
        EventKind::parse(name).ok_or_else(|| invalid("kind", name, &format!("some of {known}")))
    });
    let since = parameters.get("since").map(|text| {
        let parsed = iothub_protocol::time::parse(text);
        parsed.map_err(|error| invalid("since", text, &format!("a time in UTC: {error}")))
    });
    let id = |name: &str, text: &str| {
        let parsed = text.parse().ok().filter(|id| *id >= 0);
        parsed.ok_or_else(|| invalid(name, text, "the id of an event"))
    };
    // A reconnecting reader sends the header; it overrides the parameter of its first request.
    let last = match headers.get(LAST_EVENT_ID) {
        Some(value) => Some(id("Last-Event-ID", value.to_str().unwrap_or("unreadable"))?),
        None => None,
    };
    let after = parameters.get("after").map(|text| id("after", text));
    let follow = match parameters.get("follow") {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => return Err(invalid("follow", other, "`true` or `false`")),
    };
    Ok(EventRequest {
        filter: EventFilter {
            device: device.transpose()?,
            kinds: kinds.collect::<Result<_, _>>()?,
            since: since.transpose()?,
        },
        after: last.or(after.transpose()?),
        follow,
    })
}

/// Shortest time between two reads of the store at its end.
const READ_INTERVAL: Duration = Duration::from_millis(50);

/// The state of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReaderState {
    /// The store may have more events.
    HasMore,
    /// All events were read; those in `ready` are not sent yet.
    AtEnd,
    /// The end event was sent.
    EndSent,
}

/// One reader and its progress.
struct Reader {
    stream: EventStream,
    follow: bool,
    state: ReaderState,
    ready: VecDeque<Event>,
    /// When the store was read last.
    read_at: Instant,
    policy: PolicyService,
    policies: u64,
    expires_unix_s: u64,
    /// The session of the page that reads.
    page: Option<(PageSessions, PageHandle)>,
    stop: CancellationToken,
}

/// Waits until there may be more events. Those of [`READ_INTERVAL`] are read together: many readers
/// of a busy hub would otherwise read each commit.
async fn wait_for_more(stream: &mut EventStream, read_at: Instant) {
    stream.wait_for_more().await;
    tokio::time::sleep_until(read_at + READ_INTERVAL).await;
}

impl Reader {
    /// The next event; `None` at the end. Reads the store only when the reader has taken all events
    /// of the last batch.
    async fn step(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if self.is_over() {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            match self.state {
                ReaderState::HasMore => match self.read().await {
                    Ok(batch) => self.take(batch),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "closing an event stream: cannot read the events"
                        );
                        return None;
                    }
                },
                ReaderState::AtEnd if self.follow => {
                    tokio::select! {
                        () = wait_for_more(&mut self.stream, self.read_at) => {
                            self.state = ReaderState::HasMore;
                        }
                        () = tokio::time::sleep(AUTH_CHECK_INTERVAL) => {}
                        () = self.stop.cancelled() => {}
                    }
                }
                ReaderState::AtEnd => {
                    self.state = ReaderState::EndSent;
                    return Some((Ok(Event::default().event(END).data("{}")), self));
                }
                ReaderState::EndSent => return None,
            }
        }
    }

    async fn read(&mut self) -> Result<EventBatch, ServiceError> {
        self.read_at = Instant::now();
        self.stream.next().await
    }

    /// The hub stops, the token has expired, or policies have changed: a reader that is still
    /// authorised reconnects with its last id.
    fn is_over(&self) -> bool {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        self.stop.is_cancelled()
            || self.policy.version() != self.policies
            || !is_current(self.expires_unix_s, now)
            || self
                .page
                .as_ref()
                .is_some_and(|(sessions, handle)| !sessions.is_live(*handle))
    }

    fn take(&mut self, batch: EventBatch) {
        self.state = match batch.at_end {
            true => ReaderState::AtEnd,
            false => ReaderState::HasMore,
        };
        if let Some((from, to)) = batch.lost {
            let data = json!({"from": from, "to": to}).to_string();
            let lost = Event::default().event("lost").id(to.to_string());
            self.ready.push_back(lost.data(data));
        }
        for record in batch.events {
            match serde_json::to_string(&record) {
                Ok(data) => {
                    let event = Event::default().event(record.kind.as_str());
                    let event = event.id(record.id.to_string());
                    self.ready.push_back(event.data(data));
                }
                Err(error) => {
                    tracing::error!(%error, id = record.id, "cannot serialise an event");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Uri};

    use super::*;

    fn read(query: &str, last: Option<&'static str>) -> Result<EventRequest, String> {
        let uri: Uri = format!("/events?{query}").parse().unwrap();
        let headers = last.map(|id| (LAST_EVENT_ID.parse().unwrap(), HeaderValue::from_static(id)));
        let headers = headers.into_iter().collect();
        event_request(&headers, &Parameters::of(&uri).unwrap())
            .map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn parses_the_parameters_and_names_the_invalid_one() {
        let request = read(
            "device=door-1&kind=twin,job&since=2026-11-23T10:00:00Z&after=7",
            None,
        );
        let request = request.unwrap();
        assert_eq!(request.filter.device.unwrap().as_ref(), "door-1");
        assert_eq!(request.filter.kinds, [EventKind::Twin, EventKind::Job]);
        assert!(request.filter.since.is_some() && request.follow);
        assert_eq!(request.after, Some(7));
        assert_eq!(read("after=7", Some("9")).unwrap().after, Some(9));
        assert!(!read("follow=false", None).unwrap().follow);
        for (query, expected) in [
            ("device=a%20b", "device is `a b`"),
            (
                "kind=twins",
                "expected some of telemetry, connection, twin, device, job",
            ),
            ("since=yesterday", "since is `yesterday`"),
            ("after=-1", "after is `-1`"),
            ("follow=no", "follow is `no`"),
        ] {
            let error = read(query, None).unwrap_err();
            assert!(error.contains(expected), "{query}: {error}");
        }
        assert!(
            read("", Some("x"))
                .unwrap_err()
                .contains("Last-Event-ID is `x`")
        );
    }
}

//! A stream of events over any number of connections: a restart of the hub, an expired token or a
//! changed policy ends a stream, and the next one continues after the last event.

use std::time::{Duration, Instant};

use iothub_client::{ClientError, EventStream, EventStreamItem};
use iothub_protocol::ErrorCode;
use iothub_protocol::event::EventRequest;
use rand::RngExt as _;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;

/// Upper bound of the first wait; doubled each time. The wait is a random part of it.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Upper bound of every wait.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// A stream that lived this long resets the wait.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Consecutive attempts to get the rest of the recorded events without `--follow`: about ten
/// seconds.
const MAX_BREAKS: u32 = 6;

pub(super) struct Feed<'a> {
    session: &'a Session,
    /// The next request: `after` advances with each event.
    request: EventRequest,
    stream: Option<EventStream>,
    opened: Option<Instant>,
    ceiling: Duration,
    /// Waits since the last event.
    breaks: u32,
    /// Whether the hub was reported as unreachable.
    unreachable: bool,
    /// The last handled event, or the one to start after.
    seen: Option<i64>,
}

impl<'a> Feed<'a> {
    /// Sends no request yet.
    pub(super) fn new(request: EventRequest, session: &'a Session) -> Self {
        Self {
            session,
            request,
            stream: None,
            opened: None,
            ceiling: FIRST_WAIT,
            breaks: 0,
            unreachable: false,
            seen: None,
        }
    }

    /// The last handled event: it was returned, and the next one was requested. Before the first
    /// event it is the one to start after.
    pub(super) fn seen(&self) -> Option<i64> {
        self.seen
    }

    /// The next event; [`EventStreamItem::End`] after the last recorded one, unless it follows.
    pub(super) async fn next(&mut self) -> anyhow::Result<EventStreamItem> {
        loop {
            if self.opened.is_some() {
                self.seen = self.request.after;
            }
            let Some(stream) = &mut self.stream else {
                match self.session.hub.door_hub_events(&self.request).await {
                    Ok(stream) => self.open(stream),
                    // Only the first connection fails at once: later the hub may just be
                    // restarting.
                    Err(error) if self.opened.is_some() && self.may_retry(&error) => {
                        self.back_off(Some(&error)).await;
                    }
                    Err(error) => return Err(explained(error)),
                }
                continue;
            };
            match stream.next().await {
                Ok(Some(news)) => {
                    self.ceiling = FIRST_WAIT;
                    self.breaks = 0;
                    self.request.after = news.id().or(self.request.after);
                    return Ok(news);
                }
                Ok(None) if self.may_reconnect() => self.back_off(None).await,
                Ok(None) => return Err(cut_short_error()),
                Err(error) if self.may_retry(&error) => self.back_off(Some(&error)).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether to retry after this error.
    fn may_retry(&self, error: &ClientError) -> bool {
        error.is_transient() && self.may_reconnect()
    }

    fn may_reconnect(&self) -> bool {
        self.request.follow || self.breaks < MAX_BREAKS
    }

    fn open(&mut self, stream: EventStream) {
        let printer = &self.session.printer;
        let first = self.opened.is_none();
        if first && self.request.follow {
            let zone = self.session.zone.iana_name();
            let zone = zone.map_or(String::new(), |zone| format!(", times in {zone}"));
            printer.say(format!(
                "following the events of {}{zone}; Ctrl-C stops it",
                self.session.hub.host_name()
            ));
        }
        if self.unreachable {
            printer.say("the hub is reachable again");
        }
        if first && self.request.after.is_none() && self.request.filter.since.is_none() {
            // Before the first event there is no id to continue after: use the hub's time instead,
            // so that no event is missed.
            self.request.filter.since = stream.begun();
        }
        self.unreachable = false;
        self.opened = Some(Instant::now());
        self.stream = Some(stream);
    }

    /// Waits before the next request, longer each time.
    async fn back_off(&mut self, error: Option<&ClientError>) {
        self.stream = None;
        self.breaks = self.breaks.saturating_add(1);
        if self
            .opened
            .is_some_and(|opened| opened.elapsed() >= STABLE_AFTER)
        {
            self.ceiling = FIRST_WAIT;
        }
        let wait = self.ceiling.mul_f64(rand::rng().random_range(0.5..=1.0));
        if let Some(error) = error.filter(|_| !self.unreachable) {
            self.unreachable = true;
            self.session
                .printer
                .say(format!("{error}; retrying until it is reachable again"));
        }
        self.ceiling = MAX_WAIT.min(self.ceiling * 2);
        tokio::time::sleep(wait).await;
    }
}

/// The error for recorded events that could not be read to the end.
fn cut_short_error() -> anyhow::Error {
    Failure::new("the hub repeatedly ended its response before all events were sent")
        .next("check the hub's log; an older hub does not mark the end of its events: upgrade it")
        .into()
}

/// The error of an events request.
fn explained(error: ClientError) -> anyhow::Error {
    match error.code() {
        Some(ErrorCode::ArgumentInvalid) => Failure::new(error.to_string())
            .next("start with a time: doorctl events --since 1h")
            .into(),
        Some(ErrorCode::ThrottlingException) => Failure::new(error.to_string())
            .next("end another reader, or retry a little later")
            .status(ExitStatus::Refused)
            .into(),
        _ => error.into(),
    }
}

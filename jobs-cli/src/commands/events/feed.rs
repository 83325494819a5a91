//! Events as they come, over as many connections as it takes: a hub that is started again, a token
//! that has expired and a policy that was changed end a stream, and the next one goes on behind the
//! last event.

use std::time::{Duration, Instant};

use doorctl::{ClientError, EventRequest, EventStream, EventStreamItem};
use iothub_protocol::ErrorCode;
use rand::Rng as _;

use crate::commands::jobs::follow::passes;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::{Session, explain_rights};

/// Ceiling of the first wait; doubled each time, the wait a random part of it.
const FIRST: Duration = Duration::from_millis(250);

/// Ceiling of every wait.
const LONGEST: Duration = Duration::from_secs(20);

/// A stream that lived so long was a good one: the next wait is short again.
const GOOD: Duration = Duration::from_secs(30);

/// So often in a row whoever does not follow asks again for the rest of what is kept: for ten
/// seconds or so.
const BREAKS: u32 = 6;

/// Events as they come.
pub(super) struct Feed<'a> {
    session: &'a Session,
    /// What is asked for next: `after` moves on with each event.
    request: EventRequest,
    stream: Option<EventStream>,
    opened: Option<Instant>,
    ceiling: Duration,
    /// Waits since something came.
    breaks: u32,
    /// It was told that the hub is away.
    away: bool,
    /// The last event that was dealt with, or the one to begin behind.
    seen: Option<i64>,
}

impl<'a> Feed<'a> {
    /// Nothing is asked yet.
    pub(super) fn new(request: EventRequest, session: &'a Session) -> Self {
        Self {
            session,
            request,
            stream: None,
            opened: None,
            ceiling: FIRST,
            breaks: 0,
            away: false,
            seen: None,
        }
    }

    /// The last event that was dealt with: given out, and the next one was asked for. Before the
    /// first the one that was begun behind.
    pub(super) fn seen(&self) -> Option<i64> {
        self.seen
    }

    /// What comes next; [`EventStreamItem::End`] when all that is kept was told, unless it is followed.
    pub(super) async fn next(&mut self) -> anyhow::Result<EventStreamItem> {
        loop {
            if self.opened.is_some() {
                self.seen = self.request.after;
            }
            let Some(stream) = &mut self.stream else {
                match self.session.hub.door_hub_events(&self.request).await {
                    Ok(stream) => self.open(stream),
                    // Who cannot reach the hub at first is told so; later it may have been started
                    // again.
                    Err(error) if self.opened.is_some() && self.is_worth(&error) => {
                        self.pause(Some(&error)).await;
                    }
                    Err(error) => return Err(explain(error)),
                }
                continue;
            };
            match stream.next().await {
                Ok(Some(news)) => {
                    self.ceiling = FIRST;
                    self.breaks = 0;
                    self.request.after = news.id().or(self.request.after);
                    return Ok(news);
                }
                Ok(None) if self.may_ask_again() => self.pause(None).await,
                Ok(None) => return Err(cut_short()),
                Err(error) if self.is_worth(&error) => self.pause(Some(&error)).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether to ask again behind this error.
    fn is_worth(&self, error: &ClientError) -> bool {
        passes(error) && self.may_ask_again()
    }

    fn may_ask_again(&self) -> bool {
        self.request.follow || self.breaks < BREAKS
    }

    fn open(&mut self, stream: EventStream) {
        let printer = &self.session.printer;
        let first = self.opened.is_none();
        if first && self.request.follow {
            let zone = self.session.zone.iana_name();
            let zone = zone.map_or(String::new(), |zone| format!(", times in {zone}"));
            printer.say(format!(
                "following the events of {}{zone}; Ctrl-C ends it",
                self.session.hub.host_name()
            ));
        }
        if self.away {
            printer.say("the hub is back");
        }
        if first && self.request.after.is_none() && self.request.since.is_none() {
            // Until there is an event to go on behind, it is the hub's time that nothing is missed
            // from.
            self.request.since = stream.begun();
        }
        self.away = false;
        self.opened = Some(Instant::now());
        self.stream = Some(stream);
    }

    /// Waits before the hub is asked again: longer each time.
    async fn pause(&mut self, error: Option<&ClientError>) {
        self.stream = None;
        self.breaks = self.breaks.saturating_add(1);
        if self.opened.is_some_and(|opened| opened.elapsed() >= GOOD) {
            self.ceiling = FIRST;
        }
        let wait = self.ceiling.mul_f64(rand::rng().random_range(0.5..=1.0));
        if let Some(error) = error.filter(|_| !self.away) {
            self.away = true;
            self.session
                .printer
                .say(format!("{error}; trying again until it is back"));
        }
        self.ceiling = LONGEST.min(self.ceiling * 2);
        tokio::time::sleep(wait).await;
    }
}

/// What is kept was not told to its end.
fn cut_short() -> anyhow::Error {
    Failure::new("the hub ends its answer again and again before all events were sent")
        .next("look at the hub's log; an older hub never says that it has sent all: upgrade it")
        .into()
}

/// Why the hub gives no events.
fn explain(error: ClientError) -> anyhow::Error {
    match error.code() {
        Some(ErrorCode::ArgumentInvalid) => Failure::new(error.to_string())
            .next("begin with a time: doorctl events --since 1h")
            .into(),
        Some(ErrorCode::ThrottlingException) => Failure::new(error.to_string())
            .next("end another reader, or ask for what is kept a little later")
            .status(ExitStatus::Refused)
            .into(),
        _ => explain_rights(error, "ServiceConnect"),
    }
}

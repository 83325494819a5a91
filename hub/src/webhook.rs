//! Webhooks: POST chosen events to the receivers that the settings name, signed, in order, and at
//! least once.
//!
//! Each webhook has one task and one request in flight. Its cursor is stored after each delivery,
//! so a hub that is killed sends the last event again; a receiver recognises it by `webhook-id`.

mod target;

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use iothub_protocol::event::EventFilter;
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::config::WebhookSettings;
use crate::metrics::Metrics;
use crate::service::{EventService, EventStream, ServiceError};
use crate::store::{EventRecord, Store};

pub(crate) use target::is_loopback;
pub use target::{SendError, Target, WebhookError};

/// The first delay between two attempts, which doubles, and the longest; both with jitter.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// A receiver that refuses one event as invalid at least this often, and for this long, will never
/// take it: the event is skipped, so that it does not hold up the next alarm.
const REFUSED_AT_LEAST: (u32, Duration) = (3, Duration::from_secs(300));

/// Interval of the log lines of a receiver that stays away.
const LOG_INTERVAL: Duration = Duration::from_secs(3600);

/// Events that did not match and are passed before the cursor is stored again.
const MAX_UNSTORED: i64 = 1_000;

/// The delay after a failure of the store.
const STORE_RETRY: Duration = Duration::from_secs(15);

/// One webhook of a running hub.
pub(crate) struct Webhook {
    target: Target,
    filter: EventFilter,
    conditions: Vec<(String, Vec<Value>)>,
    store: Store,
    events: EventService,
    metrics: Metrics,
}

/// Loads the webhooks of the settings, and forgets the cursors of webhooks that are not there.
pub(crate) async fn start(
    settings: &[WebhookSettings],
    store: &Store,
    events: &EventService,
    metrics: &Metrics,
) -> Result<Vec<Webhook>, crate::StartError> {
    let names = settings.iter().map(|webhook| webhook.name.clone());
    store.webhook_retain(names.collect()).await?;
    let load = |settings: &WebhookSettings| {
        metrics.webhook_known(&settings.name);
        Ok(Webhook {
            target: Target::load(settings)?,
            filter: EventFilter {
                kinds: settings.event_kinds()?,
                ..EventFilter::default()
            },
            conditions: settings.conditions.clone().into_iter().collect(),
            store: store.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
        })
    };
    settings.iter().map(load).collect()
}

impl Webhook {
    /// Delivers events until `stop`. What is not delivered then is sent after the next start.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let deliver = async {
            let mut delivered = 0;
            loop {
                let Err(error) = self.follow(&mut delivered).await;
                self.log_store_error(&error);
                tokio::time::sleep(STORE_RETRY).await;
            }
        };
        stop.run_until_cancelled(deliver).await;
    }

    fn log_store_error(&self, error: &ServiceError) {
        let (webhook, error) = (self.target.name(), error as &dyn std::error::Error);
        tracing::warn!(
            webhook,
            error,
            "cannot read the events for a webhook; retrying"
        );
    }

    /// Delivers events until the store fails. A new webhook begins with the next event. `delivered`
    /// is the last event that was delivered, also if that could not be stored.
    async fn follow(&self, delivered: &mut i64) -> Result<std::convert::Infallible, ServiceError> {
        let name = self.target.name();
        let stored = self.store.webhook_cursor(name).await?;
        let after = stored.map(|stored| stored.max(*delivered));
        let mut stream = self.events.follow_for_hub(self.filter.clone(), after);
        let mut saved = stream.seen();
        if stored != Some(saved) {
            self.store.webhook_save(name, saved).await?;
        }
        loop {
            let batch = stream.next().await?;
            if let Some((from, to)) = batch.lost {
                tracing::error!(
                    webhook = name,
                    from,
                    to,
                    "events were deleted before the receiver of a webhook took them"
                );
                self.metrics.webhook_ended(name, "lost", to - from + 1);
            }
            for event in batch.events {
                if self.is_chosen(&event) {
                    self.deliver(&event).await;
                    *delivered = event.id;
                    self.store.webhook_save(name, event.id).await?;
                    saved = event.id;
                }
            }
            self.pass(&stream, &mut saved).await?;
            if batch.at_end {
                self.metrics.webhook_behind(name, Duration::ZERO);
                stream.wait_for_more().await;
            }
        }
    }

    /// Stores how far the stream has got without a delivery, now and then: events that nobody
    /// waits for must not count as lost after a long time.
    async fn pass(&self, stream: &EventStream, saved: &mut i64) -> Result<(), ServiceError> {
        if stream.seen() - *saved >= MAX_UNSTORED {
            *saved = stream.seen();
            self.store.webhook_save(self.target.name(), *saved).await?;
        }
        Ok(())
    }

    /// Whether every condition has the value of the event's document among its own.
    fn is_chosen(&self, event: &EventRecord) -> bool {
        if self.conditions.is_empty() {
            return true;
        }
        let document = match serde_json::to_value(event) {
            Ok(document) => document,
            Err(error) => {
                self.skip(event, &error);
                return false;
            }
        };
        self.conditions.iter().all(|(pointer, values)| {
            let found = document.pointer(pointer);
            found.is_some_and(|found| values.contains(found))
        })
    }

    fn skip(&self, event: &EventRecord, error: &(dyn std::error::Error + 'static)) {
        let name = self.target.name();
        tracing::error!(webhook = name, event = event.id, error, "skipping an event");
        self.metrics.webhook_ended(name, "skipped", 1);
    }

    /// Sends one event until the receiver takes it, or has refused it for [`REFUSED_AT_LEAST`].
    async fn deliver(&self, event: &EventRecord) {
        let name = self.target.name();
        let body = match serde_json::to_vec(event) {
            Ok(body) => body,
            Err(error) => return self.skip(event, &error),
        };
        // The time makes it unique: a restored hub assigns ids again.
        let id = format!("event-{}-{}", event.id, event.at.as_microsecond());
        let mut delays = delays();
        let mut refusals = Refusals::default();
        let mut attempts: u32 = 0;
        let mut logged: Option<Instant> = None;
        loop {
            attempts += 1;
            let sent = self.target.send(&id, Timestamp::now(), &body).await;
            let age = Timestamp::now().duration_since(event.at);
            self.metrics.webhook_behind(name, age.unsigned_abs());
            let Err(error) = sent else {
                self.metrics.webhook_ended(name, "delivered", 1);
                if attempts > 1 {
                    tracing::info!(webhook = name, event = event.id, attempts, "delivered");
                }
                return;
            };
            self.metrics.webhook_ended(name, "failed", 1);
            if refusals.is_final(error.is_permanent(), Instant::now()) {
                return self.skip(event, &error);
            }
            if logged.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
                logged = Some(Instant::now());
                tracing::warn!(
                    webhook = name,
                    event = event.id,
                    attempts,
                    %error,
                    "cannot deliver an event; retrying"
                );
            }
            let delay = delays.next().unwrap_or(RETRY_DELAYS.1);
            let asked = error.retry_after().unwrap_or_default().min(RETRY_DELAYS.1);
            tokio::time::sleep(delay.max(asked)).await;
        }
    }
}

/// Consecutive refusals of one event as invalid.
#[derive(Debug, Default)]
struct Refusals {
    count: u32,
    since: Option<Instant>,
}

impl Refusals {
    /// Records a failed attempt; whether no other attempt can help.
    fn is_final(&mut self, is_permanent: bool, now: Instant) -> bool {
        if !is_permanent {
            *self = Self::default();
            return false;
        }
        self.count += 1;
        let since = *self.since.get_or_insert(now);
        let (least, span) = REFUSED_AT_LEAST;
        self.count >= least && now.duration_since(since) >= span
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(RETRY_DELAYS.0)
        .with_max_delay(RETRY_DELAYS.1)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_skipped_after_five_minutes_of_refusals_and_not_sooner() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut refusals = Refusals::default();
        for (permanent, seconds, is_final) in [
            (true, 0, false),
            (true, 1, false),
            (true, 3, false),
            (true, 250, false),
            // The receiver was away meanwhile: it may have been changed.
            (false, 280, false),
            (true, 301, false),
            (true, 601, false),
            (true, 602, true),
        ] {
            let found = refusals.is_final(permanent, at(seconds));
            assert_eq!(found, is_final, "{seconds}");
        }
    }
}

//! The hub's metrics in Prometheus' text format. Plain counters, known to every layer; one set per
//! hub, because a test process may run several.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::service::IntegrityReport;

/// The media type of [`Metrics::render`].
pub(crate) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Bucket bounds in seconds, for operations that should take milliseconds.
const FAST: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5,
];

/// Bucket bounds in seconds, for operations that wait for a door.
const SLOW: [f64; 12] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// Kinds of device credentials.
const PROOFS: [&str; 3] = ["device_key", "policy", "certificate"];

/// Why connections were refused or closed before the device was accepted.
const REFUSAL_REASONS: [&str; 13] = [
    "socket",
    "closed",
    "gave_way",
    "too_long",
    "too_late",
    "not_allowed",
    "protocol_level",
    "name",
    "unknown_device",
    "disabled",
    "expired",
    "credentials",
    "unavailable",
];

/// Why connections ended.
const DISCONNECT_REASONS: [&str; 14] = [
    "disconnect",
    "lost",
    "taken_over",
    "disabled",
    "deleted",
    "credentials_changed",
    "token_expired",
    "keep_alive",
    "slow_consumer",
    "shutdown",
    "malformed",
    "not_allowed",
    "store",
    "socket",
];

/// Why tokens of the service API were rejected.
const TOKEN_FAULTS: [&str; 7] = [
    "session",
    "missing",
    "unreadable",
    "audience",
    "no_policy",
    "signature",
    "expired",
];

/// Outcome of an event that a webhook sends, or of one attempt (`failed`).
const WEBHOOK_OUTCOMES: [&str; 4] = ["delivered", "failed", "skipped", "lost"];

const METHOD_CALLERS: [&str; 2] = ["api", "job"];

const METHOD_OUTCOMES: [&str; 8] = [
    "answered",
    "not_online",
    "timed_out",
    "disconnected",
    "taken_over",
    "too_many",
    "deleted",
    "withdrawn",
];

/// Failed requests that an alert may watch: counted from 0 on for each route that has been called
/// at all.
const FAILURES: [&str; 3] = ["401", "500", "503"];

/// Statuses of jobs that are not finished.
const ACTIVE_JOBS: [&str; 3] = ["queued", "scheduled", "running"];

/// All metrics; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    connections: IntCounterVec,
    refusals: IntCounterVec,
    disconnections: IntCounterVec,
    telemetry_messages: IntCounter,
    telemetry_bytes: IntCounter,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    tokens_refused: IntCounterVec,
    method_calls: IntCounterVec,
    method_seconds: Histogram,
    commit_seconds: Histogram,
    commit_operations: IntCounter,
    webhooks: IntCounterVec,
    webhook_behind: GaugeVec,
    state: State,
}

/// Gauges, read when the metrics are scraped.
struct State {
    connected: IntGauge,
    ready: IntGauge,
    jobs: IntGaugeVec,
    events: IntGauge,
    event_bytes: IntGauge,
    database_bytes: IntGauge,
    database_faults: IntGauge,
    database_checked: Gauge,
    certificate_begin: Gauge,
    certificate_end: Gauge,
    authority_end: Gauge,
}

/// The values of the gauges at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) connected: u64,
    /// Whether the database accepts writes.
    pub(crate) ready: bool,
    /// Number of unfinished jobs, by status.
    pub(crate) jobs: Vec<(&'static str, u64)>,
    /// Number of stored events, and their size in bytes.
    pub(crate) events: (u64, u64),
    pub(crate) database_bytes: u64,
    /// Result of the last check of the whole database.
    pub(crate) integrity: IntegrityReport,
    pub(crate) certificate: CertificateTimes,
}

/// Validity of the certificates, in seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CertificateTimes {
    /// When the last of the server certificate and its issuers becomes valid.
    pub(crate) not_before: i64,
    /// When the server certificate expires.
    pub(crate) not_after: i64,
    /// When the first of its issuers expires.
    pub(crate) authority_not_after: i64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let counter =
            |name: &str, help: &str| register(&registry, IntCounter::new(prefixed(name), help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(
                &registry,
                IntCounterVec::new(Opts::new(prefixed(name), help), labels),
            )
        };
        let gauge =
            |name: &str, help: &str| register(&registry, IntGauge::new(prefixed(name), help));
        let options = |name: &str, help: &str, bounds: [f64; 12]| {
            HistogramOpts::new(prefixed(name), help).buckets(bounds.into())
        };
        let float = |name: &str, help: &str| register(&registry, Gauge::new(prefixed(name), help));
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let info = Opts::new(prefixed("info"), "Version of the hub").const_labels(
            version
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        );
        register(&registry, IntGauge::with_opts(info)).set(1);
        float(
            "start_time_seconds",
            "Start time of the hub, in seconds since 1970",
        )
        .set(Timestamp::now().as_duration().as_secs_f64());
        let inner = Inner {
            connections: counters(
                "connections_total",
                "Devices that connected, by kind of credential",
                &["proof"],
            ),
            refusals: counters(
                "connections_refused_total",
                "Connections that were refused or closed before the device was accepted, by reason",
                &["reason"],
            ),
            disconnections: counters(
                "disconnections_total",
                "Connections that ended, by reason",
                &["reason"],
            ),
            telemetry_messages: counter(
                "telemetry_messages_total",
                "Device messages that were stored",
            ),
            telemetry_bytes: counter("telemetry_bytes_total", "Size of their bodies in bytes"),
            requests: counters(
                "http_requests_total",
                "Requests of the service API",
                &["method", "route", "status"],
            ),
            request_seconds: register(
                &registry,
                HistogramVec::new(
                    options(
                        "http_request_seconds",
                        "Duration of requests of the service API",
                        SLOW,
                    ),
                    &["route"],
                ),
            ),
            tokens_refused: counters(
                "tokens_refused_total",
                "Requests of the service API whose token was rejected, by reason",
                &["reason"],
            ),
            method_calls: counters(
                "method_calls_total",
                "Method calls, by caller (API or job) and outcome",
                &["by", "outcome"],
            ),
            method_seconds: register(
                &registry,
                Histogram::with_opts(options(
                    "method_seconds",
                    "Time until a device answered a method call of the API, including the wait for \
                     the device",
                    SLOW,
                )),
            ),
            commit_seconds: register(
                &registry,
                Histogram::with_opts(options(
                    "commit_seconds",
                    "Duration of database commits",
                    FAST,
                )),
            ),
            commit_operations: counter("commit_operations_total", "Operations in database commits"),
            webhooks: counters(
                "webhook_events_total",
                "Events for webhooks, by webhook and outcome; `failed` counts attempts",
                &["webhook", "outcome"],
            ),
            webhook_behind: register(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        prefixed("webhook_behind_seconds"),
                        "Age of the event that a webhook sent last or retries, 0 if no event waits",
                    ),
                    &["webhook"],
                ),
            ),
            state: State {
                connected: gauge("connected_devices", "Devices that are connected"),
                ready: gauge("ready", "1 if the database accepts writes, else 0"),
                jobs: register(
                    &registry,
                    IntGaugeVec::new(
                        Opts::new(prefixed("jobs"), "Jobs that are not finished, by status"),
                        &["status"],
                    ),
                ),
                events: gauge("events", "Events that are stored"),
                event_bytes: gauge("event_bytes", "Size of the stored events in bytes"),
                database_bytes: gauge("database_bytes", "Size of the database file in bytes"),
                database_faults: gauge(
                    "database_faults",
                    "Faults found by the last check of the whole database",
                ),
                database_checked: float(
                    "database_checked_seconds",
                    "When that check ended, in seconds since 1970; 0 before the first",
                ),
                certificate_begin: float(
                    "certificate_not_before_seconds",
                    "When the server certificate and its authority become valid, in seconds since \
                     1970",
                ),
                certificate_end: float(
                    "certificate_not_after_seconds",
                    "When the server certificate expires, in seconds since 1970",
                ),
                authority_end: float(
                    "authority_not_after_seconds",
                    "When the authority of the server certificate expires, in seconds since 1970",
                ),
            },
            registry,
        };
        // Export every counter from 0 on: an alert on an increase would miss the first event of a
        // counter that did not exist before.
        for (counter, labels) in [
            (&inner.connections, &PROOFS[..]),
            (&inner.refusals, &REFUSAL_REASONS),
            (&inner.disconnections, &DISCONNECT_REASONS),
            (&inner.tokens_refused, &TOKEN_FAULTS),
        ] {
            for label in labels {
                counter.with_label_values(&[*label]);
            }
        }
        for by in METHOD_CALLERS {
            for outcome in METHOD_OUTCOMES {
                inner.method_calls.with_label_values(&[by, outcome]);
            }
        }
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn connected(&self, proof: &str) {
        debug_assert!(PROOFS.contains(&proof), "{proof} starts at 0");
        self.inner.connections.with_label_values(&[proof]).inc();
    }

    /// A connection was refused, or closed before the device was accepted.
    pub(crate) fn refused(&self, reason: &str) {
        debug_assert!(REFUSAL_REASONS.contains(&reason), "{reason} starts at 0");
        self.inner.refusals.with_label_values(&[reason]).inc();
    }

    pub(crate) fn disconnected(&self, reason: &str) {
        debug_assert!(DISCONNECT_REASONS.contains(&reason), "{reason} starts at 0");
        self.inner.disconnections.with_label_values(&[reason]).inc();
    }

    pub(crate) fn telemetry(&self, bytes: usize) {
        self.inner.telemetry_messages.inc();
        self.inner.telemetry_bytes.inc_by(bytes as u64);
    }

    /// A request was answered. `route` is a route template of the API, such as `/devices/{id}`.
    pub(crate) fn request(&self, method: &str, route: &str, status: &str, took: Duration) {
        let requests = &self.inner.requests;
        for failure in FAILURES {
            requests.with_label_values(&[method, route, failure]);
        }
        requests.with_label_values(&[method, route, status]).inc();
        let seconds = self.inner.request_seconds.with_label_values(&[route]);
        seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn token_refused(&self, reason: &str) {
        debug_assert!(TOKEN_FAULTS.contains(&reason), "{reason} starts at 0");
        self.inner.tokens_refused.with_label_values(&[reason]).inc();
    }

    /// A method call has ended; `by` is `api` or `job`.
    pub(crate) fn method_ended(&self, by: &str, outcome: &str) {
        debug_assert!(METHOD_CALLERS.contains(&by) && METHOD_OUTCOMES.contains(&outcome));
        let calls = &self.inner.method_calls;
        calls.with_label_values(&[by, outcome]).inc();
    }

    /// A device has answered a method call of the API.
    pub(crate) fn method_answered(&self, took: Duration) {
        self.inner.method_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn committed(&self, operations: usize, took: Duration) {
        self.inner.commit_operations.inc_by(operations as u64);
        self.inner.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts a webhook of the settings from 0 on.
    pub(crate) fn webhook_known(&self, webhook: &str) {
        for outcome in WEBHOOK_OUTCOMES {
            self.webhook_ended(webhook, outcome, 0);
        }
        self.webhook_behind(webhook, Duration::ZERO);
    }

    pub(crate) fn webhook_ended(&self, webhook: &str, outcome: &str, events: i64) {
        debug_assert!(WEBHOOK_OUTCOMES.contains(&outcome));
        let counter = self.inner.webhooks.with_label_values(&[webhook, outcome]);
        counter.inc_by(events.unsigned_abs());
    }

    /// Sets the age of the event that a webhook retries.
    pub(crate) fn webhook_behind(&self, webhook: &str, age: Duration) {
        let gauge = self.inner.webhook_behind.with_label_values(&[webhook]);
        gauge.set(age.as_secs_f64());
    }

    /// All metrics in Prometheus' text format, with the gauges set to `now`.
    pub(crate) fn render(&self, now: &Snapshot) -> Vec<u8> {
        self.inner.state.set(now);
        let mut text = Vec::new();
        let families = self.inner.registry.gather();
        TextEncoder::new()
            .encode(&families, &mut text)
            .expect("a vector takes all, and no family is empty");
        text
    }
}

impl State {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a time in seconds has far fewer than 53 bits"
    )]
    fn set(&self, now: &Snapshot) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.connected.set(number(now.connected));
        self.ready.set(now.ready.into());
        for status in ACTIVE_JOBS {
            self.jobs.with_label_values(&[status]).set(0);
        }
        for (status, count) in &now.jobs {
            self.jobs.with_label_values(&[*status]).set(number(*count));
        }
        self.events.set(number(now.events.0));
        self.event_bytes.set(number(now.events.1));
        self.database_bytes.set(number(now.database_bytes));
        self.database_faults.set(number(now.integrity.faults));
        let checked = now.integrity.at.map_or(0, Timestamp::as_second);
        self.database_checked.set(checked as f64);
        let times = now.certificate;
        self.certificate_begin.set(times.not_before as f64);
        self.certificate_end.set(times.not_after as f64);
        self.authority_end.set(times.authority_not_after as f64);
    }
}

fn prefixed(name: &str) -> String {
    format!("door_hub_{name}")
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels are constants that a test covers");
    registry
        .register(Box::new(collector.clone()))
        .expect("names are unique");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_counters_and_the_current_gauges() {
        let metrics = Metrics::new();
        metrics.connected("certificate");
        metrics.telemetry(7);
        metrics.telemetry(5);
        metrics.request("GET", "/devices/{id}", "200", Duration::from_millis(3));
        metrics.method_ended("job", "answered");
        let with_jobs = |jobs| Snapshot {
            connected: 3,
            ready: true,
            jobs,
            certificate: CertificateTimes {
                not_before: 1_700_000_000,
                not_after: 1_795_428_000,
                authority_not_after: 2_000_000_000,
            },
            ..Snapshot::default()
        };
        metrics.render(&with_jobs(vec![("running", 2)]));
        let text = metrics.render(&with_jobs(vec![("queued", 1)]));
        let text = String::from_utf8(text).unwrap();
        for line in [
            "door_hub_connections_total{proof=\"certificate\"} 1",
            "door_hub_telemetry_messages_total 2",
            "door_hub_telemetry_bytes_total 12",
            "door_hub_http_requests_total{method=\"GET\",route=\"/devices/{id}\",status=\"200\"} 1",
            "door_hub_http_request_seconds_bucket{route=\"/devices/{id}\",le=\"0.005\"} 1",
            "door_hub_method_calls_total{by=\"job\",outcome=\"answered\"} 1",
            "door_hub_connected_devices 3",
            "door_hub_jobs{status=\"queued\"} 1",
            "door_hub_jobs{status=\"running\"} 0",
            "door_hub_tokens_refused_total{reason=\"signature\"} 0",
            "door_hub_connections_refused_total{reason=\"too_late\"} 0",
            "door_hub_method_calls_total{by=\"api\",outcome=\"timed_out\"} 0",
            "door_hub_ready 1",
            "door_hub_certificate_not_before_seconds 1700000000",
            "door_hub_certificate_not_after_seconds 1795428000",
            "door_hub_authority_not_after_seconds 2000000000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(
            Metrics::new().inner.telemetry_messages.get() == 0,
            "each hub counts for itself"
        );
    }

    #[test]
    fn every_metric_is_documented_and_no_other() {
        let metrics = Metrics::new();
        metrics.request("GET", "/devices", "200", Duration::from_millis(3));
        metrics.webhook_known("pager");
        metrics.render(&Snapshot::default());
        let families = metrics.inner.registry.gather();
        let mut expected: Vec<_> = families
            .iter()
            .map(|family| family.name().to_owned())
            .collect();
        expected.sort();
        let page = include_str!("../../docs/reference/hub.md");
        let (_, table) = page.split_once("\n| metric | type | meaning |\n").unwrap();
        let rows = table
            .lines()
            .skip(1)
            .map_while(|line| line.strip_prefix("| `"));
        let mut documented: Vec<_> = rows
            .filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
            .collect();
        documented.sort();
        assert_eq!(documented, expected);
        for label in PROOFS
            .iter()
            .chain(&REFUSAL_REASONS)
            .chain(&DISCONNECT_REASONS)
            .chain(&TOKEN_FAULTS)
            .chain(&METHOD_OUTCOMES)
            .chain(&WEBHOOK_OUTCOMES)
        {
            assert!(page.contains(&format!("`{label}`")), "no `{label}`");
        }
    }
}

//! Fuzz targets: invariants of every parser that reads bytes from a peer.
//!
//! A target is a plain function that panics when an invariant is violated. libFuzzer searches for
//! such bytes (`fuzz/run`, `just fuzz`); `cargo test` replays the seeds in `corpus/`, the earlier
//! failures in `crashes/`, and mutations of both. The seeds are written by the project's own
//! encoders: see [`Target::seeds`].

#![forbid(unsafe_code)]

mod targets {
    pub(crate) mod agent_config;
    pub(crate) mod connection_string;
    pub(crate) mod door_command;
    pub(crate) mod job;
    pub(crate) mod method;
    pub(crate) mod mqtt_packet;
    pub(crate) mod mqtt_session;
    pub(crate) mod property_bag;
    pub(crate) mod query;
    pub(crate) mod query_sql;
    pub(crate) mod rest_body;
    pub(crate) mod sas;
    pub(crate) mod topic;
    pub(crate) mod twin;
    pub(crate) mod user_name;
    pub(crate) mod websocket;
}
mod secret;

/// Initial inputs of a target, by name.
pub type Seeds = Vec<(String, Vec<u8>)>;

/// One parser, or a pair of parser and printer, with its invariants.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, also of its folder in `corpus/`.
    pub name: &'static str,
    /// Panics when `data` violates an invariant.
    pub run: fn(data: &[u8]),
    /// Seeds from the project's encoders.
    pub seeds: fn() -> Seeds,
}

/// All targets, in the order of `fuzz/run`.
pub const TARGETS: &[Target] = &[
    target_of(
        "agent-config",
        targets::agent_config::run,
        targets::agent_config::seeds,
    ),
    target_of(
        "connection-string",
        targets::connection_string::run,
        targets::connection_string::seeds,
    ),
    target_of(
        "door-command",
        targets::door_command::run,
        targets::door_command::seeds,
    ),
    target_of("job", targets::job::run, targets::job::seeds),
    target_of("method", targets::method::run, targets::method::seeds),
    target_of(
        "mqtt-packet",
        targets::mqtt_packet::run,
        targets::mqtt_packet::seeds,
    ),
    target_of(
        "mqtt-session",
        targets::mqtt_session::run,
        targets::mqtt_session::seeds,
    ),
    target_of(
        "property-bag",
        targets::property_bag::run,
        targets::property_bag::seeds,
    ),
    target_of("query", targets::query::run, targets::query::seeds),
    target_of(
        "query-sql",
        targets::query_sql::run,
        targets::query_sql::seeds,
    ),
    target_of(
        "rest-body",
        targets::rest_body::run,
        targets::rest_body::seeds,
    ),
    target_of("sas", targets::sas::run, targets::sas::seeds),
    target_of("topic", targets::topic::run, targets::topic::seeds),
    target_of("twin", targets::twin::run, targets::twin::seeds),
    target_of(
        "user-name",
        targets::user_name::run,
        targets::user_name::seeds,
    ),
    target_of(
        "websocket",
        targets::websocket::run,
        targets::websocket::seeds,
    ),
];

const fn target_of(name: &'static str, run: fn(&[u8]), seeds: fn() -> Seeds) -> Target {
    Target { name, run, seeds }
}

#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Seeds from texts, each named by its index in the list.
fn texts<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Seeds {
    let numbered = texts.into_iter().enumerate();
    numbered
        .map(|(index, text)| (format!("{index:02}"), text.as_ref().to_vec()))
        .collect()
}

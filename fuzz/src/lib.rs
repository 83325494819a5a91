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

macro_rules! target {
    ($name:literal, $module:ident) => {
        Target {
            name: $name,
            run: targets::$module::run,
            seeds: targets::$module::seeds,
        }
    };
}

/// All targets, in the order of `fuzz/run`.
pub const TARGETS: &[Target] = &[
    target!("agent-config", agent_config),
    target!("connection-string", connection_string),
    target!("door-command", door_command),
    target!("job", job),
    target!("method", method),
    target!("mqtt-packet", mqtt_packet),
    target!("mqtt-session", mqtt_session),
    target!("property-bag", property_bag),
    target!("query", query),
    target!("query-sql", query_sql),
    target!("rest-body", rest_body),
    target!("sas", sas),
    target!("topic", topic),
    target!("twin", twin),
    target!("user-name", user_name),
    target!("websocket", websocket),
];

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

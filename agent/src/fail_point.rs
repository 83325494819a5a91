//! Points at which a test ends the process as a power cut would: between deciding, driving, writing
//! and sending.
//!
//! Only in builds with debug assertions: `DOOR_AGENT_FAIL_POINT` names the point, and the process
//! aborts there as soon as the file named by `DOOR_AGENT_FAIL_ARMED` exists. In every other build
//! [`reach`] does nothing.

/// All points, roughly in the order in which a command reaches them.
pub const ALL: &[&str] = &[
    "method-arrived",
    "drive-before",
    "drive-after",
    "persist-before",
    "state-before",
    "state-written",
    "state-renamed",
    "state-saved",
    "persisted",
    "record-before",
    "event-before",
    "event-written",
    "event-synced",
    "answer-before",
    "answer-sent",
    "event-send-before",
    "event-sent",
    "event-acknowledged",
    "ledger-before",
    "ledger-written",
    "ledger-renamed",
    "report-before",
    "report-sent",
];

/// Ends the process here if a test requests it.
#[cfg(debug_assertions)]
pub(crate) fn reach(point: &'static str) {
    use std::path::PathBuf;
    use std::sync::OnceLock;

    static CONFIG: OnceLock<Option<(String, PathBuf)>> = OnceLock::new();
    debug_assert!(ALL.contains(&point), "{point} is not listed in ALL");
    let config = CONFIG.get_or_init(|| {
        let point = std::env::var("DOOR_AGENT_FAIL_POINT").ok()?;
        let armed = std::env::var_os("DOOR_AGENT_FAIL_ARMED")?;
        Some((point, PathBuf::from(armed)))
    });
    if let Some((target, armed)) = config {
        if target == point && armed.exists() {
            std::process::abort();
        }
    }
}

/// No-op in builds without debug assertions.
#[cfg(not(debug_assertions))]
pub(crate) fn reach(_place: &'static str) {}

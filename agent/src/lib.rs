//! The agent that runs on each Pi: one door, one device identity.
//!
//! | module | owns | must not know |
//! |---|---|---|
//! | [`storage`] | state file, event log, their thread | what a saved state means |
//! | `event_log` | the records on disk until the hub has them | who sends them |

mod event_log;
pub mod storage;

//! The agent that runs on each Pi: one door, one device identity.
//!
//! ```text
//!             ┌───────────── cloud ─────────────┐
//!  hub ◄─TLS─►│ driver (polls) ─► methods ──────┼──► controller ◄──► gpio ◄──► strike, inputs
//!             │      └─► publisher ◄── snapshot ┼─────────┘ │
//!             └───────────────▲─────────────────┘           │
//!                             └────────── storage ◄─────────┘   one thread: state file, event log
//! ```
//!
//! | module | owns | must not know |
//! |---|---|---|
//! | [`config`] | the configuration file, its layers and its errors | what is done with it |
//! | [`controller`] | the door: one task, its pins and its deadlines | network, disk |
//! | [`gpio`] | pins and polarity, the simulated door | what a reading means |
//! | [`storage`] | state file, event log, their thread | what a saved state means |
//! | `event_log` | the records on disk until the hub has them | who sends them |
//! | [`tls`] | whom we trust, and a clock that cannot be absurd | MQTT |
//! | [`status`] | the socket of `door-agent status` | what it shows |
//! | [`service`] | logging, readiness, watchdog, signals | doors |

pub mod config;
pub mod controller;
mod event_log;
pub mod gpio;
pub mod service;
pub mod status;
pub mod storage;
pub mod tls;

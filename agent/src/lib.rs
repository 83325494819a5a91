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
//! | [`agent`] | start, wiring and shutdown of one door | |
//! | [`config`] | the configuration file, its layers and its errors | what is done with it |
//! | [`controller`] | the door: inputs to `door-core`, actions from it | MQTT, files |
//! | [`gpio`] | pins, real or simulated | what a door is |
//! | [`cloud`] | the link to the hub: connection, methods, twin, events | pins |
//! | [`storage`] | state file, event log, their thread | what a saved state means |
//! | `event_log` | the records on disk until the hub has them | who sends them |
//! | `files` | writing, setting aside and reading files on a disk that may fail | what is in them |
//! | [`tls`] | the trusted CAs, and a clock with a lower bound | MQTT |
//! | [`reboot`] | how a door requests a reboot of its machine | who reboots it |
//! | [`restart`] | whether a restart of an agent would move its lock | who restarts it |
//! | `identify` | which door on which machine this is | |
//! | [`selftest`] | test of the wiring with an installer, no agent running | door rules, the hub |
//! | [`status`] | the socket of `door-agent status` | what it shows |
//! | [`service`] | logging, readiness, watchdog, signals | doors |

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod agent;
pub mod cloud;
pub mod config;
pub mod controller;
mod event_log;
#[doc(hidden)]
pub mod fail_point;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod gpio;
mod identify;
pub mod reboot;
pub mod restart;
pub mod selftest;
pub mod service;
pub mod status;
pub mod storage;
pub mod tls;

pub use agent::{Agent, AgentEvent, AgentSnapshot, RunningAgent, Shared, Snapshots, StartError};
pub use config::AgentConfig;

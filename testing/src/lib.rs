//! The harness of the tests of door-hub, door-agent and doorctl: programs and their output, a hub
//! with its operator, devices and doors.
//!
//! For `tests/` only. A unit test inside hub or agent sees two versions of its own types.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap in a test names its line"
)]

mod agent;
mod command;
mod device;
mod file;
mod hub;
mod operator;
mod peer;
mod process;
mod server;
mod sink;

use std::time::Duration;

pub use agent::{agent_until, simulated_door, start_agent_again};
pub use command::{CommandLine, CommandOutput, missing, run, run_with_input};
pub use device::Device;
pub use file::{free_port, write_program, write_secret, write_with_mode};
pub use hub::{HubProcess, StoppedHub, TestHub};
pub use operator::{Answer, Operator, answer, eventually, in_an_hour, roots, texts, trusting};
pub use peer::{PACKET_LIMIT, PEER_DEADLINE, Peer, login, wait_for_connected};
pub use process::{Process, workspace_program};
pub use server::{CertificateFault, Received, Reply, Server, certified};
pub use sink::{Sink, spawn_with_sinks};

/// Deadline of a program; reached only on a failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

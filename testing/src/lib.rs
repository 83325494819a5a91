//! The harness of the tests of door-hub, door-agent and doorctl: programs and their output, a hub
//! with its operator, devices and doors.
//!
//! For `tests/` only. A unit test inside hub or agent sees two versions of its own types.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap in a test names its line"
)]

mod command;
mod file;
mod process;
mod sink;

use std::time::Duration;

pub use command::{CommandLine, CommandOutput, missing, run, run_with_input};
pub use file::{free_port, write_secret, write_with_mode};
pub use process::{Process, program, workspace_program};
pub use sink::{Sink, spawn_with_sinks};

/// Deadline of every wait; reached only on a failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

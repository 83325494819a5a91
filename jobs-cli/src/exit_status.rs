//! Exit statuses. Scripts depend on the numbers: their meaning never changes.
//!
//! Why: docs/decisions/0022-doorctl-for-people-and-scripts.md.

use std::process::ExitCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// Every target reached the requested state, or the command succeeded.
    Success,
    /// Invalid usage or settings, or no connection: nothing was changed, or the outcome is unknown.
    Error,
    /// The command was executed, but some targets did not reach the requested state.
    Incomplete,
    /// The deadline was exceeded.
    Deadline,
    /// The hub refused the command, or the current state forbids it.
    Refused,
    /// Ctrl-C: 128 + SIGINT, as in shells.
    Interrupted,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        ExitCode::from(match status {
            ExitStatus::Success => 0,
            ExitStatus::Error => 1,
            ExitStatus::Incomplete => 2,
            ExitStatus::Deadline => 3,
            ExitStatus::Refused => 4,
            ExitStatus::Interrupted => 130,
        })
    }
}

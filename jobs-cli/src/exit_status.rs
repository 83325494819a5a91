//! What the process ends with: scripts decide by it, so the numbers never change their meaning.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// Every target reached the wanted state; or the command simply worked.
    Success,
    /// Wrong usage, wrong settings, or no connection: nothing was changed, or it is not known what
    /// was.
    Error,
    /// The command worked, but some targets did not reach the wanted state.
    Incomplete,
    /// The deadline passed first.
    Deadline,
    /// The hub's rules, or the state of things, forbid it.
    Refused,
    /// Ctrl-C, as shells count it.
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

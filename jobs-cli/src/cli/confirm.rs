//! Confirmation flags of verbs that act on many doors.

use clap::Args;

/// Default of `--confirm-above`: up to this many doors, no confirmation is asked.
pub(crate) const DEFAULT_CONFIRM_ABOVE: usize = 20;

/// When a person has to confirm.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Confirmation")]
pub(crate) struct ConfirmArgs {
    /// Skip the confirmation.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Confirm by typing the number of doors if there are more than this [env:
    /// DOORCTL_CONFIRM_ABOVE].
    #[arg(
        long,
        env = "DOORCTL_CONFIRM_ABOVE",
        hide_env = true,
        default_value_t = DEFAULT_CONFIRM_ABOVE,
        value_name = "DOORS"
    )]
    pub(crate) confirm_above: usize,
}

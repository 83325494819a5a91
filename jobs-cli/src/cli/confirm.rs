//! Flags of verbs that act on many doors at once.

use clap::Args;

/// Up to so many doors nobody is asked.
pub(crate) const DEFAULT_CONFIRM_ABOVE: usize = 20;

/// Whether a person has to confirm.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Confirmation")]
pub(crate) struct ConfirmArgs {
    /// Do not ask, however many doors it is.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Ask for the number of doors to be typed when it is more than this; also
    /// DOORCTL_CONFIRM_ABOVE.
    #[arg(
        long,
        env = "DOORCTL_CONFIRM_ABOVE",
        hide_env = true,
        default_value_t = DEFAULT_CONFIRM_ABOVE,
        value_name = "DOORS"
    )]
    pub(crate) confirm_above: usize,
}

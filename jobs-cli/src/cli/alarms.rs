//! `doorctl alarms`.

use clap::{Args, Subcommand};

use super::reason;
use super::target::TargetArgs;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AlarmsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<AlarmsCommand>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlarmsCommand {
    /// List raised alarms, the worst first; `doorctl alarms` does the same.
    #[command(after_help = "\
Examples:
  doorctl alarms list
  doorctl alarms --unacknowledged --building 43
  doorctl alarms list --tag group=public -o json

Without a selection, alarms of all doors. Those that nobody has acknowledged come first, then \
the worst: forcedOpen, lockForced, tamper, heldOpen, jammed, lockFault, sensorFault; then the \
oldest. Alarms are those last reported, for offline doors too. The exit status is 2 if an alarm is listed.")]
    List(ListArgs),
    /// Acknowledge alarms of a door: somebody takes care of them.
    #[command(after_help = "\
Examples:
  doorctl alarms ack lobby-east --note 'I go and look'
  doorctl alarms ack lobby-east forcedOpen --note 'closed it, lock is fine' --by alice

An acknowledgement clears nothing: the alarm stays raised until its cause is gone. It belongs to \
one raising: if the alarm is raised again, it is not acknowledged. It is stored in the tag \
alarm.NAME of the door and needs ServiceConnect. An alarm that is not raised, or that somebody \
has acknowledged, is refused with status 4.")]
    Ack(AckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only alarms that nobody has acknowledged.
    #[arg(long)]
    pub(crate) unacknowledged: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AckArgs {
    /// Name of the door.
    pub(crate) door: String,
    /// Alarm, such as forcedOpen [default: all of the door that are not acknowledged].
    pub(crate) alarm: Option<String>,
    /// What is done about it; 1 to 256 bytes.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) note: String,
    /// Who acknowledges [default: the policy in use].
    #[arg(long, value_name = "NAME", value_parser = reason)]
    pub(crate) by: Option<String>,
}

//! The verbs that act on doors now: `doorctl status`, `why`, `lock`, `unlock`, `relinquish`,
//! `mode`, `lockdown`, `all-clear`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::confirm::ConfirmArgs;
use super::target::TargetArgs;
use super::{period, period_or_zero};

/// What is done to doors at once.
#[derive(Debug, Subcommand)]
pub(crate) enum DoorsCommand {
    /// How the doors are, by building and floor.
    #[command(after_help = "\
Examples:
  doorctl status
  doorctl status --building 43 -o json
  doorctl status --floor 3 --expect-secured || echo 'floor 3 is not closed'

A door that is offline counts as offline alone: what it reported once is not how it is now. Alarms
are those last reported, by offline doors too. The exit status is 2 when a door is offline, unknown
or in alarm.")]
    Status(StatusArgs),
    /// Why a door is as it is: every slot, who holds it, until when, and which one decides.
    #[command(after_help = "\
Examples:
  doorctl why lobby-east
  doorctl why lobby-east -o json

The door itself is asked. When it is offline, what it reported last is shown with its age, and the
exit status is 2.")]
    Why {
        /// The door.
        door: String,
    },
    /// Lock doors now.
    #[command(after_help = "\
Examples:
  doorctl lock lobby-east
  doorctl lock --floor 3 --for 10m
  doorctl lock --building 43 --until 'tomorrow 06:30' --deadline 2m

One door is called directly; many are called by a job, which goes on without this machine. For a
later time: doorctl jobs lock --at.")]
    Lock(LockNowArgs),
    /// Unlock doors now.
    #[command(after_help = "\
Examples:
  doorctl unlock lobby-east --pulse strike        let one person through
  doorctl unlock lobby-east --for 5m
  doorctl unlock --floor 3 --until 18:00 --yes

A door in lockdown or mode secure refuses. Without a time the door stays unlocked until relinquished.")]
    Unlock(UnlockNowArgs),
    /// Give up what operators asked of doors: they go back to what else is set for them.
    #[command(after_help = "\
Examples:
  doorctl relinquish lobby-east
  doorctl relinquish --floor 3 --slot 9           end passage mode

Without --slot the operators' slots 7 and 8 are emptied. To end a lockdown: doorctl all-clear.")]
    Relinquish(RelinquishArgs),
    /// Run doors in another mode from now on.
    #[command(after_help = "\
Examples:
  doorctl mode passage --floor 1
  doorctl mode secure vault
  doorctl mode normal --all --yes

Only doors that are online hear of it. To assign a mode to doors that are away too:
doorctl jobs twin --set mode=secure; to lock down: doorctl lockdown.")]
    Mode(ModeArgs),
    /// Lock doors against entry, those that are away as soon as they come back.
    #[command(after_help = "\
Examples:
  doorctl lockdown --building 43
  doorctl lockdown --all
  doorctl lockdown --building 43 --deadline 5m    wait for doors that stand open

Nobody is asked to confirm: it locks, and people can always leave. The mode is assigned to every
door (desired property `mode`), which is what reaches doors that are offline now, and each is called
to prove that it is secured. What had been assigned is kept in the tag `doorctlLockdown` for
all-clear. Saying it again is safe. Exit button, local grant and fire release still open the doors.")]
    Lockdown(LockdownArgs),
    /// End a lockdown: doors go back to what was before it.
    #[command(after_help = "\
Examples:
  doorctl all-clear --building 43
  doorctl all-clear lobby-east

The mode that was assigned before is assigned again, and each door goes back to the mode that the
lockdown displaced. Doors that are offline do so when they come back.")]
    AllClear(AllClearArgs),
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// End with 2 also when a door is not secured.
    #[arg(long)]
    pub(crate) expect_secured: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// How each door is called, and how long it may take until it is where it should be.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How long each door has")]
pub(crate) struct NowArgs {
    /// To come online: 0 to 5 min.
    #[arg(long, default_value = "10s", value_parser = period_or_zero, value_name = "DURATION")]
    pub(crate) connect_timeout: Duration,
    /// To answer: 5 s to 5 min, at least --connect-timeout [default: the greater of that and 30s].
    #[arg(long, value_parser = period, value_name = "DURATION")]
    pub(crate) response_timeout: Option<Duration>,
    /// To get there after it has accepted (a door that stands open, say); past it the exit status
    /// is 3.
    #[arg(long, value_parser = period, value_name = "DURATION")]
    pub(crate) deadline: Option<Duration>,
    /// Count doors as secured whose state nothing can prove.
    #[arg(long)]
    pub(crate) accept_unproven: bool,
}

/// Until when.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "When")]
pub(crate) struct EndArgs {
    /// For how long; without it until relinquished.
    #[arg(long = "for", value_parser = period, value_name = "DURATION", allow_hyphen_values = true)]
    pub(crate) length: Option<Duration>,
    /// Until when: +10m, 22:00, 'tomorrow 06:30', RFC 3339; at most 7 days ahead.
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        conflicts_with = "length"
    )]
    pub(crate) until: Option<String>,
}

/// `lock`.
#[derive(Debug, Args)]
pub(crate) struct LockNowArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) end: EndArgs,
    #[command(flatten)]
    pub(crate) now: NowArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// `unlock`.
#[derive(Debug, Args)]
pub(crate) struct UnlockNowArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) end: EndArgs,
    /// For the door's own strike time: strike, or extended for somebody who needs longer.
    #[arg(long, value_enum, value_name = "KIND", conflicts_with_all = ["length", "until"], help_heading = "When", hide_possible_values = true)]
    pub(crate) pulse: Option<PulseKind>,
    #[command(flatten)]
    pub(crate) now: NowArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// The door's own times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PulseKind {
    /// The strike time.
    Strike,
    /// The extended strike time.
    Extended,
}

/// `relinquish`.
#[derive(Debug, Args)]
pub(crate) struct RelinquishArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Only this slot: 5 (lockdown), 7 (operator grant), 8 (operator hold) or 9 (passage).
    #[arg(long, value_name = "SLOT", value_parser = ["5", "7", "8", "9"], hide_possible_values = true)]
    pub(crate) slot: Option<String>,
    #[command(flatten)]
    pub(crate) now: NowArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// `mode`.
#[derive(Debug, Args)]
pub(crate) struct ModeArgs {
    /// normal, passage, secure, lockdown or maintenance.
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) mode: ModeName,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) now: NowArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// How a door can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeName {
    /// By the authority array alone.
    Normal,
    /// Released for free passage.
    Passage,
    /// No unlock by an operator.
    Secure,
    /// Locked against entry.
    Lockdown,
    /// Alarms are recorded and not shown.
    Maintenance,
}

/// `lockdown`.
#[derive(Debug, Args)]
pub(crate) struct LockdownArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) now: NowArgs,
    /// Taken, so that it fails nobody in a hurry: a lockdown asks nothing.
    #[arg(long, hide = true)]
    pub(crate) yes: bool,
}

/// `all-clear`.
#[derive(Debug, Args)]
pub(crate) struct AllClearArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) now: NowArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

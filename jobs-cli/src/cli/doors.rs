//! Verbs that act on doors now: `doorctl status`, `why`, `lock`, `unlock`, `relinquish`, `mode`,
//! `lockdown`, `all-clear`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::confirm::ConfirmArgs;
use super::target::TargetArgs;
use super::{period, period_or_zero};

/// Verbs that act on doors now.
#[derive(Debug, Subcommand)]
pub(crate) enum DoorsCommand {
    /// Show the state of doors by building and floor.
    #[command(after_help = "\
Examples:
  doorctl status
  doorctl status --building 43 -o json
  doorctl status --watch                          refreshed every 2 s or more, until Ctrl-C
  doorctl status --floor 3 --expect-secured || echo 'floor 3 is not closed'
  doorctl status -o prometheus --out /var/lib/prometheus/node-exporter/doors.prom

An offline door is counted as offline only, because its last report may be outdated. Alarms are \
those last reported, for offline doors too. The exit status is 2 if a door is offline, unknown or \
in alarm.

-o prometheus prints numbers by building for the textfile collector of node_exporter. There the \
exit status is 0 when the doors could be read: rules judge the numbers.")]
    Status(StatusArgs),
    /// Explain the state of a door: who holds each slot, until when, and which one decides.
    #[command(after_help = "\
Examples:
  doorctl why lobby-east
  doorctl why lobby-east --all                    empty slots too
  doorctl why lobby-east -o json

The door itself is asked. If it is offline, its last report is shown with its age, and the exit \
status is 2.")]
    Why(WhyArgs),
    /// Lock doors now.
    #[command(after_help = "\
Examples:
  doorctl lock lobby-east
  doorctl lock --floor 3 --for 10m
  doorctl lock --building 43 --until 'tomorrow 06:30' --deadline 2m

A single door is called directly; several are called by a job, which goes on without this \
machine. For a later start: doorctl jobs lock --at.")]
    Lock(LockNowArgs),
    /// Unlock doors now.
    #[command(after_help = "\
Examples:
  doorctl unlock lobby-east --pulse strike        let one person through
  doorctl unlock lobby-east --for 5m
  doorctl unlock --floor 3 --until 18:00 --yes

A door in lockdown or mode secure refuses. Without an end, doors stay unlocked until they are \
relinquished.")]
    Unlock(UnlockNowArgs),
    /// Withdraw operator commands: doors return to their mode, schedule or default.
    #[command(after_help = "\
Examples:
  doorctl relinquish lobby-east
  doorctl relinquish --floor 3 --slot 9           end passage mode

Without --slot, the operator slots 7 and 8 are emptied. To end a lockdown: doorctl all-clear.")]
    Relinquish(RelinquishArgs),
    /// Change the mode of doors now.
    #[command(after_help = "\
Examples:
  doorctl mode passage --floor 1
  doorctl mode secure vault
  doorctl mode normal --all --yes

Reaches online doors only. To assign a mode to offline doors too: doorctl jobs twin --set \
mode=secure; to lock down: doorctl lockdown.")]
    Mode(ModeArgs),
    /// Lock doors against entry; offline doors follow when they reconnect.
    #[command(after_help = "\
Examples:
  doorctl lockdown --building 43
  doorctl lockdown --all
  doorctl lockdown --building 43 --deadline 5m    wait for doors that stand open

No confirmation is needed: it locks, and people can always leave. Two jobs are created at once: one \
sets the desired property `lockdown`, which offline doors apply when they reconnect; the other \
calls each door to prove that it is secured. From then on Ctrl-C ends only the watching. The \
assigned mode is not changed. It is safe to repeat. Exit button and fire release still open the \
doors.")]
    Lockdown(LockdownArgs),
    /// End a lockdown and restore the state before it.
    #[command(after_help = "\
Examples:
  doorctl all-clear --building 43
  doorctl all-clear lobby-east

Each door returns to its mode, and to what was released and has not expired. Offline doors follow \
when they reconnect.")]
    AllClear(AllClearArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Keep showing the doors until Ctrl-C; where there is no terminal, each change is added.
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Also exit with status 2 if a door is not secured.
    #[arg(long, conflicts_with = "watch")]
    pub(crate) expect_secured: bool,
    /// With -o prometheus: file to write or replace, at once.
    #[arg(long, value_name = "FILE", conflicts_with = "watch")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// Name of the door.
    pub(crate) door: String,
    /// Show empty slots too; JSON and CSV always have them.
    #[arg(long)]
    pub(crate) all: bool,
}

/// How each door is called, and how long it may take to reach the requested state.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Timeouts per door")]
pub(crate) struct NowArgs {
    /// Time to come online: 0 to 5 min.
    #[arg(
        long,
        default_value = "10s",
        value_parser = period_or_zero,
        value_name = "DURATION"
    )]
    pub(crate) connect_timeout: Duration,
    /// Time to answer: 5 s to 5 min, at least --connect-timeout [default: 30s, or --connect-timeout
    /// if greater].
    #[arg(long, value_parser = period, value_name = "DURATION")]
    pub(crate) response_timeout: Option<Duration>,
    /// Time to reach the requested state after accepting, for example while the door stands open;
    /// when exceeded, the exit status is 3.
    #[arg(long, value_parser = period, value_name = "DURATION")]
    pub(crate) deadline: Option<Duration>,
    /// Count doors as secured even if no sensor can prove it.
    #[arg(long)]
    pub(crate) accept_unproven: bool,
}

/// When a lock or unlock ends.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Schedule")]
pub(crate) struct EndArgs {
    /// Duration; without --for and --until, until relinquished.
    #[arg(
        long = "for",
        value_parser = period,
        value_name = "DURATION",
        allow_hyphen_values = true
    )]
    pub(crate) length: Option<Duration>,
    /// End time: +10m, 22:00, 'tomorrow 06:30', RFC 3339; at most 7 days ahead.
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        conflicts_with = "length"
    )]
    pub(crate) until: Option<String>,
    /// End when the doors' week wants something else next.
    #[arg(long, conflicts_with_all = ["length", "until"])]
    pub(crate) until_schedule: bool,
}

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

#[derive(Debug, Args)]
pub(crate) struct UnlockNowArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) end: EndArgs,
    /// Unlock for the door's own strike time: strike, or extended for people who need longer.
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        conflicts_with_all = ["length", "until", "until_schedule"],
        help_heading = "Schedule",
        hide_possible_values = true
    )]
    pub(crate) pulse: Option<PulseKind>,
    #[command(flatten)]
    pub(crate) now: NowArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// Which of the door's own strike times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PulseKind {
    /// The strike time.
    Strike,
    /// The extended strike time.
    Extended,
}

#[derive(Debug, Args)]
pub(crate) struct RelinquishArgs {
    /// Empty only this slot: 5 (lockdown), 7 (operator grant), 8 (operator hold) or 9 (passage).
    #[arg(
        long,
        value_name = "SLOT",
        value_parser = ["5", "7", "8", "9"],
        hide_possible_values = true
    )]
    pub(crate) slot: Option<String>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) now: NowArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ModeArgs {
    /// Mode: normal, passage, secure, lockdown or maintenance.
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) mode: ModeName,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) now: NowArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// Operating mode of a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeName {
    /// The authority array alone decides.
    Normal,
    /// Released for free passage.
    Passage,
    /// Operators cannot unlock.
    Secure,
    /// Locked against entry.
    Lockdown,
    /// Alarms are recorded but not shown.
    Maintenance,
}

#[derive(Debug, Args)]
pub(crate) struct LockdownArgs {
    /// Accepted and ignored, as a lockdown needs no confirmation: nobody in a hurry gets an error.
    #[arg(long, hide = true)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) now: NowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AllClearArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) now: NowArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

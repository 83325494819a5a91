//! `doorctl schedule ...`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use door_core::contract::Want;

use super::confirm::ConfirmArgs;
use super::jobs::JobArgs;
use super::target::TargetArgs;
use super::{period, period_or_zero};

/// Give doors a week by which they lock and unlock on their own, and show it.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Check files of weeks: keys, zone, days, overlaps, holidays, size.
    #[command(after_help = "\
Examples:
  doorctl schedule check office.toml
  doorctl schedule check office.toml school.toml -o json

A file:
  name = \"office-hours\"
  zone = \"Europe/Berlin\"
  [[window]]
  days = \"mon-fri\"
  from = \"06:00\"
  to = \"22:00\"
  want = \"released\"

Needs no hub. What is wrong is named with file, line and what was expected; the exit status is 1.")]
    Check {
        /// Files of weeks.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show when a week locks and releases, with clock changes and holidays.
    #[command(after_help = "\
Examples:
  doorctl schedule preview office.toml
  doorctl schedule preview office.toml --days 400 -o csv

Needs no hub. Times are those of the week's zone and UTC.")]
    Preview {
        /// File of a week.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How many days from now on: 1 to 800.
        #[arg(
            long,
            default_value_t = 14,
            value_parser = clap::value_parser!(u16).range(1..=800),
            value_name = "DAYS"
        )]
        days: u16,
    },
    /// Show what `schedule set` would change at each door, without changing it.
    #[command(after_help = "\
Examples:
  doorctl schedule plan office.toml --building 43
  doorctl schedule set office.toml --building 43 --plan 5d0f1b3c9a47")]
    Plan(SetArgs),
    /// Assign a week to doors by a job; offline doors get it when they reconnect.
    #[command(after_help = "\
Examples:
  doorctl schedule set office.toml --building 43
  doorctl schedule set office.toml lobby-east --watch
  doorctl schedule set office.toml --building 43 --now --yes

From then on the doors follow it by their own clocks, also without hub and network. It replaces the \
week that a door had. Inside of a released window, doors begin with the next one; --now releases \
them at once. With --plan, nothing is assigned if file or doors are others than planned.")]
    Set(SetArgs),
    /// Take the week from doors: their relinquish default holds instead.
    #[command(after_help = "\
Examples:
  doorctl schedule clear lobby-east
  doorctl schedule clear --building 43 --watch

An override stays until its end, or doorctl jobs cancel ID.")]
    Clear(ClearArgs),
    /// Show the week of a door, and what it wants now and next.
    #[command(after_help = "\
Examples:
  doorctl schedule show lobby-east
  doorctl schedule show lobby-east -o json

The exit status is 2 if the door has no week, refuses it, or has not applied it yet.")]
    Show {
        /// Name of the door.
        door: String,
    },
    /// Show which doors have which week.
    #[command(after_help = "\
Examples:
  doorctl schedule list
  doorctl schedule list --building 43 -o json

Warns of weeks whose last date, such as a holiday, is less than 60 days ahead.")]
    List {
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Let doors want something else than their week for a time.
    #[command(after_help = "\
Examples:
  doorctl schedule override lobby-east --want released --until 23:00
  doorctl schedule override --floor 3 --want locked --from 'friday 18:00' --until 'monday 06:00'

Stands in place of the week from --from to --until, at the door itself. A lock, a lockdown or mode \
secure still wins. To withdraw it: doorctl jobs cancel ID")]
    Override(OverrideArgs),
    /// Show what doors are going to do by their weeks and timed entries.
    #[command(after_help = "\
Examples:
  doorctl schedule next
  doorctl schedule next --building 43 --within 7d

Names doors whose clock is not set, and those that an operator's command without an end holds: they \
do not follow their week.")]
    Next(NextArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// File of the week.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Release at once if the week has a released window now.
    #[arg(long)]
    pub(crate) now: bool,
    /// Digest that `schedule plan` printed, or at least its first 8 characters.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) plan: Option<String>,
    #[command(flatten)]
    pub(crate) change: ClearArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ClearArgs {
    /// With --watch: time for each door to apply the change; when exceeded, the exit status is 3.
    #[arg(
        long,
        default_value = "30s",
        value_parser = period_or_zero,
        value_name = "DURATION"
    )]
    pub(crate) deadline: Duration,
    #[command(flatten)]
    pub(crate) job: JobArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OverrideArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// What the doors want: locked or released.
    #[arg(long, value_enum, hide_possible_values = true)]
    pub(crate) want: WantName,
    /// Its begin: now, +10m, 22:00, 'tomorrow 06:30', RFC 3339.
    #[arg(
        long,
        default_value = "now",
        value_name = "TIME",
        help_heading = "Schedule"
    )]
    pub(crate) from: String,
    /// Its end, as for --from.
    #[arg(long, value_name = "TIME", help_heading = "Schedule")]
    pub(crate) until: String,
    /// Id of the job and of the entry: a-z, 0-9, hyphens [default: generated].
    #[arg(long, value_name = "ID", help_heading = "Schedule")]
    pub(crate) id: Option<String>,
    /// Follow the job to its end.
    #[arg(long, help_heading = "Schedule")]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// What a door can want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WantName {
    /// Locked.
    Locked,
    /// Released.
    Released,
}

impl From<WantName> for Want {
    fn from(name: WantName) -> Self {
        match name {
            WantName::Locked => Self::Locked,
            WantName::Released => Self::Released,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct NextArgs {
    /// How far to look ahead.
    #[arg(long, default_value = "24h", value_parser = period, value_name = "DURATION")]
    pub(crate) within: Duration,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

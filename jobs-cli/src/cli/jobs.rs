//! `doorctl jobs ...`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::confirm::ConfirmArgs;
use super::doors::EndArgs;
use super::target::TargetArgs;
use super::twin::{desired_assignment, tag_assignment, tag_key};
use super::{period, period_or_zero};

/// Plan, create and track jobs on many doors, now or at a set time.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Show what a job would do at each door, without creating it.
    #[command(after_help = "\
Examples:
  doorctl jobs plan lock --floor 3 --at 22:00 --for 10m
  doorctl jobs plan unlock --building 43 -o json

Lists each door that matches now: its state, what the job would do to it, and which other jobs \
call it in the same period. The plan has a digest: `doorctl jobs apply --plan DIGEST` with the \
same arguments creates the job if the matching doors are still the same.")]
    Plan {
        /// Job to plan.
        #[command(subcommand)]
        work: WorkCommand,
    },
    /// Create a job as planned, if the matching doors are still the same.
    #[command(after_help = "\
Examples:
  doorctl jobs apply --plan 5d0f1b3c9a47 lock --floor 3 --at 22:00 --for 10m --watch
  doorctl jobs apply --plan 5d0f1b3c9a47 lock --floor 3 --at 22:00 --for 10m --yes

If a door joined or left since the plan, or the arguments describe another job, no job is \
created, the difference is printed, and the exit status is 4. The doors are selected again when \
the job starts.")]
    Apply {
        /// Digest that `jobs plan` printed, or at least its first 8 characters.
        #[arg(long, value_name = "DIGEST")]
        plan: String,
        /// Job that was planned.
        #[command(subcommand)]
        work: WorkCommand,
    },
    #[command(flatten)]
    Work(WorkCommand),
    /// List jobs, the newest first.
    List {
        /// Only jobs with this status.
        #[arg(
            long,
            value_name = "STATUS",
            value_parser = ["queued", "scheduled", "running", "completed", "failed", "cancelled"]
        )]
        status: Option<String>,
    },
    /// Show one job and the outcome of each door.
    Show {
        /// Id of the job.
        job: String,
    },
    /// Follow a job to its end, with the outcome of each door.
    #[command(after_help = "\
Without JOB: the job that runs or starts next, else the newest.")]
    Watch {
        /// Id of the job.
        job: Option<String>,
        /// Count doors as secured even if no sensor can prove it.
        #[arg(long)]
        accept_unproven: bool,
    },
    /// Wait until every door of a job reached the requested state, also doors that answered 202.
    Wait {
        /// Id of the job.
        job: String,
        /// How long to wait.
        #[arg(long, default_value = "10m", value_parser = period, value_name = "DURATION")]
        deadline: Duration,
        /// Count doors as secured even if no sensor can prove it.
        #[arg(long)]
        accept_unproven: bool,
    },
    /// Cancel a job that waits for its start or runs: no more doors are called.
    #[command(
        alias = "stop",
        after_help = "\
Examples:
  doorctl jobs cancel lock-20261123-220000-x7k2
  doorctl jobs watch lock-20261123-220000-x7k2

Doors that were already called keep their new state, and their answers are still recorded; the \
others are not called. Staged doors lose the entry, even while it holds; those that are offline \
are named, with exit status 2: they still act at the start. Azure IoT Hub cancels a call only \
before its start: there, the exit status for a running job is 4."
    )]
    Cancel {
        /// Id of the job.
        job: String,
    },
    /// Repeat a job at the doors that did not reach the requested state.
    #[command(after_help = "\
Examples:
  doorctl jobs retry lock-20261123-220000-x7k2 --watch
  doorctl jobs retry lock-20261123-220000-x7k2 --at +5m --id second-try

It repeats the same command, so a door that already executed it does not act again. A lock with a \
named end keeps that end; a lock with a duration counts from when the door acts. Doors that \
reached the state after accepting are left out. If every door reached it, no job is created and \
the exit status is 0. It is 4 for a job that called no door, which a retry cannot fix, and 2 if \
all its doors have been removed. A job that was cancelled before its start is not retried before \
that time: the exit status is 4. Staged doors are called with the same id and end.")]
    Retry(RetryArgs),
    /// Export the outcome of a job at each door, as CSV or JSON.
    #[command(after_help = "\
Examples:
  doorctl jobs export lock-20261123-220000-x7k2 > lock.csv
  doorctl jobs export lock-20261123-220000-x7k2 --out lock.json
  doorctl jobs export lock-20261123-220000-x7k2 -o jsonl

Writes CSV, unless -o or the file name selects another format. An existing file is not \
overwritten.")]
    Export {
        /// Id of the job.
        job: String,
        /// File to create [default: standard output].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Count doors as secured even if no sensor can prove it.
        #[arg(long)]
        accept_unproven: bool,
    },
}

/// Verbs that create a job.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkCommand {
    /// Lock doors by a job.
    #[command(after_help = "\
Examples:
  doorctl jobs lock --floor 3 --at 22:00 --for 10m
  doorctl jobs lock --building 43 --at 'tomorrow 06:30 Europe/Berlin'
  doorctl jobs lock lobby-east lobby-west --at +10s --for 10m --watch
  doorctl jobs lock --floor 3 --at 22:00 --for 10m --no-stage
  doorctl jobs lock --where \"properties.reported.floor.value = 3 AND tags.wing = 'east'\"

A lock that starts a minute or more ahead is staged: doors that can get it now, as their desired \
property timed.<id>, by the job <id>-stage, and carry it out by their own clock, also with hub and \
network away. The command waits up to 30 s until they are armed. The hub calls the other doors at \
the start, by the job <id>, and those that refused. All verbs take <id> for both. A door that is \
offline when the job is cancelled still acts. With --no-stage the hub selects and calls all doors \
at the start.

After --for, doors return to what else is set for them; without an end they stay locked until \
relinquished. A list of names that is too long for one job becomes several jobs, <id>-1 and on \
(door-hub only; on Azure IoT Hub, tag the doors first).")]
    Lock(LockArgs),
    /// Unlock doors by a job.
    #[command(after_help = "\
Examples:
  doorctl jobs unlock --floor 3 --at 07:00 --for 11h
  doorctl jobs unlock --floor 3 --at 07:00 --until 18:00
  doorctl jobs unlock lobby-east --for 5m

--until is the first such time after the start; +8h counts from the start. Doors are staged as for \
`jobs lock`. Without an end, doorctl prints a warning, stages no door, and the doors stay unlocked \
until relinquished.")]
    Unlock(LockArgs),
    /// Call a direct method of doors.
    #[command(after_help = "\
Examples:
  doorctl jobs method relinquish --floor 3
  doorctl jobs method lockDoor --all --payload '{\"lockTime\":\"10m\"}' --at +1h

The payload is sent unchanged: --reason goes to the hub's audit log only. To record it in the \
events of the doors, add a member \"reason\" to the payload.")]
    Method(MethodArgs),
    /// Set desired properties and tags of doors.
    #[command(after_help = "\
Examples:
  doorctl jobs twin --set building=43 --set floor=3 --where \"tags.wing = 'east'\"
  doorctl jobs twin --set floor=4 lobby-east --at 'tomorrow 06:30'")]
    Twin(TwinArgs),
    /// Set and remove tags of doors: tags are for selecting doors, doors never see them.
    #[command(after_help = "\
Examples:
  doorctl jobs tags --set wing=east --building 43 --floor 3
  doorctl jobs tags --set access.group=staff --remove old lobby-east lobby-west
  doorctl jobs tags --set shift=night --tag wing=east --at 22:00

Then select by tag: doorctl jobs lock --tag wing=east")]
    Tags(TagsArgs),
}

/// Doors and start of a job.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// `jobs lock`, `jobs unlock`
#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) end: EndArgs,
    #[command(flatten)]
    pub(crate) stage: StageArgs,
    #[command(flatten)]
    pub(crate) calls: CallArgs,
}

/// Whether doors are notified ahead.
#[derive(Debug, Args)]
#[command(next_help_heading = "Schedule")]
pub(crate) struct StageArgs {
    /// Call all doors at the start; do not notify those now that can act by their own clock.
    #[arg(long)]
    pub(crate) no_stage: bool,
    /// Do not wait until the staged doors have confirmed it.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MethodArgs {
    /// Method: lockDoor, unlockDoor, relinquish, setMode, lockdown, allClear, getState,
    /// selfTest, identify, reboot.
    pub(crate) method: String,
    /// Payload of the call: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) payload: Option<String>,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) calls: CallArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TwinArgs {
    /// Desired property to set (repeatable).
    #[arg(
        long = "set",
        value_name = "KEY=VALUE",
        value_parser = desired_assignment,
        required_unless_present = "set_tags"
    )]
    pub(crate) desired: Vec<(String, Value)>,
    /// Tag to set (repeatable).
    #[arg(
        id = "set_tags",
        long = "set-tag",
        value_name = "KEY=VALUE",
        value_parser = tag_assignment
    )]
    pub(crate) tags: Vec<(String, Value)>,
    /// With --watch: time for each door to apply the change; when exceeded, the exit status is 3.
    #[arg(
        long,
        default_value = "30s",
        value_parser = period_or_zero,
        value_name = "DURATION"
    )]
    pub(crate) deadline: Duration,
    /// What the change is for, also the first word of the job's id.
    #[arg(skip = "twin")]
    pub(crate) what: &'static str,
    #[command(flatten)]
    pub(crate) job: JobArgs,
}

/// [`TwinArgs::what`] of `schedule set`.
pub(crate) const WEEK: &str = "week";
/// [`TwinArgs::what`] of `schedule clear`.
pub(crate) const NO_WEEK: &str = "noweek";
/// [`TwinArgs::what`] of `schedule override`.
pub(crate) const OVERRIDE: &str = "override";

#[derive(Debug, Args)]
pub(crate) struct TagsArgs {
    /// Tag to set; dots separate nested keys (repeatable).
    #[arg(
        long = "set",
        value_name = "KEY=VALUE",
        value_parser = tag_assignment,
        required_unless_present = "remove"
    )]
    pub(crate) set: Vec<(String, Value)>,
    /// Tag to remove, with all nested keys (repeatable).
    #[arg(long, value_name = "KEY", value_parser = tag_key)]
    pub(crate) remove: Vec<String>,
    #[command(flatten)]
    pub(crate) job: JobArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// Id of the finished job.
    pub(crate) job: String,
    /// Leave out locked doors even if no sensor can prove that they are secured.
    #[arg(long)]
    pub(crate) accept_unproven: bool,
    /// Skip the confirmation of --at when this machine's clock is wrong.
    #[arg(long, help_heading = "Confirmation")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    /// Time to come online: 0 to 5 min [default: that of the first job].
    #[arg(
        long,
        value_parser = period_or_zero,
        value_name = "DURATION",
        help_heading = "Timeouts per door"
    )]
    pub(crate) connect_timeout: Option<Duration>,
    /// Time to answer: 5 s to 5 min, at least --connect-timeout [default: that of the first job].
    #[arg(
        long,
        value_parser = period,
        value_name = "DURATION",
        help_heading = "Timeouts per door"
    )]
    pub(crate) response_timeout: Option<Duration>,
}

/// When a job runs, and its id.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Schedule")]
pub(crate) struct ScheduleArgs {
    /// Start time: now, +10s, 22:00, 'tomorrow 06:30', '2026-11-23 22:00 Europe/Berlin', RFC 3339.
    #[arg(
        long,
        default_value = "now",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    pub(crate) at: String,
    /// Longest run of the job [default: 5m; of a retry: that of the first job].
    #[arg(long, value_parser = period, value_name = "DURATION")]
    pub(crate) max_execution: Option<Duration>,
    /// Id of the job [default: generated from verb and time].
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Follow the job to its end.
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Timeouts of each call.
#[derive(Debug, Args)]
#[command(next_help_heading = "Timeouts per door")]
pub(crate) struct CallArgs {
    /// Time to come online: 0 to 5 min.
    #[arg(
        long,
        default_value = "2m",
        value_parser = period_or_zero,
        value_name = "DURATION"
    )]
    pub(crate) connect_timeout: Duration,
    /// Time to answer: 5 s to 5 min, at least --connect-timeout [default: 30s, or --connect-timeout
    /// if greater].
    #[arg(long, value_parser = period, value_name = "DURATION")]
    pub(crate) response_timeout: Option<Duration>,
}

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

/// Work over many doors, now or at a set time.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Say what a job would do at each door, and make nothing.
    #[command(after_help = "\
Examples:
  doorctl jobs plan lock --floor 3 --at 22:00 --for 10m
  doorctl jobs plan unlock --building 43 -o json

Names every door that is meant now: how it is, what the job would do to it, and which other jobs are
to call it in the same time. The plan has a digest: `doorctl jobs apply --plan DIGEST` with the same
arguments makes the job if the doors are still the same.")]
    Plan {
        /// What is planned.
        #[command(subcommand)]
        work: WorkCommand,
    },
    /// Make a job as it was planned, if the doors that are meant are still the same.
    #[command(after_help = "\
Examples:
  doorctl jobs apply --plan 5d0f1b3c9a47 lock --floor 3 --at 22:00 --for 10m --watch
  doorctl jobs apply --plan 5d0f1b3c9a47 lock --floor 3 --at 22:00 --for 10m --yes

Ends with status 4, and makes nothing, when a door joined or left since the plan, or when it is not
the same job: what changed is said. Which doors are called is decided once more when the job starts.")]
    Apply {
        /// The digest that `jobs plan` gave, or its first 8 characters or more.
        #[arg(long, value_name = "DIGEST")]
        plan: String,
        /// What was planned.
        #[command(subcommand)]
        work: WorkCommand,
    },
    #[command(flatten)]
    Work(WorkCommand),
    /// List jobs, the latest first.
    List {
        /// Only jobs in this state.
        #[arg(long, value_name = "STATUS", value_parser = ["queued", "scheduled", "running", "completed", "failed", "cancelled"])]
        status: Option<String>,
    },
    /// Show one job, door by door.
    Show {
        /// The job.
        job: String,
    },
    /// Follow a job to its end, door by door.
    #[command(after_help = "\
Without a job: the one that runs or starts next, else the latest.")]
    Watch {
        /// The job.
        job: Option<String>,
        /// Count doors as secured whose state nothing can prove.
        #[arg(long)]
        accept_unproven: bool,
    },
    /// Wait until every door of a job reached the wanted state, doors that answered 202 included.
    Wait {
        /// The job.
        job: String,
        /// Give up after this long.
        #[arg(long, default_value = "10m", value_parser = period, value_name = "DURATION")]
        deadline: Duration,
        /// Count doors as secured whose state nothing can prove.
        #[arg(long)]
        accept_unproven: bool,
    },
    /// Cancel a job that has not started.
    Cancel {
        /// The job.
        job: String,
    },
    /// Stop a job that runs: nothing more is sent, and what was sent is heard (door-hub only).
    #[command(after_help = "\
Examples:
  doorctl jobs stop lock-20261123-220000-x7k2
  doorctl jobs watch lock-20261123-220000-x7k2

Doors that were called already keep what they were told; the others hear nothing of the job. Azure
IoT Hub cannot stop a job that runs: there, only `doorctl jobs cancel` before its start.")]
    Stop {
        /// The job.
        job: String,
    },
    /// Do a job again at the doors that did not reach the wanted state.
    #[command(after_help = "\
Examples:
  doorctl jobs retry lock-20261123-220000-x7k2 --watch
  doorctl jobs retry lock-20261123-220000-x7k2 --at +5m --id second-try

It is the same command, so a door that had carried it out does not act again. A lock that had a named
end still ends then; one for a length of time lasts from when the door acts. Doors that came there
after they had accepted are left out. When every door is there nothing is made, and the exit status
is 0. It is 4 for a job that called no door, which a retry cannot mend, and 2 when all are removed.")]
    Retry(RetryArgs),
    /// Write what a job did at each door, as CSV or JSON: for a record, or a spreadsheet.
    #[command(after_help = "\
Examples:
  doorctl jobs export lock-20261123-220000-x7k2 > lock.csv
  doorctl jobs export lock-20261123-220000-x7k2 --out lock.json
  doorctl jobs export lock-20261123-220000-x7k2 -o jsonl

CSV, unless -o or the name of the file says otherwise. A file that exists is not overwritten.")]
    Export {
        /// The job.
        job: String,
        /// The file to make [default: standard output].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Count doors as secured whose state nothing can prove.
        #[arg(long)]
        accept_unproven: bool,
    },
}

/// What a job does.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkCommand {
    /// Lock doors.
    #[command(after_help = "\
Examples:
  doorctl jobs lock --floor 3 --at 22:00 --for 10m
  doorctl jobs lock --building 43 --at 'tomorrow 06:30 Europe/Berlin'
  doorctl jobs lock lobby-east lobby-west --at +10s --for 10m --watch
  doorctl jobs lock --where \"properties.reported.floor.value = 3 AND tags.wing = 'east'\"

The hub evaluates which doors are meant when the job starts. After --for the doors go back to what
else is set for them; without it they stay locked until relinquished. A list of names that is too long
for one job becomes several, <id>-1 and on (door-hub only; elsewhere tag the doors first).")]
    Lock(LockArgs),
    /// Unlock doors.
    #[command(after_help = "\
Examples:
  doorctl jobs unlock --floor 3 --at 07:00 --for 11h
  doorctl jobs unlock --floor 3 --at 07:00 --until 18:00
  doorctl jobs unlock lobby-east --for 5m

--until is the first such time after the start; +8h counts from the start. Without an end, which is
warned of, the doors stay unlocked until relinquished.")]
    Unlock(LockArgs),
    /// Call a method of doors.
    #[command(after_help = "\
Examples:
  doorctl jobs method relinquish --floor 3
  doorctl jobs method lockDoor --all --payload '{\"lockTime\":\"10m\"}' --at +1h

The payload is sent as it is: --reason goes to the hub's audit record alone. For the events of the
doors, put a member \"reason\" into the payload.")]
    Method(MethodArgs),
    /// Set desired properties and tags of doors.
    #[command(after_help = "\
Examples:
  doorctl jobs twin --set building=43 --set floor=3 --where \"tags.wing = 'east'\"
  doorctl jobs twin --set floor=4 lobby-east --at 'tomorrow 06:30'")]
    Twin(TwinArgs),
    /// Set tags of doors: what they are looked up by, which doors never see.
    #[command(after_help = "\
Examples:
  doorctl jobs tags --set wing=east --building 43 --floor 3
  doorctl jobs tags --set access.group=staff --remove old lobby-east lobby-west
  doorctl jobs tags --set shift=night --where \"tags.wing = 'east'\" --at 22:00

Afterwards: doorctl jobs lock --where \"tags.wing = 'east'\"")]
    Tags(TagsArgs),
}

/// `jobs lock`, `jobs unlock`.
#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) end: EndArgs,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    #[command(flatten)]
    pub(crate) calls: CallArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// `jobs method`.
#[derive(Debug, Args)]
pub(crate) struct MethodArgs {
    /// The method: lockDoor, unlockDoor, relinquish, setMode, getState, selfTest, identify,
    /// reboot.
    pub(crate) method: String,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// What to hand to it: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) payload: Option<String>,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    #[command(flatten)]
    pub(crate) calls: CallArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// `jobs twin`.
#[derive(Debug, Args)]
pub(crate) struct TwinArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// A desired property; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = desired_assignment, required_unless_present = "tags")]
    pub(crate) desired: Vec<(String, Value)>,
    /// A tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag_assignment)]
    pub(crate) tags: Vec<(String, Value)>,
    /// With --watch: how long doors may take to apply it; past it the exit status is 3.
    #[arg(long, default_value = "30s", value_parser = period_or_zero, value_name = "DURATION")]
    pub(crate) deadline: Duration,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// `jobs tags`.
#[derive(Debug, Args)]
pub(crate) struct TagsArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// A tag; dots nest; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = tag_assignment, required_unless_present = "remove")]
    pub(crate) set: Vec<(String, Value)>,
    /// A tag to remove, with all below it; may be repeated.
    #[arg(long, value_name = "KEY", value_parser = tag_key)]
    pub(crate) remove: Vec<String>,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// `jobs retry`.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The job that is over.
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    /// Leave out doors that are locked and whose state nothing can prove.
    #[arg(long)]
    pub(crate) accept_unproven: bool,
    /// Do not ask whether --at is right when this machine's clock is not.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// When a job runs, and under which name.
#[derive(Debug, Args)]
#[command(next_help_heading = "When")]
pub(crate) struct ScheduleArgs {
    /// When to start: now, +10s, 22:00, 'tomorrow 06:30', '2026-11-23 22:00 Europe/Berlin', RFC
    /// 3339.
    #[arg(
        long,
        default_value = "now",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    pub(crate) at: String,
    /// How long the job may run.
    #[arg(long, default_value = "5m", value_parser = period, value_name = "DURATION")]
    pub(crate) max_execution: Duration,
    /// The job's id [default: made from what it does and when].
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Follow the job to its end.
    #[arg(long)]
    pub(crate) watch: bool,
}

/// How long each door has.
#[derive(Debug, Args)]
#[command(next_help_heading = "How long each door has")]
pub(crate) struct CallArgs {
    /// To come online: 0 to 5 min.
    #[arg(long, default_value = "2m", value_parser = period_or_zero, value_name = "DURATION")]
    pub(crate) connect_timeout: Duration,
    /// To answer: 5 s to 5 min, at least --connect-timeout [default: the greater of that and 30s].
    #[arg(long, value_parser = period, value_name = "DURATION")]
    pub(crate) response_timeout: Option<Duration>,
}

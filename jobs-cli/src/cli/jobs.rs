//! `doorctl jobs ...`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::target::TargetArgs;
use super::twin::assignment;
use super::{period, period_or_zero};

/// Work over many doors, now or at a set time.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Lock doors.
    #[command(after_help = "\
Examples:
  doorctl jobs lock --floor 3 --at 22:00 --for 10m
  doorctl jobs lock --building 43 --at 'tomorrow 06:30 Europe/Berlin'
  doorctl jobs lock lobby-east lobby-west --at +10s --for 10m --watch
  doorctl jobs lock --where \"properties.reported.floor.value = 3 AND tags.wing = 'east'\"

The hub evaluates which doors are meant when the job starts. After --for the doors go back to what
else is set for them; without it they stay locked until relinquished.")]
    Lock(LockArgs),
    /// Unlock doors.
    #[command(after_help = "\
Examples:
  doorctl jobs unlock --floor 3 --at 07:00 --for 11h
  doorctl jobs unlock lobby-east --for 5m")]
    Unlock(LockArgs),
    /// Call a method of doors.
    #[command(after_help = "\
Examples:
  doorctl jobs method relinquish --floor 3
  doorctl jobs method lockDoor --all --payload '{\"lockTime\":\"10m\"}' --at +1h")]
    Method(MethodArgs),
    /// Set desired properties and tags of doors.
    #[command(after_help = "\
Examples:
  doorctl jobs twin --set building=43 --set floor=3 --where \"tags.wing = 'east'\"
  doorctl jobs twin --set floor=4 lobby-east --at 'tomorrow 06:30'")]
    Twin(TwinArgs),
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

It is the same command, so a door that had carried it out does not act again; a lock still ends when
the first one was to end. Doors that came there after they had accepted are left out.")]
    Retry(RetryArgs),
}

/// `jobs lock`, `jobs unlock`.
#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// For how long; without it until relinquished.
    #[arg(long = "for", value_parser = period, value_name = "DURATION", allow_hyphen_values = true, help_heading = "When")]
    pub(crate) length: Option<Duration>,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    #[command(flatten)]
    pub(crate) calls: CallArgs,
}

/// `jobs method`.
#[derive(Debug, Args)]
pub(crate) struct MethodArgs {
    /// The method: lockDoor, unlockDoor, relinquish, setMode, getState, selfTest, identify, reboot.
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
}

/// `jobs twin`.
#[derive(Debug, Args)]
pub(crate) struct TwinArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// A desired property; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment, required_unless_present = "tags")]
    pub(crate) desired: Vec<(String, Value)>,
    /// A tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = assignment)]
    pub(crate) tags: Vec<(String, Value)>,
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
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
}

/// When a job runs, and under which name.
#[derive(Debug, Args)]
#[command(next_help_heading = "When")]
pub(crate) struct ScheduleArgs {
    /// When to start: now, +10s, 22:00, 'tomorrow 06:30', '2026-11-23 22:00 Europe/Berlin', RFC 3339.
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
    /// To answer: 5 s to 5 min.
    #[arg(long, default_value = "30s", value_parser = period, value_name = "DURATION")]
    pub(crate) response_timeout: Duration,
}

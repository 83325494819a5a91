//! `doorctl events`, `doorctl audit`: what happened, and who did it.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::period;

/// Events that are shown when nothing is said, and not followed.
pub(crate) const DEFAULT_EVENT_LIMIT: usize = 100;

/// Events that can be asked for at once.
pub(crate) const MAX_EVENT_LIMIT: usize = 100_000;

/// Rows of the record of calls that are shown when nothing is said.
const DEFAULT_AUDIT_LIMIT: u32 = 100;

/// `events`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl events                                            the newest 100 of the last 24 hours
  doorctl events -f                                         as they happen
  doorctl events -f --alarms --building 43
  doorctl events --since 7d --door lobby-east --event forcedOpen,heldOpen -o csv > lobby-east.csv
  doorctl events -f -o jsonl | jq .body

With --exec, for each event in turn, its JSON document on the command's standard input:
  doorctl events -f --alarms --exec 'curl -fsS --json @- https://alerts.example.com/doors'
  doorctl events -f --event forcedOpen --exec 'mail -s \"$DOORCTL_EVENT_DOOR\" guard@example.com'

The command runs in the system's shell with DOORCTL_EVENT_ID, _KIND, _DOOR, _JOB, _EVENT, _ALARM and
_TIME in its environment; quote them. What it prints goes to stderr. One runs at a time; one that
fails or takes too long is warned of, and the next goes on. When 64 wait, reading waits too: the hub
keeps the events.

An event that a door sent twice (it was not sure) is shown once. Ctrl-C ends it with status 130 and
says how to go on without a gap. Only door-hub has this: of Azure IoT Hub, read the Event Hub.")]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on, until Ctrl-C; comes back by itself when the hub was
    /// away.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only events of this door; may be repeated.
    #[arg(long = "door", value_name = "DOOR", help_heading = "Which events")]
    pub(crate) doors: Vec<String>,
    /// Only of doors that are assigned to this building when it begins; may be repeated.
    #[arg(long, value_name = "BUILDING", help_heading = "Which events")]
    pub(crate) building: Vec<String>,
    /// Only of doors that are assigned to this floor when it begins; may be repeated.
    #[arg(long, value_name = "FLOOR", help_heading = "Which events")]
    pub(crate) floor: Vec<String>,
    /// Only of these kinds: telemetry, connection, twin, device, job.
    #[arg(
        long = "kind",
        value_name = "KIND,..",
        value_delimiter = ',',
        value_parser = ["telemetry", "connection", "twin", "device", "job"],
        hide_possible_values = true,
        help_heading = "Which events"
    )]
    pub(crate) kinds: Vec<String>,
    /// Only these events, by what a door calls them or their alarm: forcedOpen, heldOpen,
    /// doorState ...
    #[arg(
        long = "event",
        value_name = "EVENT,..",
        value_delimiter = ',',
        help_heading = "Which events"
    )]
    pub(crate) events: Vec<String>,
    /// Only alarms that are raised or cleared.
    #[arg(long, conflicts_with = "kinds", help_heading = "Which events")]
    pub(crate) alarms: bool,
    /// From then on: how long ago (90m, 7d), 22:00, 'yesterday 06:30', RFC 3339 [default: 24h;
    /// with --follow now].
    #[arg(long, value_name = "TIME", help_heading = "Which events")]
    pub(crate) since: Option<String>,
    /// Only what comes behind the event of this id.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with = "since",
        value_parser = clap::value_parser!(i64).range(0..),
        help_heading = "Which events"
    )]
    pub(crate) after: Option<i64>,
    /// So many at most: the newest [default: 100]; with --follow, end after so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_EVENT_LIMIT as i64), help_heading = "Which events")]
    pub(crate) limit: Option<u32>,
    /// Show also what a door has sent before, marked as such.
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Which events")]
    pub(crate) repeated: bool,
    /// Run this command for each event that is shown.
    #[arg(long, value_name = "COMMAND", help_heading = "For each event")]
    pub(crate) exec: Option<String>,
    /// How long one run of the command may take.
    #[arg(long, default_value = "30s", value_parser = period, value_name = "DURATION", requires = "exec", help_heading = "For each event")]
    pub(crate) exec_timeout: Duration,
}

/// `audit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl audit --since 24h
  doorctl audit --operation method.invoke --target lobby-east
  doorctl audit --policy alice --since 'yesterday 18:00' -o csv > alice.csv

Who changed or commanded what, the newest last: identities, twins, methods, jobs; never payloads or
keys. Calls that were refused are recorded too. A result \"unknown\" means that the call was attempted
and may have been done. It takes a policy with RegistryRead and ServiceConnect: the owner's, or an
auditor's, made on the server by: door-hub policy add auditor --rights RegistryRead,ServiceConnect

Operations: device.create, device.update, device.delete, device.bulk, twin.update, twin.replace,
method.invoke, job.create, job.cancel, job.stop, message.purge. Only door-hub has this: of Azure IoT
Hub the portal shows the activity log.")]
pub(crate) struct AuditArgs {
    /// From then on: how long ago (90m, 7d), 22:00, 'yesterday 06:30', RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only what this policy did.
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
    /// Only this operation, such as method.invoke or job.create.
    #[arg(long, value_name = "NAME")]
    pub(crate) operation: Option<String>,
    /// Only what was done to this door or job.
    #[arg(long, value_name = "ID")]
    pub(crate) target: Option<String>,
    /// So many rows at most: the newest.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_AUDIT_LIMIT, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,
}

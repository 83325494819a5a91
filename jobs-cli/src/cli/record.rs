//! `doorctl events`, `doorctl audit`: what happened, and who did it.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{ArgAction, Args};
use iothub_protocol::event::EventKind;

use super::period;
use super::target::tag_filter;

/// Default `--limit` of events, unless they are followed.
pub(crate) const DEFAULT_EVENT_LIMIT: usize = 100;

/// Largest `--limit` of events.
pub(crate) const MAX_EVENT_LIMIT: usize = 100_000;

/// Default `--limit` of audit rows.
const DEFAULT_AUDIT_LIMIT: u32 = 100;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl events                                            the newest 100 of the last 24 hours
  doorctl events -f                                         follow new events
  doorctl events -f --alarms --building 43
  doorctl events --since 2026-11-28 --until 2026-11-29      both days
  doorctl events --since 7d --door lobby-east --event forcedOpen,heldOpen -o csv > lobby-east.csv
  doorctl events -f -o jsonl | jq .body

--exec runs a command for each event in turn, with the event as JSON on its standard input:
  doorctl events -f --alarms --exec 'curl -fsS --json @- https://alerts.example.com/doors'
  doorctl events -f --event forcedOpen --exec 'mail -s \"$DOORCTL_EVENT_DOOR\" guard@example.com'

The command runs in the system's shell with DOORCTL_EVENT_ID, _KIND, _DOOR, _JOB, _EVENT, _ALARM \
and _TIME in its environment; quote them. Its output goes to stderr. One command runs at a time; \
if it fails or times out, doorctl prints a warning and goes on with the next event. At most 64 \
events wait for the command; until it catches up, doorctl reads no more, and the hub keeps the \
events.

Duplicates, which doors send when in doubt, are shown once. Ctrl-C exits with status 130 and \
prints how to continue without a gap. Azure IoT Hub has no such events: there, read the Event \
Hub.")]
pub(crate) struct EventsArgs {
    /// Follow new events until Ctrl-C; reconnects after an interruption.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only events of this door (repeatable).
    #[arg(long = "door", value_name = "DOOR", help_heading = "Event filters")]
    pub(crate) doors: Vec<String>,
    /// Only doors assigned to this building at the start (repeatable).
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "BUILDING",
        help_heading = "Event filters"
    )]
    pub(crate) building: Vec<String>,
    /// Only doors assigned to this floor at the start (repeatable).
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "FLOOR",
        help_heading = "Event filters"
    )]
    pub(crate) floor: Vec<String>,
    /// Only doors with this tag at the start (repeatable).
    #[arg(
        long = "tag",
        value_name = "NAME=VALUE",
        value_parser = tag_filter,
        help_heading = "Event filters"
    )]
    pub(crate) tags: Vec<(String, String)>,
    /// Only these kinds: telemetry, connection, twin, device, job.
    #[arg(
        long = "kind",
        value_name = "KIND,..",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(EventKind::ALL.map(|(_, name)| name))
            .try_map(|name| EventKind::parse(&name).ok_or("not a kind")),
        hide_possible_values = true,
        help_heading = "Event filters"
    )]
    pub(crate) kinds: Vec<EventKind>,
    /// Only events with these names or alarms: forcedOpen, heldOpen, doorState ...
    #[arg(
        long = "event",
        value_name = "EVENT,..",
        value_delimiter = ',',
        help_heading = "Event filters"
    )]
    pub(crate) events: Vec<String>,
    /// Only alarms that are raised or cleared.
    #[arg(long, conflicts_with = "kinds", help_heading = "Event filters")]
    pub(crate) alarms: bool,
    /// Only events since then: an age (90m, 7d), 22:00, 'yesterday 06:30', a day (2026-11-28: from
    /// midnight), RFC 3339 [default: 24h before --until; with --follow, now].
    #[arg(long, value_name = "TIME", help_heading = "Event filters")]
    pub(crate) since: Option<String>,
    /// Only events before then, in the same forms; a day is included [default: now].
    #[arg(
        long,
        value_name = "TIME",
        conflicts_with = "follow",
        help_heading = "Event filters"
    )]
    pub(crate) until: Option<String>,
    /// Only events after the one with this id.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with = "since",
        value_parser = clap::value_parser!(i64).range(0..),
        help_heading = "Event filters"
    )]
    pub(crate) after: Option<i64>,
    /// Show at most this many events, the newest [default: 100]; with --follow, exit after that
    /// many.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=MAX_EVENT_LIMIT as i64),
        help_heading = "Event filters"
    )]
    pub(crate) limit: Option<u32>,
    /// Also show duplicates, marked as such.
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Event filters")]
    pub(crate) repeated: bool,
    /// Command to run for each event shown.
    #[arg(long, value_name = "COMMAND", help_heading = "Command per event")]
    pub(crate) exec: Option<String>,
    /// Timeout of one run of the command.
    #[arg(
        long,
        default_value = "30s",
        value_parser = period,
        value_name = "DURATION",
        requires = "exec",
        help_heading = "Command per event"
    )]
    pub(crate) exec_timeout: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl logs lobby-east
  doorctl logs lobby-east --since 'yesterday 18:00' --limit 20
  doorctl logs lobby-east --since 7d -o csv > lobby-east.csv

Merges the door's events with the calls on it in the audit log, also those of jobs. Without \
RegistryRead the calls are left out, with a warning. To follow new events: doorctl events -f.")]
pub(crate) struct LogsArgs {
    /// Name of the door.
    pub(crate) door: String,
    /// Only since then: an age (90m, 7d), 22:00, 'yesterday 06:30', a day (2026-11-28), RFC 3339.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(crate) since: String,
    /// Show at most this many lines, the newest.
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_AUDIT_LIMIT,
        value_parser = clap::value_parser!(u32).range(1..=MAX_EVENT_LIMIT as i64)
    )]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl audit --since 24h
  doorctl audit --operation method.invoke --target lobby-east
  doorctl audit --policy alice --since 'yesterday 18:00' -o csv > alice.csv

Shows changes and commands, newest last: identities, twins, methods, jobs; never payloads or \
keys. Refused calls are included. Result \"unknown\" means that the call was attempted and may \
have been executed. It needs a policy with RegistryRead and ServiceConnect: the owner's, or an \
auditor's, created on the server: door-hub policy add auditor --rights \
RegistryRead,ServiceConnect

Operations: device.create, device.update, device.delete, device.bulk, device.regenerateKeys, \
twin.update, twin.replace, method.invoke, job.create, job.cancel, job.stop, message.purge, \
policy.create, policy.update, policy.rotate, policy.delete; request.refuse: a read that the bounds \
of a policy do not allow. Azure IoT Hub has no such log: there, see the activity log in the \
portal.")]
pub(crate) struct AuditArgs {
    /// Only rows since then: an age (90m, 7d), 22:00, 'yesterday 06:30', a day (2026-11-28), RFC
    /// 3339.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only calls with this policy.
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
    /// Only this operation, such as method.invoke or job.create.
    #[arg(long, value_name = "NAME")]
    pub(crate) operation: Option<String>,
    /// Only calls on this door or job.
    #[arg(long, value_name = "ID")]
    pub(crate) target: Option<String>,
    /// Show at most this many rows, the newest.
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_AUDIT_LIMIT,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) limit: u32,
}

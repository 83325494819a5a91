//! `doorctl schedule ...`

mod assign;
mod file;
mod holidays;
mod next;
mod preview;
mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;

use door_core::contract::Want;
use door_core::schedule::{AssignedWeek, Calendar, Level, Week, WeekError, zone, zoneinfo};
use iothub_protocol::twin::Twin;
use jiff::Timestamp;

use super::digest::short;
use super::many;
use crate::acknowledgement::{AckState, property_acks};
use crate::cli::doors::EndArgs;
use crate::cli::schedule::ScheduleCommand;
use crate::cli::target::TargetArgs;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Printer, first_names};
use crate::session::Session;
use crate::time::{self, system_zone};

/// Most windows in which a change is looked for.
const MAX_CHANGES: usize = 1_000;

pub(crate) async fn run(
    command: ScheduleCommand,
    printer: &Printer,
    session: impl FnOnce() -> anyhow::Result<Session>,
) -> anyhow::Result<ExitStatus> {
    match command {
        ScheduleCommand::Check { files } => check(&files, printer),
        ScheduleCommand::Preview { file, days } => preview::preview(&file, days, printer),
        ScheduleCommand::Plan(args) => assign::plan(args, &session()?).await,
        ScheduleCommand::Set(args) => assign::set(args, &session()?).await,
        ScheduleCommand::Clear(args) => assign::clear(args, &session()?).await,
        ScheduleCommand::Override(args) => assign::override_week(args, &session()?).await,
        ScheduleCommand::Show { door } => show::show(&door, &session()?).await,
        ScheduleCommand::List { target } => show::list(&target, &session()?).await,
        ScheduleCommand::Next(args) => next::next(&args, &session()?).await,
    }
}

fn check(files: &[PathBuf], printer: &Printer) -> anyhow::Result<ExitStatus> {
    let today = Timestamp::now().to_zoned_datetime(system_zone()).date();
    let row = |path: &PathBuf| {
        let file = file::read(path, today)?;
        file.warn(printer);
        Ok(file::FileRow::of(path, &file))
    };
    let rows: anyhow::Result<Vec<_>> = files.iter().map(row).collect();
    printer.rows(&rows?)?;
    printer.say(format!("rules of time zones: {}", zoneinfo()));
    Ok(ExitStatus::Success)
}

/// The week that is assigned to a door.
struct DoorWeek {
    digest: String,
    /// Why it cannot be read, if it cannot.
    calendar: Result<Calendar, String>,
    state: AckState,
}

impl DoorWeek {
    /// `None` without a week.
    fn of(twin: &Twin) -> Option<Self> {
        let value = twin.properties.desired.values.get("schedule")?;
        let assigned: Result<AssignedWeek, _> = serde_json::from_value(value.clone());
        let calendar = match &assigned {
            Ok(week) => read_calendar(&week.text).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let acks = property_acks(twin, None);
        let ack = acks.into_iter().find(|ack| ack.key == "schedule");
        Some(Self {
            digest: assigned.map_or_else(|_| String::new(), |week| week.digest),
            calendar,
            state: ack.map_or(AckState::Pending, |ack| ack.state),
        })
    }

    fn name(&self) -> &str {
        let calendar = self.calendar.as_ref();
        calendar.map_or("(unreadable)", |calendar| calendar.week().name.as_str())
    }
}

fn read_calendar(text: &str) -> Result<Calendar, WeekError> {
    let week = Week::from_json(text)?;
    let zone = zone(&week.zone)?;
    Ok(Calendar::new(week, zone))
}

/// The end of a lock or unlock that begins at `from`, by default now; with `--until-schedule` the
/// moment at which the weeks of all doors want something else next.
pub(super) async fn end_by_week(
    end: &EndArgs,
    target: &TargetArgs,
    from: Option<Timestamp>,
    session: &Session,
) -> anyhow::Result<EndArgs> {
    if !end.until_schedule {
        return Ok(end.clone());
    }
    let from = match from {
        Some(from) => from,
        None => session.now().await?.timestamp(),
    };
    let failure = |text: String| Failure::new(format!("--until-schedule: {text}"));
    let mut ends: BTreeMap<Timestamp, String> = BTreeMap::new();
    for twin in many::select(target, session).await?.1 {
        let door = twin.device_id.to_string();
        let week = DoorWeek::of(&twin).filter(|week| week.state == AckState::Applied);
        let Some(Ok(calendar)) = week.map(|week| week.calendar) else {
            return Err(
                failure(format!("{door} follows no week that doorctl can read"))
                    .next("name the end: --for DURATION or --until TIME")
                    .into(),
            );
        };
        let Some((at, _)) = next_want(&calendar, from) else {
            return Err(failure(format!("the week of {door} never changes")).into());
        };
        ends.entry(at).or_insert(door);
    }
    let zone = || session.zone.clone();
    let each = ends
        .iter()
        .map(|(at, door)| format!("{door} {}", time::describe(&at.to_zoned_datetime(zone()))));
    let each: Vec<String> = each.collect();
    match ends.keys().next() {
        Some(at) if ends.len() == 1 => Ok(EndArgs {
            until: Some(at.to_string()),
            ..end.clone()
        }),
        _ => Err(failure(format!(
            "the weeks change at different times: {}",
            first_names(&each, 3)
        ))
        .next("lock the doors of each week apart: doorctl schedule list")
        .into()),
    }
}

/// `locked`, `released`, or `default` for what the door does without an order.
fn want_word(want: Option<Want>) -> &'static str {
    want.map_or("default", Want::as_str)
}

/// What a level does, for people.
fn describe(level: &Level) -> String {
    let begins = level.window == level.first_person_in && level.window.is_some();
    match begins {
        true => format!(
            "{}, released once a first person came in",
            want_word(level.want)
        ),
        false => want_word(level.want).to_owned(),
    }
}

/// The next moment at which doors want something else; other changes are of windows alone.
fn next_want(calendar: &Calendar, at: Timestamp) -> Option<(Timestamp, Level)> {
    let before = describe(&calendar.level(at));
    let changes = std::iter::successors(calendar.next_change(at), |(at, _)| {
        calendar.next_change(*at)
    });
    // A week may want the same for ever, in windows of a day each.
    let mut changes = changes.take(MAX_CHANGES);
    changes.find(|(_, level)| describe(level) != before)
}

//! A week as people write it and as a door gets it: one definition for TOML and JSON.

use std::fmt;
use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::calendar::Calendar;
use super::conflict;
use super::days::{Clock, Dates, Days, MonthDay};
use super::zone::zone;
use crate::config::{Actuator, DoorConfig, FailMode, StrikeKind};
use crate::contract::{Want, duration, words};

/// Most bytes of a week as JSON: IoT Hub stores texts of up to 4,096 bytes in a twin.
pub const MAX_BYTES: usize = 4_000;

/// Longest name, in characters.
const MAX_NAME: usize = 64;

/// Longest `first_person_in`.
const MAX_LEAD: Duration = Duration::from_secs(24 * 3600);

/// A week's schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Week {
    /// Its name, for people.
    pub name: String,
    /// IANA name of the zone that all times are in.
    pub zone: String,
    /// What holds outside of every window.
    #[serde(default, skip_serializing_if = "is_locked")]
    pub otherwise: Otherwise,
    /// What holds on days of the week.
    #[serde(default, rename = "window", skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// What holds on dates instead; later ones win.
    #[serde(default, rename = "exception", skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
}

words! {
    /// What a week wants outside of its windows.
    #[derive(Default)]
    pub enum Otherwise {
        /// Locked.
        #[default]
        Locked = "locked",
        /// Nothing: the door's relinquish default holds.
        Default = "default",
    }
}

/// A time of each of its days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days on which it begins; absent in an exception.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Days>,
    /// Its first minute.
    pub from: Clock,
    /// Its end; not after `from`: on the next day.
    pub to: Clock,
    /// What it wants.
    pub want: Want,
    /// Released only from a grant at the reader on, which counts from this long before `from`.
    #[serde(
        default,
        serialize_with = "write_lead",
        deserialize_with = "read_lead",
        skip_serializing_if = "Option::is_none"
    )]
    pub first_person_in: Option<Duration>,
    /// Its start ends what somebody left open.
    #[serde(default, skip_serializing_if = "is_false")]
    pub takes_over: bool,
}

/// Most days of all `dates` together.
const MAX_DAYS: i32 = 2_000;

/// Windows that replace those of its days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Its dates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<Dates>,
    /// Its days of every year.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub yearly: Vec<MonthDay>,
    /// The windows of its days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
}

/// The desired property `schedule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignedWeek {
    /// SHA-256 of the text, in lower-case hexadecimal digits; acknowledged alone.
    pub digest: String,
    /// The week as canonical JSON.
    pub text: String,
    /// A released window that is present releases at once; otherwise the next one is the first.
    #[serde(default, skip_serializing_if = "is_false")]
    pub now: bool,
}

impl AssignedWeek {
    /// The calendar of a week that was checked when it was accepted; the check of its days takes
    /// too long for the door's loop.
    ///
    /// # Errors
    /// If this version cannot read the week, or does not know its zone.
    pub fn calendar(&self) -> Result<Calendar, WeekError> {
        let week = Week::parse(&self.text)?;
        let zone = zone(&week.zone)?;
        Ok(Calendar::new(week, zone))
    }
}

/// Which window of a week it is, from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowId {
    /// The exception that it belongs to.
    pub exception: Option<usize>,
    /// Its place among the windows.
    pub window: usize,
}

/// Why a week is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{problem}{}", .key.as_ref().map_or(String::new(), |key| format!("{key}: ")),
    .other.as_ref().map_or(String::new(), |other| format!(" ({other})")))]
pub struct WeekError {
    /// Path of the key that is wrong, such as `window[0].days`.
    pub key: Option<String>,
    /// The value and what was expected.
    pub problem: String,
    /// Path of the window that contradicts it.
    pub other: Option<String>,
}

impl WeekError {
    pub(super) fn new(key: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self {
            key: Some(key.to_string()),
            problem: problem.into(),
            other: None,
        }
    }
}

impl Week {
    /// Reads a week that a door has to carry out.
    ///
    /// # Errors
    /// The first key that is wrong, or the windows that contradict each other.
    pub fn from_json(text: &str) -> Result<Self, WeekError> {
        refuse_long(text)?;
        let week = Self::parse(text)?;
        week.check()?;
        Ok(week)
    }

    fn parse(text: &str) -> Result<Self, WeekError> {
        Self::read(&mut serde_json::Deserializer::from_str(text))
            .map_err(|error| WeekError::new(error.path(), error.inner().to_string()))
    }

    /// Reads the keys of a week; [`Week::check`] judges how they fit together.
    ///
    /// # Errors
    /// Those of the deserializer, with the path of the key.
    pub fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, serde_path_to_error::Error<D::Error>> {
        serde_path_to_error::deserialize(deserializer)
    }

    /// The week as canonical JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a week has string keys only")
    }

    /// Checks that its keys fit together and that no windows contradict each other.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), WeekError> {
        let length = self.name.chars().count();
        if !(1..=MAX_NAME).contains(&length) || self.name.contains(char::is_control) {
            return Err(WeekError::new(
                "name",
                format!(
                    "{:?} is not a name: expected 1 to {MAX_NAME} printable characters",
                    self.name
                ),
            ));
        }
        for (id, window) in self.all_windows() {
            window.check(id)?;
        }
        let is_empty = |day: &Exception| day.dates.is_empty() && day.yearly.is_empty();
        if let Some(index) = self.exceptions.iter().position(is_empty) {
            return Err(WeekError::new(
                format!("exception[{index}]"),
                "it has no day: expected dates = [\"2026-12-24\"] or yearly = [\"12-24\"]",
            ));
        }
        // Each of these days is compared with all exceptions.
        let dates = self.exceptions.iter().flat_map(|day| &day.dates);
        let days = dates.map(|dates| (dates.last - dates.first).get_days() + 1);
        let days: i32 = days.sum();
        if days > MAX_DAYS {
            return Err(WeekError::new(
                "exception",
                format!("its dates are {days} days: expected at most {MAX_DAYS} in all"),
            ));
        }
        refuse_long(&self.to_json())?;
        conflict::check(self)
    }

    /// Checks that a door with this configuration can carry it out.
    ///
    /// # Errors
    /// The window that it cannot, and the limit.
    pub fn judge(&self, door: &DoorConfig) -> Result<(), WeekError> {
        let windows = || self.all_windows();
        let of_grant = windows().find(|(_, window)| window.first_person_in.is_some());
        if let Some((id, _)) = of_grant.filter(|_| !door.fitted.grant) {
            return Err(WeekError::new(
                format!("{id}.first_person_in"),
                "this door has no reader: expected an input [board.inputs.grant]",
            ));
        }
        let kind = door.strike_kind();
        let released = windows().find(|(_, window)| window.want == Want::Released);
        if let Some((id, window)) = released.filter(|_| kind == StrikeKind::PulseStrike) {
            return Err(WeekError::new(
                id,
                format!(
                    "\"{window}\": expected no released window, as a pulse-strike releases for a \
                     moment only"
                ),
            ));
        }
        let (Actuator::Coil { fail, .. }, Some(duty)) = (door.actuator, door.duty) else {
            return Ok(());
        };
        let energised = match fail {
            FailMode::Safe => Want::Locked,
            FailMode::Secure => Want::Released,
        };
        if energised == Want::Locked && self.otherwise == Otherwise::Locked {
            return Err(WeekError::new(
                "otherwise",
                format!(
                    "\"locked\" energises the coil without end, and [strike] max_on limits it to \
                     {:?}: expected \"default\"",
                    duty.max_on
                ),
            ));
        }
        match conflict::longest(self, energised) {
            Some((length, id, window)) if length > duty.max_on => Err(WeekError::new(
                id,
                format!(
                    "\"{window}\" is part of {} {energised}: expected at most {:?}, [strike] \
                     max_on",
                    duration::to_text(length),
                    duty.max_on
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The windows that begin on a date.
    pub fn windows_on(&self, date: Date) -> impl Iterator<Item = (WindowId, &Window)> {
        let exception = self.exceptions.iter().rposition(|day| day.is_on(date));
        self.windows_of(exception, date)
    }

    /// The exception that a date belongs to.
    #[must_use]
    pub fn exception_on(&self, date: Date) -> Option<&Exception> {
        self.exceptions.iter().rev().find(|day| day.is_on(date))
    }

    /// The windows of an exception, or those of a date without one.
    pub(super) fn windows_of(
        &self,
        exception: Option<usize>,
        date: Date,
    ) -> impl Iterator<Item = (WindowId, &Window)> {
        let windows = exception.map_or(&self.windows, |index| &self.exceptions[index].windows);
        let is_on =
            move |window: &Window| window.days.is_none_or(|days| days.contains(date.weekday()));
        numbered(exception, windows).filter(move |(_, window)| is_on(window))
    }

    /// A window.
    #[must_use]
    pub fn window(&self, id: WindowId) -> Option<&Window> {
        match id.exception {
            None => self.windows.get(id.window),
            Some(index) => self.exceptions.get(index)?.windows.get(id.window),
        }
    }

    fn all_windows(&self) -> impl Iterator<Item = (WindowId, &Window)> {
        let exceptions = self.exceptions.iter().enumerate();
        numbered(None, &self.windows)
            .chain(exceptions.flat_map(|(index, day)| numbered(Some(index), &day.windows)))
    }
}

fn numbered(
    exception: Option<usize>,
    windows: &[Window],
) -> impl Iterator<Item = (WindowId, &Window)> {
    let id = move |window| WindowId { exception, window };
    (windows.iter().enumerate()).map(move |(index, window)| (id(index), window))
}

fn refuse_long(text: &str) -> Result<(), WeekError> {
    match text.len() {
        ..=MAX_BYTES => Ok(()),
        length => Err(WeekError {
            key: None,
            problem: format!(
                "the week has {length} bytes as JSON: expected at most {MAX_BYTES}; write ranges \
                 of dates, or fewer windows and exceptions"
            ),
            other: None,
        }),
    }
}

impl Window {
    fn check(&self, id: WindowId) -> Result<(), WeekError> {
        let expected_days = id.exception.is_none();
        if self.days.is_some() != expected_days {
            return Err(WeekError::new(
                format!("{id}.days"),
                match expected_days {
                    true => "it is missing: expected days such as \"mon-fri\"",
                    false => "it is unknown here: a window of an exception has its days",
                },
            ));
        }
        if self.from == self.to {
            let problem = format!(
                "\"{}\" equals from: expected another time, or from = \"00:00\" and to = \
                 \"24:00\" for a whole day",
                self.to
            );
            return Err(WeekError::new(format!("{id}.to"), problem));
        }
        if self.from == Clock::MIDNIGHT {
            let problem = "\"24:00\" is the end of a day: expected 00:00 to 23:59";
            return Err(WeekError::new(format!("{id}.from"), problem));
        }
        if self.want == Want::Locked && self.first_person_in.is_some() {
            let problem = "a locked window has none: expected want = \"released\"";
            return Err(WeekError::new(format!("{id}.first_person_in"), problem));
        }
        if self.want == Want::Released && self.takes_over {
            let problem = "true is for locked windows: expected want = \"locked\"";
            return Err(WeekError::new(format!("{id}.takes_over"), problem));
        }
        Ok(())
    }
}

/// `mon-fri 06:00-22:00 released`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(days) = self.days {
            write!(f, "{days} ")?;
        }
        write!(f, "{}-{} {}", self.from, self.to, self.want)
    }
}

impl Exception {
    /// Whether a date is one of its days.
    #[must_use]
    pub fn is_on(&self, date: Date) -> bool {
        let in_dates = |dates: &Dates| dates.first <= date && date <= dates.last;
        self.dates.iter().any(in_dates) || self.yearly.iter().any(|day| day.is_on(date))
    }
}

/// Its path: `window[0]`, `exception[1].windows[0]`.
impl fmt::Display for WindowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exception {
            None => write!(f, "window[{}]", self.window),
            Some(exception) => write!(f, "exception[{exception}].windows[{}]", self.window),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes references to skip_serializing_if"
)]
fn is_locked(otherwise: &Otherwise) -> bool {
    *otherwise == Otherwise::Locked
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes references to skip_serializing_if"
)]
fn is_false(value: &bool) -> bool {
    !value
}

fn write_lead<S: Serializer>(lead: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    lead.map(duration::to_text).serialize(serializer)
}

fn read_lead<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let lead = duration::with_unit(&text).and_then(duration::parse).ok();
    match lead.filter(|lead| *lead <= MAX_LEAD) {
        Some(lead) => Ok(Some(lead)),
        None => Err(de::Error::custom(format!(
            "{text:?} is not a duration here: expected one such as 30m, at most 24h"
        ))),
    }
}

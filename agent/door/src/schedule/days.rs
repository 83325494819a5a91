//! Days and times of day as people write them.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};

/// Text in TOML and JSON, refused with the text and what was expected.
macro_rules! as_text {
    ($type:ty, $what:literal, $expected:literal) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
                    .map_err(|()| format!("{text:?} is not {}: expected {}", $what, $expected))
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

/// Days of the week; bit 0 is Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Days(u8);

as_text!(
    Days,
    "a set of days",
    "mon, tue, wed, thu, fri, sat, sun, ranges such as mon-fri, and commas between them"
);

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Days {
    /// Whether the day is one of them.
    #[must_use]
    pub fn contains(self, day: Weekday) -> bool {
        self.has(usize::from(day.to_monday_zero_offset().unsigned_abs()))
    }

    fn has(self, day: usize) -> bool {
        self.0 & (1 << day) != 0
    }
}

impl FromStr for Days {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let index = |name: &str| NAMES.iter().position(|day| *day == name.trim()).ok_or(());
        let mut days = 0;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (mut day, last) = (index(first)?, index(last)?);
            days |= 1 << day;
            // `fri-mon` goes over the end of the week.
            while day != last {
                day = (day + 1) % 7;
                days |= 1 << day;
            }
        }
        Ok(Self(days))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut day = 0;
        while day < 7 {
            let length = (day..7).take_while(|day| self.has(*day)).count();
            let last = (day + length).saturating_sub(1);
            match length {
                0 => {}
                1 => write!(f, "{separator}{}", NAMES[day])?,
                _ => write!(f, "{separator}{}-{}", NAMES[day], NAMES[last])?,
            }
            if length > 0 {
                separator = ",";
            }
            day += length.max(1);
        }
        Ok(())
    }
}

/// A time of day in whole minutes, `00:00` to `24:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Clock(u16);

as_text!(Clock, "a time of day", "HH:MM from 00:00 to 24:00");

impl Clock {
    /// The end of the day.
    pub const MIDNIGHT: Self = Self(24 * 60);

    pub(super) fn minutes(self) -> i64 {
        self.0.into()
    }
}

impl FromStr for Clock {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| match text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())
        {
            true => text.parse::<u16>().map_err(|_| ()),
            false => Err(()),
        };
        let (hours, minutes) = text.split_once(':').ok_or(())?;
        match (number(hours)?, number(minutes)?) {
            (24, 0) => Ok(Self::MIDNIGHT),
            (hours @ 0..24, minutes @ 0..60) => Ok(Self(hours * 60 + minutes)),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// A date, or the dates from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dates {
    /// The first date.
    pub first: Date,
    /// The last date, which belongs to it.
    pub last: Date,
}

as_text!(
    Dates,
    "a date",
    "YYYY-MM-DD, or FIRST/LAST of at most 366 days"
);

impl FromStr for Dates {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let date = |text: &str| match text.len() {
            10 => Date::strptime("%Y-%m-%d", text).map_err(|_| ()),
            _ => Err(()),
        };
        let (first, last) = text.split_once('/').unwrap_or((text, text));
        let (first, last) = (date(first)?, date(last)?);
        let days = first.duration_until(last).as_hours() / 24;
        match (0..366).contains(&days) {
            true => Ok(Self { first, last }),
            false => Err(()),
        }
    }
}

impl fmt::Display for Dates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}/{}", self.first, self.last),
        }
    }
}

/// A day of every year. 29 February is one of leap years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MonthDay {
    month: i8,
    day: i8,
}

as_text!(MonthDay, "a day of the year", "MM-DD, such as 12-24");

impl MonthDay {
    /// Whether a date is on this day.
    #[must_use]
    pub fn is_on(self, date: Date) -> bool {
        (date.month(), date.day()) == (self.month, self.day)
    }

    /// Its date in a year, if it has one.
    pub(super) fn in_year(self, year: i16) -> Option<Date> {
        Date::new(year, self.month, self.day).ok()
    }
}

impl FromStr for MonthDay {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // 2000 is a leap year.
        let dates: Dates = format!("2000-{text}").parse()?;
        match text.contains('/') {
            true => Err(()),
            false => Ok(Self {
                month: dates.first.month(),
                day: dates.first.day(),
            }),
        }
    }
}

impl fmt::Display for MonthDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}-{:02}", self.month, self.day)
    }
}

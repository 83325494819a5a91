//! A week's file: TOML that people keep in git, with the line of what is wrong in it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use door_core::schedule::{Calendar, Exception, Week, WeekError, Window, zone};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};
use toml::{Deserializer, Spanned};

use super::holidays;
use crate::commands::digest::digest;
use crate::failure::Failure;
use crate::printer::{Printer, Row};

/// What a week's file says.
#[derive(Debug)]
pub(super) struct WeekFile {
    pub(super) calendar: Calendar,
    /// Canonical JSON, as doors get it.
    pub(super) text: String,
    /// SHA-256 of the text.
    pub(super) digest: String,
    /// Names of holidays.
    pub(super) holidays: BTreeMap<Date, String>,
    /// What is allowed, but may not be what its author wants.
    pub(super) warnings: Vec<String>,
}

impl WeekFile {
    pub(super) fn warn(&self, printer: &Printer) {
        for warning in &self.warnings {
            printer.warn(warning);
        }
    }
}

/// The table `[holidays]`, which doors get as an exception.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HolidaysTable {
    /// A calendar in iCalendar format, beside the week's file.
    file: String,
    /// What holds on holidays; nothing else does.
    #[serde(default)]
    windows: Vec<Window>,
}

/// Reads and checks a file; holidays are those of the year of `today` and the next.
pub(super) fn read(path: &Path, today: Date) -> anyhow::Result<WeekFile> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::new(format!("{name}: {error}"))
            .next("a week's file: doorctl schedule check --help")
    })?;
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let at = |span: Option<Range<usize>>, problem: &str| {
        let line = span.map_or(1, |span| line(span.start));
        anyhow::Error::from(Failure::new(format!("{name}:{line}: {problem}")))
    };
    let mut table = DeTable::parse(&text).map_err(|error| at(error.span(), error.message()))?;
    let all = table.clone();
    let wrong_key = |error: serde_path_to_error::Error<toml::de::Error>, below: &str| {
        // The table itself is ".".
        let key = format!("{below}{}", error.path());
        let key = key.trim_end_matches('.');
        let span = error.inner().span().or_else(|| span_of(&all, key));
        let colon = if key.is_empty() { "" } else { ": " };
        // `holidays` is a key of the file alone.
        let problem = match below {
            "" => (error.inner().message()).replace("`exception`", "`exception`, `holidays`"),
            _ => error.inner().message().to_owned(),
        };
        at(span, &format!("{key}{colon}{problem}"))
    };
    let holidays = table.get_mut().remove("holidays");
    let mut week = Week::read(Deserializer::from(table)).map_err(|error| wrong_key(error, ""))?;
    let mut days = BTreeMap::new();
    let mut warnings = Vec::new();
    let has_holidays = holidays.is_some();
    if let Some(table) = holidays {
        let table = toml::de::ValueDeserializer::from(table);
        let table: HolidaysTable = serde_path_to_error::deserialize(table)
            .map_err(|error| wrong_key(error, "holidays."))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        days = holidays::read(&folder.join(&table.file), today).map_err(|problem| {
            at(
                span_of(&all, "holidays.file"),
                &format!("holidays.file: {problem}"),
            )
        })?;
        if days.keys().all(|day| *day < today) {
            let file = &table.file;
            let (this_year, next_year) = (today.year(), today.year() + 1);
            warnings.push(format!(
                "{name}: holidays.file: {file} has no date from today on in {this_year} and \
                 {next_year}"
            ));
        }
        // First, so that an exception that somebody wrote wins.
        let exception = Exception {
            dates: holidays::ranges(days.keys().copied()),
            yearly: Vec::new(),
            windows: table.windows,
        };
        week.exceptions
            .splice(0..0, (!days.is_empty()).then_some(exception));
    }
    // What is wrong is named by the place in the file, where holidays are no exception.
    let shift = usize::from(has_holidays && !days.is_empty());
    let in_file = |key: &str| match key
        .strip_prefix("exception[")
        .and_then(|key| key.split_once(']'))
    {
        Some((index, rest)) => match index.parse::<usize>().unwrap_or(0).checked_sub(shift) {
            Some(index) => format!("exception[{index}]{rest}"),
            None => format!("holidays{rest}"),
        },
        None => key.to_owned(),
    };
    let refuse = |error: WeekError| {
        let key = error.key.as_deref().map(in_file).unwrap_or_default();
        let other = error.other.as_deref().map(in_file);
        let other = other.map_or(String::new(), |other| {
            let line = span_of(&all, &other).map_or(1, |span| line(span.start));
            format!(" (the other is {other}, line {line})")
        });
        let colon = if key.is_empty() { "" } else { ": " };
        at(
            span_of(&all, &key),
            &format!("{key}{colon}{}{other}", error.problem),
        )
    };
    week.check().map_err(refuse)?;
    let zone = zone(&week.zone).map_err(refuse)?;
    if week.windows.is_empty() {
        let otherwise = week.otherwise.as_str();
        warnings.push(format!(
            "{name}: no [[window]]: on all days without an exception the week wants {otherwise}"
        ));
    }
    let text = week.to_json();
    Ok(WeekFile {
        digest: digest(text.as_bytes()),
        text,
        holidays: days,
        warnings,
        calendar: Calendar::new(week, zone),
    })
}

/// Where a key such as `window[1].from` is in the text, or the last part of it that is there.
fn span_of(table: &Spanned<DeTable<'_>>, path: &str) -> Option<Range<usize>> {
    let mut parts = path.split(['.', '[', ']']).filter(|part| !part.is_empty());
    let mut value = table.get_ref().get(parts.next()?)?;
    for part in parts {
        let below = match value.get_ref() {
            DeValue::Table(table) => table.get(part),
            DeValue::Array(array) => part.parse().ok().and_then(|index: usize| array.get(index)),
            _ => None,
        };
        match below {
            Some(below) => value = below,
            None => break,
        }
    }
    Some(value.span())
}

/// A checked file.
#[derive(Debug, Serialize)]
pub(super) struct FileRow {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) zone: String,
    pub(super) windows: usize,
    pub(super) exceptions: usize,
    pub(super) holidays: usize,
    pub(super) bytes: usize,
    pub(super) digest: String,
}

impl Row for FileRow {
    const LEAST_IMPORTANT: &'static [&'static str] = &["bytes", "exceptions", "digest"];

    fn titles() -> Vec<&'static str> {
        vec![
            "file",
            "name",
            "zone",
            "windows",
            "exceptions",
            "holidays",
            "bytes",
            "digest",
        ]
    }

    fn cell(&self, title: &str, member: &serde_json::Value) -> crate::printer::Cell {
        match title {
            "digest" => crate::printer::Cell::from(self.digest.as_str())
                .shown_as(super::short(&self.digest)),
            _ => crate::printer::plain(member).into(),
        }
    }
}

impl FileRow {
    pub(super) fn of(path: &Path, file: &WeekFile) -> Self {
        let week = file.calendar.week();
        Self {
            file: path.display().to_string(),
            name: week.name.clone(),
            zone: week.zone.clone(),
            windows: week.windows.len(),
            exceptions: week.exceptions.len() - usize::from(!file.holidays.is_empty()),
            holidays: file.holidays.len(),
            bytes: file.text.len(),
            digest: file.digest.clone(),
        }
    }
}

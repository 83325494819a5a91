//! Reads a configuration in layers, each validated before they are merged.
//!
//! `<name>.toml`, then `<name>.toml.d/*.toml` in the order of their names, then
//! `DOOR_AGENT__TABLE__KEY` of the environment; later layers win, key by key. Each layer alone may
//! hold only known keys and values of the right type, so that an error can name the file and line
//! that contain it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, File, FileFormat};
use door_core::config::StrikeKind;
use iothub_protocol::text_file::decode;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::connection;
use super::error::ConfigError;
use super::schema::Document;
use super::times::{self, Limit};
use crate::files::read_text;

/// Prefix of the agent's environment variables.
pub(crate) const ENVIRONMENT_PREFIX: &str = "DOOR_AGENT__";

/// How strictly a file is validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// Only what is allowed now.
    Strict,
    /// Also what version 0.1 accepted, so that an upgrade does not stop a door.
    Lenient,
}

/// A configuration as read: the merged document and the layers it came from.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) document: Document,
    rules: Rules,
    /// Values that are not allowed any more, and the values used instead.
    pub(super) problems: Vec<String>,
    /// The mistakes found so far. What is invalid is missing in `document`.
    pub(super) errors: Vec<ConfigError>,
    layers: Vec<Layer>,
}

/// A time outside its limits or without a unit.
struct InvalidTime {
    key: &'static str,
    at: Range<usize>,
    value: Range<usize>,
    problem: String,
    nearest: Option<Duration>,
}

#[derive(Debug)]
struct Layer {
    /// The file, or the environment variable.
    name: String,
    /// Line numbers are meaningful only in a file.
    is_file: bool,
    text: String,
    /// The valid part of `text`.
    valid: toml::Table,
}

/// Keys one of which a table must have, and what is expected. `*` stands for any key.
const REQUIRED: [(&str, &[&str], &str); 7] = [
    ("strike", &["kind"], StrikeKind::EXPECTED),
    ("board", &["kind"], super::BOARD_KINDS),
    ("board.outputs.*", &["pin", "line"], PIN),
    ("board.outputs.*", &["active"], ACTIVE),
    ("board.inputs.*", &["pin", "line"], PIN),
    ("board.inputs.*", &["active"], ACTIVE),
    (
        "board.inputs.*",
        &["bias"],
        r#""pull-up", "pull-down" or "off""#,
    ),
];
const PIN: &str = r#"the BCM number of the pin, or `line` with [board] kind = "gpio""#;
const ACTIVE: &str = r#""high" or "low""#;

impl Layers {
    /// Reads, validates and merges all layers.
    pub(super) fn read(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Self {
        Self::read_tables(path, |_| true, environment, rules)
    }

    /// Reads only the tables that `keep` accepts, so that mistakes elsewhere do not matter, unless
    /// a file is not TOML.
    pub(super) fn read_tables(
        path: &Path,
        keep: impl Fn(&str) -> bool,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Self {
        let mut errors = Vec::new();
        let layers = files(path, &mut errors);
        Self::merge(path, layers, errors, keep, environment, rules)
    }

    /// Uses `text` as the content of the file.
    #[cfg(feature = "fuzzing")]
    pub(super) fn read_text(
        path: &Path,
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Self {
        let file = Layer {
            name: path.display().to_string(),
            is_file: true,
            text: text.to_owned(),
            valid: toml::Table::new(),
        };
        let rules = Rules::Strict;
        Self::merge(path, vec![file], Vec::new(), |_| true, environment, rules)
    }

    /// Validates each of `layers` and the environment variables, and merges them.
    fn merge(
        path: &Path,
        mut layers: Vec<Layer>,
        mut errors: Vec<ConfigError>,
        keep: impl Fn(&str) -> bool,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Self {
        let mut variables: Vec<_> = environment
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
            .collect();
        variables.sort();
        for (name, value) in variables {
            layers.push(Layer::variable(name, &value));
        }
        let mut merged = Config::builder();
        let mut problems = Vec::new();
        for layer in &mut layers {
            if rules == Rules::Lenient {
                layer.clamp_times(&mut problems);
            }
            errors.extend(layer.validate(&keep, rules));
            let valid = layer.valid.to_string();
            merged = merged.add_source(File::from_str(&valid, FileFormat::Toml));
        }
        let mut this = Self {
            document: Document::default(),
            rules,
            problems,
            errors,
            layers,
        };
        let merged = merged.build();
        let merged = merged.and_then(Config::try_deserialize::<toml::Table>);
        match merged {
            // What is missing may be in a file that cannot be read.
            _ if this.is_unreadable() => {}
            Ok(mut merged) => {
                this.refuse_incomplete(&mut merged);
                match merged.try_into() {
                    Ok(document) => this.document = document,
                    Err(error) => this.errors.push(whole_problem(path, &error)),
                }
            }
            Err(error) => this.errors.push(whole_problem(path, &error)),
        }
        this
    }

    /// Whether a layer is missing as a whole.
    pub(super) fn is_unreadable(&self) -> bool {
        self.errors.iter().any(|error| match error {
            ConfigError::Syntax { .. } => true,
            ConfigError::Read { what, .. } => *what != connection::WHAT,
            _ => false,
        })
    }

    /// Refuses tables without a required key, and removes them. A key that is there but invalid is
    /// refused already.
    fn refuse_incomplete(&mut self, merged: &mut toml::Table) {
        let mut incomplete = Vec::new();
        for (path, required, expected) in REQUIRED {
            let parent = path.trim_end_matches(".*");
            let Some(table) = table_mut(merged, parent) else {
                continue;
            };
            let lacking: Vec<_> = if parent == path {
                let lacks = !required.iter().any(|key| table.contains_key(*key));
                lacks.then(|| path.to_owned()).into_iter().collect()
            } else {
                let lacking = table
                    .iter()
                    .filter(|(_, inner)| required.iter().all(|key| inner.get(key).is_none()));
                lacking
                    .map(|(name, _)| format!("{parent}.{name}"))
                    .collect()
            };
            for table in lacking {
                if !required[1..]
                    .iter()
                    .any(|key| self.has_error(&format!("{table}.{key}")))
                {
                    self.refuse_missing(&format!("{table}.{}", required[0]), expected);
                }
                incomplete.push(table);
            }
        }
        for path in incomplete {
            match path.rsplit_once('.') {
                Some((parent, name)) => {
                    table_mut(merged, parent).and_then(|parent| parent.remove(name));
                }
                None => drop(merged.remove(&path)),
            }
        }
    }

    /// Refuses a missing key, unless a mistake explains why it is missing.
    pub(super) fn refuse_missing(&mut self, key: &str, expected: &str) {
        if !self.has_error(key) {
            let error = self.invalid(key, format!("missing, expected {expected}"));
            self.errors.push(error);
        }
    }

    /// Whether there is a mistake in `key` or in a table that contains it.
    pub(super) fn has_error(&self, key: &str) -> bool {
        let contains = |known: &str| {
            key.strip_prefix(known)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.errors
            .iter()
            .filter_map(ConfigError::key)
            .any(contains)
    }

    /// Whether there is a mistake in a table or in a key below it.
    pub(super) fn has_error_in(&self, table: &str) -> bool {
        let mut keys = self.errors.iter().filter_map(ConfigError::key);
        self.is_unreadable() || keys.any(|key| key.split('.').next() == Some(table))
    }

    /// Handles a disallowed value: a mistake if strict, else a problem that names the value `used`
    /// instead.
    pub(super) fn refuse(&mut self, key: &str, problem: impl Into<String>, used: &str) {
        let error = self.invalid(key, problem);
        match self.rules {
            Rules::Strict => self.errors.push(error),
            Rules::Lenient => self.problems.push(format!("{error}; {used}")),
        }
    }

    pub(super) fn is_strict(&self) -> bool {
        self.rules == Rules::Strict
    }

    /// Whether any layer contains `key`.
    pub(super) fn contains_key(&self, key: &str) -> bool {
        self.layers.iter().any(|layer| layer.locate(key).is_some())
    }

    /// An error about `key` (tables and key joined by dots), located in the layer that set it last;
    /// that of a missing key in its table.
    pub(super) fn invalid(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let locate = |key: &str| {
            let place = |layer: &Layer| layer.locate(key).map(|at| layer.place(&at));
            self.layers.iter().rev().find_map(place)
        };
        let mut keys = std::iter::successors(Some(key), |key| Some(key.rsplit_once('.')?.0));
        let place = keys.find_map(locate);
        ConfigError::Invalid {
            // An unsuitable default: the main file is where to override it.
            place: place
                .or_else(|| Some(self.layers.first()?.name.clone()))
                .unwrap_or_default(),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }
}

impl Layer {
    fn file(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path, decode).map_err(|source| ConfigError::Read {
            what: "the configuration",
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            name: path.display().to_string(),
            is_file: true,
            text,
            valid: toml::Table::new(),
        })
    }

    /// A variable as a document with one key. Its value is TOML if that yields a valid value
    /// (`8883`, `true`, `[1, 2]`), else a string.
    fn variable(name: String, value: &str) -> Self {
        let path = name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase();
        let path: Vec<_> = path.split("__").map(quoted).collect();
        let path = path.join(".");
        let literal = format!("{path} = {value}");
        let string = format!("{path} = {}", quoted(value));
        let is_value = toml::from_str::<toml::Table>(&literal).is_ok();
        Self {
            name,
            is_file: false,
            // If neither is valid, the error is about the form it has.
            text: match (first_error(&literal), first_error(&string)) {
                (None, _) => literal,
                (Some(_), None) => string,
                (Some(_), Some(_)) if is_value => literal,
                (Some(_), Some(_)) => string,
            },
            valid: toml::Table::new(),
        }
    }

    /// Parses the tables that `keep` accepts, without what is invalid. Returns the mistakes:
    /// syntax, unknown keys, wrong types, and unless the rules are lenient times outside their
    /// limits.
    fn validate(&mut self, keep: impl Fn(&str) -> bool, rules: Rules) -> Vec<ConfigError> {
        let (mut whole, errors) = DeTable::parse_recoverable(&self.text);
        if !errors.is_empty() {
            return errors.iter().map(|error| self.not_toml(error)).collect();
        }
        let mut mistakes: BTreeMap<usize, ConfigError> = BTreeMap::new();
        let names = whole.get_ref().keys().map(|key| key.get_ref().to_string());
        let (kept, skipped): (Vec<_>, Vec<_>) = names.partition(|name| keep(name));
        for name in &skipped {
            whole.get_mut().remove(name.as_str());
        }
        if rules == Rules::Strict {
            let invalid = self.invalid_times().into_iter();
            let judged = invalid.filter(|invalid| find(whole.get_ref(), invalid.key).is_some());
            mistakes.extend(judged.map(|invalid| (invalid.value.start, invalid.error(self))));
        }
        // Each table on its own, without what is judged already: another layer may have a missing
        // key, so its table must not hide the next mistake.
        let mut left = whole.clone();
        for table in &kept {
            while let Some(error) = error_in(&left, table) {
                let span = error.span().unwrap_or(0..0);
                let path = path_at(left.get_ref(), span.start);
                if !is_missing(&error) {
                    let value = find_path(left.get_ref(), &path);
                    let value = value.map_or(0, |(_, value)| value.span().start);
                    let key = if path.is_empty() {
                        "(top level)".to_owned()
                    } else {
                        path.join(".")
                    };
                    mistakes
                        .entry(value)
                        .or_insert_with(|| ConfigError::Invalid {
                            place: self.place(&span),
                            key,
                            problem: explain(error.message()),
                        });
                    remove(whole.get_mut(), &path);
                }
                if !remove(left.get_mut(), &path) {
                    break;
                }
            }
        }
        let valid = toml::Table::deserialize(Deserializer::from(whole));
        self.valid = valid.unwrap_or_default();
        mistakes.into_values().collect()
    }

    fn not_toml(&self, error: &toml::de::Error) -> ConfigError {
        ConfigError::Syntax {
            place: self.place(&error.span().unwrap_or(0..0)),
            problem: error.message().replace('\n', "; "),
        }
    }

    /// Replaces each time without a unit or outside its limits that version 0.1 accepted with the
    /// nearest allowed one.
    fn clamp_times(&mut self, problems: &mut Vec<String>) {
        let mut invalid = self.invalid_times();
        invalid.sort_by_key(|invalid| std::cmp::Reverse(invalid.value.start));
        for InvalidTime {
            key,
            at,
            value,
            problem,
            nearest,
        } in invalid
        {
            let Some(nearest) = nearest else {
                continue;
            };
            let place = self.place(&at);
            problems.push(format!("{place}: {key}: {problem}; {nearest:?} is used"));
            let text = format!("\"{}ms\"", nearest.as_millis());
            self.text.replace_range(value, &text);
        }
    }

    fn invalid_times(&self) -> Vec<InvalidTime> {
        let Ok(whole) = DeTable::parse(&self.text) else {
            return Vec::new();
        };
        let check = |limit: Limit| {
            let (key, value) = find(whole.get_ref(), limit.key)?;
            let (problem, nearest) = limit.check(value.get_ref())?;
            Some(InvalidTime {
                key: limit.key,
                at: key.span(),
                value: value.span(),
                problem,
                nearest,
            })
        };
        times::limits().filter_map(check).collect()
    }

    fn place(&self, span: &Range<usize>) -> String {
        if !self.is_file {
            return self.name.clone();
        }
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("{}:{line}", self.name)
    }

    /// Where `key` (tables and key joined by dots) is set.
    fn locate(&self, key: &str) -> Option<Range<usize>> {
        let table = DeTable::parse(&self.text).ok()?;
        find(table.get_ref(), key).map(|(key, _)| key.span())
    }
}

type Entry<'a, 'b> = (&'a Spanned<Cow<'b, str>>, &'a Spanned<DeValue<'b>>);

/// A key and its value by its dotted path.
fn find<'a, 'b>(table: &'a DeTable<'b>, path: &str) -> Option<Entry<'a, 'b>> {
    let path: Vec<_> = path.split('.').map(str::to_owned).collect();
    find_path(table, &path)
}

fn find_path<'a, 'b>(mut table: &'a DeTable<'b>, path: &[String]) -> Option<Entry<'a, 'b>> {
    let (last, parents) = path.split_last()?;
    for key in parents {
        table = table.get(key.as_str())?.get_ref().as_table()?;
    }
    table.iter().find(|(key, _)| key.get_ref() == last)
}

/// Removes a key by its path; false if there is none.
fn remove(mut table: &mut DeTable<'_>, path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else {
        return false;
    };
    for key in parents {
        match table.get_mut(key.as_str()).map(Spanned::get_mut) {
            Some(DeValue::Table(inner)) => table = inner,
            _ => return false,
        }
    }
    table.remove(last.as_str()).is_some()
}

/// The path of the key or value at a position.
fn path_at(table: &DeTable<'_>, at: usize) -> Vec<String> {
    for (key, value) in table {
        let mut path = vec![key.get_ref().to_string()];
        if let Some(inner) = value.get_ref().as_table() {
            let inner = path_at(inner, at);
            if !inner.is_empty() {
                path.extend(inner);
                return path;
            }
        }
        if key.span().contains(&at) || value.span().contains(&at) {
            return path;
        }
    }
    Vec::new()
}

/// A table below `table` by its dotted path.
fn table_mut<'a>(mut table: &'a mut toml::Table, path: &str) -> Option<&'a mut toml::Table> {
    for key in path.split('.') {
        table = table.get_mut(key)?.as_table_mut()?;
    }
    Some(table)
}

impl InvalidTime {
    fn error(self, layer: &Layer) -> ConfigError {
        ConfigError::Invalid {
            place: layer.place(&self.at),
            key: self.key.to_owned(),
            problem: self.problem,
        }
    }
}

/// A mistake that only shows when all layers are together.
fn whole_problem(path: &Path, problem: &impl ToString) -> ConfigError {
    ConfigError::Invalid {
        place: path.display().to_string(),
        key: "(all layers together)".to_owned(),
        problem: problem.to_string(),
    }
}

/// The first error in a text of one key.
fn first_error(text: &str) -> Option<toml::de::Error> {
    let whole = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => return Some(error),
    };
    let tables = whole.get_ref().keys();
    let mut errors = tables.filter_map(|table| error_in(&whole, table.get_ref()));
    errors.find(|error| !is_missing(error))
}

/// Whether only a key is missing, which another layer may have.
fn is_missing(error: &toml::de::Error) -> bool {
    error.message().starts_with("missing field")
}

/// The first error in a table of a layer.
fn error_in(whole: &Spanned<DeTable<'_>>, table: &str) -> Option<toml::de::Error> {
    let (key, value) = whole.get_ref().get_key_value(table)?;
    let alone = DeTable::from_iter([(key.clone(), value.clone())]);
    Document::deserialize(Deserializer::from(Spanned::new(whole.span(), alone))).err()
}

/// The configuration file and its drop-ins.
fn files(path: &Path, errors: &mut Vec<ConfigError>) -> Vec<Layer> {
    let mut paths = vec![path.to_path_buf()];
    match drop_ins(path) {
        Ok(drop_ins) => paths.extend(drop_ins),
        Err(error) => errors.push(error),
    }
    let mut layers = Vec::new();
    for path in paths {
        match Layer::file(&path) {
            Ok(layer) => layers.push(layer),
            Err(error) => errors.push(error),
        }
    }
    layers
}

/// The drop-in files of a configuration, in the order of their names.
fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let unreadable = |source| ConfigError::Read {
        what: "the drop-in directory",
        path: directory.clone(),
        source,
    };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension() == Some(OsStr::new("toml")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Rewords a parser message in terms of the file; for an unknown key or word, suggests the nearest
/// known one.
fn explain(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (unknown, known) = names(rest);
        return match known.as_slice() {
            [] => "unknown key, none is expected here".to_owned(),
            known => {
                let known_names = known.join(", ");
                match nearest(unknown, known) {
                    Some(near) => format!(
                        "unknown key, did you mean `{near}`? expected one of: {known_names}"
                    ),
                    None => format!("unknown key, expected one of: {known_names}"),
                }
            }
        };
    }
    let message = message.replace('\n', "; ");
    let Some((found, expected)) = message.split_once(", expected ") else {
        return message;
    };
    let found = found.strip_prefix("invalid type: ").unwrap_or(found);
    let found = found.strip_prefix("invalid value: ").unwrap_or(found);
    let quoted = |text: &str| text.replace('`', "\"");
    let found = match found.split_once(' ') {
        Some(("string", text)) => text.to_owned(),
        Some(("unknown", variant)) => quoted(variant.trim_start_matches("variant ")),
        Some(("integer" | "floating" | "boolean", number)) => {
            number.trim_start_matches("point ").replace('`', "")
        }
        _ if found == "sequence" || found.starts_with("invalid length ") => "a list".to_owned(),
        _ if found == "map" => "a table".to_owned(),
        _ => found.to_owned(),
    };
    let expected = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number",
        "a string" | "path string" | "string or table" | "a borrowed string" => "text in quotes",
        "a boolean" => "true or false",
        "a map" => "a table",
        table if table.starts_with("struct ") => "a table",
        other => return format!("{found}, expected {}", quoted(other)),
    };
    format!("{found}, expected {expected}")
}

/// The unknown name and the known ones of a parser message.
fn names(rest: &str) -> (&str, Vec<&str>) {
    let mut names = rest.split('`').step_by(2);
    let unknown = names.next().unwrap_or_default();
    (unknown, names.filter(|name| !name.is_empty()).collect())
}

/// The known name with the fewest edits, if it is close enough to be a likely typo.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (strsim::osa_distance(unknown, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

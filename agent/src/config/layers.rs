//! Reads a configuration in layers, each validated before they are merged.
//!
//! `<name>.toml`, then `<name>.toml.d/*.toml` in the order of their names, then
//! `DOOR_AGENT__TABLE__KEY` of the environment; later layers win, key by key. Each layer alone may
//! hold only known keys and values of the right type, so that an error can name the file and line
//! that contain it.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, File, FileFormat};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::ConfigError;
use super::schema::Document;
use super::times::{self, Limit};

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
}

impl Layers {
    /// Reads, validates and merges all layers.
    pub(super) fn read(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Result<Self, ConfigError> {
        Self::merge(path, files(path)?, environment, rules)
    }

    /// Reads only the tables that `keep` accepts, so that mistakes elsewhere do not matter, unless
    /// a file is not TOML.
    pub(super) fn read_tables(
        path: &Path,
        keep: impl Fn(&str) -> bool,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Result<Self, ConfigError> {
        let mut layers = files(path)?;
        for layer in &mut layers {
            layer.retain(&keep)?;
        }
        let environment = environment.filter(|(name, _)| {
            let table = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or_default();
            let table = table.split("__").next().unwrap_or_default();
            keep(&table.to_ascii_lowercase())
        });
        Self::merge(path, layers, environment, rules)
    }

    /// Uses `text` as the content of the file.
    #[cfg(feature = "fuzzing")]
    pub(super) fn read_text(
        path: &Path,
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let file = Layer {
            name: path.display().to_string(),
            is_file: true,
            text: text.to_owned(),
        };
        Self::merge(path, vec![file], environment, Rules::Strict)
    }

    /// Validates each of `layers` and the environment variables, and merges them.
    fn merge(
        path: &Path,
        mut layers: Vec<Layer>,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Result<Self, ConfigError> {
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
            match rules {
                Rules::Strict => layer.check_times()?,
                Rules::Lenient => layer.clamp_times(&mut problems),
            }
            layer.check()?;
            merged = merged.add_source(File::from_str(&layer.text, FileFormat::Toml));
        }
        let document = merged
            .build()
            .and_then(Config::try_deserialize)
            .map_err(|error| ConfigError::Invalid {
                place: path.display().to_string(),
                key: "(all layers together)".to_owned(),
                problem: error.to_string(),
            })?;
        Ok(Self {
            document,
            rules,
            problems,
            layers,
        })
    }

    /// Handles a disallowed value: an error if strict, else a problem that names the value `used`
    /// instead.
    pub(super) fn refuse(
        &mut self,
        key: &str,
        problem: impl Into<String>,
        used: &str,
    ) -> Result<(), ConfigError> {
        let error = self.invalid(key, problem);
        match self.rules {
            Rules::Strict => Err(error),
            Rules::Lenient => {
                self.problems.push(format!("{error}; {used}"));
                Ok(())
            }
        }
    }

    pub(super) fn is_strict(&self) -> bool {
        self.rules == Rules::Strict
    }

    /// Whether any layer contains `key`.
    pub(super) fn contains_key(&self, key: &str) -> bool {
        self.layers.iter().any(|layer| layer.locate(key).is_some())
    }

    /// An error about the value of `key` (tables and key joined by dots), located in the layer
    /// that set it last.
    pub(super) fn invalid(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let locate = |layer: &Layer| layer.locate(key).map(|at| layer.place(&at));
        let place = self.layers.iter().rev().find_map(locate);
        let place = place
            // An unsuitable default: the main file is where to override it.
            .unwrap_or_else(|| self.layers[0].name.clone());
        ConfigError::Invalid {
            place,
            key: key.to_owned(),
            problem: problem.into(),
        }
    }
}

impl Layer {
    fn file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            what: "the configuration",
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            name: path.display().to_string(),
            is_file: true,
            text,
        })
    }

    /// Drops tables. Line numbers are not meaningful afterwards.
    fn retain(&mut self, keep: impl Fn(&str) -> bool) -> Result<(), ConfigError> {
        let whole = toml::from_str::<toml::Table>(&self.text);
        let mut whole = whole.map_err(|error| self.not_toml(&error))?;
        whole.retain(|key, _| keep(key));
        self.text = whole.to_string();
        self.is_file = false;
        Ok(())
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
        }
    }

    /// Refuses invalid TOML, unknown keys and values of the wrong type.
    fn check(&self) -> Result<(), ConfigError> {
        let Some(error) = first_error(&self.text) else {
            return Ok(());
        };
        let span = error.span().unwrap_or(0..0);
        if DeTable::parse(&self.text).is_err() {
            return Err(self.not_toml(&error));
        }
        Err(ConfigError::Invalid {
            place: self.place(&span),
            key: self.key_at(&span),
            problem: explain(error.message()),
        })
    }

    fn not_toml(&self, error: &toml::de::Error) -> ConfigError {
        ConfigError::Syntax {
            place: self.place(&error.span().unwrap_or(0..0)),
            problem: error.message().replace('\n', "; "),
        }
    }

    /// Refuses times without a unit or outside their limits.
    fn check_times(&self) -> Result<(), ConfigError> {
        let invalid = self.invalid_times().into_iter();
        let Some(first) = invalid.min_by_key(|invalid| invalid.at.start) else {
            return Ok(());
        };
        Err(ConfigError::Invalid {
            place: self.place(&first.at),
            key: first.key.to_owned(),
            problem: first.problem,
        })
    }

    /// Replaces each such time that version 0.1 accepted with the nearest allowed one.
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

    /// The dotted path of the key or value that starts at a span.
    fn key_at(&self, span: &Range<usize>) -> String {
        fn descend(table: &DeTable<'_>, at: usize, path: &mut Vec<String>) -> bool {
            for (key, value) in table {
                path.push(key.get_ref().to_string());
                let inner = value.get_ref().as_table();
                if inner.is_some_and(|inner| descend(inner, at, path))
                    || key.span().contains(&at)
                    || value.span().contains(&at)
                {
                    return true;
                }
                path.pop();
            }
            false
        }
        let mut path = Vec::new();
        if let Ok(table) = DeTable::parse(&self.text) {
            descend(table.get_ref(), span.start, &mut path);
        }
        if path.is_empty() {
            "(top level)".to_owned()
        } else {
            path.join(".")
        }
    }

    /// Where `key` (tables and key joined by dots) is set.
    fn locate(&self, key: &str) -> Option<Range<usize>> {
        let table = DeTable::parse(&self.text).ok()?;
        find(table.get_ref(), key).map(|(key, _)| key.span())
    }
}

/// A key and its value by its dotted path.
fn find<'a, 'b>(
    mut table: &'a DeTable<'b>,
    path: &str,
) -> Option<(&'a Spanned<Cow<'b, str>>, &'a Spanned<DeValue<'b>>)> {
    let mut keys = path.split('.');
    let last = keys.next_back()?;
    for key in keys {
        table = table.get(key)?.get_ref().as_table()?;
    }
    table.iter().find(|(key, _)| key.get_ref() == last)
}

/// The first error in one layer. A missing key is none: another layer may have it.
fn first_error(text: &str) -> Option<toml::de::Error> {
    let whole = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => return Some(error),
    };
    // Each table on its own, so that a missing key in one does not hide an error in the next.
    let errors = whole.get_ref().iter().filter_map(|(key, value)| {
        let mut table = DeTable::new();
        table.insert(key.clone(), value.clone());
        Document::deserialize(Deserializer::from(Spanned::new(whole.span(), table))).err()
    });
    errors
        .filter(|error| !error.message().starts_with("missing field"))
        .min_by_key(|error| error.span().map_or(0, |span| span.start))
}

/// The configuration file and its drop-ins.
fn files(path: &Path) -> Result<Vec<Layer>, ConfigError> {
    let drop_ins = drop_ins(path)?;
    let paths = std::iter::once(path).chain(drop_ins.iter().map(PathBuf::as_path));
    paths.map(Layer::file).collect()
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

/// Rewords a parser message; for an unknown key, suggests the nearest known one.
fn explain(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message.replace('\n', "; ");
    };
    let mut names = rest.split('`').step_by(2);
    let unknown = names.next().unwrap_or_default();
    let known: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    let hint = nearest(unknown, &known)
        .map(|near| format!(", did you mean `{near}`?"))
        .unwrap_or_default();
    match known.as_slice() {
        [] => "unknown key, none is expected here".to_owned(),
        known => format!("unknown key{hint} expected one of: {}", known.join(", "))
            .replace("key expected", "key, expected"),
    }
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

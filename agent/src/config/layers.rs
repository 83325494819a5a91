//! Reading a configuration in layers, each checked strictly before they are put together.
//!
//! `<name>.toml`, then `<name>.toml.d/*.toml` in the order of their names, then
//! `DOOR_AGENT__TABLE__KEY` of the environment; the later wins, key by key. Every layer alone must
//! hold only known keys and values of the right kind, so that an error can name the file and line
//! that hold it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, File, FileFormat};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::error::ConfigError;
use super::schema::Document;
use super::times::{self, Limit};

/// What every environment variable of ours starts with.
pub(crate) const ENVIRONMENT_PREFIX: &str = "DOOR_AGENT__";

/// How a file is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// By what is allowed.
    Strict,
    /// By what version 0.1 took, so that no door dies of an upgrade.
    AsBefore,
}

/// A configuration as read: the merged document and the layers it came from.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) document: Document,
    rules: Rules,
    /// What is not allowed any more, and what is used in its place.
    pub(super) problems: Vec<String>,
    layers: Vec<Layer>,
}

/// A time that is not allowed.
struct WrongTime {
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
    /// Only in a file do line numbers mean something.
    is_file: bool,
    text: String,
}

impl Layers {
    /// Reads and checks all layers.
    pub(super) fn read(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Result<Self, ConfigError> {
        let mut layers = vec![Layer::file(path)?];
        for drop_in in drop_ins(path)? {
            layers.push(Layer::file(&drop_in)?);
        }
        Self::merge(path, layers, environment, rules)
    }

    /// Reads all but the table `name`.
    pub(super) fn read_without(
        path: &Path,
        name: &str,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Result<Self, ConfigError> {
        let mut layers = vec![Layer::file(path)?];
        for drop_in in drop_ins(path)? {
            layers.push(Layer::file(&drop_in)?);
        }
        for layer in &mut layers {
            layer.retain(|key| key != name)?;
        }
        let prefix = format!("{ENVIRONMENT_PREFIX}{}__", name.to_ascii_uppercase());
        let environment = environment.filter(|(name, _)| !name.starts_with(&prefix));
        Self::merge(path, layers, environment, rules)
    }

    /// Reads the table `name` alone of every layer: what is wrong elsewhere, short of a file that
    /// is not TOML, does not matter.
    pub(super) fn read_table(
        path: &Path,
        name: &str,
        environment: impl Iterator<Item = (String, String)>,
        rules: Rules,
    ) -> Result<Self, ConfigError> {
        let mut layers = vec![Layer::file(path)?];
        for drop_in in drop_ins(path)? {
            layers.push(Layer::file(&drop_in)?);
        }
        for layer in &mut layers {
            layer.retain(|key| key == name)?;
        }
        let prefix = format!("{ENVIRONMENT_PREFIX}{}__", name.to_ascii_uppercase());
        Self::merge(
            path,
            layers,
            environment.filter(|(name, _)| name.starts_with(&prefix)),
            rules,
        )
    }

    /// Takes `text` for what the file holds.
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

    /// Checks each of `layers` and of our variables, and puts them together.
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
                Rules::AsBefore => layer.mend_times(&mut problems),
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

    /// What is not allowed: an error, or what is noted with what is `used` in its place.
    pub(super) fn refuse(
        &mut self,
        key: &str,
        problem: impl Into<String>,
        used: &str,
    ) -> Result<(), ConfigError> {
        let error = self.invalid(key, problem);
        match self.rules {
            Rules::Strict => Err(error),
            Rules::AsBefore => {
                self.problems.push(format!("{error}; {used}"));
                Ok(())
            }
        }
    }

    pub(super) fn is_strict(&self) -> bool {
        self.rules == Rules::Strict
    }

    /// Whether any layer says something of `key`.
    pub(super) fn names(&self, key: &str) -> bool {
        let path: Vec<_> = key.split('.').collect();
        self.layers
            .iter()
            .any(|layer| layer.locate(&path).is_some())
    }

    /// An error about the value of `key` (tables and key joined by dots), placed at the layer that
    /// set it last.
    pub(super) fn invalid(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let path: Vec<_> = key.split('.').collect();
        let place = self
            .layers
            .iter()
            .rev()
            .find_map(|layer| layer.locate(&path).map(|at| layer.place(&at)))
            // A default that does not fit: the main file is where to mend it.
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

    /// Drops tables. Lines count no more.
    fn retain(&mut self, keep: impl Fn(&str) -> bool) -> Result<(), ConfigError> {
        let mut whole = match toml::from_str::<toml::Table>(&self.text) {
            Ok(whole) => whole,
            Err(error) => {
                return Err(ConfigError::Syntax {
                    place: self.place(&error.span().unwrap_or(0..0)),
                    problem: error.message().replace('\n', "; "),
                });
            }
        };
        whole.retain(|key, _| keep(key));
        self.text = whole.to_string();
        self.is_file = false;
        Ok(())
    }

    /// A variable as a document of one key. Its value is TOML where that makes a fitting value
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
            // What fits neither way is complained about as what it looks like.
            text: match (first_error(&literal), first_error(&string)) {
                (None, _) => literal,
                (Some(_), None) => string,
                (Some(_), Some(_)) if is_value => literal,
                (Some(_), Some(_)) => string,
            },
        }
    }

    /// Refuses what is not TOML, unknown keys and values of the wrong kind.
    fn check(&self) -> Result<(), ConfigError> {
        let Some(error) = first_error(&self.text) else {
            return Ok(());
        };
        let span = error.span().unwrap_or(0..0);
        if DeTable::parse(&self.text).is_err() {
            return Err(ConfigError::Syntax {
                place: self.place(&span),
                problem: error.message().replace('\n', "; "),
            });
        }
        Err(ConfigError::Invalid {
            place: self.place(&span),
            key: self.key_at(&span),
            problem: explain(error.message()),
        })
    }

    /// Refuses times without a unit and beyond their limits.
    fn check_times(&self) -> Result<(), ConfigError> {
        match self
            .wrong_times()
            .into_iter()
            .min_by_key(|wrong| wrong.at.start)
        {
            None => Ok(()),
            Some(wrong) => Err(ConfigError::Invalid {
                place: self.place(&wrong.at),
                key: wrong.key.to_owned(),
                problem: wrong.problem,
            }),
        }
    }

    /// Puts the nearest time that is allowed in the place of each that version 0.1 took.
    fn mend_times(&mut self, problems: &mut Vec<String>) {
        let mut wrong = self.wrong_times();
        wrong.sort_by_key(|wrong| std::cmp::Reverse(wrong.value.start));
        for WrongTime {
            key,
            at,
            value,
            problem,
            nearest,
        } in wrong
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

    fn wrong_times(&self) -> Vec<WrongTime> {
        let Ok(whole) = DeTable::parse(&self.text) else {
            return Vec::new();
        };
        let judge = |limit: Limit| {
            let mut table = whole.get_ref();
            let (parents, last) = limit.key.rsplit_once('.')?;
            for parent in parents.split('.') {
                table = table.get(parent)?.get_ref().as_table()?;
            }
            let (key, value) = table.iter().find(|(key, _)| key.get_ref() == last)?;
            let (problem, nearest) = limit.judge(value.get_ref())?;
            Some(WrongTime {
                key: limit.key,
                at: key.span(),
                value: value.span(),
                problem,
                nearest,
            })
        };
        times::limits().filter_map(judge).collect()
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

    fn locate(&self, path: &[&str]) -> Option<Range<usize>> {
        let table = DeTable::parse(&self.text).ok()?;
        let mut table = table.get_ref();
        let (last, parents) = path.split_last()?;
        for parent in parents {
            table = table.get(*parent)?.get_ref().as_table()?;
        }
        table
            .iter()
            .find(|(key, _)| key.get_ref() == last)
            .map(|(key, _)| key.span())
    }
}

/// The first thing wrong with one layer. That a key is missing is not: another layer may have it.
fn first_error(text: &str) -> Option<toml::de::Error> {
    let whole = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => return Some(error),
    };
    // Each table by itself, so that one with a missing key does not hide what is wrong with the
    // next.
    let errors = whole.get_ref().iter().filter_map(|(key, value)| {
        let mut table = DeTable::new();
        table.insert(key.clone(), value.clone());
        Document::deserialize(Deserializer::from(Spanned::new(whole.span(), table))).err()
    });
    errors
        .filter(|error| !error.message().starts_with("missing field"))
        .min_by_key(|error| error.span().map_or(0, |span| span.start))
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

/// Turns the parser's words into ours; an unknown key gets the nearest known one.
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

/// The known name that differs least, when it is near enough to be what was meant.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (distance(unknown, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// Edits (insert, remove, change, swap of neighbours) from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<_>, Vec<_>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let change = usize::from(from[i - 1] != to[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

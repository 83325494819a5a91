//! Limits of a twin's sections: names, values, their sizes, depth.
//!
//! Source: "Understand and use device twins in IoT Hub", sections "Tags and properties format" and
//! "Device twin size". An array is accepted wherever a value is (as in newer hubs), but it must not
//! contain null: an array is replaced as a whole, so null would remove nothing.

use std::fmt;

use serde_json::{Number, Value};

use super::Object;

/// The longest name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 1024;
/// The longest string value, in bytes of UTF-8.
pub const MAX_STRING_BYTES: usize = 4096;
/// The deepest nesting of objects and arrays, below the section itself.
pub const MAX_DEPTH: usize = 10;
/// The smallest integer.
pub const MIN_INTEGER: i64 = -(1 << 52);
/// The largest integer.
pub const MAX_INTEGER: i64 = (1 << 52) - 1;

/// A section of a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// Visible to the service only.
    Tags,
    /// Written by the service, read by the device.
    Desired,
    /// Written by the device, read by the service.
    Reported,
}

impl SectionKind {
    /// Maximum size in bytes, as counted by [`size`].
    #[must_use]
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Tags => 8 * 1024,
            Self::Desired | Self::Reported => 32 * 1024,
        }
    }

    /// Path of the section in a twin, such as `properties.desired`.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Desired => "properties.desired",
            Self::Reported => "properties.reported",
        }
    }
}

/// Why a section cannot be written, and which member is the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct TwinError {
    /// Path of the member, from the root of the twin; long names are truncated.
    pub path: String,
    /// What is wrong with it.
    pub problem: TwinProblem,
}

/// What is wrong with a member of a twin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TwinProblem {
    /// A name is empty.
    #[error("a name is empty; expected 1 to {MAX_NAME_BYTES} bytes")]
    EmptyName,
    /// A name is too long.
    #[error("the name has {0} bytes; expected at most {MAX_NAME_BYTES}")]
    LongName(usize),
    /// A name has a character that is not allowed.
    #[error(
        "the name has {0:?}; expected no `.`, no `$`, no `#`, no space and no control character"
    )]
    NameCharacter(char),
    /// A string is too long.
    #[error("the string has {0} bytes; expected at most {MAX_STRING_BYTES}")]
    LongString(usize),
    /// An integer is out of range.
    #[error("the integer {0} is out of range; expected {MIN_INTEGER} to {MAX_INTEGER}")]
    Integer(Number),
    /// Objects and arrays are nested too deeply.
    #[error(
        "the {0} is too deep; expected at most {MAX_DEPTH} objects and arrays within each other"
    )]
    Depth(ContainerKind),
    /// A null where it cannot remove anything.
    #[error(
        "the value is null; in an array, or where a section is replaced, there is nothing to remove"
    )]
    Null,
    /// The section as a whole is too large.
    #[error("the section would have {size} bytes; expected at most {limit}")]
    Size {
        /// The size it would have, in bytes.
        size: usize,
        /// The maximum, in bytes.
        limit: usize,
    },
}

/// A kind of value that contains others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerKind {
    /// An object.
    Object,
    /// An array.
    Array,
}

impl fmt::Display for ContainerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "object",
            Self::Array => "array",
        })
    }
}

/// Checks a patch, in which null removes a member.
///
/// # Errors
///
/// The first invalid member.
pub fn check_patch(kind: SectionKind, patch: &Object) -> Result<(), TwinError> {
    Checker {
        path: vec![kind.path()],
        null_removes: true,
    }
    .object(patch, 0)
}

/// Checks the new values of a whole section.
///
/// # Errors
///
/// The first invalid member.
pub fn check_replacement(kind: SectionKind, values: &Object) -> Result<(), TwinError> {
    Checker {
        path: vec![kind.path()],
        null_removes: false,
    }
    .object(values, 0)
}

/// Checks the size of a section. A section that is already too large may shrink.
///
/// # Errors
///
/// If it is too large and has grown.
pub fn check_growth(kind: SectionKind, before: &Object, after: &Object) -> Result<(), TwinError> {
    let (size, limit) = (size(after), kind.max_bytes());
    if size <= limit || size <= self::size(before) {
        return Ok(());
    }
    Err(TwinError {
        path: kind.path().to_owned(),
        problem: TwinProblem::Size { size, limit },
    })
}

/// The size of a section in bytes: names and strings by their UTF-8 without control characters, a
/// number 8, a boolean 4.
#[must_use]
pub fn size(object: &Object) -> usize {
    object
        .iter()
        .map(|(name, value)| name.len() + value_size(value))
        .sum()
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text
            .chars()
            .filter(|c| !c.is_control())
            .map(char::len_utf8)
            .sum(),
        Value::Array(values) => values.iter().map(value_size).sum(),
        Value::Object(object) => size(object),
    }
}

/// Walks a section, tracking the path.
struct Checker<'a> {
    path: Vec<&'a str>,
    null_removes: bool,
}

impl<'a> Checker<'a> {
    fn object(&mut self, object: &'a Object, depth: usize) -> Result<(), TwinError> {
        for (name, value) in object {
            self.path.push(name);
            match check_name(name) {
                // A name that an earlier version took can still be removed.
                Err(TwinProblem::NameCharacter('#')) if self.null_removes && value.is_null() => {}
                checked => checked.map_err(|problem| self.error(problem))?,
            }
            self.value(value, depth)?;
            self.path.pop();
        }
        Ok(())
    }

    /// Checks a value nested in `depth` objects and arrays.
    fn value(&mut self, value: &'a Value, depth: usize) -> Result<(), TwinError> {
        match value {
            Value::Null if self.null_removes => Ok(()),
            Value::Null => Err(self.error(TwinProblem::Null)),
            Value::Bool(_) => Ok(()),
            Value::Number(number) => self.number(number),
            Value::String(text) if text.len() > MAX_STRING_BYTES => {
                Err(self.error(TwinProblem::LongString(text.len())))
            }
            Value::String(_) => Ok(()),
            Value::Array(_) if depth >= MAX_DEPTH => {
                Err(self.error(TwinProblem::Depth(ContainerKind::Array)))
            }
            Value::Object(_) if depth >= MAX_DEPTH => {
                Err(self.error(TwinProblem::Depth(ContainerKind::Object)))
            }
            Value::Array(values) => {
                let outside = std::mem::replace(&mut self.null_removes, false);
                values
                    .iter()
                    .try_for_each(|value| self.value(value, depth + 1))?;
                self.null_removes = outside;
                Ok(())
            }
            Value::Object(object) => self.object(object, depth + 1),
        }
    }

    fn number(&self, number: &Number) -> Result<(), TwinError> {
        let in_range = match number.as_i64() {
            Some(integer) => (MIN_INTEGER..=MAX_INTEGER).contains(&integer),
            None => !number.is_u64(),
        };
        if in_range {
            Ok(())
        } else {
            Err(self.error(TwinProblem::Integer(number.clone())))
        }
    }

    fn error(&self, problem: TwinProblem) -> TwinError {
        let cut = |name: &&str| name.chars().take(64).collect::<String>();
        let path = self.path.iter().map(cut).collect::<Vec<_>>().join(".");
        TwinError { path, problem }
    }
}

fn check_name(name: &str) -> Result<(), TwinProblem> {
    if name.is_empty() {
        return Err(TwinProblem::EmptyName);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(TwinProblem::LongName(name.len()));
    }
    let bad = name
        .chars()
        .find(|&c| matches!(c, '.' | '$' | '#') || c.is_whitespace() || c.is_control());
    bad.map_or(Ok(()), |c| Err(TwinProblem::NameCharacter(c)))
}

#[cfg(test)]
mod tests;

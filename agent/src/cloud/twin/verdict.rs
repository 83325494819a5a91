//! Validation result of a desired value, and its acknowledgement.

use serde_json::{Value, json};

/// Validation result of a property's latest desired value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The twin has no desired value.
    Absent,
    Accepted {
        version: u64,
    },
    Refused {
        version: u64,
        reason: String,
    },
}

impl Verdict {
    /// Judges the present desired value: none, a value, or the reason why it is invalid. `held` is
    /// the value accepted last.
    pub(super) fn judge<T: PartialEq>(
        &mut self,
        held: &mut Option<T>,
        desired: Option<Result<T, String>>,
        version: u64,
    ) {
        *self = match desired {
            None => {
                *held = None;
                Self::Absent
            }
            // An unchanged value keeps the version with which it was accepted.
            Some(Ok(value)) if held.as_ref() == Some(&value) => match self {
                Self::Accepted { version } => Self::Accepted { version: *version },
                Self::Absent | Self::Refused { .. } => Self::Accepted { version },
            },
            Some(Ok(value)) => {
                *held = Some(value);
                Self::Accepted { version }
            }
            Some(Err(reason)) => Self::Refused { version, reason },
        };
    }

    /// `{value, ac, av, ad}`; `problem` says why an accepted value could not be applied.
    pub(super) fn acknowledge(
        &self,
        value: Option<&Value>,
        problem: Option<&str>,
    ) -> Option<Value> {
        let (ac, av, ad) = match (self, problem) {
            (Self::Absent, _) => return None,
            (Self::Accepted { version }, None) => (200, *version, "applied"),
            (Self::Accepted { version }, Some(problem)) => (500, *version, problem),
            (Self::Refused { version, reason }, _) => (400, *version, reason.as_str()),
        };
        let mut acknowledgement = json!({"ac": ac, "av": av, "ad": ad});
        if let Some(value) = value {
            acknowledgement["value"] = value.clone();
        }
        Some(acknowledgement)
    }
}

/// The JSON type of a value, for messages.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "another string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

//! How a desired value was judged, and how that is told.

use serde_json::{Value, json};

/// How a property's latest desired value was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// None was ever desired on this connection's twin.
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
    /// Judges what is desired now: nothing, a value, or the reason why it is none. `held` is the
    /// value accepted last.
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
            // The same value read again was accepted when it came: that version stays.
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

    /// `{value, ac, av, ad}`; a problem is what became of an accepted value.
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

/// What a value is, for a message.
pub(super) fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "another string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

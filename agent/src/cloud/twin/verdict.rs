//! Validation result of a desired value, and its acknowledgement.

use std::collections::BTreeMap;

use serde_json::value::to_raw_value;
use serde_json::{Value, json};

/// Longest `ad`, in bytes: a reason quotes the value, and the hub refuses a patch with a string of
/// more than 4,096 bytes.
const MAX_AD: usize = 300;
/// The bytes of its end that stay: what was expected, and what stays in place.
const AD_END: usize = 120;
/// Maximum of refused members that one property acknowledges.
const MAX_REFUSED: usize = 20;

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
        let mut acknowledgement = json!({"ac": ac, "av": av, "ad": cut(ad)});
        if let Some(value) = value {
            acknowledgement["value"] = value.clone();
        }
        Some(acknowledgement)
    }
}

/// Text of at most [`MAX_AD`] bytes, less its middle.
fn cut(text: &str) -> String {
    if text.len() <= MAX_AD {
        return text.to_owned();
    }
    let is_start = |at: &usize| text.is_char_boundary(*at);
    let start = (0..=MAX_AD - AD_END - "…".len()).rfind(is_start);
    let end = (text.len() - AD_END..).find(is_start);
    let (start, end) = (start.unwrap_or_default(), end.unwrap_or(text.len()));
    format!("{}…{}", &text[..start], &text[end..])
}

/// JSON of one acknowledgement for each member of a property, of refused ones the first
/// [`MAX_REFUSED`]. A member is its name, its verdict and its accepted value.
pub(super) fn acknowledge_each<'a>(
    members: impl Iterator<Item = (&'a String, &'a Verdict, Option<Value>)>,
    problem: Option<&str>,
) -> Option<String> {
    let mut refused = 0;
    let few = members.filter(|(_, verdict, _)| {
        let is_refused = matches!(verdict, Verdict::Refused { .. });
        refused += usize::from(is_refused);
        !is_refused || refused <= MAX_REFUSED
    });
    let each = few.filter_map(|(name, verdict, value)| {
        let acknowledged = verdict.acknowledge(value.as_ref(), problem)?;
        Some((name, to_raw_value(&acknowledged).ok()?))
    });
    // As text: a tree of 20 timed entries has 40 kB.
    let each: BTreeMap<_, _> = each.collect();
    (!each.is_empty()).then(|| serde_json::to_string(&each).ok())?
}

/// Why an older document, from a hub that was restored, brings back no release and no week: it may
/// have been cancelled since.
pub(super) fn too_old(version: u64) -> String {
    format!("older than version {version}: order it again")
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

//! The names at the root of a document, which are not case-sensitive in a query.

use super::Source;

/// Root names of a twin.
const TWIN: [&str; 20] = [
    "deviceId",
    "moduleId",
    "etag",
    "deviceEtag",
    "status",
    "statusReason",
    "statusUpdateTime",
    "connectionState",
    "lastActivityTime",
    "cloudToDeviceMessageCount",
    "authenticationType",
    "x509Thumbprint",
    "version",
    "modelId",
    "capabilities",
    "deviceScope",
    "parentScopes",
    "configurations",
    "tags",
    "properties",
];

/// Root names of a device's record in a job.
const JOB: [&str; 11] = [
    "deviceId",
    "moduleId",
    "jobId",
    "jobType",
    "status",
    "startTimeUtc",
    "endTimeUtc",
    "createdDateTimeUtc",
    "lastUpdatedDateTimeUtc",
    "outcome",
    "error",
];

/// The root names of the documents of `source`.
#[must_use]
pub const fn roots(source: Source) -> &'static [&'static str] {
    match source {
        Source::Devices | Source::Modules => &TWIN,
        Source::Jobs => &JOB,
    }
}

/// A root name in the documents' spelling.
pub(super) fn canonical_root(source: Source, name: &str) -> Option<&'static str> {
    // One Azure document filters by this name, although the records spell it differently.
    let name = match source {
        Source::Jobs if name.eq_ignore_ascii_case("createdTimeUtc") => "createdDateTimeUtc",
        _ => name,
    };
    roots(source)
        .iter()
        .copied()
        .find(|known| known.eq_ignore_ascii_case(name))
}

/// The root name that is closest to a name with a typing error. `has_members`: names follow it.
pub(super) fn closest_root(source: Source, name: &str, has_members: bool) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let distance = |known: &str| strsim::osa_distance(&lower, &known.to_lowercase());
    let fits = |known: &&&str| !has_members || ["tags", "properties"].contains(*known);
    let known = roots(source)
        .iter()
        .filter(fits)
        .map(|known| (distance(known), *known));
    let (_, closest) = known
        .filter(|(distance, _)| *distance <= 1 + lower.len() / 6)
        .min()?;
    Some(closest)
}

/// The words that are not names, in their usual spelling.
const KEYWORDS: [&str; 16] = [
    "SELECT",
    "TOP",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "NIN",
    "true",
    "false",
    "null",
    "undefined",
];

/// Whether a word without brackets is a keyword.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS
        .iter()
        .any(|keyword| keyword.eq_ignore_ascii_case(word))
}

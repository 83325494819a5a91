//! The names at the root of a document, which have no case in a query.

use super::Source;

/// Of a twin.
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

/// Of the record of a device in a job.
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

/// The names at the root of the documents of `source`.
pub(super) const fn roots(source: Source) -> &'static [&'static str] {
    match source {
        Source::Devices | Source::Modules => &TWIN,
        Source::Jobs => &JOB,
    }
}

/// A name at the root as the documents spell it.
pub(super) fn canonical_root(source: Source, name: &str) -> Option<&'static str> {
    // One document filters by this name, though the records spell it otherwise.
    let name = match source {
        Source::Jobs if name.eq_ignore_ascii_case("createdTimeUtc") => "createdDateTimeUtc",
        _ => name,
    };
    roots(source)
        .iter()
        .copied()
        .find(|known| known.eq_ignore_ascii_case(name))
}

/// The words that are no names, in their usual spelling.
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

/// Whether a word without brackets is no name.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS
        .iter()
        .any(|keyword| keyword.eq_ignore_ascii_case(word))
}

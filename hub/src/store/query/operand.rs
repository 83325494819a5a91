//! What a path of a query reads: a column, a place in a JSONB column, or nothing there could ever
//! be.
//!
//! Paths are inlined into the SQL, escaped, because only then does SQLite see that an index is on
//! the same expression.

/// What a path means in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    /// A place in a JSON column.
    Json {
        /// The column.
        column: &'static str,
        /// The place, as SQLite's JSON functions take it.
        path: String,
    },
    /// An SQL expression that is a text, or NULL.
    Text {
        /// The expression.
        sql: &'static str,
        /// What NULL stands for.
        null: Null,
    },
    /// An SQL expression that is a number, or NULL where the document has nothing.
    Number(&'static str),
    /// Always false.
    False,
    /// Always an object.
    Object,
    /// An object or null, if these SQL expressions are true.
    ObjectIf {
        /// Whether it is an object.
        object: &'static str,
        /// Whether it is null.
        null: Option<&'static str>,
    },
    /// Never anything.
    Undefined,
}

/// What an SQL NULL stands for in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Null {
    /// It does not occur.
    Never,
    /// The member is `null`.
    Json,
    /// The member is not there.
    Absent,
}

/// Looks a path up in one collection.
pub(super) type Resolve = fn(&[&str]) -> Operand;

const fn text(sql: &'static str) -> Operand {
    Operand::Text {
        sql,
        null: Null::Never,
    }
}

const fn nullable(sql: &'static str) -> Operand {
    Operand::Text {
        sql,
        null: Null::Json,
    }
}

const fn optional(sql: &'static str) -> Operand {
    Operand::Text {
        sql,
        null: Null::Absent,
    }
}

/// A path into a twin, from `device JOIN twin`.
pub(super) fn of_twin(path: &[&str]) -> Operand {
    let Some((root, rest)) = path.split_first() else {
        return Operand::Undefined;
    };
    match (*root, rest) {
        ("tags", []) => Operand::Object,
        ("tags", rest) => json("twin.tags", rest),
        ("properties", rest) => of_properties(rest),
        ("x509Thumbprint", rest) => of_thumbprint(rest),
        ("capabilities", []) => Operand::Object,
        ("capabilities", ["iotEdge"]) => Operand::False,
        (root, []) => of_root(root),
        _ => Operand::Undefined,
    }
}

fn of_root(root: &str) -> Operand {
    match root {
        "deviceId" => text("device.device_id"),
        "etag" => text("etag_text(twin.etag)"),
        "deviceEtag" => text("device.etag"),
        "status" => text("device.status"),
        "statusReason" => nullable("device.status_reason"),
        "statusUpdateTime" => text("device.status_updated"),
        "connectionState" => text("device.connection_state"),
        "lastActivityTime" => text("device.last_activity"),
        "cloudToDeviceMessageCount" => Operand::Number("0"),
        "authenticationType" => text("device.authentication_type"),
        "modelId" => text("twin.model_id"),
        "version" => Operand::Number("twin.version"),
        _ => Operand::Undefined,
    }
}

fn of_thumbprint(rest: &[&str]) -> Operand {
    match rest {
        [] => Operand::Object,
        ["primaryThumbprint"] => nullable("device.primary_thumbprint"),
        ["secondaryThumbprint"] => nullable("device.secondary_thumbprint"),
        _ => Operand::Undefined,
    }
}

fn of_properties(rest: &[&str]) -> Operand {
    let Some((section, rest)) = rest.split_first() else {
        return Operand::Object;
    };
    let (values, metadata, version) = match *section {
        "desired" => (
            "twin.desired",
            "twin.desired_metadata",
            "twin.desired_version",
        ),
        "reported" => (
            "twin.reported",
            "twin.reported_metadata",
            "twin.reported_version",
        ),
        _ => return Operand::Undefined,
    };
    match rest {
        [] | ["$metadata"] => Operand::Object,
        ["$version"] => Operand::Number(version),
        ["$version", ..] => Operand::Undefined,
        ["$metadata", rest @ ..] => json(metadata, rest),
        rest => json(values, rest),
    }
}

/// What a device answered: null when that was nothing. What is nested too deep for SQLite has no
/// members.
const PAYLOAD: &str = "(CASE WHEN json_valid(device_job.response_payload) THEN device_job.response_payload \
    WHEN device_job.response_payload IS NULL AND device_job.response_status IS NOT NULL THEN 'null' END)";

/// A path into a job's record of a device, from `device_job JOIN job`.
pub(super) fn of_device_job(path: &[&str]) -> Operand {
    let Some((root, rest)) = path.split_first() else {
        return Operand::Undefined;
    };
    match (*root, rest) {
        ("jobId", []) => text("job.job_id"),
        ("deviceId", []) => text("device_job.device_id"),
        ("jobType", []) => text("job.type"),
        ("status", []) => text("device_job.status"),
        ("createdDateTimeUtc", []) => text("device_job.created"),
        ("lastUpdatedDateTimeUtc", []) => text("device_job.updated"),
        ("startTimeUtc", []) => optional("device_job.started"),
        ("endTimeUtc", []) => optional("device_job.ended"),
        ("error", []) => Operand::ObjectIf {
            object: "device_job.error_code IS NOT NULL",
            null: None,
        },
        ("error", ["code"]) => optional("device_job.error_code"),
        ("error", ["description"]) => optional("device_job.error_description"),
        ("outcome", []) => Operand::ObjectIf {
            object: "device_job.status = 'completed'",
            null: None,
        },
        // Null for a change of the twin.
        ("outcome", ["deviceMethodResponse"]) => Operand::ObjectIf {
            object: "device_job.status = 'completed' AND device_job.response_status IS NOT NULL",
            null: Some("device_job.status = 'completed' AND device_job.response_status IS NULL"),
        },
        ("outcome", ["deviceMethodResponse", "status"]) => {
            Operand::Number("device_job.response_status")
        }
        ("outcome", ["deviceMethodResponse", "payload", rest @ ..]) => json(PAYLOAD, rest),
        _ => Operand::Undefined,
    }
}

/// The places that have an index.
const INDEXED: [(&str, &str); 6] = [
    ("twin.desired", "$.\"building\""),
    ("twin.desired", "$.\"floor\""),
    ("twin.reported", "$.\"building\".\"value\""),
    ("twin.reported", "$.\"floor\".\"value\""),
    ("twin.tags", "$.\"building\""),
    ("twin.tags", "$.\"floor\""),
];

/// Whether there is an index on a place.
pub(super) fn is_indexed(column: &str, path: &str) -> bool {
    INDEXED.contains(&(column, path))
}

fn json(column: &'static str, keys: &[&str]) -> Operand {
    if keys.iter().any(|key| key.contains('\0')) {
        // SQLite's paths end there; no key has one.
        return Operand::Undefined;
    }
    let quoted = keys
        .iter()
        .map(|key| format!(".\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\"")));
    let path = format!("${}", quoted.collect::<String>());
    Operand::Json {
        column,
        path: path.replace('\'', "''"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indexed_paths_are_compiled_to_what_the_indexes_are_on() {
        let schema = include_str!("../schema/0007.sql");
        for path in [
            vec!["properties", "desired", "building"],
            vec!["properties", "desired", "floor"],
            vec!["properties", "reported", "building", "value"],
            vec!["properties", "reported", "floor", "value"],
            vec!["tags", "building"],
            vec!["tags", "floor"],
        ] {
            let Operand::Json { column, path } = of_twin(&path) else {
                panic!("{path:?} is JSON")
            };
            let column = column.strip_prefix("twin.").unwrap();
            assert!(is_indexed(&format!("twin.{column}"), &path));
            let expression = format!(
                "(CASE WHEN json_valid({column}, 8) THEN json_extract({column}, '{path}') END)"
            );
            assert!(schema.contains(&expression), "{expression}");
        }
    }

    #[test]
    fn keys_are_escaped_for_json_and_for_sql() {
        let Operand::Json { path, .. } = of_twin(&["tags", "it's \"\\"]) else {
            panic!()
        };
        assert_eq!(path, r#"$."it''s \"\\""#);
    }
}

//! Resolves the paths of a query: a column, a path in a JSONB column, or always undefined.
//!
//! JSON paths are inlined into the SQL, escaped, because only then can SQLite match the expression
//! of an index.

/// The SQL source of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    /// A path in a JSON column.
    Json {
        column: &'static str,
        /// The path for SQLite's JSON functions.
        path: String,
    },
    /// An SQL expression that is a text or NULL.
    Text {
        sql: &'static str,
        /// The meaning of NULL.
        null: Null,
    },
    /// An SQL expression that is a number, or NULL if the document does not have the member.
    Number(&'static str),
    /// An SQL expression that is 0 or 1.
    Boolean(&'static str),
    Object,
    /// An object or null, depending on SQL expressions.
    ObjectIf {
        /// True if it is an object.
        object: &'static str,
        /// True if it is null.
        null: Option<&'static str>,
    },
    /// Always undefined.
    Undefined,
}

/// The meaning of an SQL NULL in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Null {
    /// NULL does not occur.
    Never,
    /// The member is `null`.
    Json,
    /// The member is missing.
    Absent,
}

/// Resolves a path in one collection.
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

/// Resolves a path in a twin, from `device JOIN twin`.
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
        ("capabilities", ["iotEdge"]) => Operand::Boolean("device.iot_edge"),
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

/// The payload of a device's answer: JSON's null if it had none; undefined if it is nested too deep
/// for SQLite.
const PAYLOAD: &str = "(CASE WHEN json_valid(device_job.response_payload) THEN \
                       device_job.response_payload \
    WHEN device_job.response_payload IS NULL AND device_job.response_status IS NOT NULL THEN \
    'null' END)";

/// Resolves a path in a device's record of a job, from `device_job JOIN job`.
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
        // Null for a twin update.
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

/// The paths that have an index.
const INDEXED: [(&str, &str); 6] = [
    ("twin.desired", "$.\"building\""),
    ("twin.desired", "$.\"floor\""),
    ("twin.reported", "$.\"building\".\"value\""),
    ("twin.reported", "$.\"floor\".\"value\""),
    ("twin.tags", "$.\"building\""),
    ("twin.tags", "$.\"floor\""),
];

pub(super) fn is_indexed(column: &str, path: &str) -> bool {
    INDEXED.contains(&(column, path))
}

fn json(column: &'static str, keys: &[&str]) -> Operand {
    if keys.iter().any(|key| key.contains('\0')) {
        // SQLite's paths end at a NUL; no stored key has one.
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
    fn indexed_paths_compile_to_the_expressions_of_the_indexes() {
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

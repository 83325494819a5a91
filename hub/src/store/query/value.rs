//! Values in SQL, whose type is known only when a row is read.

use iothub_protocol::query::{ComparisonOperator, Constant};

use super::operand::{Null, Operand};

/// A value, by type. Each expression is NULL when the value is not of that type; one that is absent always would be.
#[derive(Debug, Default)]
pub(super) struct Typed {
    /// Whether it is JSON's null: never NULL itself.
    pub(super) null: Option<String>,
    pub(super) boolean: Option<String>,
    pub(super) number: Option<String>,
    pub(super) text: Option<String>,
}

/// The value of a path, by type.
pub(super) fn typed(operand: Operand) -> Typed {
    match operand {
        Operand::Json { column, path } => {
            let kind = format!("json_type({column}, '{path}')");
            let value = format!("json_extract({column}, '{path}')");
            let only =
                |kinds: &str| Some(format!("CASE WHEN {kind} IN ({kinds}) THEN {value} END"));
            Typed {
                null: Some(format!("({kind} IS 'null')")),
                boolean: only("'true', 'false'"),
                number: only("'integer', 'real'"),
                text: only("'text'"),
            }
        }
        Operand::Text { sql, null } => Typed {
            null: (null == Null::Json).then(|| format!("({sql} IS NULL)")),
            text: Some(sql.to_owned()),
            ..Typed::default()
        },
        Operand::Number(sql) => Typed {
            number: Some(sql.to_owned()),
            ..Typed::default()
        },
        Operand::False => Typed {
            boolean: Some("0".into()),
            ..Typed::default()
        },
        Operand::Object | Operand::ObjectIf(_) | Operand::Undefined => Typed::default(),
    }
}

/// A comparison of values of whatever types; at most one of the parts is not NULL.
pub(super) fn compare(left: &Typed, right: &Typed, operator: ComparisonOperator) -> String {
    let symbol = symbol(operator);
    let mut parts = Vec::new();
    for (left, right) in [
        (&left.boolean, &right.boolean),
        (&left.number, &right.number),
        (&left.text, &right.text),
    ] {
        if let (Some(left), Some(right)) = (left, right) {
            parts.push(format!("({left} {symbol} {right})"));
        }
    }
    if let (Some(left), Some(right)) = (&left.null, &right.null) {
        parts.push(format!(
            "CASE WHEN {left} AND {right} THEN (0 {symbol} 0) END"
        ));
    }
    match parts.len() {
        0 => "NULL".into(),
        1 => parts.remove(0),
        _ => format!("coalesce({})", parts.join(", ")),
    }
}

pub(super) const fn symbol(operator: ComparisonOperator) -> &'static str {
    match operator {
        ComparisonOperator::Equal => "=",
        ComparisonOperator::NotEqual => "<>",
        ComparisonOperator::Less => "<",
        ComparisonOperator::LessOrEqual => "<=",
        ComparisonOperator::Greater => ">",
        ComparisonOperator::GreaterOrEqual => ">=",
    }
}

pub(super) const fn is_boolean(constant: &Constant) -> bool {
    matches!(constant, Constant::Boolean(_))
}

pub(super) const fn is_number(constant: &Constant) -> bool {
    matches!(constant, Constant::Number(_))
}

pub(super) const fn is_text(constant: &Constant) -> bool {
    matches!(constant, Constant::String(_))
}

/// Joins parts two by two: SQLite limits how deep an expression is, and a chain is as deep as it is long.
pub(super) fn balanced(mut parts: Vec<String>, operator: &str) -> String {
    while parts.len() > 1 {
        let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => format!("({left} {operator} {right})"),
                None => left,
            });
        }
        parts = pairs;
    }
    parts.pop().unwrap_or_else(|| "NULL".into())
}

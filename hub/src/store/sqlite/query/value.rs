//! SQL expressions for values whose type is known only when a row is read.

use iothub_protocol::query::{ComparisonOperator, Constant};

use super::operand::{Null, Operand};

/// A value, by type. Each expression is NULL if the value is not of that type; it is `None` if the
/// value never is.
#[derive(Debug, Default)]
pub(super) struct TypedSql {
    /// Whether it is JSON's null; this expression itself is never NULL.
    pub(super) null: Option<String>,
    pub(super) boolean: Option<String>,
    pub(super) number: Option<String>,
    pub(super) text: Option<String>,
    /// Whether it is an object or an array.
    pub(super) compound: Option<String>,
}

impl TypedSql {
    /// Its type as a number, from [`UNDEFINED`] up, in the order in which types sort.
    pub(super) fn rank(&self) -> String {
        let is_of = |sql: &Option<String>| sql.as_ref().map(|sql| format!("{sql} IS NOT NULL"));
        let cases = [
            (self.null.clone(), NULL),
            (is_of(&self.boolean), BOOLEAN),
            (is_of(&self.number), NUMBER),
            (is_of(&self.text), TEXT),
            (self.compound.clone(), COMPOUND),
        ];
        let cases: String = cases
            .into_iter()
            .filter_map(|(sql, rank)| Some(format!("WHEN {} THEN {rank} ", sql?)))
            .collect();
        if cases.is_empty() {
            UNDEFINED.to_string()
        } else {
            format!("CASE {cases}ELSE {UNDEFINED} END")
        }
    }

    /// The value itself if it is a boolean (0 or 1), a number or a text.
    pub(super) fn plain(&self) -> String {
        let parts: Vec<&str> = [&self.boolean, &self.number, &self.text]
            .into_iter()
            .filter_map(|sql| sql.as_deref())
            .collect();
        match parts.as_slice() {
            [] => "NULL".into(),
            [only] => (*only).to_owned(),
            several => format!("coalesce({})", several.join(", ")),
        }
    }
}

/// Ranks of types.
pub(super) const UNDEFINED: i64 = 0;
pub(super) const NULL: i64 = 1;
pub(super) const BOOLEAN: i64 = 2;
pub(super) const NUMBER: i64 = 3;
pub(super) const TEXT: i64 = 4;
/// An object or an array.
pub(super) const COMPOUND: i64 = 5;

/// The value of an operand, by type.
pub(super) fn typed(operand: Operand) -> TypedSql {
    match operand {
        Operand::Json { column, path } => {
            let kind = format!("json_type({column}, '{path}')");
            let value = format!("json_extract({column}, '{path}')");
            let only =
                |kinds: &str| Some(format!("CASE WHEN {kind} IN ({kinds}) THEN {value} END"));
            TypedSql {
                null: Some(format!("({kind} IS 'null')")),
                boolean: only("'true', 'false'"),
                number: only("'integer', 'real'"),
                text: only("'text'"),
                compound: Some(format!("({kind} IN ('object', 'array'))")),
            }
        }
        Operand::Text { sql, null } => TypedSql {
            null: (null == Null::Json).then(|| format!("({sql} IS NULL)")),
            text: Some(sql.to_owned()),
            ..TypedSql::default()
        },
        Operand::Number(sql) => TypedSql {
            number: Some(sql.to_owned()),
            ..TypedSql::default()
        },
        Operand::Boolean(sql) => TypedSql {
            boolean: Some(sql.to_owned()),
            ..TypedSql::default()
        },
        Operand::Object => TypedSql {
            compound: Some("1".into()),
            ..TypedSql::default()
        },
        Operand::ObjectIf { object, null } => TypedSql {
            null: null.map(|null| format!("({null})")),
            compound: Some(format!("({object})")),
            ..TypedSql::default()
        },
        Operand::Undefined => TypedSql::default(),
    }
}

/// Compares values of any types; at most one of the coalesced parts is not NULL.
pub(super) fn compare(left: &TypedSql, right: &TypedSql, operator: ComparisonOperator) -> String {
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

/// Joins parts as a balanced tree: SQLite limits the depth of expressions, and a chain is as deep
/// as it is long.
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

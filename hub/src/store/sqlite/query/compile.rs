//! Compiles conditions to SQL with the semantics of [`iothub_protocol::query::matches`].
//!
//! A value has, for each type that it may have, an SQL expression that is NULL if the value is not
//! of that type; so SQL's three-valued logic is that of the query language, and NULL is its
//! "undefined". A plain comparison of a JSON path with a constant is written so that an index on
//! the path can serve it, next to a guard on the type.
//!
//! Why: docs/decisions/0018-queries-compile-to-sql.md.

use std::fmt::Write as _;

use iothub_protocol::query::{
    ArithmeticOperator, ComparisonOperator, Condition, Constant, Expression, Function, Path,
};
use rusqlite::types::Value;

use super::operand::{Null, Operand, Resolve, is_indexed};
use super::value::{TypedSql, balanced, compare, is_boolean, is_number, is_text, symbol, typed};

/// A compiled condition.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// A boolean expression; a row matches if it is true.
    pub(crate) sql: String,
    /// The values of the parameters, `?1` and up unless they follow others.
    pub(crate) parameters: Vec<Value>,
}

/// Compiles `condition`; `None` matches everything. The parameters are numbered after the first
/// `offset`.
pub(super) fn compile(condition: Option<&Condition>, resolve: Resolve, offset: usize) -> Compiled {
    let mut compiler = Compiler {
        resolve,
        offset,
        parameters: Vec::new(),
    };
    let sql = condition.map_or_else(|| "1".to_owned(), |condition| compiler.predicate(condition));
    Compiled {
        sql,
        parameters: compiler.parameters,
    }
}

struct Compiler {
    resolve: Resolve,
    offset: usize,
    parameters: Vec<Value>,
}

/// Arithmetic operations per function call: SQLite limits the nesting depth of calls and the number
/// of arguments.
const ARITHMETIC_STEPS: usize = 40;

/// Selects the constants of one type.
type ConstantFilter = fn(&Constant) -> bool;

impl Compiler {
    /// SQL that is true exactly when `expression` is; it may return NULL for false. This form lets
    /// SQLite use indexes.
    fn predicate(&mut self, expression: &Expression) -> String {
        match expression {
            Expression::Or(parts) => {
                let parts = parts.iter().map(|part| self.predicate(part)).collect();
                balanced(parts, "OR")
            }
            Expression::And(parts) => {
                let parts = parts.iter().map(|part| self.predicate(part)).collect();
                balanced(parts, "AND")
            }
            Expression::Comparison {
                operator,
                left,
                right,
            } => match (&**left, &**right) {
                (Expression::Path(path), Expression::Constant(constant)) => {
                    self.indexed(path, constant, *operator)
                }
                _ => None,
            }
            .unwrap_or_else(|| self.truth(expression)),
            Expression::In {
                value,
                list,
                negated: false,
            } => match &**value {
                Expression::Path(path) => self.indexed_list(path, list),
                _ => None,
            }
            .unwrap_or_else(|| self.truth(expression)),
            other => self.truth(other),
        }
    }

    /// A comparison that an index on the path can serve.
    fn indexed(
        &mut self,
        path: &Path,
        constant: &Constant,
        operator: ComparisonOperator,
    ) -> Option<String> {
        let (value, guard) = self.place(path)?;
        let guard = guard(constant)?;
        let constant = self.constant(constant)?;
        Some(format!(
            "({value} {} {constant} AND {guard})",
            symbol(operator)
        ))
    }

    fn indexed_list(&mut self, path: &Path, list: &[Constant]) -> Option<String> {
        let (value, guard) = self.place(path)?;
        let mut parts = Vec::new();
        for group in [is_number as ConstantFilter, is_text] {
            let members: Vec<&Constant> = list.iter().filter(|constant| group(constant)).collect();
            let Some(first) = members.first() else {
                continue;
            };
            let guard = guard(first)?;
            let list = self.constants(members)?;
            parts.push(format!("({value} IN ({list}) AND {guard})"));
        }
        // Lists with booleans and nulls: no index helps.
        let all = list
            .iter()
            .all(|constant| is_number(constant) || is_text(constant));
        all.then(|| balanced(parts, "OR"))
    }

    /// A JSON path: its value as in the index, and the guard for the type of a constant.
    fn place(&self, path: &Path) -> Option<(String, impl Fn(&Constant) -> Option<String> + use<>)> {
        match self.operand(path) {
            Operand::Json { column, path } => {
                let guard = format!("json_type({column}, '{path}')");
                let value = format!("json_extract({column}, '{path}')");
                let value = match is_indexed(column, &path) {
                    true => format!("CASE WHEN json_valid({column}, 8) THEN {value} END"),
                    false => value,
                };
                Some((value, move |constant: &Constant| match constant {
                    Constant::Number(_) => Some(format!("{guard} IN ('integer', 'real')")),
                    Constant::String(_) => Some(format!("{guard} = 'text'")),
                    _ => None,
                }))
            }
            _ => None,
        }
    }

    /// SQL that is 1, 0 or NULL if `expression` is true, false or undefined.
    fn truth(&mut self, expression: &Expression) -> String {
        match expression {
            Expression::Or(parts) => {
                let parts = parts.iter().map(|part| self.truth(part)).collect();
                balanced(parts, "OR")
            }
            Expression::And(parts) => {
                let parts = parts.iter().map(|part| self.truth(part)).collect();
                balanced(parts, "AND")
            }
            Expression::Not(inner) => format!("(NOT {})", self.truth(inner)),
            Expression::Comparison {
                operator,
                left,
                right,
            } => {
                let (left, right) = (self.value(left), self.value(right));
                compare(&left, &right, *operator)
            }
            Expression::In {
                value,
                list,
                negated,
            } => {
                let value = self.value(value);
                let found = self.list(&value, list);
                if *negated {
                    format!("(NOT {found})")
                } else {
                    found
                }
            }
            Expression::Call {
                function: Function::IsDefined,
                arguments,
            } => arguments
                .first()
                .map_or_else(|| "NULL".into(), |argument| self.defined(argument)),
            Expression::Call {
                function,
                arguments,
            } => self.text_function(*function, arguments),
            Expression::Constant(Constant::Boolean(value)) => u8::from(*value).to_string(),
            Expression::Path(_) => self
                .value(expression)
                .boolean
                .unwrap_or_else(|| "NULL".into()),
            Expression::Constant(_) | Expression::Arithmetic { .. } => "NULL".into(),
        }
    }

    fn value(&mut self, expression: &Expression) -> TypedSql {
        match expression {
            Expression::Constant(constant) => self.constant_value(constant),
            Expression::Path(path) => typed(self.operand(path)),
            Expression::Arithmetic { first, rest } => TypedSql {
                number: self.arithmetic(first, rest),
                ..TypedSql::default()
            },
            logical => TypedSql {
                boolean: Some(self.truth(logical)),
                ..TypedSql::default()
            },
        }
    }

    fn constant_value(&mut self, constant: &Constant) -> TypedSql {
        let sql = self.constant(constant);
        match constant {
            Constant::Undefined => TypedSql::default(),
            Constant::Null => TypedSql {
                null: Some("1".into()),
                ..TypedSql::default()
            },
            Constant::Boolean(value) => TypedSql {
                boolean: Some(u8::from(*value).to_string()),
                ..TypedSql::default()
            },
            Constant::Number(_) => TypedSql {
                number: sql,
                ..TypedSql::default()
            },
            Constant::String(_) => TypedSql {
                text: sql,
                ..TypedSql::default()
            },
        }
    }

    fn arithmetic(
        &mut self,
        first: &Expression,
        rest: &[(ArithmeticOperator, Expression)],
    ) -> Option<String> {
        let mut result = self.value(first).number?;
        for steps in rest.chunks(ARITHMETIC_STEPS) {
            let mut arguments = result;
            for (operator, operand) in steps {
                let operand = self.value(operand).number?;
                let operator = match operator {
                    ArithmeticOperator::Add => '+',
                    ArithmeticOperator::Subtract => '-',
                    ArithmeticOperator::Multiply => '*',
                    ArithmeticOperator::Divide => '/',
                    ArithmeticOperator::Remainder => '%',
                };
                // Writing to a String cannot fail.
                let _ = write!(arguments, ", '{operator}', {operand}");
            }
            result = format!("calculate({arguments})");
        }
        Some(result)
    }

    fn list(&mut self, value: &TypedSql, list: &[Constant]) -> String {
        let mut parts = Vec::new();
        let groups: [(_, ConstantFilter); 3] = [
            (value.boolean.as_ref(), is_boolean),
            (value.number.as_ref(), is_number),
            (value.text.as_ref(), is_text),
        ];
        for (value, group) in groups {
            let members: Vec<&Constant> = list.iter().filter(|constant| group(constant)).collect();
            if members.is_empty() {
                continue;
            }
            parts.push(match (value, self.constants(members)) {
                (Some(value), Some(list)) => format!("({value} IN ({list}))"),
                _ => "NULL".into(),
            });
        }
        if list.contains(&Constant::Null) {
            parts.push(match &value.null {
                Some(null) => format!("CASE WHEN {null} THEN 1 END"),
                None => "NULL".into(),
            });
        }
        if list.contains(&Constant::Undefined) {
            parts.push("NULL".into());
        }
        balanced(parts, "OR")
    }

    fn defined(&mut self, argument: &Expression) -> String {
        let Expression::Path(path) = argument else {
            let value = self.value(argument);
            let parts = [value.boolean, value.number, value.text]
                .into_iter()
                .flatten();
            let parts: Vec<String> = parts
                .map(|sql| format!("({sql} IS NOT NULL)"))
                .chain(value.null)
                .collect();
            return if parts.is_empty() {
                "0".into()
            } else {
                balanced(parts, "OR")
            };
        };
        match self.operand(path) {
            Operand::Json { column, path } => {
                format!("(json_type({column}, '{path}') IS NOT NULL)")
            }
            Operand::Number(sql)
            | Operand::Text {
                sql,
                null: Null::Absent,
            } => format!("({sql} IS NOT NULL)"),
            Operand::ObjectIf { object, null } => match null {
                Some(null) => format!("(({object}) OR ({null}))"),
                None => format!("({object})"),
            },
            Operand::Text { .. } | Operand::Boolean(_) | Operand::Object => "1".into(),
            Operand::Undefined => "0".into(),
        }
    }

    fn text_function(&mut self, function: Function, arguments: &[Expression]) -> String {
        let [text, part] = arguments else {
            return "NULL".into();
        };
        let name = match function {
            Function::StartsWith => "starts_with",
            Function::EndsWith => "ends_with",
            Function::IsDefined => return "NULL".into(),
        };
        match (self.value(text).text, self.value(part).text) {
            (Some(text), Some(part)) => format!("{name}({text}, {part})"),
            _ => "NULL".into(),
        }
    }

    fn operand(&self, path: &Path) -> Operand {
        let segments: Vec<&str> = path.segments().iter().map(String::as_str).collect();
        (self.resolve)(&segments)
    }

    /// A constant in SQL: a parameter if it is a number or a text.
    fn constant(&mut self, constant: &Constant) -> Option<String> {
        let parameter = match constant {
            Constant::Undefined | Constant::Null => return None,
            Constant::Boolean(value) => return Some(u8::from(*value).to_string()),
            Constant::Number(number) => match number.as_i64() {
                Some(integer) => Value::Integer(integer),
                None => Value::Real(number.as_f64()?),
            },
            Constant::String(text) => Value::Text(text.clone()),
        };
        self.parameters.push(parameter);
        Some(format!("?{}", self.offset + self.parameters.len()))
    }

    fn constants(&mut self, constants: Vec<&Constant>) -> Option<String> {
        let list: Option<Vec<String>> = constants
            .into_iter()
            .map(|constant| self.constant(constant))
            .collect();
        Some(list?.join(", "))
    }
}

//! Evaluates a condition for one document.
//!
//! As in the service (and in Cosmos DB below it) a value may be *undefined*, and so may a
//! condition:
//!
//! - An absent member is undefined. So is, with any operator, a comparison of values of different
//!   types, of objects or of arrays: `tags.floor != 3` matches neither a document without a floor
//!   nor one with floor `'3'`. JSON's null is a type of its own and equals itself.
//! - `x IN [a, b]` is `x = a OR x = b`, and `NIN` its negation.
//! - `AND` and `OR` are decided by one side if it is false or true, respectively; otherwise they
//!   are undefined if one side is. A value that is not a boolean counts as undefined. `NOT` of
//!   undefined is undefined.
//! - Texts compare by code points; false is less than true. Arithmetic is in double precision; it
//!   is undefined without two numbers or a finite result.
//!
//! A document matches only if the condition is true.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::ast::{
    ArithmeticOperator, ComparisonOperator, Condition, Constant, Expression, Function, Path,
};

/// Whether `condition` is true for `document`, which is a twin as the service shows it or a
/// device's record in a job.
#[must_use]
pub fn matches(condition: &Condition, document: &Value) -> bool {
    truth(condition, document) == Some(true)
}

/// The value of `expression` for `document`; `None` if it is undefined.
#[must_use]
pub fn evaluate<'a>(expression: &'a Expression, document: &'a Value) -> Option<Cow<'a, Value>> {
    match expression {
        Expression::Constant(constant) => constant_value(constant).map(Cow::Owned),
        Expression::Path(path) => lookup(path, document).map(Cow::Borrowed),
        Expression::Arithmetic { first, rest } => {
            let mut result = number(first, document)?;
            for (operator, operand) in rest {
                result = calculate(result, *operator, number(operand, document)?)?;
            }
            Number::from_f64(result).map(|number| Cow::Owned(Value::Number(number)))
        }
        logical => truth(logical, document).map(|truth| Cow::Owned(Value::Bool(truth))),
    }
}

/// Whether `expression` is true or false; `None` if it is undefined or not a boolean.
fn truth(expression: &Expression, document: &Value) -> Option<bool> {
    match expression {
        Expression::Or(parts) => decide(parts, true, document),
        Expression::And(parts) => decide(parts, false, document),
        Expression::Not(inner) => truth(inner, document).map(|truth| !truth),
        Expression::Comparison {
            operator,
            left,
            right,
        } => {
            let (left, right) = (evaluate(left, document)?, evaluate(right, document)?);
            compare(&left, &right).map(|ordering| holds(*operator, ordering))
        }
        Expression::In {
            value,
            list,
            negated,
        } => {
            let value = evaluate(value, document)?;
            let equals = |constant| Some(compare(&value, &constant_value(constant)?)?.is_eq());
            let is_in = first_decisive(list.iter().map(equals), true)?;
            Some(is_in != *negated)
        }
        Expression::Call {
            function,
            arguments,
        } => call(*function, arguments, document),
        value => evaluate_boolean(value, document),
    }
}

fn evaluate_boolean(expression: &Expression, document: &Value) -> Option<bool> {
    match expression {
        Expression::Constant(Constant::Boolean(value)) => Some(*value),
        Expression::Path(path) => lookup(path, document)?.as_bool(),
        _ => None,
    }
}

/// The value of `OR` (`decisive` is true) or `AND` (`decisive` is false).
fn decide(parts: &[Expression], decisive: bool, document: &Value) -> Option<bool> {
    first_decisive(parts.iter().map(|part| truth(part, document)), decisive)
}

/// `decisive` if any part is; else undefined if any part is; else the opposite.
fn first_decisive(parts: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut result = Some(!decisive);
    for part in parts {
        if part == Some(decisive) {
            return part;
        }
        result = result.and(part);
    }
    result
}

fn call(function: Function, arguments: &[Expression], document: &Value) -> Option<bool> {
    let texts = |judge: fn(&str, &str) -> bool, text, part| {
        let (text, part) = (evaluate(text, document)?, evaluate(part, document)?);
        Some(judge(text.as_str()?, part.as_str()?))
    };
    match (function, arguments) {
        (Function::IsDefined, [argument]) => Some(evaluate(argument, document).is_some()),
        (Function::StartsWith, [text, part]) => {
            texts(|text, part| text.starts_with(part), text, part)
        }
        (Function::EndsWith, [text, part]) => texts(|text, part| text.ends_with(part), text, part),
        // The parser ensures the number of arguments.
        _ => None,
    }
}

/// The member that a path leads to.
pub(super) fn lookup<'a>(path: &Path, document: &'a Value) -> Option<&'a Value> {
    path.segments
        .iter()
        .try_fold(document, |value, name| value.as_object()?.get(name))
}

fn constant_value(constant: &Constant) -> Option<Value> {
    match constant {
        Constant::Undefined => None,
        Constant::Null => Some(Value::Null),
        Constant::Boolean(value) => Some(Value::Bool(*value)),
        Constant::Number(number) => Some(Value::Number(number.clone())),
        Constant::String(text) => Some(Value::String(text.clone())),
    }
}

const fn holds(operator: ComparisonOperator, ordering: Ordering) -> bool {
    match operator {
        ComparisonOperator::Equal => ordering.is_eq(),
        ComparisonOperator::NotEqual => ordering.is_ne(),
        ComparisonOperator::Less => ordering.is_lt(),
        ComparisonOperator::LessOrEqual => ordering.is_le(),
        ComparisonOperator::Greater => ordering.is_gt(),
        ComparisonOperator::GreaterOrEqual => ordering.is_ge(),
    }
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => compare_numbers(left, right),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn compare_numbers(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        (Some(left), None) => compare_mixed(left, right.as_f64()?),
        (None, Some(right)) => compare_mixed(right, left.as_f64()?).map(Ordering::reverse),
        (None, None) => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// Exact: an integer is not rounded for the comparison.
#[expect(
    clippy::cast_possible_truncation,
    reason = "beyond i128 the cast gives its minimum or maximum, which no JSON integer reaches"
)]
fn compare_mixed(integer: i128, float: f64) -> Option<Ordering> {
    let whole = float.trunc();
    let fraction = (float - whole).partial_cmp(&0.0)?;
    Some(integer.cmp(&(whole as i128)).then(fraction.reverse()))
}

fn number(expression: &Expression, document: &Value) -> Option<f64> {
    evaluate(expression, document)?.as_f64()
}

fn calculate(left: f64, operator: ArithmeticOperator, right: f64) -> Option<f64> {
    let result = match operator {
        ArithmeticOperator::Add => left + right,
        ArithmeticOperator::Subtract => left - right,
        ArithmeticOperator::Multiply => left * right,
        ArithmeticOperator::Divide => left / right,
        ArithmeticOperator::Remainder => left % right,
    };
    result.is_finite().then_some(result)
}

#[cfg(test)]
mod tests;

//! SQL functions with the semantics of the query language where SQLite's differ.

use iothub_protocol::query::Accumulator;
use ring::digest::{SHA256, digest};
use rusqlite::Connection;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::ValueRef;
use serde_json::Value;

use super::value::{BOOLEAN, COMPOUND, NULL, NUMBER, TEXT};

/// Registers the functions on a connection.
pub(in crate::store) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let pure = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    // Etags are stored as counters, but compared as the text that clients see.
    connection.create_scalar_function("etag_text", 1, pure, |arguments| {
        let counter: i64 = arguments.get(0)?;
        Ok(iothub_protocol::twin::etag(counter.unsigned_abs()))
    })?;
    connection.create_scalar_function("starts_with", 2, pure, |arguments| {
        Ok(texts(arguments)?.map(|(text, part)| text.starts_with(&part)))
    })?;
    connection.create_scalar_function("ends_with", 2, pure, |arguments| {
        Ok(texts(arguments)?.map(|(text, part)| text.ends_with(&part)))
    })?;
    connection.create_scalar_function("calculate", -1, pure, calculate)?;
    connection.create_scalar_function("group_key", -1, pure, group_key)?;
    for (name, start) in [
        ("sum_of", Accumulator::sum as Start),
        ("average_of", Accumulator::average),
        ("minimum_of", Accumulator::minimum),
        ("maximum_of", Accumulator::maximum),
    ] {
        connection.create_aggregate_function(name, 2, pure, AggregateFunction(start))?;
    }
    Ok(())
}

/// Two text arguments; `None` if one is NULL.
fn texts(arguments: &Context<'_>) -> rusqlite::Result<Option<(String, String)>> {
    let (text, part): (Option<String>, Option<String>) = (arguments.get(0)?, arguments.get(1)?);
    Ok(text.zip(part))
}

/// Maximum length of a group key in bytes: it is part of a header.
const KEY_BYTES: usize = 256;

/// Encodes any number of (rank, value) pairs as a blob: equal for equal values, and sorted like the
/// values, except that a key that is too long ends with a digest.
fn group_key(arguments: &Context<'_>) -> rusqlite::Result<Vec<u8>> {
    let mut key = Vec::new();
    for index in (0..arguments.len()).step_by(2) {
        let rank: i64 = arguments.get(index)?;
        // Objects and arrays cannot be compared and count as undefined.
        key.push(if rank == COMPOUND {
            0
        } else {
            rank.to_be_bytes()[7]
        });
        match arguments.get_raw(index + 1) {
            ValueRef::Text(text) => {
                for &byte in text {
                    key.push(byte);
                    if byte == 0 {
                        key.push(0xFF);
                    }
                }
                key.extend([0, 0]);
            }
            ValueRef::Null | ValueRef::Blob(_) => {}
            ValueRef::Integer(_) | ValueRef::Real(_) => {
                let number: f64 = arguments.get(index + 1)?;
                key.extend(in_order(number).to_be_bytes());
            }
        }
    }
    if key.len() > KEY_BYTES {
        let whole = digest(&SHA256, &key);
        key.truncate(KEY_BYTES - whole.as_ref().len());
        key.extend(whole.as_ref());
    }
    Ok(key)
}

/// Maps a number to an unsigned integer with the same order; minus zero equals zero.
const fn in_order(number: f64) -> u64 {
    const SIGN: u64 = 1 << 63;
    let bits = (number + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

type Start = fn() -> Accumulator;

/// An aggregate over (rank, value) pairs that returns JSON; NULL if the result is undefined.
struct AggregateFunction(Start);

impl Aggregate<Accumulator, Option<String>> for AggregateFunction {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Accumulator> {
        Ok(self.0())
    }

    fn step(&self, arguments: &mut Context<'_>, total: &mut Accumulator) -> rusqlite::Result<()> {
        let value = json_value(arguments.get(0)?, arguments.get_raw(1))?;
        total.add(value.as_ref());
        Ok(())
    }

    fn finalize(
        &self,
        _: &mut Context<'_>,
        total: Option<Accumulator>,
    ) -> rusqlite::Result<Option<String>> {
        let total = total.unwrap_or_else(self.0);
        Ok(total.finish().map(|value| value.to_string()))
    }
}

/// The value of a rank; `None` if it is undefined. An object or an array becomes an empty array.
pub(super) fn json_value(rank: i64, value: ValueRef<'_>) -> rusqlite::Result<Option<Value>> {
    Ok(Some(match (rank, value) {
        (NULL, _) => Value::Null,
        (BOOLEAN, value) => (value.as_i64()? != 0).into(),
        (NUMBER, ValueRef::Integer(number)) => number.into(),
        (NUMBER, value) => value.as_f64()?.into(),
        (TEXT, value) => value.as_str()?.into(),
        (COMPOUND, _) => Value::Array(Vec::new()),
        _ => return Ok(None),
    }))
}

/// Arguments: a number, then pairs of operator and number. Evaluates from left to right in double
/// precision; NULL if an operand is missing or a result is not finite. (SQLite's own remainder is
/// for integers only.)
fn calculate(arguments: &Context<'_>) -> rusqlite::Result<Option<f64>> {
    let mut result: Option<f64> = arguments.get(0)?;
    for index in (1..arguments.len()).step_by(2) {
        let operator: String = arguments.get(index)?;
        let right: Option<f64> = arguments.get(index + 1)?;
        let Some((left, right)) = result.zip(right) else {
            return Ok(None);
        };
        let value = match operator.as_str() {
            "+" => left + right,
            "-" => left - right,
            "*" => left * right,
            "/" => left / right,
            _ => left % right,
        };
        result = Some(value).filter(|value| value.is_finite());
    }
    Ok(result)
}

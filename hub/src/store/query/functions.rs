//! What SQLite does not do as the query language has it.

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};

/// Adds the functions to a connection.
pub(in crate::store) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let pure = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    // Etags are stored as counters, and compared as the text that clients see.
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
    connection.create_scalar_function("calculate", -1, pure, calculate)
}

/// Both texts; none when one is NULL.
fn texts(arguments: &Context<'_>) -> rusqlite::Result<Option<(String, String)>> {
    let (text, part): (Option<String>, Option<String>) = (arguments.get(0)?, arguments.get(1)?);
    Ok(text.zip(part))
}

/// A number, then operators and numbers in turn, from left to right, in double precision; NULL as soon as there is no number or no finite
/// result. (SQLite's own remainder is of integers alone.)
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

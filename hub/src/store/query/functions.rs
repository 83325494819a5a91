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
    connection.create_scalar_function("calculate", 3, pure, calculate)
}

/// Both texts; none when one is NULL.
fn texts(arguments: &Context<'_>) -> rusqlite::Result<Option<(String, String)>> {
    let (text, part): (Option<String>, Option<String>) = (arguments.get(0)?, arguments.get(1)?);
    Ok(text.zip(part))
}

/// Double precision; NULL without two numbers or a finite result. (SQLite's own remainder is of integers alone.)
fn calculate(arguments: &Context<'_>) -> rusqlite::Result<Option<f64>> {
    let operator: String = arguments.get(0)?;
    let (left, right): (Option<f64>, Option<f64>) = (arguments.get(1)?, arguments.get(2)?);
    let Some((left, right)) = left.zip(right) else {
        return Ok(None);
    };
    let result = match operator.as_str() {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "/" => left / right,
        _ => left % right,
    };
    Ok(Some(result).filter(|result| result.is_finite()))
}

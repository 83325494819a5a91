//! The query language: which devices, and what of them.
//!
//! ```text
//! query     := SELECT [TOP n] ('*' | item (',' item)*) FROM source [WHERE condition] [GROUP BY path (',' path)*]
//! source    := devices | devices.modules | devices.jobs
//! item      := (path | COUNT() | (AVG | SUM | MIN | MAX) '(' path ')') [AS name]
//! condition := and (OR and)*
//! and       := not (AND not)*
//! not       := NOT not | sum [(= | != | <> | < | <= | > | >=) sum | (IN | NIN) '[' constant (',' constant)* ']']
//! sum       := product ((+ | -) product)*
//! product   := operand ((* | / | %) operand)*
//! operand   := constant | path | function '(' condition (',' condition)* ')' | '(' condition ')'
//! path      := name ('.' name | '[' string ']')*
//! name      := word | '[[' any text without ']]' ']]'
//! constant  := undefined | null | true | false | [-] number | string
//! ```
//!
//! Keywords, functions and the names at the root of a document have no case; the names below do. A
//! job's condition is a `condition` alone (or `*`, which is not part of the language). A name in
//! `[[ ]]` is never a keyword. The grammar is that of "IoT Hub query language for device and module
//! twins, jobs, and message routing", with `true`, `false`, `STARTSWITH`, `ENDSWITH` and brackets,
//! which the service is known to take or can do no harm.
//!
//! [`parse`] and [`parse_condition`] say exactly where a mistake is and what was expected. What is
//! parsed prints as text that parses to the same again. [`matches()`] judges one document and
//! [`answer()`] answers a whole query; they are the measure for whatever a store makes of it.
//!
//! Every member of a row has a name of its own, and a row of a group shows only what the whole
//! group has: what it is grouped by, and aggregates. `devices.jobs` has no aggregates and no
//! groups.

pub use aggregate::{Accumulator, number};
pub use ast::{
    Aggregate, ArithmeticOperator, ComparisonOperator, Condition, Constant, Expression, Function,
    Path, Projection, ProjectionItem, ProjectionValue, Query, Source,
};
pub use error::{Position, QueryError};
pub use eval::{evaluate, matches};
pub use rows::{answer, column_names, project};

mod aggregate;
mod ast;
mod display;
mod error;
mod eval;
mod lexer;
mod names;
mod parser;
mod rows;

/// The longest text, in characters.
pub const MAX_CHARACTERS: usize = 8192;

/// How deep parentheses, functions and `NOT` may be within each other.
pub const MAX_DEPTH: usize = 32;

/// The most properties in a `GROUP BY`.
pub const MAX_GROUP_BY: usize = 16;

/// Reads a query.
///
/// # Errors
///
/// The first mistake, where it is and what was expected there.
pub fn parse(text: &str) -> Result<Query, QueryError> {
    parser::Parser::new(text)?.query()
}

/// The first keyword that a path of the query or condition names without brackets, such as `group`
/// in `tags.group`. This language takes it; Azure IoT Hub asks for `tags.[[group]]`.
#[must_use]
pub fn bare_keyword(text: &str) -> Option<&str> {
    parser::bare_keyword(text)
}

/// Reads the condition of a query on devices: what stands after `WHERE`, and in a job.
///
/// # Errors
///
/// The first mistake, where it is and what was expected there.
pub fn parse_condition(text: &str) -> Result<Condition, QueryError> {
    parser::Parser::new(text)?.lone_condition()
}

#[cfg(test)]
mod tests;

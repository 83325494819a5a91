//! The query language: selects devices or their jobs, and members of each.
//!
//! ```text
//! query     := SELECT [TOP n] ('*' | item (',' item)*) FROM source [WHERE condition]
//!              [GROUP BY path (',' path)*]
//! source    := devices | devices.modules | devices.jobs
//! item      := (path | COUNT() | (AVG | SUM | MIN | MAX) '(' path ')') [AS name]
//! condition := and (OR and)*
//! and       := not (AND not)*
//! not       := NOT not | sum [(= | != | <> | < | <= | > | >=) sum
//!              | (IN | NIN) '[' constant (',' constant)* ']']
//! sum       := product ((+ | -) product)*
//! product   := operand ((* | / | %) operand)*
//! operand   := constant | path | function '(' condition (',' condition)* ')' | '(' condition ')'
//! path      := name ('.' name | '[' string ']')*
//! name      := word | '[[' any text without ']]' ']]'
//! constant  := undefined | null | true | false | [-] number | string
//! ```
//!
//! Keywords, functions and the names at the root of a document are not case-sensitive; the names
//! below are. A job's condition is a `condition` alone (or `*`, which is not part of the language).
//! A name in `[[ ]]` is never a keyword. The grammar is that of "IoT Hub query language for device
//! and module twins, jobs, and message routing", extended by `true`, `false`, `STARTSWITH`,
//! `ENDSWITH` and brackets, which the service is known to accept or which are harmless.
//!
//! [`parse`] and [`parse_condition`] report the position of a mistake and what was expected there.
//! A parsed query prints as text that parses to the same query. [`matches()`] evaluates a condition
//! for one document, [`answer()`] a whole query; they define the result that a store's own
//! implementation must give.
//!
//! Every member of a row has a unique name. A row of a group contains only what is the same in the
//! whole group (the `GROUP BY` properties) and aggregates. `devices.jobs` has neither aggregates
//! nor groups.

pub use aggregate::{Accumulator, number};
pub use ast::{
    Aggregate, ArithmeticOperator, ComparisonOperator, Condition, Constant, Expression, Function,
    Path, Projection, ProjectionItem, ProjectionValue, Query, Source,
};
pub use error::{Position, QueryError};
pub use eval::{evaluate, matches};
pub use names::roots;
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

/// Maximum length of a query or condition, in characters.
pub const MAX_CHARACTERS: usize = 8192;

/// Maximum nesting of parentheses, functions and `NOT`.
pub const MAX_DEPTH: usize = 32;

/// Maximum number of properties in a `GROUP BY`.
pub const MAX_GROUP_BY: usize = 16;

/// Parses a query.
///
/// # Errors
///
/// The first mistake, with its position and what was expected there.
pub fn parse(text: &str) -> Result<Query, QueryError> {
    parser::Parser::new(text)?.query()
}

/// The first keyword used without brackets in a path of the query or condition, such as `group` in
/// `tags.group`. This parser accepts it; Azure IoT Hub requires `tags.[[group]]`.
#[must_use]
pub fn bare_keyword(text: &str) -> Option<&str> {
    parser::bare_keyword(text)
}

/// Parses the condition of a query on devices, as after `WHERE` or in a job.
///
/// # Errors
///
/// The first mistake, with its position and what was expected there.
pub fn parse_condition(text: &str) -> Result<Condition, QueryError> {
    parser::Parser::new(text)?.lone_condition()
}

#[cfg(test)]
mod tests;

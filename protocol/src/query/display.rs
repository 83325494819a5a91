//! Prints a query as text that parses to the same query.

use std::fmt::{self, Display, Formatter, Write as _};

use super::ast::{
    Aggregate, ArithmeticOperator, ComparisonOperator, Constant, Expression, Path, Projection,
    ProjectionItem, ProjectionValue, Query, Source,
};
use super::lexer::{is_word, is_word_start};
use super::names::is_keyword;

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SELECT ")?;
        if let Some(top) = self.top {
            write!(f, "TOP {top} ")?;
        }
        write!(f, "{} FROM {}", self.projection, self.source)?;
        if let Some(condition) = &self.condition {
            write!(f, " WHERE {condition}")?;
        }
        if !self.group_by.is_empty() {
            f.write_str(" GROUP BY ")?;
            join(f, &self.group_by, ", ", Display::fmt)?;
        }
        Ok(())
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Devices => "devices",
            Self::Modules => "devices.modules",
            Self::Jobs => "devices.jobs",
        })
    }
}

impl Display for Projection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Items(items) => join(f, items, ", ", Display::fmt),
        }
    }
}

impl Display for ProjectionItem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.value {
            ProjectionValue::Path(path) => write!(f, "{path}")?,
            ProjectionValue::Aggregate(aggregate) => write!(f, "{aggregate}")?,
        }
        match &self.alias {
            None => Ok(()),
            Some(alias) if is_plain(alias) && !is_keyword(alias) => write!(f, " AS {alias}"),
            Some(alias) => write!(f, " AS [[{alias}]]"),
        }
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("COUNT()"),
            Self::Average(path) => write!(f, "AVG({path})"),
            Self::Sum(path) => write!(f, "SUM({path})"),
            Self::Minimum(path) => write!(f, "MIN({path})"),
            Self::Maximum(path) => write!(f, "MAX({path})"),
        }
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, name) in self.segments.iter().enumerate() {
            match (index, is_plain(name)) {
                (0, _) => f.write_str(name)?,
                (_, true) => write!(f, ".{name}")?,
                (_, false) => {
                    f.write_str("[")?;
                    write_string(f, name)?;
                    f.write_str("]")?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a name that is not a keyword can be written without brackets.
fn is_plain(name: &str) -> bool {
    name.starts_with(is_word_start) && name.chars().all(is_word)
}

/// Precedence of an expression; one that binds less tightly than its context requires is put in
/// parentheses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Or,
    And,
    Not,
    Comparison,
    Sum,
    Product,
    Operand,
}

impl Expression {
    fn rank(&self) -> Rank {
        match self {
            Self::Or(_) => Rank::Or,
            Self::And(_) => Rank::And,
            Self::Not(_) => Rank::Not,
            Self::Comparison { .. } | Self::In { .. } => Rank::Comparison,
            Self::Arithmetic { rest, .. }
                if rest.iter().all(|(operator, _)| operator.is_product()) =>
            {
                Rank::Product
            }
            Self::Arithmetic { .. } => Rank::Sum,
            Self::Constant(_) | Self::Path(_) | Self::Call { .. } => Rank::Operand,
        }
    }

    fn write(&self, f: &mut Formatter<'_>, least: Rank) -> fmt::Result {
        if self.rank() < least {
            write!(f, "({self})")
        } else {
            write!(f, "{self}")
        }
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(constant) => write!(f, "{constant}"),
            Self::Path(path) => write!(f, "{path}"),
            Self::Or(parts) => join(f, parts, " OR ", |part, f| part.write(f, Rank::And)),
            Self::And(parts) => join(f, parts, " AND ", |part, f| part.write(f, Rank::Not)),
            Self::Not(inner) => {
                f.write_str("NOT ")?;
                inner.write(f, Rank::Not)
            }
            Self::Comparison {
                operator,
                left,
                right,
            } => {
                left.write(f, Rank::Sum)?;
                write!(f, " {operator} ")?;
                right.write(f, Rank::Sum)
            }
            Self::In {
                value,
                list,
                negated,
            } => {
                value.write(f, Rank::Sum)?;
                f.write_str(if *negated { " NIN [" } else { " IN [" })?;
                join(f, list, ", ", Display::fmt)?;
                f.write_str("]")
            }
            Self::Arithmetic { first, rest } => {
                let least = if self.rank() == Rank::Sum {
                    Rank::Product
                } else {
                    Rank::Operand
                };
                first.write(f, least)?;
                rest.iter().try_for_each(|(operator, operand)| {
                    write!(f, " {operator} ")?;
                    operand.write(f, least)
                })
            }
            Self::Call {
                function,
                arguments,
            } => {
                write!(f, "{}(", function.name())?;
                join(f, arguments, ", ", Display::fmt)?;
                f.write_str(")")
            }
        }
    }
}

impl Display for Constant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undefined => f.write_str("undefined"),
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::String(text) => write_string(f, text),
        }
    }
}

impl Display for ComparisonOperator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

impl Display for ArithmeticOperator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        })
    }
}

fn write_string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("'")?;
    for c in text.chars() {
        match c {
            '\'' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_str("'")
}

fn join<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    separator: &str,
    write: impl Fn(&T, &mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        write(item, f)?;
    }
    Ok(())
}

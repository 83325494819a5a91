//! Conditions, from `OR`, which binds least tightly, down to a single value.

use serde_json::Number;

use super::Parser;
use super::cursor::either;
use crate::query::MAX_DEPTH;
use crate::query::ast::{ArithmeticOperator, ComparisonOperator, Constant, Expression, Function};
use crate::query::error::QueryError;
use crate::query::lexer::{Excerpt, TokenKind};

const COMPARISONS: [(&str, ComparisonOperator); 7] = [
    ("=", ComparisonOperator::Equal),
    ("!=", ComparisonOperator::NotEqual),
    ("<>", ComparisonOperator::NotEqual),
    ("<", ComparisonOperator::Less),
    ("<=", ComparisonOperator::LessOrEqual),
    (">", ComparisonOperator::Greater),
    (">=", ComparisonOperator::GreaterOrEqual),
];

/// Whether a symbol compares two values.
pub(super) fn is_comparison(symbol: &str) -> bool {
    COMPARISONS.iter().any(|(known, _)| *known == symbol)
}

const SUM: [(&str, ArithmeticOperator); 2] = [
    ("+", ArithmeticOperator::Add),
    ("-", ArithmeticOperator::Subtract),
];

const PRODUCT: [(&str, ArithmeticOperator); 3] = [
    ("*", ArithmeticOperator::Multiply),
    ("/", ArithmeticOperator::Divide),
    ("%", ArithmeticOperator::Remainder),
];

/// What may follow a value.
pub(super) const AFTER_VALUE: &[&str] = &["an operator such as `=`", "`IN`", "`AND`", "`OR`"];
/// What may follow a comparison.
const AFTER_COMPARISON: &[&str] = &["`AND`", "`OR`"];

const A_VALUE: &str = "a property, a constant, a function, `NOT` or `(`";
const A_CONSTANT: &str = "a constant";

impl Parser<'_> {
    pub(super) fn condition(&mut self) -> Result<Expression, QueryError> {
        self.chain("OR", Self::conjunction, Expression::Or)
    }

    fn conjunction(&mut self) -> Result<Expression, QueryError> {
        self.chain("AND", Self::negation, Expression::And)
    }

    fn chain(
        &mut self,
        keyword: &'static str,
        part: fn(&mut Self) -> Result<Expression, QueryError>,
        make: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, QueryError> {
        let first = part(self)?;
        if !self.is_keyword(keyword) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.eat_keyword(keyword) {
            parts.push(part(self)?);
        }
        Ok(make(parts))
    }

    fn negation(&mut self) -> Result<Expression, QueryError> {
        if !self.is_keyword("NOT") {
            return self.comparison();
        }
        self.deeper(|parser| {
            parser.next += 1;
            Ok(Expression::Not(Box::new(parser.negation()?)))
        })
    }

    fn comparison(&mut self) -> Result<Expression, QueryError> {
        let left = Box::new(self.sum()?);
        self.may_follow = AFTER_VALUE;
        let compared = if let Some(operator) = self.eat_operator(&COMPARISONS) {
            let right = Box::new(self.sum()?);
            Expression::Comparison {
                operator,
                left,
                right,
            }
        } else if self.is_keyword("IN") || self.is_keyword("NIN") {
            let negated = self.eat_keyword("NIN") || !self.eat_keyword("IN");
            self.expect_symbol("[")?;
            let list = self.list(Self::constant)?;
            self.expect_end_of_list("]")?;
            Expression::In {
                value: left,
                list,
                negated,
            }
        } else {
            return Ok(*left);
        };
        self.may_follow = AFTER_COMPARISON;
        Ok(compared)
    }

    fn sum(&mut self) -> Result<Expression, QueryError> {
        self.arithmetic(&SUM, Self::product)
    }

    fn product(&mut self) -> Result<Expression, QueryError> {
        self.arithmetic(&PRODUCT, Self::operand)
    }

    fn arithmetic(
        &mut self,
        operators: &[(&str, ArithmeticOperator)],
        part: fn(&mut Self) -> Result<Expression, QueryError>,
    ) -> Result<Expression, QueryError> {
        let first = part(self)?;
        let mut rest = Vec::new();
        while let Some(operator) = self.eat_operator(operators) {
            rest.push((operator, part(self)?));
        }
        Ok(if rest.is_empty() {
            first
        } else {
            Expression::Arithmetic {
                first: Box::new(first),
                rest,
            }
        })
    }

    fn operand(&mut self) -> Result<Expression, QueryError> {
        if self.is_symbol("(") {
            return self.deeper(|parser| {
                parser.next += 1;
                let inner = parser.condition()?;
                let expected = either(&[parser.may_follow, &["`)`"]].concat());
                parser.expect_symbol_or(")", &expected)?;
                Ok(inner)
            });
        }
        if let Some(word) = self.called() {
            return self.deeper(|parser| parser.call(word));
        }
        if self.is_name() {
            self.path().map(Expression::Path)
        } else {
            self.constant_or(A_VALUE).map(Expression::Constant)
        }
    }

    fn call(&mut self, word: &str) -> Result<Expression, QueryError> {
        let function = Function::ALL
            .into_iter()
            .find(|function| function.name().eq_ignore_ascii_case(word));
        let Some(function) = function else {
            return Err(self.error_here(
                format!("unknown function `{}`", Excerpt(word)),
                "IS_DEFINED, STARTSWITH or ENDSWITH",
            ));
        };
        self.next += 2;
        let mut arguments = Vec::with_capacity(function.arity());
        for index in 0..function.arity() {
            if index > 0 {
                self.expect_symbol(",")?;
            }
            arguments.push(match function {
                Function::IsDefined => Expression::Path(self.path()?),
                Function::StartsWith | Function::EndsWith => self.condition()?,
            });
        }
        self.expect_symbol(")")?;
        Ok(Expression::Call {
            function,
            arguments,
        })
    }

    fn constant(&mut self) -> Result<Constant, QueryError> {
        self.constant_or(A_CONSTANT)
    }

    fn constant_or(&mut self, expected: &str) -> Result<Constant, QueryError> {
        let negative = self.eat_symbol("-");
        let constant = match self.peek().kind.clone() {
            TokenKind::Number(text) => Constant::Number(self.number(text, negative)?),
            _ if negative => return Err(self.unexpected("a number")),
            TokenKind::String(text) => Constant::String(text),
            TokenKind::Word(word) if word.eq_ignore_ascii_case("true") => Constant::Boolean(true),
            TokenKind::Word(word) if word.eq_ignore_ascii_case("false") => Constant::Boolean(false),
            TokenKind::Word(word) if word.eq_ignore_ascii_case("null") => Constant::Null,
            TokenKind::Word(word) if word.eq_ignore_ascii_case("undefined") => Constant::Undefined,
            _ => return Err(self.unexpected(expected)),
        };
        self.next += 1;
        Ok(constant)
    }

    fn number(&self, text: &str, negative: bool) -> Result<Number, QueryError> {
        let sign = if negative { "-" } else { "" };
        let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => i64::from_str_radix(&format!("{sign}{digits}"), 16)
                .ok()
                .map(Number::from),
            None => {
                let signed = format!("{sign}{text}");
                signed
                    .parse::<i64>()
                    .ok()
                    .map(Number::from)
                    .or_else(|| signed.parse().ok().and_then(Number::from_f64))
            }
        };
        number.ok_or_else(|| {
            self.error_here(
                format!("the number {} is too large", Excerpt(text)),
                "at most 1.8e308, or 0x7FFFFFFFFFFFFFFF",
            )
        })
    }

    /// Runs `inner` one nesting level deeper.
    fn deeper(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<Expression, QueryError>,
    ) -> Result<Expression, QueryError> {
        if self.depth == MAX_DEPTH {
            let expected =
                format!("at most {MAX_DEPTH} levels of parentheses, functions and `NOT`");
            return Err(self.error_here("the condition is too deep".to_owned(), expected));
        }
        self.depth += 1;
        let expression = inner(self)?;
        self.depth -= 1;
        self.may_follow = AFTER_VALUE;
        Ok(expression)
    }
}

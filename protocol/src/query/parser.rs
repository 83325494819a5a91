//! From tokens to a query. One function per rule of the grammar; the next token alone decides, so every mistake has one place.

use serde_json::Number;

use super::ast::{
    Aggregate, ArithmeticOperator, ComparisonOperator, Condition, Constant, Expression, Function,
    Path, Projection, ProjectionItem, ProjectionValue, Query, Source,
};
use super::error::{Position, QueryError};
use super::lexer::{LexError, Token, TokenKind, tokens};
use super::names::{KEYWORDS, canonical_root, roots};
use super::{MAX_CHARACTERS, MAX_DEPTH};

const COMPARISONS: [(&str, ComparisonOperator); 7] = [
    ("=", ComparisonOperator::Equal),
    ("!=", ComparisonOperator::NotEqual),
    ("<>", ComparisonOperator::NotEqual),
    ("<", ComparisonOperator::Less),
    ("<=", ComparisonOperator::LessOrEqual),
    (">", ComparisonOperator::Greater),
    (">=", ComparisonOperator::GreaterOrEqual),
];

const SUM: [(&str, ArithmeticOperator); 2] = [
    ("+", ArithmeticOperator::Add),
    ("-", ArithmeticOperator::Subtract),
];

const PRODUCT: [(&str, ArithmeticOperator); 3] = [
    ("*", ArithmeticOperator::Multiply),
    ("/", ArithmeticOperator::Divide),
    ("%", ArithmeticOperator::Remainder),
];

const AFTER_VALUE: &str = "an operator such as `=`, `IN`, `AND`, `OR`";
const AFTER_COMPARISON: &str = "`AND`, `OR`";
const A_VALUE: &str = "a property, a constant, a function, `NOT` or `(`";
const A_CONSTANT: &str = "a constant";

/// Reads one text.
pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    depth: usize,
    source: Source,
    /// What could have gone on where the last expression ended.
    goes_on_with: &'static str,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, QueryError> {
        if let Some((byte, _)) = text.char_indices().nth(MAX_CHARACTERS) {
            return Err(QueryError {
                position: Position::of(text, byte),
                message: format!("the text has {} characters", text.chars().count()),
                expected: Some(format!("at most {MAX_CHARACTERS}")),
            });
        }
        let tokens = tokens(text).map_err(
            |LexError {
                 byte,
                 message,
                 expected,
             }| QueryError {
                position: Position::of(text, byte),
                message,
                expected: expected.map(str::to_owned),
            },
        )?;
        Ok(Self {
            text,
            tokens,
            next: 0,
            depth: 0,
            source: Source::Devices,
            goes_on_with: AFTER_VALUE,
        })
    }

    pub(super) fn query(mut self) -> Result<Query, QueryError> {
        self.expect_keyword("SELECT")?;
        let top = self.top()?;
        let projection_at = self.next;
        let projection = self.projection()?;
        self.expect_keyword("FROM")?;
        self.source = self.source()?;
        if self.source == Source::Jobs && projection != Projection::All {
            self.next = projection_at;
            return Err(self.unexpected("`*`, which is all that can be selected from devices.jobs"));
        }
        let mut condition = None;
        let mut end = "`WHERE`, `GROUP BY` or the end";
        if self.eat_keyword("WHERE") {
            condition = Some(self.condition()?);
            end = "`GROUP BY` or the end";
        }
        let mut group_by = Vec::new();
        if self.source != Source::Jobs && self.eat_keyword("GROUP") {
            self.expect_keyword("BY")?;
            group_by = self.list(Self::path)?;
            end = "`,` or the end";
        } else if condition.is_some() {
            return self.end_of_condition(end).map(|()| Query {
                top,
                projection,
                source: self.source,
                condition,
                group_by,
            });
        }
        self.expect_end(end)?;
        Ok(Query {
            top,
            projection,
            source: self.source,
            condition,
            group_by,
        })
    }

    pub(super) fn lone_condition(mut self) -> Result<Condition, QueryError> {
        let condition = self.condition()?;
        self.end_of_condition("the end")?;
        Ok(condition)
    }

    fn top(&mut self) -> Result<Option<u64>, QueryError> {
        if !self.eat_keyword("TOP") {
            return Ok(None);
        }
        let rows = match &self.peek().kind {
            TokenKind::Number(text) => text.parse().ok().filter(|&rows| rows > 0),
            _ => None,
        };
        let rows = rows.ok_or_else(|| self.unexpected("a number of rows, 1 or more"))?;
        self.next += 1;
        Ok(Some(rows))
    }

    fn projection(&mut self) -> Result<Projection, QueryError> {
        if self.eat_symbol("*") {
            return Ok(Projection::All);
        }
        self.list(Self::item).map(Projection::Items)
    }

    fn item(&mut self) -> Result<ProjectionItem, QueryError> {
        let value = match self.aggregate()? {
            Some(aggregate) => ProjectionValue::Aggregate(aggregate),
            None => match &self.peek().kind {
                TokenKind::Word(word) if !is_keyword(word) => ProjectionValue::Path(self.path()?),
                _ => {
                    return Err(
                        self.unexpected("`*`, a property or one of COUNT, AVG, SUM, MIN, MAX")
                    );
                }
            },
        };
        let alias = if self.eat_keyword("AS") {
            Some(self.name("a name for the answer")?.to_owned())
        } else {
            None
        };
        Ok(ProjectionItem { value, alias })
    }

    fn aggregate(&mut self) -> Result<Option<Aggregate>, QueryError> {
        type OfPath = fn(Path) -> Aggregate;
        const OF_PATH: [(&str, OfPath); 4] = [
            ("AVG", Aggregate::Average),
            ("SUM", Aggregate::Sum),
            ("MIN", Aggregate::Minimum),
            ("MAX", Aggregate::Maximum),
        ];
        let Some(word) = self.called() else {
            return Ok(None);
        };
        let of_path = OF_PATH
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word));
        let aggregate = match of_path {
            _ if word.eq_ignore_ascii_case("COUNT") => {
                self.next += 2;
                Aggregate::Count
            }
            Some((_, make)) => {
                self.next += 2;
                make(self.path()?)
            }
            None => return Err(self.unexpected("COUNT, AVG, SUM, MIN or MAX")),
        };
        self.expect_symbol(")")?;
        Ok(Some(aggregate))
    }

    fn source(&mut self) -> Result<Source, QueryError> {
        const EXPECTED: &str = "`devices`, `devices.modules` or `devices.jobs`";
        if !self.eat_keyword("devices") {
            return Err(self.unexpected(EXPECTED));
        }
        if !self.eat_symbol(".") {
            return Ok(Source::Devices);
        }
        if self.eat_keyword("modules") {
            Ok(Source::Modules)
        } else if self.eat_keyword("jobs") {
            Ok(Source::Jobs)
        } else {
            Err(self.unexpected("`modules` or `jobs`"))
        }
    }

    fn condition(&mut self) -> Result<Expression, QueryError> {
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
        self.goes_on_with = AFTER_VALUE;
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
        self.goes_on_with = AFTER_COMPARISON;
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
                let expected = format!("{} or `)`", parser.goes_on_with);
                parser.expect_symbol_or(")", &expected)?;
                Ok(inner)
            });
        }
        if let Some(word) = self.called() {
            return self.deeper(|parser| parser.call(word));
        }
        match &self.peek().kind {
            TokenKind::Word(word) if !is_keyword(word) => self.path().map(Expression::Path),
            _ => self.constant_or(A_VALUE).map(Expression::Constant),
        }
    }

    fn call(&mut self, word: &str) -> Result<Expression, QueryError> {
        let function = Function::ALL
            .into_iter()
            .find(|function| function.name().eq_ignore_ascii_case(word));
        let Some(function) = function else {
            return Err(self.error_here(
                format!("unknown function `{word}`"),
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

    fn path(&mut self) -> Result<Path, QueryError> {
        let at = self.next;
        let mut segments = vec![self.name("a property, such as tags.building")?.to_owned()];
        loop {
            if self.eat_symbol(".") {
                segments.push(self.member()?);
            } else if self.eat_symbol("[") {
                segments.push(self.bracketed_name()?);
                self.expect_symbol("]")?;
            } else {
                break;
            }
        }
        let end = std::mem::replace(&mut self.next, at);
        let segments = self.resolve(segments)?;
        self.next = end;
        Ok(Path { segments })
    }

    /// A name after a dot, where keywords are names too.
    fn member(&mut self) -> Result<String, QueryError> {
        match self.peek().kind {
            TokenKind::Word(word) => {
                self.next += 1;
                Ok(word.to_owned())
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn bracketed_name(&mut self) -> Result<String, QueryError> {
        match self.peek().kind.clone() {
            TokenKind::String(name) => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("a name in quotes")),
        }
    }

    /// Takes the name of the collection from the front, and gives the root its own spelling. Called at the path's first token.
    fn resolve(&self, mut segments: Vec<String>) -> Result<Vec<String>, QueryError> {
        let prefix: &[&str] = match self.source {
            Source::Devices => &["devices"],
            Source::Modules => &["devices", "modules"],
            Source::Jobs => &["devices", "jobs"],
        };
        let is_prefixed = segments.len() > prefix.len()
            && prefix
                .iter()
                .zip(&segments)
                .all(|(known, segment)| known.eq_ignore_ascii_case(segment));
        if is_prefixed {
            segments.drain(..prefix.len());
        }
        let root = canonical_root(self.source, &segments[0]).ok_or_else(|| {
            self.error_here(
                format!("unknown property `{}`", segments[0]),
                roots(self.source).join(", "),
            )
        })?;
        root.clone_into(&mut segments[0]);
        if let ("properties", Some(section)) = (root, segments.get_mut(1)) {
            let known = ["desired", "reported"]
                .into_iter()
                .find(|known| known.eq_ignore_ascii_case(section));
            let known = known.ok_or_else(|| {
                self.error_here(
                    format!("unknown property `properties.{section}`"),
                    "properties.desired or properties.reported",
                )
            })?;
            known.clone_into(section);
        }
        Ok(segments)
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
                format!("the number {text} is too large"),
                "at most 1.8e308, or 0x7FFFFFFFFFFFFFFF",
            )
        })
    }

    /// One or more, with commas between them.
    fn list<T>(
        &mut self,
        item: fn(&mut Self) -> Result<T, QueryError>,
    ) -> Result<Vec<T>, QueryError> {
        let mut items = vec![item(self)?];
        while self.eat_symbol(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Runs `inner` one level deeper.
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
        self.goes_on_with = AFTER_VALUE;
        Ok(expression)
    }

    fn name(&mut self, expected: &str) -> Result<&'a str, QueryError> {
        match self.peek().kind {
            TokenKind::Word(word) if !is_keyword(word) => {
                self.next += 1;
                Ok(word)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    /// The name of the function, if a call comes next.
    fn called(&self) -> Option<&'a str> {
        match (
            &self.peek().kind,
            self.tokens.get(self.next + 1).map(|token| &token.kind),
        ) {
            (TokenKind::Word(word), Some(TokenKind::Symbol("("))) if !is_keyword(word) => {
                Some(word)
            }
            _ => None,
        }
    }

    fn peek(&self) -> &Token<'a> {
        &self.tokens[self.next]
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek().kind, TokenKind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek().kind, TokenKind::Symbol(found) if found == symbol)
    }

    fn eat(&mut self, is_next: bool) -> bool {
        self.next += usize::from(is_next);
        is_next
    }

    fn eat_keyword(&mut self, keyword: &str) -> bool {
        self.eat(self.is_keyword(keyword))
    }

    fn eat_symbol(&mut self, symbol: &str) -> bool {
        self.eat(self.is_symbol(symbol))
    }

    fn eat_operator<T: Copy>(&mut self, operators: &[(&str, T)]) -> Option<T> {
        let &(symbol, operator) = operators
            .iter()
            .find(|(symbol, _)| self.is_symbol(symbol))?;
        self.eat_symbol(symbol).then_some(operator)
    }

    fn expect_keyword(&mut self, keyword: &str) -> Result<(), QueryError> {
        if self.eat_keyword(keyword) {
            Ok(())
        } else {
            Err(self.unexpected(format!("`{keyword}`")))
        }
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), QueryError> {
        self.expect_symbol_or(symbol, &format!("`{symbol}`"))
    }

    fn expect_end_of_list(&mut self, symbol: &str) -> Result<(), QueryError> {
        self.expect_symbol_or(symbol, &format!("`,` or `{symbol}`"))
    }

    fn expect_symbol_or(&mut self, symbol: &str, expected: &str) -> Result<(), QueryError> {
        if self.eat_symbol(symbol) {
            Ok(())
        } else {
            Err(self.unexpected(expected))
        }
    }

    fn end_of_condition(&self, end: &str) -> Result<(), QueryError> {
        self.expect_end(&format!("{}, {end}", self.goes_on_with))
    }

    fn expect_end(&self, expected: &str) -> Result<(), QueryError> {
        if self.peek().kind == TokenKind::End {
            Ok(())
        } else {
            Err(self.unexpected(expected))
        }
    }

    fn unexpected(&self, expected: impl Into<String>) -> QueryError {
        self.error_here(format!("unexpected {}", self.peek().kind), expected)
    }

    fn error_here(&self, message: String, expected: impl Into<String>) -> QueryError {
        QueryError {
            position: Position::of(self.text, self.peek().span.start),
            message,
            expected: Some(expected.into()),
        }
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS
        .iter()
        .any(|keyword| keyword.eq_ignore_ascii_case(word))
}

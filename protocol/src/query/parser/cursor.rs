//! Access to the tokens: peek, take, or report what was expected.

use super::Parser;
use crate::query::error::{Position, QueryError};
use crate::query::lexer::{Token, TokenKind};
use crate::query::names::is_keyword;

/// Words of SQL, and what to write instead.
const SIMILAR_LANGUAGES: [(&str, &str); 5] = [
    (
        "LIKE",
        "STARTSWITH(tags.wing, 'ea') or ENDSWITH(tags.wing, 'st')",
    ),
    (
        "LIMIT",
        "TOP and the number after SELECT: SELECT TOP 5 * FROM devices",
    ),
    ("ORDER", "no order: the language has none"),
    ("IS", "= null, or NOT IS_DEFINED(tags.wing)"),
    (
        "BETWEEN",
        "two comparisons: tags.level >= 1 AND tags.level <= 5",
    ),
];

impl<'a> Parser<'a> {
    /// The name of the function, if a call is next.
    pub(super) fn called(&self) -> Option<&'a str> {
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

    pub(super) fn peek(&self) -> &Token<'a> {
        &self.tokens[self.next]
    }

    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek().kind, TokenKind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek().kind, TokenKind::Symbol(found) if found == symbol)
    }

    pub(super) fn eat(&mut self, is_next: bool) -> bool {
        self.next += usize::from(is_next);
        is_next
    }

    pub(super) fn eat_keyword(&mut self, keyword: &str) -> bool {
        self.eat(self.is_keyword(keyword))
    }

    pub(super) fn eat_symbol(&mut self, symbol: &str) -> bool {
        self.eat(self.is_symbol(symbol))
    }

    pub(super) fn eat_operator<T: Copy>(&mut self, operators: &[(&str, T)]) -> Option<T> {
        let &(symbol, operator) = operators
            .iter()
            .find(|(symbol, _)| self.is_symbol(symbol))?;
        self.eat_symbol(symbol).then_some(operator)
    }

    pub(super) fn expect_keyword(&mut self, keyword: &str) -> Result<(), QueryError> {
        if self.eat_keyword(keyword) {
            Ok(())
        } else {
            Err(self.unexpected(format!("`{keyword}`")))
        }
    }

    pub(super) fn expect_symbol(&mut self, symbol: &str) -> Result<(), QueryError> {
        self.expect_symbol_or(symbol, &format!("`{symbol}`"))
    }

    pub(super) fn expect_end_of_list(&mut self, symbol: &str) -> Result<(), QueryError> {
        self.expect_symbol_or(symbol, &format!("`,` or `{symbol}`"))
    }

    pub(super) fn expect_symbol_or(
        &mut self,
        symbol: &str,
        expected: &str,
    ) -> Result<(), QueryError> {
        if self.eat_symbol(symbol) {
            Ok(())
        } else {
            Err(self.unexpected(expected))
        }
    }

    pub(super) fn unexpected(&self, expected: impl Into<String>) -> QueryError {
        let message = format!("unexpected {}", self.peek().kind);
        match self.advice() {
            Some(advice) => self.error_here(message, advice),
            None => self.error_here(message, expected),
        }
    }

    /// What to write instead of the next token, if it is of a similar language.
    fn advice(&self) -> Option<&'static str> {
        const EQUAL: TokenKind<'static> = TokenKind::Symbol("=");
        match &self.peek().kind {
            TokenKind::Word(word) => {
                let mut known = SIMILAR_LANGUAGES.iter();
                known
                    .find(|(known, _)| known.eq_ignore_ascii_case(word))
                    .map(|(_, advice)| *advice)
            }
            kind if *kind == EQUAL && self.next > 0 && self.tokens[self.next - 1].kind == EQUAL => {
                Some("a single `=`")
            }
            _ => None,
        }
    }

    /// An error at the next token.
    pub(super) fn error_here(&self, message: String, expected: impl Into<String>) -> QueryError {
        self.error_at(self.next, message, expected)
    }

    /// An error at the token with index `token`.
    pub(super) fn error_at(
        &self,
        token: usize,
        message: String,
        expected: impl Into<String>,
    ) -> QueryError {
        QueryError {
            position: Position::of(self.text, self.tokens[token].span.start),
            message,
            expected: Some(expected.into()),
        }
    }

    pub(super) fn name(&mut self, expected: &str) -> Result<&'a str, QueryError> {
        match self.peek().kind {
            TokenKind::Word(name) | TokenKind::Bracketed(name) if self.is_name() => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    /// Whether a name that is not a keyword is next.
    pub(super) fn is_name(&self) -> bool {
        match self.peek().kind {
            TokenKind::Word(word) => !is_keyword(word),
            TokenKind::Bracketed(_) => true,
            _ => false,
        }
    }

    /// One or more items separated by commas.
    pub(super) fn list<T>(
        &mut self,
        item: fn(&mut Self) -> Result<T, QueryError>,
    ) -> Result<Vec<T>, QueryError> {
        let mut items = vec![item(self)?];
        while self.eat_symbol(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

/// `a, b or c`.
pub(super) fn either(parts: &[&str]) -> String {
    match parts {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

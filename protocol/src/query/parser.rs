//! The parser: one function for each rule of the grammar. The next token alone decides, so every
//! mistake has one position.

use super::MAX_CHARACTERS;
use super::ast::{Condition, Path, Query, Source};
use super::error::{Position, QueryError};
use super::lexer::{Excerpt, Token, TokenKind, tokens};
use super::names::{canonical_root, closest_root, is_keyword, roots};
use cursor::either;

mod cursor;
mod expression;
mod projection;

/// See [`super::bare_keyword`].
pub(super) fn bare_keyword(text: &str) -> Option<&str> {
    let tokens = tokens(text).ok()?;
    tokens.windows(2).find_map(|pair| match pair {
        [dot, name] if dot.kind == TokenKind::Symbol(".") => match name.kind {
            TokenKind::Word(word) if is_keyword(word) => Some(word),
            _ => None,
        },
        _ => None,
    })
}

/// A parser of one text.
pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    depth: usize,
    source: Source,
    /// Index of the first token of the last item.
    item_at: usize,
    /// What could have followed the last expression, for an error message.
    may_follow: &'static [&'static str],
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
        let tokens = tokens(text).map_err(|error| error.in_text(text))?;
        Ok(Self {
            text,
            tokens,
            next: 0,
            depth: 0,
            source: Source::Devices,
            item_at: 0,
            may_follow: expression::AFTER_VALUE,
        })
    }

    pub(super) fn query(mut self) -> Result<Query, QueryError> {
        self.expect_keyword("SELECT")?;
        let top = self.top()?;
        if let Some((source, _)) = self.source_ahead() {
            self.source = source;
        }
        let (projection, item_tokens) = self.projection()?;
        self.expect_keyword("FROM")?;
        let source = self.source()?;
        let condition = if self.eat_keyword("WHERE") {
            Some(self.condition()?)
        } else {
            None
        };
        let mut end = if condition.is_some() {
            self.may_follow.to_vec()
        } else {
            vec!["`WHERE`"]
        };
        let mut group_by = Vec::new();
        if source != Source::Jobs {
            end.push("`GROUP BY`");
            let group_at = self.next;
            if self.eat_keyword("GROUP") {
                self.expect_keyword("BY")?;
                group_by = self.group_by(group_at, &projection)?;
                end = vec!["`,`"];
            }
        }
        self.expect_end(end)?;
        let query = Query {
            top,
            projection,
            source,
            condition,
            group_by,
        };
        self.check_items(&query, &item_tokens)?;
        Ok(query)
    }

    /// The collection named after `FROM`, and the index of its token. It determines the root names
    /// before it.
    fn source_ahead(&mut self) -> Option<(Source, usize)> {
        let is_from = |&at: &usize| {
            let is_member = at > 0 && self.tokens[at - 1].kind == TokenKind::Symbol(".");
            let is_word = matches!(
                self.tokens[at].kind,
                TokenKind::Word(word) if word.eq_ignore_ascii_case("FROM")
            );
            is_word && !is_member
        };
        let at = (self.next..self.tokens.len()).find(is_from)? + 1;
        let here = std::mem::replace(&mut self.next, at);
        let source = self.source();
        self.next = here;
        Some((source.ok()?, at))
    }

    pub(super) fn lone_condition(mut self) -> Result<Condition, QueryError> {
        let condition = self.condition()?;
        self.expect_end(self.may_follow.to_vec())?;
        Ok(condition)
    }

    /// Expects the end of the text; `or_else` could have followed too.
    fn expect_end(&self, mut or_else: Vec<&str>) -> Result<(), QueryError> {
        if self.peek().kind == TokenKind::End {
            return Ok(());
        }
        or_else.push("the end");
        Err(self.unexpected(either(&or_else)))
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

    pub(super) fn path(&mut self) -> Result<Path, QueryError> {
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
        self.resolve(at, segments)
    }

    /// A name after a dot, where keywords are names too.
    fn member(&mut self) -> Result<String, QueryError> {
        match self.peek().kind {
            TokenKind::Word(name) | TokenKind::Bracketed(name) => {
                self.next += 1;
                Ok(name.to_owned())
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

    /// Removes the collection's name from the start, and corrects the spelling of the root name.
    /// `at` is the index of the path's first token.
    fn resolve(&self, at: usize, mut segments: Vec<String>) -> Result<Path, QueryError> {
        let prefixes: &[&[&str]] = match self.source {
            Source::Devices => &[&["devices"]],
            // The Azure CLI writes `devices.deviceId` for modules.
            Source::Modules => &[&["devices", "modules"], &["devices"]],
            Source::Jobs => &[&["devices", "jobs"]],
        };
        let is_prefix = |prefix: &&&[&str]| {
            segments.len() > prefix.len()
                && prefix
                    .iter()
                    .zip(&segments)
                    .all(|(known, segment)| known.eq_ignore_ascii_case(segment))
        };
        let prefix = prefixes.iter().find(is_prefix);
        segments.drain(..prefix.map_or(0, |prefix| prefix.len()));
        let root = canonical_root(self.source, &segments[0])
            .ok_or_else(|| self.unknown_property(at, &segments))?;
        root.clone_into(&mut segments[0]);
        if let ("properties", Some(section)) = (root, segments.get_mut(1)) {
            let known = ["desired", "reported"]
                .into_iter()
                .find(|known| known.eq_ignore_ascii_case(section));
            let known = known.ok_or_else(|| {
                self.error_at(
                    at,
                    format!("unknown property `properties.{}`", Excerpt(section)),
                    "properties.desired or properties.reported",
                )
            })?;
            known.clone_into(section);
        }
        Ok(Path { segments })
    }

    /// The error of a path whose first name is none at the root of a document, with the probable
    /// intention.
    fn unknown_property(&self, at: usize, segments: &[String]) -> QueryError {
        let (first, path) = (&segments[0], segments.join("."));
        let (first_shown, path) = (Excerpt(first), Excerpt(&path));
        let is_compared = at > 0
            && matches!(self.tokens[at - 1].kind, TokenKind::Symbol(symbol)
                if expression::is_comparison(symbol));
        let is_path = segments.len() > 1;
        let expected = match (closest_root(self.source, first, is_path), self.source) {
            _ if is_compared && !is_path => {
                format!("quotes around a text: '{first_shown}' (a shell removes double quotes)")
            }
            (Some(root), _) => format!("`{root}`, the closest name"),
            (None, Source::Jobs) => roots(self.source).join(", "),
            (None, _) if ["desired", "reported"].contains(&first.as_str()) => {
                format!("properties.{path}")
            }
            (None, _) => {
                format!("properties.desired.{path}, properties.reported.{path} or tags.{path}")
            }
        };
        self.error_at(at, format!("unknown property `{first_shown}`"), expected)
    }
}

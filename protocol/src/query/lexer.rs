//! The lexer: splits a text into words, numbers, strings and symbols, each with its position.

use std::fmt::{self, Write as _};
use std::ops::Range;

use winnow::LocatingSlice;
use winnow::combinator::{alt, delimited, dispatch, not, opt, peek, preceded, terminated};
use winnow::error::ParserError;
use winnow::prelude::*;
use winnow::stream::Location as _;
use winnow::token::{any, one_of, take_until, take_while};

use super::error::{Position, QueryError};

/// A word, number, string, symbol or the end of the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind<'a>,
    pub(super) span: Range<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind<'a> {
    /// A name or keyword.
    Word(&'a str),
    /// A name in `[[ ]]`, which is not a keyword.
    Bracketed(&'a str),
    /// A number without sign, as written.
    Number(&'a str),
    /// The value of a string.
    String(String),
    /// A symbol of [`SYMBOLS`].
    Symbol(&'static str),
    /// The end of the text.
    End,
}

impl fmt::Display for TokenKind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Number(text) => write!(f, "`{}`", Excerpt(text)),
            Self::Bracketed(text) => write!(f, "`[[{}]]`", Excerpt(text)),
            Self::String(text) => write!(f, "the string '{}'", Excerpt(text)),
            Self::Symbol(text) => write!(f, "`{text}`"),
            Self::End => f.write_str("end"),
        }
    }
}

/// The beginning of a text, for a message; characters that do not print are escaped.
pub(super) struct Excerpt<'a>(pub(super) &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.chars();
        for c in rest.by_ref().take(32) {
            if matches!(c, '\'' | '"' | '\\') {
                f.write_char(c)?;
            } else {
                write!(f, "{}", c.escape_debug())?;
            }
        }
        f.write_str(if rest.as_str().is_empty() { "" } else { "…" })
    }
}

/// All symbols; each comes before its own prefixes.
const SYMBOLS: [&str; 18] = [
    "!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", ".", "*", "/", "%", "+", "-",
];

/// A text that is not a token, with its position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LexError {
    pub(super) byte: usize,
    pub(super) message: String,
    pub(super) expected: Option<&'static str>,
}

impl LexError {
    /// The error with its position in `text`.
    pub(super) fn in_text(self, text: &str) -> QueryError {
        QueryError {
            position: Position::of(text, self.byte),
            message: self.message,
            expected: self.expected.map(str::to_owned),
        }
    }
}

type Input<'a> = LocatingSlice<&'a str>;

impl<'a> ParserError<Input<'a>> for LexError {
    type Inner = Self;

    fn from_input(input: &Input<'a>) -> Self {
        let message = match input.chars().next() {
            Some(c) => format!("unexpected `{}`", Excerpt(c.encode_utf8(&mut [0; 4]))),
            None => "unexpected end".to_owned(),
        };
        Self {
            byte: input.current_token_start(),
            message,
            expected: match input.chars().next() {
                Some('&') => Some("AND"),
                Some('|') => Some("OR"),
                Some('!') => Some("NOT"),
                Some(';') => Some("the end"),
                _ => None,
            },
        }
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// Splits `text` into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, LexError> {
    let mut input = LocatingSlice::new(text);
    let mut tokens: Vec<Token<'_>> = Vec::new();
    space(&mut input)?;
    while !input.is_empty() {
        let (kind, span) = terminated(token.with_span(), space).parse_next(&mut input)?;
        tokens.push(Token { kind, span });
    }
    tokens.push(Token {
        kind: TokenKind::End,
        span: text.len()..text.len(),
    });
    Ok(tokens)
}

fn space(input: &mut Input<'_>) -> Result<(), LexError> {
    take_while(0.., char::is_whitespace)
        .void()
        .parse_next(input)
}

fn token<'a>(input: &mut Input<'a>) -> Result<TokenKind<'a>, LexError> {
    dispatch! {peek(any);
        '\'' | '"' => string.map(TokenKind::String),
        '0'..='9' => number.map(TokenKind::Number),
        '[' => bracket,
        c if is_word_start(c) => word.map(TokenKind::Word),
        _ => symbol.map(TokenKind::Symbol),
    }
    .parse_next(input)
}

/// Whether a name without brackets may start with `c`.
pub(super) fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '$')
}

/// Whether a name without brackets may contain `c`.
pub(super) fn is_word(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit()
}

fn word<'a>(input: &mut Input<'a>) -> Result<&'a str, LexError> {
    let byte = input.current_token_start();
    let word = take_while(1.., is_word).parse_next(input)?;
    // As a difference, `my-tag` would silently match nothing.
    let rest: Result<&str, LexError> =
        peek(('-', take_while(1.., is_word)).take()).parse_next(input);
    match rest {
        Err(_) => Ok(word),
        Ok(rest) => Err(LexError {
            byte,
            message: format!("`{word}{rest}` is ambiguous: a name or a difference"),
            expected: Some(
                "quotes around a text ('my-text'), brackets around a name (tags['my-tag']), or \
                 spaces around a minus",
            ),
        }),
    }
}

/// A name in `[[ ]]`, or the symbol `[`.
fn bracket<'a>(input: &mut Input<'a>) -> Result<TokenKind<'a>, LexError> {
    let byte = input.current_token_start();
    let wrong = |message: &str, expected| LexError {
        byte,
        message: message.to_owned(),
        expected: Some(expected),
    };
    if !input.starts_with("[[") {
        return symbol.map(TokenKind::Symbol).parse_next(input);
    }
    let name: Result<&str, LexError> =
        delimited("[[", take_until(0.., "]]"), "]]").parse_next(input);
    match name.map(str::trim) {
        Err(_) => Err(wrong("the name is not closed", "a closing `]]`")),
        Ok("") => Err(wrong(
            "the brackets are empty",
            "a name, such as tags.[[group]]",
        )),
        Ok(name) => Ok(TokenKind::Bracketed(name)),
    }
}

fn number<'a>(input: &mut Input<'a>) -> Result<&'a str, LexError> {
    let byte = input.current_token_start();
    let end = not(one_of(is_word));
    terminated(alt((hexadecimal, decimal)), end)
        .parse_next(input)
        .map_err(|_: LexError| LexError {
            byte,
            message: "the number is followed by a letter".to_owned(),
            expected: Some("a number such as 3, 0x1F, 1.5 or 1e9"),
        })
}

fn hexadecimal<'a>(input: &mut Input<'a>) -> Result<&'a str, LexError> {
    (
        '0',
        one_of(['x', 'X']),
        take_while(1.., |c: char| c.is_ascii_hexdigit()),
    )
        .take()
        .parse_next(input)
}

fn decimal<'a>(input: &mut Input<'a>) -> Result<&'a str, LexError> {
    let fraction = opt(('.', digits));
    let exponent = opt((one_of(['e', 'E']), opt(one_of(['+', '-'])), digits));
    (digits, fraction, exponent).take().parse_next(input)
}

fn digits<'a>(input: &mut Input<'a>) -> Result<&'a str, LexError> {
    take_while(1.., |c: char| c.is_ascii_digit()).parse_next(input)
}

fn symbol(input: &mut Input<'_>) -> Result<&'static str, LexError> {
    let found = SYMBOLS.into_iter().find(|symbol| input.starts_with(symbol));
    let symbol = found.ok_or_else(|| LexError::from_input(input))?;
    symbol.void().parse_next(input)?;
    Ok(symbol)
}

fn string(input: &mut Input<'_>) -> Result<String, LexError> {
    let byte = input.current_token_start();
    let quote: char = any.parse_next(input)?;
    let mut text = String::new();
    loop {
        let plain: &str = take_while(0.., |c| c != quote && c != '\\').parse_next(input)?;
        text += plain;
        match opt(any).parse_next(input)? {
            Some('\\') => text.push(escape(input)?),
            Some(_) => return Ok(text),
            None => {
                return Err(LexError {
                    byte,
                    message: "the string is not closed".to_owned(),
                    expected: Some(if quote == '"' {
                        "a closing `\"`"
                    } else {
                        "a closing `'`"
                    }),
                });
            }
        }
    }
}

/// What follows a backslash.
fn escape(input: &mut Input<'_>) -> Result<char, LexError> {
    let byte = input.current_token_start() - 1;
    let code = preceded('u', code_unit);
    let low_code = preceded("\\u", code_unit);
    let pair = (code, opt(low_code)).verify_map(|(code, low)| {
        let mut decoded = char::decode_utf16([code].into_iter().chain(low));
        // A low surrogate that does not belong to the first unit is a separate character or a
        // mistake; it is parsed again on its own.
        match (decoded.next()?.ok()?, decoded.next()) {
            (c, None) => Some(c),
            _ => None,
        }
    });
    let single = preceded('u', code_unit).verify_map(|code| char::from_u32(code.into()));
    let result: Result<char, LexError> =
        alt((one_of(['\'', '"', '\\']), pair, single)).parse_next(input);
    result.map_err(|_| LexError {
        byte,
        message: "invalid escape".to_owned(),
        expected: Some("one of \\' \\\" \\\\ or \\u and four hexadecimal digits"),
    })
}

fn code_unit(input: &mut Input<'_>) -> Result<u16, LexError> {
    take_while(4, |c: char| c.is_ascii_hexdigit())
        .verify_map(|digits| u16::from_str_radix(digits, 16).ok())
        .parse_next(input)
}

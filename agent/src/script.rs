//! Scripts for a simulated door: what people do at it, and when, and what must be seen then.
//!
//! ```text
//! script    = { [ [ "at" TIME ] statement ] [ "#" comment ] newline }
//! statement = ACTION                                            what `door-agent sim` takes
//!           | "refused" ACTION                                  the door must not let itself be treated like that
//!           | "wait" TIME
//!           | "expect" condition { condition } [ "within" TIME | "for" TIME ]
//! condition = KEY ( "=" | "!=" ) VALUE { "|" VALUE }
//! ```
//!
//! One statement follows the other; `at` waits until so much time has passed since the start. What
//! is expected must be seen at once, `within` a time, or at every look `for` a time. A script is
//! read whole before anything is done. It is carried out by `door-agent sim script`, beside a
//! running agent.

mod condition;

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::gpio::simulated::{
    EXPECTED_TIME, SimCommand, is_verb, parse_time, shortened, verb_names,
};
pub use condition::{Condition, keys};

/// A script that can be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// In their order.
    pub steps: Vec<Step>,
}

/// A line that does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number, from 1.
    pub line: usize,
    /// Not before so much time has passed since the start.
    pub at: Option<Duration>,
    /// What it does.
    pub statement: Statement,
}

/// What a line does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Somebody does something at the door.
    Act(SimCommand),
    /// Somebody tries, and the door does not let him.
    Refused(SimCommand),
    /// Nothing, for so long.
    Wait(Duration),
    /// All of it is seen.
    Expect(Vec<Condition>, Look),
}

/// When something must be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// At once.
    Now,
    /// Once, within a time.
    Within(Duration),
    /// Always, for a time.
    For(Duration),
}

/// A word that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{line}:{column}: {problem}")]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// Where in the line, in characters from 1.
    pub column: usize,
    /// What stands there and what was expected.
    pub problem: String,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// The first word that is wrong, with its place and what was expected.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut steps: Vec<Step> = Vec::new();
        let mut latest = Duration::ZERO;
        for (index, text) in text.lines().enumerate() {
            let line = Line::new(index + 1, text);
            if line.words.is_empty() {
                continue;
            }
            let step = step(&line)?;
            if let Some(at) = step.at {
                if at < latest {
                    return Err(line.wrong(
                        1,
                        &format!("a time that is not before the latest `at`, {latest:?}"),
                    ));
                }
                latest = at;
            }
            steps.push(step);
        }
        Ok(Self { steps })
    }
}

/// The words of a line, and where they stand.
struct Line<'a> {
    number: usize,
    words: Vec<&'a str>,
    columns: Vec<usize>,
    /// Where one more word would stand.
    end: usize,
}

impl<'a> Line<'a> {
    fn new(number: usize, text: &'a str) -> Self {
        let mut line = Self {
            number,
            words: Vec::new(),
            columns: Vec::new(),
            end: 1,
        };
        for word in text.split_whitespace() {
            if word.starts_with('#') {
                break;
            }
            // A word is a part of the text: where it begins is the length of what is before it.
            let begin = word.as_ptr() as usize - text.as_ptr() as usize;
            let column = text[..begin].chars().count() + 1;
            line.words.push(word);
            line.columns.push(column);
            line.end = column + word.chars().count();
        }
        line
    }

    fn word(&self, index: usize) -> Option<&'a str> {
        self.words.get(index).copied()
    }

    fn error(&self, index: usize, problem: String) -> ScriptError {
        ScriptError {
            line: self.number,
            column: self.columns.get(index).copied().unwrap_or(self.end),
            problem,
        }
    }

    fn wrong(&self, index: usize, expected: &str) -> ScriptError {
        let found = match self.word(index) {
            Some(word) => format!("`{}`", shortened(word)),
            None => "the end of the line".to_owned(),
        };
        self.error(index, format!("{found}, expected {expected}"))
    }

    fn time(&self, index: usize) -> Result<Duration, ScriptError> {
        self.word(index)
            .and_then(parse_time)
            .ok_or_else(|| self.wrong(index, EXPECTED_TIME))
    }

    fn end_at(&self, index: usize) -> Result<(), ScriptError> {
        match self.word(index) {
            None => Ok(()),
            Some(_) => Err(self.wrong(index, "the end of the line")),
        }
    }

    fn command(&self, from: usize) -> Result<SimCommand, ScriptError> {
        SimCommand::parse(&self.words[from..])
            .map_err(|error| self.error(from + error.index, error.to_string()))
    }
}

fn step(line: &Line<'_>) -> Result<Step, ScriptError> {
    let (at, first) = match line.word(0) {
        Some("at") => (Some(line.time(1)?), 2),
        _ => (None, 0),
    };
    let statement = match line.word(first) {
        Some("wait") => {
            let time = line.time(first + 1)?;
            line.end_at(first + 2)?;
            Statement::Wait(time)
        }
        Some("refused") => Statement::Refused(line.command(first + 1)?),
        Some("expect") => expect(line, first + 1)?,
        Some(word) if is_verb(word) => Statement::Act(line.command(first)?),
        _ => {
            let expected = format!("expect, refused, wait, at or one of {}", verb_names());
            return Err(line.wrong(first, &expected));
        }
    };
    Ok(Step {
        line: line.number,
        at,
        statement,
    })
}

fn expect(line: &Line<'_>, first: usize) -> Result<Statement, ScriptError> {
    let mut conditions = Vec::new();
    let mut index = first;
    let look = loop {
        let (word, after) = (line.word(index), index + 1);
        match word {
            Some(word) if word.contains('=') => {
                let condition =
                    Condition::parse(word).map_err(|problem| line.error(index, problem))?;
                conditions.push(condition);
                index = after;
            }
            _ if conditions.is_empty() => {
                return Err(line.wrong(index, "KEY=VALUE, such as lockState=locked"));
            }
            None => break Look::Now,
            Some("within") => break Look::Within(line.time(after)?),
            Some("for") => break Look::For(line.time(after)?),
            Some(_) => {
                return Err(line.wrong(
                    index,
                    "KEY=VALUE, within TIME, for TIME or the end of the line",
                ));
            }
        }
    };
    if look != Look::Now {
        line.end_at(index + 2)?;
    }
    Ok(Statement::Expect(conditions, look))
}

/// As it is written, without its `at`.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Act(command) => write!(f, "{command}"),
            Self::Refused(command) => write!(f, "refused {command}"),
            Self::Wait(time) => write!(f, "wait {}ms", time.as_millis()),
            Self::Expect(conditions, look) => {
                f.write_str("expect")?;
                for condition in conditions {
                    write!(f, " {condition}")?;
                }
                match look {
                    Look::Now => Ok(()),
                    Look::Within(time) => write!(f, " within {}ms", time.as_millis()),
                    Look::For(time) => write!(f, " for {}ms", time.as_millis()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gpio::simulated::{Hold, Sensor};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_script_is_read_line_by_line() {
        let script = Script::parse(
            "# somebody goes out\n\n  rex   for 2s  # and holds it\nat 1s expect \
             lockState=unlocked|unlocking alarm!=jammed within 3s\n\
             at 1s open\nwait 500ms\nrefused close\nexpect doorState=open for 250ms\nexpect \
             secured=unsecured\n",
        )
        .unwrap();
        let written: Vec<_> = script
            .steps
            .iter()
            .map(|step| (step.line, step.at, step.statement.to_string()))
            .collect();
        let second = Some(1000 * MS);
        let expected = [
            (3, None, "rex for 2000ms"),
            (
                4,
                second,
                "expect lockState=unlocked|unlocking alarm!=jammed within 3000ms",
            ),
            (5, second, "open"),
            (6, None, "wait 500ms"),
            (7, None, "refused close"),
            (8, None, "expect doorState=open for 250ms"),
            (9, None, "expect secured=unsecured"),
        ]
        .map(|(line, at, text)| (line, at, text.to_owned()));
        assert_eq!(written, expected);
        assert_eq!(
            script.steps[0].statement,
            Statement::Act(SimCommand::Hold(Sensor::Rex, Hold::For(2000 * MS)))
        );
    }

    #[test]
    fn a_wrong_word_is_told_with_its_place_and_what_may_stand_there() {
        for (text, place_and_problem) in [
            (
                "open\nopne",
                "2:1: `opne`, expected expect, refused, wait, at or one of open, close",
            ),
            (
                "at",
                "1:3: the end of the line, expected a time such as 250ms",
            ),
            ("at 2s", "1:6: the end of the line, expected expect,"),
            ("at 2x open", "1:4: `2x`, expected a time"),
            (
                "at 2s open\nat 1s close",
                "2:4: `1s`, expected a time that is not before the latest `at`, 2s",
            ),
            (
                "wait 1s please",
                "1:9: `please`, expected the end of the line",
            ),
            ("  rex for 1x", "1:11: `1x`, expected a time"),
            (
                "cut-sensor dor",
                "1:12: `dor`, expected an input: door, bond",
            ),
            ("refused opne", "1:9: `opne`, expected one of open"),
            ("expect", "1:7: the end of the line, expected KEY=VALUE"),
            ("expect within 3s", "1:8: `within`, expected KEY=VALUE"),
            (
                "expect lockState=locked soon",
                "1:25: `soon`, expected KEY=VALUE, within TIME, for TIME",
            ),
            (
                "expect lockState=locked within",
                "1:31: the end of the line, expected a time",
            ),
            (
                "expect lockState=locked for 1s x",
                "1:32: `x`, expected the end",
            ),
            (
                "expect lckState=locked",
                "1:8: `lckState` is no key, expected one of lockState, doorState",
            ),
            (
                "expect lockState=shut",
                "1:8: `shut` is no lockState, expected one of `locked`",
            ),
        ] {
            let error = Script::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(place_and_problem), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_script_or_an_error_in_it(text in "(([a-z=!|#-]{0,9}|at|expect|wait|rex|for|1s|within|ü|lockState=locked|\u{2003}) ?){0,8}\n{0,2}([ -~]{0,20}\n){0,3}") {
            match Script::parse(&text) {
                Ok(script) => {
                    for step in script.steps {
                        let again = Script::parse(&step.statement.to_string()).unwrap();
                        prop_assert_eq!(&again.steps[0].statement, &step.statement);
                    }
                }
                Err(error) => {
                    let line = text.lines().nth(error.line - 1).unwrap();
                    prop_assert!(error.column <= line.chars().count() + 1);
                }
            }
        }
    }
}

//! Scripts for a simulated door: actions, their times, and the expected state.
//!
//! ```text
//! script    = { [ [ "at" TIME ] statement ] [ "#" comment ] newline }
//! statement = ACTION                                  what `door-agent sim` takes
//!           | "refused" ACTION                        the door must refuse the action
//!           | "wait" TIME
//!           | "expect" condition { condition } [ "within" TIME | "for" TIME ]
//! condition = KEY ( "=" | "!=" ) VALUE { "|" VALUE }
//! ```
//!
//! Statements run in order; `at` waits until this time has passed since the start. An expectation
//! must hold at once, at some point `within` a time, or throughout (`for`) a time. The whole script
//! is parsed before it starts. `door-agent sim script` runs it against a running agent.

mod condition;

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::gpio::simulated::{
    EXPECTED_TIME, SimCommand, is_verb, parse_time, shortened, verb_names,
};
pub use condition::{Condition, keys};

/// A parsed script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The steps in order.
    pub steps: Vec<Step>,
}

/// A line with a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The line number, from 1.
    pub line: usize,
    /// Earliest time since the start.
    pub at: Option<Duration>,
    pub statement: Statement,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Performs an action.
    Act(SimCommand),
    /// Performs an action that the door must refuse.
    Refused(SimCommand),
    Wait(Duration),
    /// All conditions must hold.
    Expect(Vec<Condition>, Look),
}

/// When the conditions must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// At once.
    Now,
    /// At some point within a time.
    Within(Duration),
    /// Throughout a time.
    For(Duration),
}

/// A syntax error.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{line}:{column}: {problem}")]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub problem: String,
}

impl Script {
    /// Parses a script.
    ///
    /// # Errors
    /// The first wrong word, with its position and what was expected.
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

/// The words of a line with their columns.
struct Line<'a> {
    number: usize,
    words: Vec<&'a str>,
    columns: Vec<usize>,
    /// Column for a missing word.
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
            // A word is a slice of the text: its offset is the difference of the addresses.
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

/// In the grammar, without `at`.
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
            "# a person leaves\n\n  rex   for 2s  # and holds it\nat 1s expect \
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
    fn a_syntax_error_names_position_and_valid_words() {
        for (text, place_and_problem) in [
            (
                "open\nslam",
                "2:1: `slam`, expected expect, refused, wait, at or one of open, close",
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
            ("refused slam", "1:9: `slam`, expected one of open"),
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
                "1:8: unknown key `lckState`, expected one of lockState, doorState",
            ),
            (
                "expect lockState=shut",
                "1:8: invalid lockState `shut`, expected one of `locked`",
            ),
        ] {
            let error = Script::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(place_and_problem), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_yields_an_error_within_it(
            text in "(([a-z=!|#-]{0,9}|at|expect|wait|rex|for|1s|within|ü|lockState=locked|\
                \u{2003}) ?){0,8}\n{0,2}([ -~]{0,20}\n){0,3}"
        ) {
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

//! The person at the door, who reads questions and types answers, or a script with one line per
//! question.

use std::io::{self, BufRead, Write};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::service::{SignalAction, Signals};

/// The same as an empty line, for scripts.
const OK: &str = "ok";
/// Capacity of the queue of lines; a reader that is ahead waits.
const MAX_LINES: usize = 16;

/// Why the test ended early.
#[derive(Debug, Error)]
pub enum SelfTestError {
    /// A signal, by its name.
    #[error("ended by {0}")]
    Signal(&'static str),
    /// The script or the input has ended.
    #[error("the answers end at: {0}")]
    NoMoreAnswers(String),
    /// No answer in time.
    #[error("no answer within {within:?} to: {question}")]
    Timeout { question: String, within: Duration },
    /// The questions cannot be printed.
    #[error("cannot write to the terminal")]
    Output(#[from] io::Error),
}

/// Result of waiting for a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PersonInput {
    Line(String),
    /// No line yet.
    Nothing,
}

pub struct Person {
    lines: mpsc::Receiver<String>,
    signals: Signals,
    out: Box<dyn Write>,
    /// The answers come from a script: each question takes one line, which is echoed.
    pub(super) scripted: bool,
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Person")
            .field("scripted", &self.scripted)
            .finish_non_exhaustive()
    }
}

impl Person {
    /// Reads answers from `input`; in a script, empty lines and lines that begin with # are
    /// ignored.
    ///
    /// # Errors
    /// When the system cannot create a thread.
    pub fn new(
        input: impl BufRead + Send + 'static,
        out: Box<dyn Write>,
        signals: Signals,
        scripted: bool,
    ) -> io::Result<Self> {
        let (lines, receiver) = mpsc::channel(MAX_LINES);
        // Reading blocks; the thread ends with the process.
        thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || {
                for line in input.lines().map_while(Result::ok) {
                    let line = line.trim();
                    if scripted && (line.is_empty() || line.starts_with('#')) {
                        continue;
                    }
                    let line = if line == OK { "" } else { line };
                    if lines.blocking_send(line.to_owned()).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            lines: receiver,
            signals,
            out,
            scripted,
        })
    }

    pub(super) fn say(&mut self, text: &str) -> Result<(), SelfTestError> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Asks and waits for a line.
    pub(super) async fn ask(
        &mut self,
        question: &str,
        within: Duration,
    ) -> Result<String, SelfTestError> {
        write!(self.out, "{question} > ")?;
        self.out.flush()?;
        match timeout(within, self.next_line(question)).await {
            Ok(line) => line,
            Err(_) => Err(SelfTestError::Timeout {
                question: question.to_owned(),
                within,
            }),
        }
    }

    /// The next line, in answer to a question.
    async fn next_line(&mut self, question: &str) -> Result<String, SelfTestError> {
        let line = loop {
            tokio::select! {
                line = self.lines.recv() => break line,
                action = self.signals.next() => if let SignalAction::End(signal) = action {
                    return Err(SelfTestError::Signal(signal));
                },
            }
        };
        let line = line.ok_or_else(|| SelfTestError::NoMoreAnswers(question.to_owned()))?;
        if self.scripted {
            writeln!(self.out, "{}", if line.is_empty() { OK } else { &line })?;
        }
        Ok(line)
    }

    /// Waits for a time, or until a person types a line.
    pub(super) async fn wait(&mut self, time: Duration) -> Result<PersonInput, SelfTestError> {
        tokio::select! {
            line = self.lines.recv(), if !self.scripted => match line {
                Some(line) => Ok(PersonInput::Line(line)),
                None => Err(SelfTestError::NoMoreAnswers("the last question".to_owned())),
            },
            action = self.signals.next() => match action {
                SignalAction::End(signal) => Err(SelfTestError::Signal(signal)),
                SignalAction::Reload => Ok(PersonInput::Nothing),
            },
            () = tokio::time::sleep(time) => Ok(PersonInput::Nothing),
        }
    }
}

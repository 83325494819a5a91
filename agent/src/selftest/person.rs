//! The person at the door: reads what is asked, and answers by typing, or by a script with a line
//! for each question.

use std::io::{self, BufRead, Write};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::service::{Signals, Wish};

/// The same as Enter alone, for scripts.
const OK: &str = "ok";
/// Lines that may wait to be read; a reader that is ahead waits.
const MAX_LINES: usize = 16;

/// Why the test ends before its end.
#[derive(Debug, Error)]
pub enum Ended {
    /// A signal, by its name.
    #[error("ended by {0}")]
    Signal(&'static str),
    /// No more answers.
    #[error("the answers end at: {0}")]
    Answers(String),
    /// Nobody answers.
    #[error("no answer within {within:?} to: {question}")]
    Nobody {
        /// What was asked.
        question: String,
        /// How long it was waited.
        within: Duration,
    },
    /// Nobody can read what is asked.
    #[error("cannot write to the terminal")]
    Output(#[from] io::Error),
}

/// What has come while something was watched.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A line.
    Line(String),
    /// Nothing yet.
    Nothing,
}

/// Whom the test talks to.
pub struct Person {
    lines: mpsc::Receiver<String>,
    signals: Signals,
    out: Box<dyn Write>,
    /// The answers were written beforehand: each question takes one line, and they are shown.
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
    /// Somebody who types, or whose answers are in `input`: then lines that are empty or begin with
    /// # are none.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(
        input: impl BufRead + Send + 'static,
        out: Box<dyn Write>,
        signals: Signals,
        scripted: bool,
    ) -> io::Result<Self> {
        let (lines, receiver) = mpsc::channel(MAX_LINES);
        // Reading blocks; when the process ends the thread does too.
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

    pub(super) fn say(&mut self, text: &str) -> Result<(), Ended> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Asks and waits for a line.
    pub(super) async fn ask(&mut self, question: &str, within: Duration) -> Result<String, Ended> {
        write!(self.out, "{question} > ")?;
        self.out.flush()?;
        match timeout(within, self.next_line(question)).await {
            Ok(line) => line,
            Err(_) => Err(Ended::Nobody {
                question: question.to_owned(),
                within,
            }),
        }
    }

    /// The next line, of somebody who was asked before.
    async fn next_line(&mut self, question: &str) -> Result<String, Ended> {
        let line = loop {
            tokio::select! {
                line = self.lines.recv() => break line,
                wish = self.signals.next() => if let Wish::End(signal) = wish {
                    return Err(Ended::Signal(signal));
                },
            }
        };
        let line = line.ok_or_else(|| Ended::Answers(question.to_owned()))?;
        if self.scripted {
            writeln!(self.out, "{}", if line.is_empty() { OK } else { &line })?;
        }
        Ok(line)
    }

    /// Waits for a while, or for a line of somebody who types.
    pub(super) async fn wait(&mut self, time: Duration) -> Result<Word, Ended> {
        tokio::select! {
            line = self.lines.recv(), if !self.scripted => match line {
                Some(line) => Ok(Word::Line(line)),
                None => Err(Ended::Answers("the last question".to_owned())),
            },
            wish = self.signals.next() => match wish {
                Wish::End(signal) => Err(Ended::Signal(signal)),
                Wish::Reload => Ok(Word::Nothing),
            },
            () = tokio::time::sleep(time) => Ok(Word::Nothing),
        }
    }
}

//! Programs that end by themselves, and what they print.

use std::io::{ErrorKind, Write as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The arguments of a program: words, or one line as in a shell, where quotes group words.
pub trait CommandLine {
    fn words(&self) -> Vec<String>;
}

impl CommandLine for str {
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        for character in self.chars() {
            match (quote, character) {
                (Some(open), _) if open == character => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(character);
                    word.get_or_insert_default();
                }
                (None, ' ') => words.extend(word.take()),
                _ => word.get_or_insert_default().push(character),
            }
        }
        assert!(quote.is_none(), "a quote is open: {self}");
        words.extend(word);
        words
    }
}

impl CommandLine for String {
    fn words(&self) -> Vec<String> {
        self.as_str().words()
    }
}

impl<T: AsRef<str>> CommandLine for [T] {
    fn words(&self) -> Vec<String> {
        self.iter().map(|word| word.as_ref().to_owned()).collect()
    }
}

impl<T: AsRef<str>, const N: usize> CommandLine for [T; N] {
    fn words(&self) -> Vec<String> {
        self.as_slice().words()
    }
}

impl<T: AsRef<str>> CommandLine for Vec<T> {
    fn words(&self) -> Vec<String> {
        self.as_slice().words()
    }
}

impl<T: CommandLine + ?Sized> CommandLine for &T {
    fn words(&self) -> Vec<String> {
        (**self).words()
    }
}

/// Result of a program.
#[derive(Debug)]
pub struct CommandOutput {
    /// -1 after a signal.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl CommandOutput {
    /// Exit status, stdout and stderr.
    pub fn parts(self) -> (i32, String, String) {
        (self.status, self.stdout, self.stderr)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit status.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Asserts that stderr contains all these texts.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing: {self:?}");
        }
        self
    }

    /// Asserts that stderr contains one of these texts, for a time that passes meanwhile.
    #[track_caller]
    pub fn says_one_of(self, parts: &[&str]) -> Self {
        let is_printed = parts.iter().any(|part| self.stderr.contains(part));
        assert!(is_printed, "none of {parts:?} is printed: {self:?}");
        self
    }

    /// Asserts that stdout or stderr contains each of these texts.
    #[track_caller]
    pub fn mentions(self, parts: &[&str]) -> Self {
        for part in parts {
            let is_there = self.stdout.contains(part) || self.stderr.contains(part);
            assert!(is_there, "{part:?} is missing: {self:?}");
        }
        self
    }

    /// Asserts that stdout contains all these texts.
    #[track_caller]
    pub fn prints(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stdout.contains(part), "{part:?} is missing: {self:?}");
        }
        self
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> CommandOutput {
    command.output().unwrap().into()
}

/// Runs a program with text on its standard input.
pub fn run_with_input(command: &mut Command, input: &str) -> CommandOutput {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses at once may end without reading.
    match child.stdin.take().unwrap().write_all(input.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("{error}"),
        Ok(()) | Err(_) => {}
    }
    child.wait_with_output().unwrap().into()
}

/// A missing program skips the test, except in CI, where it fails.
#[track_caller]
pub fn missing(program: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "there is no `{program}` on this machine, and CI tests all"
    );
    eprintln!("there is no `{program}` on this machine");
}

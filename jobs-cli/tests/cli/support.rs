//! Runs doorctl with its own configuration and collects its output.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use doorfleet_testing::{CommandLine, run, write_secret};
use tempfile::TempDir;

pub(crate) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A temporary home folder.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file with mode 0600.
    pub(crate) fn secret(&self, name: &str, text: &str) {
        write_secret(self.path().join(name), text);
    }

    /// A context for an unreachable hub: nothing listens on port 1.
    pub(crate) fn with_absent_hub() -> Self {
        let home = Self::new();
        let text =
            format!("HostName=localhost:1;SharedAccessKeyName=service;SharedAccessKey={KEY}");
        home.secret("hub.connection-string", &text);
        let added = home.run("context add lab --connection-string-file hub.connection-string");
        assert!(added.starts_with("status: 0"), "{added}");
        home
    }

    /// Returns exit status, stdout and stderr; the path of the home is replaced by `HOME`.
    pub(crate) fn run(&self, line: impl CommandLine) -> String {
        let output = run(&mut self.command(line));
        let mut report = format!("status: {}\n", output.status);
        for (name, text) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !text.is_empty() {
                write!(report, "--- {name}\n{text}").unwrap();
            }
        }
        report.replace(&self.path().display().to_string(), "HOME")
    }

    /// Compares the report of a run with the snapshot that is named after the line.
    #[track_caller]
    pub(crate) fn snapshot(&self, line: impl CommandLine) {
        let words = line.words().join(" ");
        let parts = words.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
        let name: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name.join("_"), self.run(line));
        });
    }

    pub(crate) fn command(&self, line: impl CommandLine) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorctl"));
        command
            .args(line.words())
            .current_dir(self.path())
            .env_clear()
            .env("DOORCTL_CONFIG", self.path().join("config.toml"))
            .env("TZ", "Europe/Berlin");
        command
    }
}

//! Running the program with settings of its own, and looking at all it says.

use std::fmt::Write as _;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

pub(crate) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A home of its own.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn secret(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
    }

    /// A context for a hub that is not there: nothing listens on port 1.
    pub(crate) fn with_absent_hub() -> Self {
        let home = Self::new();
        let text =
            format!("HostName=localhost:1;SharedAccessKeyName=service;SharedAccessKey={KEY}");
        home.secret("hub.connection-string", &text);
        let added = home.run(&[
            "context",
            "add",
            "lab",
            "--connection-string-file",
            "hub.connection-string",
        ]);
        assert!(added.starts_with("status: 0"), "{added}");
        home
    }

    /// Runs the program, and gives exit status, stdout and stderr; the home's path is told as
    /// `HOME`.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let mut told = format!("status: {}\n", output.status.code().unwrap());
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let text = String::from_utf8(bytes.clone()).unwrap();
            if !text.is_empty() {
                write!(told, "--- {name}\n{text}").unwrap();
            }
        }
        told.replace(&self.path().display().to_string(), "HOME")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("doorctl").unwrap();
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("DOORCTL_CONFIG", self.path().join("config.toml"))
            .env("TZ", "Europe/Berlin");
        command
    }
}

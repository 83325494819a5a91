//! Runs doorctl with its own configuration and collects its output.

use std::fmt::Write as _;
use std::path::Path;

use assert_cmd::Command;
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
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
    }

    /// A context for an unreachable hub: nothing listens on port 1.
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

    /// Returns exit status, stdout and stderr; the path of the home is replaced by `HOME`.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let mut report = format!("status: {}\n", output.status.code().unwrap());
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let text = String::from_utf8(bytes.clone()).unwrap();
            if !text.is_empty() {
                write!(report, "--- {name}\n{text}").unwrap();
            }
        }
        report.replace(&self.path().display().to_string(), "HOME")
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

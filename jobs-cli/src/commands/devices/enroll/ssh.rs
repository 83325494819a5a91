//! Runs scripts with the system's ssh, over one shared connection where ssh supports that.

use std::ffi::OsString;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::script::Script;
use crate::cli::enroll::EnrollArgs;
use crate::commands::shell::quoted;
use crate::failure::Failure;

/// Exit status of ssh for errors before the command ran.
const SSH_FAILED: i32 = 255;

/// How long a step on the Pi may take: a package on a slow card takes minutes.
const STEP_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Lines of the Pi's output that go into an error.
const MAX_OUTPUT_LINES: usize = 12;

#[derive(Debug)]
pub(super) struct Ssh {
    host: String,
    options: Vec<OsString>,
    sudo: bool,
    /// Holds the socket of the shared connection.
    _socket: Option<TempDir>,
    master: Option<OsString>,
}

/// The result of a script.
#[derive(Debug)]
pub(super) struct ScriptOutput {
    /// Its exit status; `None` if a signal ended it.
    pub(super) status: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ssh {
    /// Sets the options from the flags, without connecting.
    pub(super) fn new(args: &EnrollArgs) -> anyhow::Result<Self> {
        let mut options = Self::own_options(args);
        let mut socket = None;
        let mut master = None;
        if cfg!(unix) {
            let folder = tempfile::Builder::new()
                .prefix("doorctl-")
                .tempdir()
                .context("cannot create a folder for the ssh connection")?;
            let mut path = OsString::from("ControlPath=");
            path.push(folder.path().join("ssh"));
            // After the given ones: of a repeated option, ssh uses the first.
            for option in [
                "ControlMaster=auto".into(),
                "ControlPersist=2m".into(),
                path.clone(),
            ] {
                options.extend(["-o".into(), option]);
            }
            master = Some(path);
            socket = Some(folder);
        }
        Ok(Self {
            host: args.host.clone(),
            options,
            sudo: false,
            _socket: socket,
            master,
        })
    }

    /// The options without those of the shared connection.
    pub(super) fn own_options(args: &EnrollArgs) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        if let Some(port) = args.ssh_port {
            options.extend(["-p".into(), port.to_string().into()]);
        }
        let own = ["ConnectTimeout=15", "ServerAliveInterval=15"];
        for option in args.ssh_options.iter().map(String::as_str).chain(own) {
            options.extend(["-o".into(), option.into()]);
        }
        options
    }

    /// Runs scripts that need root by sudo from now on.
    pub(super) fn use_sudo(&mut self) {
        self.sudo = true;
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Runs a script with `input` as its standard input.
    pub(super) async fn run(
        &self,
        script: &Script,
        input: Option<&[u8]>,
    ) -> anyhow::Result<ScriptOutput> {
        let mut command = Command::new("ssh");
        command
            .args(&self.options)
            .arg("--")
            .arg(&self.host)
            .arg(script.remote_command(self.sudo))
            .stdin(match input {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let finished = tokio::time::timeout(STEP_DEADLINE, finish(&mut command, input)).await;
        let output = finished.map_err(|_| {
            self.failure(
                script.step,
                &format!("no result within {} minutes", STEP_DEADLINE.as_secs() / 60),
            )
            .next(format!("check on the Pi: ssh {}", self.host))
        })??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let result = ScriptOutput {
            status: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        if output.status.code() == Some(SSH_FAILED) {
            return Err(self
                .failure(
                    script.step,
                    &format!("ssh cannot reach it: {}", result.last_lines()),
                )
                .next(format!(
                    "check that this works without a password: {} true",
                    self.by_hand()
                ))
                .into());
        }
        Ok(result)
    }

    /// Runs a script; fails unless its exit status is 0.
    pub(super) async fn run_checked(
        &self,
        script: &Script,
        input: Option<&[u8]>,
    ) -> anyhow::Result<ScriptOutput> {
        let result = self.run(script, input).await?;
        match result.succeeded() {
            true => Ok(result),
            false => Err(self
                .failure(script.step, &result.last_lines())
                .next(format!(
                    "check on the Pi: {}; then repeat this command",
                    self.by_hand()
                ))
                .into()),
        }
    }

    /// The error of a step on the Pi.
    pub(super) fn failure(&self, step: &str, text: &str) -> Failure {
        Failure::new(format!("{step} on {}: {text}", self.host))
    }

    /// The ssh command line for use by hand.
    pub(super) fn by_hand(&self) -> String {
        let mut words = vec!["ssh".to_owned()];
        let own = ["ConnectTimeout=", "ServerAliveInterval=", "Control"];
        for pair in self.options.chunks(2) {
            let value = pair
                .last()
                .map(|value| value.to_string_lossy())
                .unwrap_or_default();
            if !own.iter().any(|own| value.starts_with(own)) {
                words.extend(pair.iter().map(|word| quoted(&word.to_string_lossy())));
            }
        }
        words.push(quoted(&self.host));
        words.join(" ")
    }

    /// Closes the shared connection, which would otherwise time out soon.
    pub(super) async fn close(self) {
        let Some(path) = &self.master else { return };
        let ended = Command::new("ssh")
            .arg("-o")
            .arg(path)
            .args(["-O", "exit", "--", &self.host])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status();
        // There may be none.
        drop(tokio::time::timeout(Duration::from_secs(5), ended).await);
    }
}

async fn finish(command: &mut Command, input: Option<&[u8]>) -> anyhow::Result<Output> {
    let mut child = command.spawn().map_err(|error| {
        Failure::new(format!("cannot run ssh: {error}"))
            .next("install OpenSSH's client (on Debian: apt install openssh-client)")
    })?;
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // When the script ends early, its exit status tells.
            drop(stdin.write_all(input).await);
            drop(stdin.shutdown().await);
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    output.context("cannot run ssh")
}

impl ScriptOutput {
    pub(super) fn succeeded(&self) -> bool {
        self.status == Some(0)
    }

    /// The texts of lines `key: text` that the script printed.
    pub(super) fn reports(&self, key: &str) -> impl Iterator<Item = &str> {
        self.stdout
            .lines()
            .filter_map(move |line| line.strip_prefix(key)?.strip_prefix(": "))
    }

    /// The value of a line `key=value` that the script printed.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        let values = self.stdout.lines().filter_map(|line| line.split_once('='));
        let mut values = values.filter(|(name, _)| *name == key);
        values.next().map(|(_, value)| value.trim())
    }

    /// The end of the output: of standard error, else of standard output.
    pub(super) fn last_lines(&self) -> String {
        let text = match self.stderr.trim() {
            "" => self.stdout.trim(),
            text => text,
        };
        match text {
            "" => "it failed without output".to_owned(),
            // The message gets its own `error: `.
            text => tail(text.strip_prefix("error: ").unwrap_or(text)),
        }
    }
}

/// The last lines of a text.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let from = lines.len().saturating_sub(MAX_OUTPUT_LINES);
    lines.get(from..).unwrap_or_default().join("\n  ")
}

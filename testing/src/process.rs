//! Programs that run until the test ends them.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::{CommandOutput, DEADLINE};

/// A running program, killed when dropped.
pub struct Process(Child);

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The lines of its stdout, which must be piped.
    pub fn stdout(&mut self) -> impl Iterator<Item = String> + use<> {
        lines(self.0.stdout.take().unwrap())
    }

    /// The lines of its stderr, which must be piped.
    pub fn stderr(&mut self) -> impl Iterator<Item = String> + use<> {
        lines(self.0.stderr.take().unwrap())
    }

    /// Sends a signal such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Kills it as a power cut does.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Waits for its end, within the deadline.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads what is still piped, and waits for the end.
    pub fn output(mut self) -> CommandOutput {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        CommandOutput {
            stdout: stdout.map_or_else(String::new, read),
            stderr: stderr.map_or_else(String::new, read),
            status: self.0.wait().unwrap().code().unwrap_or(-1),
        }
    }

    /// Sends SIGTERM as systemd does, and waits for the end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Sends SIGINT (Ctrl-C), and waits for the end.
    #[track_caller]
    pub fn interrupt(&mut self) -> ExitStatus {
        self.signal("INT");
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already exited if the test passed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn read(pipe: impl Read) -> String {
    std::io::read_to_string(pipe).unwrap()
}

fn lines(pipe: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(pipe).lines().map(Result::unwrap)
}

/// The folder of the programs: the test program is in `deps` inside it.
fn programs() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// A program of another package of this workspace; built if missing.
pub fn workspace_program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let folder = programs();
        let mut build = Command::new(env!("CARGO"));
        // The whole workspace with the features of the tests, so that nothing is compiled twice.
        build
            .args(["build", "--quiet", "--bins"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .env("CARGO_TARGET_DIR", folder.parent().unwrap());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let built = build.status().unwrap();
        assert!(built.success(), "door-hub and door-agent do not build");
        folder
    });
    folder.join(name)
}

//! Output that cannot be written: the exit status stays the same, except if the output is the
//! purpose of the command.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use super::support::Home;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sink {
    /// A full disk.
    Full,
    /// A pipe with a closed reader.
    Gone,
    /// A descriptor that was closed before the start.
    Closed,
    Read,
}

impl Sink {
    fn stdio(self) -> Stdio {
        match self {
            Self::Full => Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap()),
            // The other end is dropped at once.
            Self::Gone => Stdio::from(OwnedFd::from(UnixStream::pair().unwrap().0)),
            Self::Closed => Stdio::null(),
            Self::Read => Stdio::piped(),
        }
    }
}

/// The exit status of a command line, and its stderr if that is read.
fn run(home: &Home, line: &str, out: Sink, err: Sink) -> (Option<i32>, String) {
    let program = assert_cmd::cargo::cargo_bin("doorctl");
    let mut shell = format!("exec {} {line}", program.display());
    for (sink, descriptor) in [(out, " >&-"), (err, " 2>&-")] {
        if sink == Sink::Closed {
            shell += descriptor;
        }
    }
    let output = Command::new("sh")
        .args(["-c", &shell])
        .current_dir(home.path())
        .env("DOORCTL_CONFIG", "config.toml")
        .stdin(Stdio::null())
        .stdout(out.stdio())
        .stderr(err.stdio())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), stderr)
}

#[test]
fn a_closed_output_does_not_change_the_exit_status() {
    let home = Home::with_absent_hub();
    let sinks = [
        (Sink::Full, Sink::Full),
        (Sink::Gone, Sink::Gone),
        (Sink::Closed, Sink::Closed),
        (Sink::Full, Sink::Read),
        (Sink::Gone, Sink::Read),
    ];
    // Command, exit status, and whether its purpose is the output: then a full disk is an error.
    for (line, code, prints) in [
        ("--help", 0, true),
        ("--version", 0, true),
        ("jobs lock --help", 0, true),
        ("completion bash", 0, true),
        ("context list", 0, true),
        ("context list -o json", 0, true),
        (
            "context add lab --replace --connection-string-file hub.connection-string",
            0,
            false,
        ),
        ("context use lab", 0, false),
        ("context use nowhere", 1, false),
        ("devices list", 1, false),
        ("lockdown --all", 1, false),
        ("jobs lok", 1, false),
        ("", 1, false),
    ] {
        for (out, err) in sinks {
            let fails = prints && out == Sink::Full;
            let expected = if fails { 1 } else { code };
            let (code, stderr) = run(&home, line, out, err);
            assert_eq!(code, Some(expected), "{line} >{out:?} 2>{err:?}: {stderr}");
            if fails && err == Sink::Read {
                assert_eq!(
                    stderr,
                    "error: cannot write to standard output: No space left on device (os error \
                     28)\n"
                );
            }
        }
    }
}

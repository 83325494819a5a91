//! Output that cannot be written or read: a command acts and exits as it would with a reader,
//! except for commands that only print.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use tempfile::TempDir;

use crate::harness::{Operator, answer, eventually};

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sink {
    /// A full disk.
    Full,
    /// A pipe whose reader has exited.
    Gone,
    /// A pipe whose reader does not read.
    Stalled,
    /// The same, and the pipe is full.
    Stuck,
    /// A descriptor that was closed before the program started.
    Closed,
}

/// A pipe with a full buffer.
fn full_pipe() -> (UnixStream, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    while theirs.write(&[b'x'; 4096]).is_ok() {}
    theirs.set_nonblocking(false).unwrap();
    (ours, theirs)
}

/// A program with these sinks as stdout and stderr; the returned sockets keep stalled pipes open.
fn spawn(line: &str, data: &Path, out: Sink, err: Sink) -> (Child, Vec<UnixStream>) {
    let mut open_pipes = Vec::new();
    let mut sink = |sink| match sink {
        Sink::Full => Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap()),
        Sink::Gone | Sink::Stalled => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            if sink == Sink::Stalled {
                open_pipes.push(ours);
            }
            Stdio::from(OwnedFd::from(theirs))
        }
        Sink::Stuck => {
            let (ours, theirs) = full_pipe();
            open_pipes.push(ours);
            Stdio::from(OwnedFd::from(theirs))
        }
        Sink::Closed => Stdio::null(),
    };
    let (stdout, stderr) = (sink(out), sink(err));
    let mut shell = format!("exec {} {line}", env!("CARGO_BIN_EXE_door-hub"));
    for (sink, descriptor) in [(out, " >&-"), (err, " 2>&-")] {
        if sink == Sink::Closed {
            shell += descriptor;
        }
    }
    let child = Command::new("sh")
        .args(["-c", &shell.replace("DATA", data.to_str().unwrap())])
        .env("RUST_LOG", "trace")
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap();
    (child, open_pipes)
}

#[test]
fn the_exit_status_does_not_depend_on_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let end = |line: &str, out, err| {
        let (mut child, _open_pipes) = spawn(line, &data, out, err);
        child.wait().unwrap().code()
    };
    let sinks = [
        (Sink::Full, Sink::Full),
        (Sink::Gone, Sink::Gone),
        (Sink::Closed, Sink::Closed),
        (Sink::Full, Sink::Stalled),
        (Sink::Gone, Sink::Full),
        (Sink::Stalled, Sink::Gone),
    ];
    for (out, err) in sinks {
        // The exit status of each command, and whether printing is its purpose: only then a full
        // disk is an error.
        for (line, code, prints) in [
            ("init --name localhost --data DATA", 0, false),
            (
                "check --listen 127.0.0.1 --mqtt-port 0 --https-port 0 --data DATA",
                0,
                true,
            ),
            ("policy list --data DATA", 0, true),
            ("policy show service --data DATA", 0, true),
            (
                "policy show service --out DATA/out --force --data DATA",
                0,
                false,
            ),
            (
                "policy add x --rights ServiceConnect --force --data DATA",
                0,
                false,
            ),
            (
                "policy rotate x --key primary --force --data DATA",
                0,
                false,
            ),
            ("policy token x --force --data DATA", 0, false),
            ("policy remove x --data DATA", 0, false),
            ("policy remove x --data DATA", 1, false),
            ("backup DATA/../archive --force --data DATA", 0, false),
            ("restore DATA/none --data DATA", 1, false),
            ("audit --data DATA", 0, false),
            ("audit --data DATA/none", 1, false),
            ("--version", 0, true),
            ("--help", 0, true),
            ("policy --help", 0, true),
            ("policy add", 2, false),
            ("", 2, false),
        ] {
            let expected = if prints && out == Sink::Full { 1 } else { code };
            let ended = end(line, out, err);
            assert_eq!(ended, Some(expected), "{line} >{out:?} 2>{err:?}");
        }
    }
}

#[test]
fn a_failed_write_to_stdout_is_reported_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for line in ["--version", "--help"] {
        let output = Command::new(env!("CARGO_BIN_EXE_door-hub"))
            .arg(line)
            .current_dir(folder.path())
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.contains("standard output: No space left"),
            "{stderr}"
        );
    }
}

/// A hub on free ports, found by the file that it writes.
async fn served(folder: &TempDir, out: Sink, err: Sink) -> (Child, Operator, Vec<UnixStream>) {
    let line = "serve --name localhost --listen 127.0.0.1 --mqtt-port 0 --https-port 0 --data DATA";
    let data = folder.path().join("data");
    let (child, open_pipes) = spawn(line, &data, out, err);
    let operator = eventually("the hub writes where it is", || async {
        let owner = std::fs::read_to_string(data.join("service-connection-string")).ok()?;
        Some(Operator::new(owner.parse().ok()?, 0, &data.join("ca.pem")))
    })
    .await;
    (child, operator, open_pipes)
}

#[tokio::test]
async fn a_hub_serves_even_if_its_output_cannot_be_written() {
    for (out, err) in [
        (Sink::Full, Sink::Full),
        (Sink::Gone, Sink::Gone),
        (Sink::Closed, Sink::Closed),
        (Sink::Stalled, Sink::Stalled),
        (Sink::Stuck, Sink::Stuck),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, operator, _open_pipes) = served(&folder, out, err).await;
        eventually("the hub is healthy", || async {
            let response = operator.anonymous(Method::GET, "/healthz").send().await;
            response
                .is_ok_and(|response| response.status() == 200)
                .then_some(())
        })
        .await;
        // Each of these is logged; together they exceed the buffer of a pipe.
        for number in 0..60 {
            operator.add_device(&format!("door{number}")).await;
            let refused = answer(operator.anonymous(Method::GET, "/devices")).await;
            assert_eq!(refused.status, 401);
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await;
        assert!(status.unwrap().success(), "{out:?} {err:?}");
    }
}

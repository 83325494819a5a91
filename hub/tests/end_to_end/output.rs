//! Output that cannot be written or read: a command acts and exits as it would with a reader,
//! except for commands that only print.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use doorfleet_testing::{Operator, Process, Sink, answer, eventually, run, spawn_with_sinks};
use reqwest::Method;
use tempfile::TempDir;

use crate::program::program;

/// A program with these sinks as stdout and stderr.
fn spawn(line: &str, data: &Path, out: Sink, err: Sink) -> (Process, Vec<UnixStream>) {
    let line = line.replace("DATA", data.to_str().unwrap());
    spawn_with_sinks(program(), &line, (out, err), |command| {
        command.env("RUST_LOG", "trace")
    })
}

#[test]
fn the_exit_status_does_not_depend_on_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let end = |line: &str, out, err| {
        let (mut program, _open_pipes) = spawn(line, &data, out, err);
        program.wait().code()
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
            ("webhook list --data DATA", 0, true),
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
        let mut command = Command::new(program());
        command.arg(line).current_dir(folder.path());
        let full = File::options().write(true).open("/dev/full").unwrap();
        let stderr = run(command.stdout(full)).stderr;
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.contains("standard output: No space left"),
            "{stderr}"
        );
    }
}

/// A hub on free ports, found by the file that it writes.
async fn served(folder: &TempDir, out: Sink, err: Sink) -> (Process, Operator, Vec<UnixStream>) {
    let line = "serve --name localhost --listen 127.0.0.1 --mqtt-port 0 --https-port 0 --data DATA";
    let data = folder.path().join("data");
    let (hub, open_pipes) = spawn(line, &data, out, err);
    let operator = eventually("the hub writes where it is", || async {
        let owner = std::fs::read_to_string(data.join("service-connection-string")).ok()?;
        Some(Operator::new(owner.parse().ok()?, 0, &data.join("ca.pem")))
    })
    .await;
    (hub, operator, open_pipes)
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
        let (mut hub, operator, _open_pipes) = served(&folder, out, err).await;
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
        assert!(hub.terminate().success(), "{out:?} {err:?}");
    }
}

//! Output that cannot be written: the door works, and a command ends as it would with a reader,
//! except commands that only print.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::{CONNECTION, run, status_until, write_config};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sink {
    /// A full disk.
    Full,
    /// A pipe whose reader has exited.
    Gone,
    /// A pipe whose reader does not read.
    Stalled,
    /// Like `Stalled`, and the pipe is full.
    Stuck,
    /// A descriptor that was closed before the start.
    Closed,
}

const SINKS: [Sink; 4] = [Sink::Full, Sink::Gone, Sink::Stalled, Sink::Closed];

fn full_pipe() -> (UnixStream, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    while theirs.write(&[b'x'; 4096]).is_ok() {}
    theirs.set_nonblocking(false).unwrap();
    (ours, theirs)
}

/// A program with these sinks; the returned ends keep a stalled pipe open.
fn spawn(line: &str, out: Sink, err: Sink) -> (Child, Vec<UnixStream>) {
    let mut kept = Vec::new();
    let mut sink = |sink| match sink {
        Sink::Full => Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap()),
        Sink::Gone | Sink::Stalled => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            if sink == Sink::Stalled {
                kept.push(ours);
            }
            Stdio::from(OwnedFd::from(theirs))
        }
        Sink::Stuck => {
            let (ours, theirs) = full_pipe();
            kept.push(ours);
            Stdio::from(OwnedFd::from(theirs))
        }
        Sink::Closed => Stdio::null(),
    };
    let (stdout, stderr) = (sink(out), sink(err));
    let mut shell = format!("exec {} {line}", env!("CARGO_BIN_EXE_door-agent"));
    for (sink, descriptor) in [(out, " >&-"), (err, " 2>&-")] {
        if sink == Sink::Closed {
            shell += descriptor;
        }
    }
    let child = Command::new("sh")
        .args(["-c", &shell])
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("STATE_DIRECTORY")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap();
    (child, kept)
}

fn ended(child: &mut Child) -> Option<i32> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_exit_status_does_not_depend_on_the_output() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let script = home.path().join("answers");
    std::fs::write(&script, "").unwrap();
    // The exit status, and whether the command only prints: a full disk is an error then.
    for (line, code, prints) in [
        ("--version", 0, true),
        ("--help", 0, true),
        ("sim --help", 0, true),
        ("--mistake", 2, false),
        ("", 1, false),
        ("de-energise --config CONFIG", 0, false),
        ("de-energise --config CONFIG.none", 1, false),
        // Nothing listens on port 1.
        ("check --config CONFIG", 1, false),
        ("status --config CONFIG", 1, false),
        ("selftest --script HOME/answers --config CONFIG", 1, false),
        ("restart no-such-door", 3, false),
        ("reboot-requested --file HOME/none", 1, false),
    ] {
        let home = home.path().to_str().unwrap();
        let line = line.replace("CONFIG", &config).replace("HOME", home);
        for (out, err) in SINKS.into_iter().zip(SINKS.into_iter().cycle().skip(1)) {
            let (mut child, _kept) = spawn(&line, out, err);
            let expected = if prints && out == Sink::Full { 1 } else { code };
            let code = ended(&mut child);
            assert_eq!(code, Some(expected), "{line} >{out:?} 2>{err:?}");
        }
        if !prints && code != 2 && !line.starts_with("check") && !line.starts_with("self") {
            let (mut child, _kept) = spawn(&line, Sink::Stuck, Sink::Stuck);
            assert_eq!(ended(&mut child), Some(code), "{line}");
        }
    }
}

#[test]
fn a_door_works_without_working_output() {
    for sink in SINKS.into_iter().chain([Sink::Stuck]) {
        let home = tempfile::tempdir().unwrap();
        let config = write_config(
            home.path(),
            CONNECTION,
            "mqtt_port = 1\n[log]\nlevel = \"trace\"",
        );
        let (mut child, _kept) = spawn(&format!("--config {config}"), sink, sink);
        status_until(&config, |status| {
            status["door"]["report"]["secured"] == "secured"
        });
        // Each action is logged; together they exceed a pipe's capacity.
        let act = |action: &str| {
            let (code, _, stderr) = run(&["sim", "rex", action, "--config", &config]);
            assert_eq!(code, 0, "{sink:?}: {stderr}");
        };
        for _ in 0..20 {
            act("on");
            act("off");
        }
        act("on");
        status_until(&config, |status| {
            status["door"]["report"]["lockState"] == "unlocked"
        });
        if sink != Sink::Stuck {
            let (mut reader, _kept) = spawn(&format!("status --config {config}"), sink, sink);
            let expected = if sink == Sink::Full { 1 } else { 0 };
            assert_eq!(ended(&mut reader), Some(expected), "status to {sink:?}");
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        assert_eq!(ended(&mut child), Some(0), "{sink:?}");
    }
}

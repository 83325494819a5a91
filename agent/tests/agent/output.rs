//! Output that cannot be written: the door works, and a command ends as it would with a reader,
//! except commands that only print.

use std::os::unix::net::UnixStream;
use std::path::Path;

use doorfleet_testing::{Process, Sink, spawn_with_sinks};

use crate::cli::{CONNECTION, run_with, shows, write_config};

const SINKS: [Sink; 4] = [Sink::Full, Sink::Gone, Sink::Stalled, Sink::Closed];

/// A program with these sinks; the returned ends keep a stalled pipe open.
fn spawn(line: &str, out: Sink, err: Sink) -> (Process, Vec<UnixStream>) {
    let program = Path::new(env!("CARGO_BIN_EXE_door-agent"));
    spawn_with_sinks(program, line, (out, err), |command| {
        command
            .env_remove("CREDENTIALS_DIRECTORY")
            .env_remove("STATE_DIRECTORY")
    })
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
            let code = child.wait().code();
            assert_eq!(code, Some(expected), "{line} >{out:?} 2>{err:?}");
        }
        if !prints && code != 2 && !line.starts_with("check") && !line.starts_with("self") {
            let (mut child, _kept) = spawn(&line, Sink::Stuck, Sink::Stuck);
            assert_eq!(child.wait().code(), Some(code), "{line}");
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
        shows(&config, "/door/report/secured", "secured");
        // Each action is logged; together they exceed a pipe's capacity.
        let act = |action: &str| {
            let done = run_with(&config, &format!("sim rex {action}"));
            assert_eq!(done.status, 0, "{sink:?}: {done:?}");
        };
        for _ in 0..20 {
            act("on");
            act("off");
        }
        act("on");
        shows(&config, "/door/report/lockState", "unlocked");
        if sink != Sink::Stuck {
            let (mut reader, _kept) = spawn(&format!("status --config {config}"), sink, sink);
            let expected = if sink == Sink::Full { 1 } else { 0 };
            assert_eq!(reader.wait().code(), Some(expected), "status to {sink:?}");
        }
        assert_eq!(child.terminate().code(), Some(0), "{sink:?}");
    }
}

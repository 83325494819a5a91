//! Output that cannot be written: the exit status stays the same, except if the output is the
//! purpose of the command.

use std::path::Path;

use doorfleet_testing::{Sink, spawn_with_sinks};

use super::support::Home;

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
            let program = Path::new(env!("CARGO_BIN_EXE_doorctl"));
            let (running, _) = spawn_with_sinks(program, line, (out, err), |command| {
                command
                    .current_dir(home.path())
                    .env("DOORCTL_CONFIG", "config.toml")
            });
            let output = running.output();
            assert_eq!(
                output.status, expected,
                "{line} >{out:?} 2>{err:?}: {output:?}"
            );
            if fails && err == Sink::Read {
                assert_eq!(
                    output.stderr,
                    "error: cannot write to standard output: No space left on device\n"
                );
            }
        }
    }
}

//! Candidates of shell completion, with a real hub.

use std::process::Command;
use std::time::Instant;

use doorfleet_testing::{DEADLINE, missing, write_secret};

use super::support::{Lab, same_environment};

/// A lab with doors, two jobs, and a second context with an unreachable hub.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.run("devices add lobby-east lobby-west yard").expect(0);
    for id in ["first", "second"] {
        lab.run(format!("jobs lock yard --at +1h --id {id}"))
            .expect(0);
    }
    let strange = "HostName=localhost:1;SharedAccessKeyName=service;SharedAccessKey=YWJj";
    let file = lab.folder().join("nowhere.connection-string");
    write_secret(file, strange);
    lab.run("context add nowhere --connection-string-file nowhere.connection-string")
        .says(&["context nowhere is stored in"]);
    lab.run("context use lab").expect(0);
    lab
}

#[test]
fn completion_offers_doors_jobs_and_contexts() {
    let lab = lab();
    // As the shell's script calls it: the words of the line, and the index of the one to complete.
    let offered = |line: &str| -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let output = lab
            .command("--")
            .args(&words)
            .env("DOORCTL_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .env("_CLAP_IFS", " ")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (line, expected) in [
        ("doorctl why lob", "lobby-east lobby-west"),
        ("doorctl lock yard lobby-w", "lobby-west"),
        ("doorctl jobs plan lock y", "yard"),
        ("doorctl events --door y", "yard"),
        ("doorctl jobs watch s", "second"),
        ("doorctl jobs cancel f", "first"),
        ("doorctl context use n", "nowhere"),
        ("doorctl --context l", "lab"),
        ("doorctl why nobody", ""),
        ("doorctl logs y", "yard"),
        ("doorctl explain lockDo", "lockDoor"),
        // The context on the line is used, and its hub is unreachable.
        ("doorctl --context nowhere why lob", ""),
        ("doorctl --context lab why lobby-e", "lobby-east"),
    ] {
        until(line, expected, || offered(line));
    }
    let all = || offered("doorctl jobs show ").chars().take(12).collect();
    until("the newest first", "second first", all);
}

#[test]
fn a_real_bash_completes_a_door() {
    if Command::new("bash").arg("--version").output().is_err() {
        missing("bash");
        return;
    }
    let lab = lab();
    let program = std::path::PathBuf::from(env!("CARGO_BIN_EXE_doorctl"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let typed = "source <(doorctl completion bash)
        COMP_WORDS=(doorctl lock lobby-); COMP_CWORD=2; COMP_TYPE=9
        $(complete -p doorctl | sed 's/.*-F \\([^ ]*\\) .*/\\1/') doorctl lobby- lock
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let settings = lab.command("");
    let offered = || {
        let mut bash = Command::new("bash");
        same_environment(&mut bash, &settings);
        let output = bash
            .args(["--norc", "-c", typed])
            .env("PATH", &path)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    until("bash", "lobby-east\nlobby-west\n", offered);
}

/// Repeats a completion, as a person would: a busy machine may exceed the hub's second.
#[track_caller]
fn until(what: &str, wanted: &str, offered: impl Fn() -> String) {
    let begun = Instant::now();
    loop {
        let offered = offered();
        if offered == wanted {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{what}: {offered}");
    }
}

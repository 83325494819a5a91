//! The help of each verb, so that a change of it is seen.

use super::support::Home;

#[test]
fn every_help_is_as_written() {
    let home = Home::new();
    for verb in [
        "",
        "context",
        "context add",
        "devices",
        "devices add",
        "devices enroll",
        "devices list",
        "twin set",
        "query",
        "invoke",
        "status",
        "why",
        "lock",
        "unlock",
        "relinquish",
        "mode",
        "lockdown",
        "all-clear",
        "jobs",
        "jobs plan",
        "jobs apply",
        "jobs tags",
        "jobs export",
        "jobs lock",
        "jobs method",
        "jobs twin",
        "jobs watch",
        "jobs wait",
        "jobs stop",
        "jobs retry",
        "events",
        "audit",
        "demo",
    ] {
        let mut arguments: Vec<&str> = verb.split_whitespace().collect();
        arguments.push("--help");
        insta::assert_snapshot!(
            format!("help {verb}").trim().replace(' ', "_"),
            home.run(&arguments)
        );
    }
}

#[test]
fn a_completion_script_completes_the_verbs() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completion", shell]);
        assert!(script.starts_with("status: 0\n--- stdout\n"), "{script}");
        for verb in ["context", "devices", "jobs", "lock", "watch"] {
            assert!(script.contains(verb), "{shell} does not know {verb}");
        }
    }
}

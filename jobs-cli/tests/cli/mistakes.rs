//! Invalid usage: each error names the flag, its value, what was expected, and what to do next; the
//! exit status is 1.

use super::support::Home;

#[test]
fn without_a_context_the_error_says_how_to_add_one() {
    insta::assert_snapshot!(Home::new().run("devices list"));
}

#[test]
fn an_unknown_verb_gets_a_suggestion() {
    insta::assert_snapshot!(Home::new().run("jobs lok"), @r"
    status: 1
    --- stderr
    error: unrecognized subcommand 'lok'

      tip: a similar subcommand exists: 'lock'

    Usage: doorctl jobs [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn an_unreachable_hub_is_named() {
    insta::assert_snapshot!(Home::with_absent_hub().run("devices list"), @r"
    status: 1
    --- stderr
    error: cannot reach localhost:1: Connection refused
      next: is the hub running, and are host and port right? doorctl context list
    ");
}

#[test]
fn an_invalid_time_is_reported_with_the_accepted_forms() {
    let home = Home::with_absent_hub();
    home.snapshot("jobs lock --floor 3 --at 'half past ten'");
    home.snapshot("jobs lock --floor 3 --at '22:00 Europe/Berln'");
}

#[test]
fn an_invalid_duration_is_reported_with_the_accepted_forms() {
    let home = Home::with_absent_hub();
    home.snapshot("jobs lock --floor 3 --for 8d");
    insta::assert_snapshot!(home.run("invoke d m --response-timeout 6m"), @r"
    status: 1
    --- stderr
    error: --response-timeout 6m: expected 5 s to 300 s
    ");
}

/// Every verb that calls a method, with timeouts that Azure answers with 400004: no request.
#[test]
fn a_connect_timeout_above_the_response_timeout_is_refused_before_any_request() {
    let home = Home::with_absent_hub();
    for verb in [
        "invoke east getState",
        "lock east",
        "unlock east --for 5m",
        "relinquish east",
        "mode secure east",
        "lockdown --all",
        "all-clear --all",
        "jobs lock east",
        "jobs unlock east --for 5m",
        "jobs method identify east",
        "jobs plan lock east",
        "jobs apply --plan 5d0f1b3c9a47 unlock east --for 5m",
    ] {
        let run = |timeouts: &str| home.run(format!("{verb} {timeouts}"));
        let output = run("--connect-timeout 2m --response-timeout 30s");
        let expected = "status: 1\n--- stderr\nerror: --connect-timeout 2m is longer than \
                        --response-timeout 30s: ";
        assert!(output.starts_with(expected), "{verb}: {output}");
        // Without its flag the response timeout follows, and the request is sent.
        let output = run("--connect-timeout 2m");
        assert!(
            output.contains("cannot reach localhost:1"),
            "{verb}: {output}"
        );
    }
}

#[test]
fn a_floor_below_the_ground_is_not_a_flag() {
    let home = Home::with_absent_hub();
    for line in [
        "lock --floor -1",
        "lock --floor=-1 --building -2",
        "jobs lock --floor -1 --floor 2",
        "devices list --floor -1",
        "devices add d --building -3 --floor -1",
        "devices tag --floor -1 level=-1",
        "events --floor -1",
        "twin set d floor=-1 --tag level=-1",
        "jobs twin --set floor=-1 --floor -2",
    ] {
        let output = home.run(line);
        assert!(
            output.contains("cannot reach localhost:1"),
            "{line}: {output}"
        );
    }
    // A flag is no floor.
    let output = home.run("lock --floor --all");
    assert!(
        output.contains("a value is required for '--floor <FLOOR>'"),
        "{output}"
    );
}

#[test]
fn an_unknown_flag_is_not_offered_as_a_value() {
    let home = Home::with_absent_hub();
    for line in [
        "lock --every",
        "jobs lock --flor 3",
        "devices tag --wing=east d",
        "query --x",
    ] {
        let output = home.run(line);
        assert!(output.contains("unexpected argument"), "{line}: {output}");
        assert!(!output.contains("-- -"), "{line}: {output}");
    }
    let output = home.run("jobs lock --flor 3");
    assert!(
        output.contains("a similar argument exists: '--floor'"),
        "{output}"
    );
}

#[test]
fn door_verbs_need_a_selection() {
    insta::assert_snapshot!(Home::with_absent_hub().run("jobs lock"), @r"
    status: 1
    --- stderr
    error: no doors selected; expected door names, --building, --floor, --tag, --where or --all
      next: doorctl devices list
    ");
}

#[test]
fn a_syntax_error_in_a_condition_is_marked() {
    let home = Home::with_absent_hub();
    home.snapshot(r#"jobs lock --where "tags.wing == 'east'""#);
    insta::assert_snapshot!(home.run("query 'SELECT * FORM devices'"), @r#"
    status: 1
    --- stderr
    error: QUERY: unexpected `FORM`; expected `FROM`
    SELECT * FORM devices
             ^
      next: doorctl query "SELECT * FROM devices WHERE properties.desired.floor = 3"
    "#);
}

#[test]
fn invalid_ids_payloads_and_assignments_are_refused_before_any_request() {
    let home = Home::with_absent_hub();
    home.snapshot("jobs lock --all --id 'night lock'");
    let output = home.run("invoke d lockDoor --payload {lockTime:10m}");
    insta::assert_snapshot!(output, @r#"
    status: 1
    --- stderr
    error: --payload is not JSON: key must be a string at line 1 column 2
      next: quote it for your shell, as in --payload '{"lockTime":"10m"}', or use --payload @FILE
    "#);
    let output = home.run("invoke d lockDoor --payload @nowhere.json");
    insta::assert_snapshot!(output, @r"
    status: 1
    --- stderr
    error: --payload: cannot read nowhere.json: No such file or directory
    ");
    insta::assert_snapshot!(home.run("twin set d floor"), @r"
    status: 1
    --- stderr
    error: invalid value 'floor' for '[KEY=VALUE]...': expected KEY=VALUE

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(home.run("devices add 'lobby east'"), @r#"
    status: 1
    --- stderr
    error: NAME "lobby east" is not a door name; expected 1 to 64 of letters, digits, `_` and `-`
    "#);
    insta::assert_snapshot!(home.run("devices add a b --agent-config a.toml"), @r"
    status: 1
    --- stderr
    error: --agent-config configures one agent; expected one NAME with it
      next: run `doorctl devices add` once for each door
    ");
}

#[test]
fn invalid_event_filters_are_refused() {
    let home = Home::with_absent_hub();
    home.snapshot("events --kind telemetri");
    home.snapshot("events --limit 0");
    home.snapshot("events --exec-timeout 5s");
    home.snapshot("events --follow");
    home.snapshot("audit");
}

#[test]
fn invalid_demo_flags_are_refused() {
    let home = Home::new();
    insta::assert_snapshot!(home.run("demo --doors 3"), @r"
    status: 1
    --- stderr
    error: invalid value '3' for '--doors <N>': 3 is not in 16..=9999

    For more information, try '--help'.
    ");
    home.snapshot("demo --fault burn=door-0007");
    insta::assert_snapshot!(home.run("demo --fault jam=door-0005"), @r"
    status: 1
    --- stderr
    error: --fault: door-0005 is on floor 1, and only floor 3 is locked
      next: a door of floor 3, such as --fault jam=door-0003
    ");
    insta::assert_snapshot!(home.run("demo --fault jam=door-0700"), @r"
    status: 1
    --- stderr
    error: --fault: there is no door-0700
      next: a door of floor 3, such as --fault jam=door-0003
    ");
}

//! Errors of the door verbs before any request.

use doorfleet_testing::run;

use super::support::Home;

#[test]
fn impossible_door_commands_are_refused() {
    let home = Home::with_absent_hub();
    insta::assert_snapshot!(home.run("lock --for 10m --until 22:00 east"), @r"
    status: 1
    --- stderr
    error: the argument '--for <DURATION>' cannot be used with '--until <TIME>'

    Usage: doorctl lock --for <DURATION> <DOOR>...

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(home.run("unlock --pulse long east"), @r"
    status: 1
    --- stderr
    error: invalid value 'long' for '--pulse <KIND>'
      [possible values: strike, extended]

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(home.run("relinquish --slot 1 east"), @r"
    status: 1
    --- stderr
    error: invalid value '1' for '--slot <SLOT>'
      [possible values: 5, 7, 8, 9]

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(home.run("mode passge east"), @r"
    status: 1
    --- stderr
    error: invalid value 'passge' for '<MODE>'
      [possible values: normal, passage, secure, lockdown, maintenance]

      tip: a similar value exists: 'passage'

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(home.run("all-clear"), @r"
    status: 1
    --- stderr
    error: no doors selected; expected door names, --building, --floor, --tag, --where or --all
      next: doorctl devices list
    ");
    home.snapshot("why 'a b'");
}

#[test]
fn a_hold_of_more_than_7_days_is_refused() {
    // The hub's clock decides how far ahead a named time is.
    for until in ["+6d", "2099-01-01 10:00"] {
        let output = Home::with_absent_hub().run(format!("lock --until '{until}' east"));
        assert!(output.contains("cannot reach localhost:1"), "{output}");
    }
    let output = Home::with_absent_hub().run("lock --until +8d east");
    assert!(output.contains("expected a duration such as"), "{output}");
}

#[test]
fn every_verb_fails_when_the_hub_is_unreachable() {
    let home = Home::with_absent_hub();
    for verb in [
        "status",
        "why east",
        "lock east",
        "unlock east",
        "relinquish east",
        "mode secure east",
        "lockdown --all",
        "all-clear --all",
    ] {
        let output = home.run(verb);
        assert!(
            output.starts_with("status: 1\n--- stderr\nerror: cannot reach localhost:1"),
            "{verb}: {output}"
        );
    }
}

#[test]
fn an_unknown_time_zone_refuses_clock_times() {
    let home = Home::with_absent_hub();
    // If the time is accepted, the error is that the hub is unreachable.
    for (zone, time, understood) in [
        ("Foo/Bar", "22:00", false),
        ("Foo/Bar", "tomorrow 06:30", false),
        (":Foo/Bar", "22:00", false),
        ("Europe", "22:00", false),
        ("../etc/passwd", "22:00", false),
        ("CET-1CEST", "22:00", false),
        ("Factory", "22:00", false),
        ("UTC+2", "22:00", false),
        (":GMT-2", "22:00", false),
        ("UTC0", "22:00", true),
        ("GMT0BST,M3.5.0/1,M10.5.0", "22:00", true),
        ("Foo/Bar", "+1h", true),
        ("Foo/Bar", "2036-11-23T22:00:00Z", true),
        ("Foo/Bar", "22:00 Europe/Berlin", true),
        ("Europe/Berlin", "22:00", true),
        (":Europe/Berlin", "22:00", true),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "22:00", true),
        ("IST-5:30", "22:00", true),
        ("", "22:00", true),
    ] {
        let expected: &[&str] = match understood {
            true => &["cannot reach localhost:1"],
            false => &[
                "the time zone of this machine is unknown",
                "TZ is",
                zone,
                "--zone Europe/Berlin",
            ],
        };
        for verb in ["jobs lock east --at", "unlock east --until"] {
            let mut command = home.command(format!("{verb} '{time}'"));
            run(command.env("TZ", zone)).expect(1).says(expected);
        }
    }
}

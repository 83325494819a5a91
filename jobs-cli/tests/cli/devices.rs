//! `devices ...` without a hub: errors before any request.

use super::support::Home;

#[test]
fn devices_tag_needs_valid_tags() {
    let home = Home::with_absent_hub();
    home.snapshot("devices tag east");
    home.snapshot("devices tag east =west");
    home.snapshot("devices tag wing=east");
    home.snapshot("devices tag east wing=east --remove wing");
    home.snapshot("devices tag east a$b=1");
    for (key, message) in [
        ("wing=east", "expected KEY, without a value"),
        ("wing=", "expected KEY, without a value"),
        (
            "a..b",
            "the key is empty or has an empty part; expected KEY, with dots for nested keys",
        ),
        (
            "",
            "the key is empty or has an empty part; expected KEY, with dots for nested keys",
        ),
    ] {
        assert_eq!(
            home.run(format!("devices tag east --remove '{key}'")),
            format!("status: 1\n--- stderr\nerror: --remove {key:?}: {message}\n")
        );
        let of_job = home.run(format!("jobs tags east --remove '{key}'"));
        assert!(
            of_job.contains(&format!("'--remove <KEY>': {message}")),
            "{of_job}"
        );
    }
    home.snapshot("devices tag --all east wing=east");
}

#[test]
fn devices_verbs_need_a_selection() {
    let home = Home::with_absent_hub();
    for verb in ["enable", "disable", "remove"] {
        let output = home.run(format!("devices {verb}"));
        let first = "status: 1\n--- stderr\nerror: no doors selected; expected door names";
        assert!(output.starts_with(first), "{verb}: {output}");
    }
    let reason = "x".repeat(129);
    insta::assert_snapshot!(
        "a_reason_of_129_characters",
        home.run(format!("devices disable east --reason {reason}"))
    );
    home.snapshot("devices remov east");
}

#[test]
fn rotate_key_needs_a_valid_key_and_a_new_file() {
    let home = Home::with_absent_hub();
    home.snapshot("devices rotate-key east");
    home.snapshot("devices rotate-key east --key secundary --out f");
}

#[test]
fn a_file_of_doors_is_checked_before_any_request() {
    let home = Home::with_absent_hub();
    let file = |name: &str, text: &[u8]| std::fs::write(home.path().join(name), text).unwrap();
    file(
        "doors.csv",
        b"door,floor,tags.wing\nlobby east,3,\nlobby-west,3\n",
    );
    home.snapshot("devices add --from doors.csv");
    home.snapshot("devices add --from nowhere.csv");
    file("latin.csv", b"door,tags.name\neast,caf\xe9\n");
    home.snapshot("devices add --from latin.csv");
    home.snapshot("devices add east --from doors.csv");
    home.snapshot("devices add east --keys-folder keys");
    file("doors.jsonl", b"{\"id\":\"east\",\"state\":\"enabled\"}\n");
    home.snapshot("devices import doors.jsonl");
    home.snapshot("devices export --with-keys");
    home.snapshot("devices export --out doors.csv");
    home.snapshot("devices export --out doors.xlsx");
}

#[test]
fn an_unknown_column_is_reported_with_the_known_ones() {
    let home = Home::with_absent_hub();
    home.snapshot("devices list --sort flor");
    home.snapshot("devices list --columns door,wing");
    home.snapshot("devices list --limit 0");
}

//! `devices ...` without a hub: errors before any request.

use super::support::Home;

#[test]
fn devices_tag_needs_valid_tags() {
    let home = Home::with_absent_hub();
    insta::assert_snapshot!(home.run(&["devices", "tag", "east"]));
    insta::assert_snapshot!(home.run(&["devices", "tag", "east", "=west"]));
    insta::assert_snapshot!(home.run(&["devices", "tag", "wing=east"]));
    insta::assert_snapshot!(home.run(&["devices", "tag", "east", "wing=east", "--remove", "wing"]));
    insta::assert_snapshot!(home.run(&["devices", "tag", "east", "a$b=1"]));
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
            home.run(&["devices", "tag", "east", "--remove", key]),
            format!("status: 1\n--- stderr\nerror: --remove {key:?}: {message}\n")
        );
        let of_job = home.run(&["jobs", "tags", "east", "--remove", key]);
        assert!(
            of_job.contains(&format!("'--remove <KEY>': {message}")),
            "{of_job}"
        );
    }
    insta::assert_snapshot!(home.run(&["devices", "tag", "--all", "east", "wing=east"]));
}

#[test]
fn devices_verbs_need_a_selection() {
    let home = Home::with_absent_hub();
    for verb in ["enable", "disable", "remove"] {
        let output = home.run(&["devices", verb]);
        let first = "status: 1\n--- stderr\nerror: no doors selected; expected door names";
        assert!(output.starts_with(first), "{verb}: {output}");
    }
    insta::assert_snapshot!(home.run(&[
        "devices",
        "disable",
        "east",
        "--reason",
        &"x".repeat(129)
    ]));
    insta::assert_snapshot!(home.run(&["devices", "remov", "east"]));
}

#[test]
fn rotate_key_needs_a_valid_key_and_a_new_file() {
    let home = Home::with_absent_hub();
    insta::assert_snapshot!(home.run(&["devices", "rotate-key", "east"]));
    insta::assert_snapshot!(home.run(&[
        "devices",
        "rotate-key",
        "east",
        "--key",
        "secundary",
        "--out",
        "f"
    ]));
}

#[test]
fn a_file_of_doors_is_checked_before_any_request() {
    let home = Home::with_absent_hub();
    let file = |name: &str, text: &[u8]| std::fs::write(home.path().join(name), text).unwrap();
    file(
        "doors.csv",
        b"door,floor,tags.wing\nlobby east,3,\nlobby-west,3\n",
    );
    insta::assert_snapshot!(home.run(&["devices", "add", "--from", "doors.csv"]));
    insta::assert_snapshot!(home.run(&["devices", "add", "--from", "nowhere.csv"]));
    file("latin.csv", b"door,tags.name\neast,caf\xe9\n");
    insta::assert_snapshot!(home.run(&["devices", "add", "--from", "latin.csv"]));
    insta::assert_snapshot!(home.run(&["devices", "add", "east", "--from", "doors.csv"]));
    insta::assert_snapshot!(home.run(&["devices", "add", "east", "--keys-folder", "keys"]));
    file("doors.jsonl", b"{\"id\":\"east\",\"state\":\"enabled\"}\n");
    insta::assert_snapshot!(home.run(&["devices", "import", "doors.jsonl"]));
    insta::assert_snapshot!(home.run(&["devices", "export", "--with-keys"]));
    insta::assert_snapshot!(home.run(&["devices", "export", "--out", "doors.csv"]));
    insta::assert_snapshot!(home.run(&["devices", "export", "--out", "doors.xlsx"]));
}

#[test]
fn an_unknown_column_is_reported_with_the_known_ones() {
    let home = Home::with_absent_hub();
    insta::assert_snapshot!(home.run(&["devices", "list", "--sort", "flor"]));
    insta::assert_snapshot!(home.run(&["devices", "list", "--columns", "door,wing"]));
    insta::assert_snapshot!(home.run(&["devices", "list", "--limit", "0"]));
}

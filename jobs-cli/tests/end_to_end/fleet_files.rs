//! Files of doors: `devices add --from`, `export`, `import`.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use doorfleet_testing::Process;
use serde_json::json;

use super::azure::proxy::{Azure, Queries, Trouble};
use super::support::Lab;

const DOORS: &str = "door,building,floor,tags.wing,desired.settings.strikeTime\n\
                     east,43,3,east,5\nwest,43,mezzanine,west,\n";

/// `door-000`, `door-001`, ...
fn many(count: usize) -> String {
    let mut text = "door,floor\n".to_owned();
    for n in 0..count {
        writeln!(text, "door-{n:03},{}", n % 5).unwrap();
    }
    text
}

fn doors(lab: &Lab) -> usize {
    let listed = lab.json("devices list");
    listed.as_array().unwrap().len()
}

#[test]
fn a_file_of_doors_is_added_with_a_report_and_private_key_files() {
    let lab = Lab::new();
    let path = |name: &str| lab.folder().join(name);
    fs::write(path("doors.csv"), DOORS).unwrap();
    let dry = lab.run("devices add --from doors.csv --dry-run").expect(0);
    assert!(dry.stdout.contains("to be added"), "{dry:?}");
    assert_eq!(doors(&lab), 0);
    let output = lab
        .run("devices add --from doors.csv --keys-folder keys -o csv")
        .expect(0)
        .says(&["2 doors added; their connection strings are in keys"]);
    assert_eq!(
        output.stdout,
        "line,door,building,floor,outcome\n2,east,43,3,added\n3,west,43,mezzanine,added\n"
    );
    let twin = lab.json("twin show east");
    assert_eq!(twin["tags"], json!({"wing": "east"}));
    assert_eq!(
        twin["properties"]["desired"]["settings"],
        json!({"strikeTime": 5})
    );
    let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("keys"), mode("keys/east.connection-string")),
        (0o700, 0o600)
    );
    lab.run("devices connection-string west --out west.key")
        .expect(0);
    let read = |name: &str| fs::read_to_string(path(name)).unwrap();
    assert_eq!(read("keys/west.connection-string"), read("west.key"));

    // Repeated: nothing is created, and no file is changed.
    lab.run("devices add --from doors.csv").expect(1).says(&[
        "the hub already has doors of this file: east (line 2), west (line 3); nothing was changed",
    ]);
    lab.run("devices remove east west --yes").expect(0);
    lab.run("devices add --from doors.csv --keys-folder keys")
        .expect(1)
        .says(&["east.connection-string exists and is not overwritten; nothing was changed"]);
    fs::create_dir(path("open")).unwrap();
    fs::set_permissions(path("open"), fs::Permissions::from_mode(0o755)).unwrap();
    lab.run("devices add --from doors.csv --keys-folder open")
        .expect(1)
        .says(&["accessible by others (mode 0755)", "next: chmod 700 open"]);
    assert_eq!(doors(&lab), 0);
}

#[test]
fn standard_input_is_accepted_and_an_invalid_line_creates_nothing() {
    let lab = Lab::new();
    lab.run("devices add first").expect(0);
    let piped = |text: &str| {
        fs::write(lab.folder().join("piped"), text).unwrap();
        let input = fs::File::open(lab.folder().join("piped")).unwrap();
        let mut command = lab.command("devices add --from -");
        command.stdin(Stdio::from(input)).output().unwrap()
    };
    let failed = piped("door,floor\neast,3\nfirst,3\n");
    assert_eq!(failed.status.code(), Some(1));
    let stderr = String::from_utf8(failed.stderr).unwrap();
    assert!(
        stderr.contains("of this file: first (line 3); nothing was changed"),
        "{stderr}"
    );
    let failed = piped("door,floor\neast,3\nwe st,3\n");
    let stderr = String::from_utf8(failed.stderr).unwrap();
    assert!(
        stderr.contains(
            "standard input has a mistake; nothing was changed\n  line 3, door: \"we st\""
        ),
        "{stderr}"
    );
    assert_eq!(doors(&lab), 1);
    assert_eq!(piped("door,floor\neast,3\n").status.code(), Some(0));
    assert_eq!(doors(&lab), 2);
}

#[test]
fn a_failed_add_removes_the_doors_it_created() {
    let lab = Lab::new();
    let azure = Azure::before(&lab, Queries::AZURE);
    fs::write(lab.folder().join("doors.csv"), many(230)).unwrap();
    let add = || lab.run("devices add --from doors.csv --keys-folder keys -q");
    for (trouble, why) in [
        (
            Trouble::Refused,
            "doors.csv line 222, door-220: ServerBusy: come back later; nothing was changed",
        ),
        (Trouble::NoAnswer, "nothing was changed"),
    ] {
        azure.new_minute();
        azure.trouble("door-220", trouble);
        add().expect(1).says(&[why]);
        assert_eq!(doors(&lab), 0, "{trouble:?}");
        assert!(!lab.folder().join("keys").exists());
    }
    azure.new_minute();
    azure.trouble("nobody", Trouble::Refused);
    add().expect(0);
    assert_eq!(doors(&lab), 230);
    assert_eq!(azure.strays(), [""; 0]);
}

#[test]
fn an_interrupted_add_removes_the_doors_it_created() {
    let lab = Lab::new();
    fs::write(lab.folder().join("doors.csv"), many(9_000)).unwrap();
    let mut command = lab.command("devices add --from doors.csv");
    let mut adding = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let stderr = adding.stderr();
    let count = ["query", "SELECT COUNT() AS doors FROM devices"];
    lab.until(count, |rows| rows[0]["doors"] != 0);
    assert_eq!(adding.interrupt().code(), Some(130));
    let stderr: Vec<String> = stderr.collect();
    assert!(
        stderr.contains(&"error: interrupted; nothing was changed".to_owned()),
        "{stderr:?}"
    );
    assert_eq!(doors(&lab), 0);
}

#[test]
fn an_interrupted_removal_exits_with_130() {
    let lab = Lab::new();
    fs::write(lab.folder().join("doors.csv"), many(6_000)).unwrap();
    lab.run("devices add --from doors.csv -q").expect(0);
    let mut command = lab.command("-v devices remove --all --yes");
    let mut removing = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let mut stderr = removing.stderr();
    assert!(stderr.any(|line| line.starts_with("> POST") && line.contains("\"delete\"")));
    removing.signal("INT");
    let stderr: Vec<String> = stderr.collect();
    assert_eq!(removing.wait().code(), Some(130));
    let last = stderr.last().unwrap();
    assert!(
        last.starts_with("the removed doors can no longer connect"),
        "{last}"
    );
    assert!(doors(&lab) > 0);
}

#[test]
fn doors_left_by_a_second_ctrl_c_are_listed() {
    let lab = Lab::new();
    let azure = Azure::before(&lab, Queries::AZURE);
    azure.trouble("door-002", Trouble::NoWayBack);
    fs::write(lab.folder().join("doors.csv"), many(4)).unwrap();
    let mut command = lab.command("-v devices add --from doors.csv");
    let mut adding = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let mut stderr = adding.stderr();
    assert!(stderr.any(|line| line.starts_with("> POST") && line.contains("\"delete\"")));
    adding.signal("INT");
    assert!(stderr.any(|line| line.starts_with("stopping")));
    assert_eq!(adding.interrupt().code(), Some(130));
    let stderr: Vec<String> = stderr.collect();
    assert_eq!(
        stderr,
        [
            "error: doors.csv line 4, door-002: ServerBusy: come back later; \
             these doors were created, or may have been, and were not removed: \
             door-000, door-001, door-003",
            "  next: doorctl devices remove door-000 door-001 door-003",
        ]
    );
    assert_eq!(doors(&lab), 3);
}

#[test]
fn an_export_can_be_imported_with_its_keys() {
    let lab = Lab::new();
    let path = |name: &str| lab.folder().join(name);
    fs::write(path("doors.csv"), DOORS).unwrap();
    lab.run("devices add --from doors.csv").expect(0);
    lab.run("devices disable west --reason 'no lock yet'")
        .expect(0);
    lab.run(["twin", "set", "west", "note=\"3\"", "--tag", "list=[1,2]"])
        .expect(0);
    lab.run("devices connection-string east --out east.before")
        .expect(0);
    let plain = lab.run("devices export").expect(0);
    assert!(!plain.stdout.contains("Key"), "{plain:?}");
    let first: serde_json::Value =
        serde_json::from_str(plain.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(
        first,
        json!({
            "id": "east", "status": "enabled", "authentication": {"type": "sas"},
            "tags": {"wing": "east"},
            "properties": {"desired": {"building": 43, "floor": 3, "settings": {"strikeTime": 5}}},
        })
    );
    for name in ["all.jsonl", "all.csv", "all.json"] {
        lab.run(format!("devices export --with-keys --out {name}"))
            .expect(0);
        assert_eq!(
            fs::metadata(path(name)).unwrap().permissions().mode() & 0o777,
            0o600
        );
        lab.run("devices remove --all --yes -q").expect(0);
        let output = lab
            .run(format!("devices import {name} -o json"))
            .expect(0)
            .says(&["2 created"]);
        assert_eq!(output.json()[0]["outcome"], "created");
        let key = format!("{name}.key");
        lab.run(format!("devices connection-string east --out {key}"))
            .expect(0);
        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        assert_eq!(read(&key), read("east.before"), "{name}");
        assert_eq!(
            lab.run("devices export").expect(0).stdout,
            plain.stdout,
            "{name}"
        );
    }
    lab.run("devices export --out all.csv")
        .expect(1)
        .says(&["all.csv exists and is not overwritten"]);
}

#[test]
fn an_import_changes_existing_doors_only_with_update_and_reports_each_line() {
    let lab = Lab::new();
    let azure = Azure::before(&lab, Queries::AZURE);
    lab.run("devices add east --floor 3 --tag kept=1").expect(0);
    let lines = [
        concat!(
            r#"{"id":"east","status":"disabled","statusReason":"moved","tags":{"wing":"east"},"#,
            r#""properties":{"desired":{"floor":4}}}"#
        ),
        r#"{"id":"west"}"#,
        r#"{"id":"north"}"#,
    ];
    fs::write(lab.folder().join("doors.jsonl"), lines.join("\n")).unwrap();
    let import = |flags: &str| lab.run(format!("devices import doors.jsonl {flags}"));
    import("").expect(1).says(&[
        "the hub already has doors of this file: east (line 1); nothing was changed",
        "--update --dry-run",
    ]);
    import("--update --dry-run")
        .expect(0)
        .says(&["1 to be updated, 2 to be created; nothing was changed"]);
    assert_eq!(doors(&lab), 1);
    azure.trouble("west", Trouble::Refused);
    let output = import("--update -o csv")
        .expect(2)
        .says(&["1 updated, 1 created, 1 failed", "--update"]);
    assert_eq!(
        output.stdout,
        "line,door,outcome,error\n1,east,updated,\n2,west,failed,ServerBusy: come back \
         later\n3,north,created,\n"
    );
    azure.trouble("nobody", Trouble::Refused);
    import("--update")
        .expect(0)
        .says(&["2 unchanged, 1 created"]);
    let twin = lab.json("twin show east");
    assert_eq!(
        (&twin["status"], &twin["statusReason"]),
        (&json!("disabled"), &json!("moved"))
    );
    assert_eq!(twin["tags"], json!({"kept": 1, "wing": "east"}));
    assert_eq!(twin["properties"]["desired"]["floor"], 4);
    assert_eq!(azure.strays(), [""; 0]);
}

//! `twin`, `query` and `invoke` against a real hub.

use std::fs;

use serde_json::json;

use super::support::Lab;

#[test]
fn desired_properties_reach_the_door_and_an_outdated_etag_changes_nothing() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    let set = lab.json("twin set east building=43 floor=3 --tag wing=east");
    assert_eq!(set["properties"]["desired"]["floor"], 3);
    assert_eq!(set["tags"], json!({"wing": "east"}));
    let applied = |twin: &serde_json::Value| twin["properties"]["reported"]["floor"]["value"] == 3;
    lab.until("twin show east", applied);

    let etag = set["etag"].as_str().unwrap();
    let set = lab
        .run(format!("twin set east floor=4 --etag {etag}"))
        .expect(0);
    assert!(
        set.stdout
            .starts_with("east: floor=4; desired version 3, etag "),
        "{set:?}"
    );
    assert_eq!(set.stdout.lines().count(), 1);
    lab.run(format!("twin set east floor=5 --etag {etag}"))
        .expect(1)
        .says(&[
            "412 PreconditionFailed",
            "next: it was changed in the meantime",
        ]);
    let removed = lab.json("twin set east --tag wing=null");
    assert_eq!(
        (&removed["tags"], &removed["properties"]["desired"]["floor"]),
        (&json!({}), &json!(4))
    );
}

#[test]
fn queries_are_printed_in_every_format() {
    let lab = Lab::new();
    lab.run("devices add a b c --floor 3").expect(0);
    lab.run("twin set c floor=4").expect(3);
    let query = "SELECT * FROM devices WHERE properties.desired.floor = 3";
    let output = lab.run(format!("query '{query}'")).expect(0);
    let doors: Vec<&str> = output
        .stdout
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(doors.len(), 2, "{output:?}");
    let lines = lab.run(format!("query '{query}' -o jsonl")).expect(0);
    assert_eq!(lines.stdout.lines().count(), 2);
    let rows = lab.json(format!("query '{query}'"));
    assert_eq!(rows[0]["properties"]["desired"]["floor"], 3);
}

#[test]
fn query_columns_follow_the_select_on_every_page() {
    let lab = Lab::new();
    let mut text = "door,floor,tags.wing\n".to_owned();
    for n in 0..230 {
        // Only the last page has the column that the first lacks.
        text += &format!(
            "door-{n:03},{},{}\n",
            n % 2,
            if n == 229 { "east" } else { "" }
        );
    }
    fs::write(lab.folder().join("doors.csv"), text).unwrap();
    lab.run("devices add --from doors.csv -q").expect(0);
    let query = |text: &str, flags: &str| {
        let line = format!("query \"{text}\" {flags}");
        lab.run(line).expect(0)
    };
    let projection = "SELECT tags.wing, deviceId, properties.desired.floor AS level FROM devices";
    let csv = query(projection, "-o csv").stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        (lines.len(), lines[0], lines[1]),
        (231, "wing,deviceId,level", ",door-000,0")
    );
    assert_eq!(lines[230], "east,door-229,1");
    let table = query(projection, "").stdout;
    assert!(
        table.starts_with("WING  DEVICE ID  LEVEL\n      door-000   0\n"),
        "{table}"
    );
    let lines = query(projection, "-o jsonl").stdout;
    assert_eq!(
        lines.lines().next(),
        Some(r#"{"deviceId":"door-000","level":0}"#)
    );
    assert_eq!(lines.lines().count(), 230);
    let groups = "SELECT properties.desired.floor, COUNT() AS doors FROM devices GROUP BY \
                  properties.desired.floor";
    assert_eq!(
        query(groups, "-o csv").stdout,
        "floor,doors\n0,115\n1,115\n"
    );
    assert_eq!(
        query(groups, "").stdout,
        "FLOOR  DOORS\n0      115\n1      115\n"
    );
    let doors = query("SELECT * FROM devices", "-o csv").stdout;
    assert_eq!(doors.lines().count(), 231);
    assert!(
        doors.starts_with("door,connectionState,building,floor,"),
        "{doors}"
    );
    let nothing = query(
        "SELECT deviceId, tags.wing FROM devices WHERE tags.wing = 'x'",
        "-o csv",
    );
    assert_eq!(nothing.stdout, "deviceId,wing\n");
}

#[test]
fn a_twin_is_edited_and_no_input_is_lost() {
    let lab = Lab::new();
    lab.run("devices add east --floor 3 --tag wing=east --tag old=1")
        .expect(0);
    let editor = |script: &str| fs::write(lab.folder().join("edit.sh"), script).unwrap();
    let edit = |flags: &str| lab.run(format!("twin edit east {flags}"));
    let kept = |output: &doorfleet_testing::CommandOutput| {
        let (_, rest) = output.stderr.split_once("your text is in ").unwrap();
        let path = rest.lines().next().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(path).unwrap();
        text
    };
    let etag = lab.json("twin show east")["etag"].clone();
    editor("true");
    edit("").expect(4).says(&["there is no terminal"]);
    edit("--yes").expect(0).says(&["east: nothing was changed"]);
    editor("exit 3");
    edit("--yes")
        .expect(1)
        .says(&["the editor \"sh edit.sh\" ended with exit status: 3; nothing was changed"]);
    editor("printf '{\"tags\": {},\\n \"desired\": }' > \"$1\"");
    let output = edit("--yes")
        .expect(1)
        .says(&["line 2, column 13: not JSON: expected value; nothing was changed"]);
    assert_eq!(kept(&output), "{\"tags\": {},\n \"desired\": }");
    for (after, expected) in [
        (
            "",
            "line 1: not UTF-8; nothing was changed; your text is in",
        ),
        (
            "exit 3",
            "ended with exit status: 3; nothing was changed; your text is in",
        ),
    ] {
        editor(&format!("printf 'caf\\351' > \"$1\"; {after}"));
        let output = edit("--yes").expect(1).says(&[expected]);
        assert_eq!(kept(&output), "caf\u{fffd}");
    }
    assert_eq!(lab.json("twin show east")["etag"], etag);

    editor(
        "sed -i -e 's/\"floor\": 3/\"floor\": 4/' -e '/old/d' -e 's/\"east\",/\"east\"/' \"$1\"",
    );
    let output = edit("--yes -o json").expect(3).says(&[
        "-    \"floor\": 3\n",
        "+    \"floor\": 4\n",
        "-    \"old\": 1\n",
        "the door is offline",
    ]);
    let twin = output.json();
    assert_eq!(twin["tags"], json!({"wing": "east"}));
    assert_eq!(twin["properties"]["desired"]["floor"], 4);
    let shown = edit("--yes -v").expect(0);
    assert!(!shown.stderr.contains("> PATCH"), "{shown:?}");

    // A concurrent change comes first.
    let doorctl = env!("CARGO_BIN_EXE_doorctl");
    editor(&format!(
        "{doorctl} twin set east --tag wing=north > /dev/null; sed -i 's/\"floor\": 4/\"floor\": \
         5/' \"$1\""
    ));
    let output = edit("--yes").expect(1).says(&[
        "another client changed the twin of east while you edited it; nothing was written",
    ]);
    assert!(kept(&output).contains("\"floor\": 5"));
    let twin = lab.json("twin show east");
    assert_eq!(
        (
            &twin["tags"]["wing"],
            &twin["properties"]["desired"]["floor"]
        ),
        (&json!("north"), &json!(4))
    );
    lab.run("twin edit eest --yes")
        .expect(1)
        .says(&["did you mean `east`?"]);
}

#[test]
fn all_pages_of_a_query_are_read() {
    let lab = Lab::new();
    let names: Vec<String> = (0..130).map(|n| format!("door-{n:03}")).collect();
    let names = names.join(" ");
    lab.run(format!("devices add -q {names}")).expect(0);
    assert_eq!(
        lab.run("devices list -o csv")
            .expect(0)
            .stdout
            .lines()
            .count(),
        131
    );
    let sorted = lab
        .run("devices list --sort door --reverse --limit 2 --columns door -o csv")
        .expect(0);
    assert_eq!(sorted.stdout, "door\ndoor-129\ndoor-128\n");
}

#[test]
fn a_method_is_called_and_its_answer_printed() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    let locked = lab.json(r#"invoke east lockDoor --payload '{"lockTime":"10m"}'"#);
    assert_eq!(
        (&locked["status"], &locked["payload"]["secured"]),
        (&json!(200), &json!("secured"))
    );

    fs::write(lab.folder().join("payload.json"), r#"{"lockTime":"-10m"}"#).unwrap();
    let refused = lab
        .run("invoke east lockDoor --payload @payload.json")
        .expect(2);
    let answer = refused.says(&["east answered with status 400"]).json();
    assert_eq!(answer["payload"]["field"], "lockTime");

    lab.run("devices add absent").expect(0);
    lab.run("invoke absent getState").expect(1).says(&[
        "404 DeviceNotOnline",
        "next: wait for the door: --connect-timeout",
    ]);
}

#[test]
fn a_desired_property_waits_for_the_doors_acknowledgement() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    lab.run("devices add absent").expect(0);
    let refused = "settings.strikeTime is refused: ";
    #[rustfmt::skip]
    let rows: &[(&str, i32, &[&str])] = &[
        ("twin set east floor=4", 0, &["east: floor is applied"]),
        // The same value written again is not acknowledged again.
        ("twin set east floor=4", 0, &["east: floor is applied"]),
        ("twin set east floor=null", 0, &["east: floor is applied"]),
        ("twin set east mode=normal settings.strikeTime=6s", 0,
            &["mode is applied", "settings.strikeTime is applied"]),
        ("twin set east floor=[]", 2, &["floor is refused: expected a string or a number"]),
        ("twin set east mode=passge", 2, &["mode is refused: expected one of"]),
        ("twin set east settings.strikTime=5s", 2,
            &["did you mean `strikeTime`?", "settings.strikTime is refused: no such setting"]),
        ("twin set east settings.strikTime=null", 0, &["settings.strikTime is applied"]),
        ("twin set east colour=red", 0, &["colour is stored"]),
        ("twin set east --tag wing=east", 0, &[]),
        ("twin set absent floor=4", 3, &["floor is not applied yet", "the door is offline"]),
        ("twin set absent floor=4 --deadline 0", 0, &["floor is not applied yet"]),
        ("jobs twin --set floor=5 east --watch", 0, &["1 changed"]),
        ("jobs twin --set colour=blue absent --watch", 0, &["1 changed"]),
        ("jobs twin --set floor=6 east absent --watch", 3, &["1 changed, 1 accepted"]),
        ("jobs twin --set settings.strikeTime=xyz east --watch --id wrong", 2, &["1 failed"]),
        ("jobs wait wrong", 2, &["1 failed"]),
        ("status east", 0, &[refused]),
    ];
    for (line, status, says) in rows {
        lab.run(line).expect(*status).says(says);
    }
    let shown = lab.run("devices show east").expect(0);
    assert!(shown.stdout.contains(refused), "{shown:?}");
    let why = lab.run("why east").expect(0);
    assert!(why.stdout.contains(refused), "{why:?}");
}

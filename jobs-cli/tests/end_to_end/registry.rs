//! Changes of the registry: `devices tag`, `enable`, `disable`, `remove`, `rotate-key`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use doorfleet_testing::CommandOutput;
use serde_json::json;

use super::support::Lab;

fn rows(output: &CommandOutput) -> Vec<(String, String)> {
    let rows = output.json();
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (text(row, "door"), text(row, "outcome")))
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn tags_are_set_and_removed_and_unchanged_doors_are_skipped() {
    let lab = Lab::new();
    lab.run("devices add a b --floor 3 --tag old=1").expect(0);
    lab.run("devices add c --floor 4").expect(0);
    let output = lab
        .run("devices tag --floor 3 wing=east access.group=staff --remove old -o json")
        .expect(0)
        .says(&["2 changed"]);
    assert_eq!(rows(&output), pairs(&[("a", "changed"), ("b", "changed")]));
    let twin = lab.json("twin show a");
    assert_eq!(
        twin["tags"],
        json!({"wing": "east", "access": {"group": "staff"}})
    );
    let output = lab.run("devices tag a c wing=east").expect(0);
    assert_eq!(
        output.stdout,
        "DOOR  OUTCOME    ERROR\na     unchanged\nc     changed\n"
    );
    assert_eq!(lab.json("twin show a")["etag"], twin["etag"]);

    // An unknown name: the other doors are not changed.
    lab.run("devices tag a bb wing=west")
        .expect(1)
        .says(&["the hub has no door `bb`; did you mean `b`?"]);
    // A door without space for the tag: the others are not changed.
    let long = format!("note={}", "x".repeat(4_000));
    lab.run(["devices", "tag", "b", &long, &long.replace("note", "more")])
        .expect(0);
    lab.run(["devices", "tag", "a", "b", &long.replace("note", "last")])
        .expect(1)
        .says(&["b: tags", "nothing was changed"]);
    assert_eq!(lab.json("twin show a")["etag"], twin["etag"]);
    // Many doors need confirmation.
    lab.run("devices tag --all wing=x --confirm-above 2")
        .expect(4)
        .says(&["this would change the tags of 3 doors, more than 2"]);
}

#[test]
fn a_disabled_door_cannot_connect_until_it_is_enabled() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    lab.run("devices add west").expect(0);
    lab.run("devices disable east --reason 'controller stolen'")
        .expect(0)
        .says(&["1 disabled"]);
    let record = lab.json("audit --target east --limit 1");
    assert_eq!(
        (&record[0]["operation"], &record[0]["reason"]),
        (&"device.update".into(), &"controller stolen".into())
    );
    lab.shows("twin show east", "/connectionState", "Disconnected");
    let shown = lab.run("devices show east").expect(0);
    for part in [
        "status              disabled",
        "statusReason        controller stolen",
    ] {
        assert!(shown.stdout.contains(part), "{shown:?}");
    }
    let output = lab.run("devices disable east west -q -o json").expect(0);
    assert_eq!(
        rows(&output),
        pairs(&[("east", "unchanged"), ("west", "disabled")])
    );
    assert_eq!(output.stderr, "");
    lab.run(r#"devices enable --where "status = 'disabled'""#)
        .expect(0)
        .says(&["2 enabled"]);
    let connected = |twin: &serde_json::Value| twin["connectionState"] == "Connected";
    let twin = lab.until("twin show east", connected);
    assert_eq!(
        (&twin["status"], &twin["statusReason"]),
        (&json!("enabled"), &json!(null))
    );
    lab.run("devices enable eest")
        .expect(1)
        .says(&["did you mean `east`?"]);
}

#[test]
fn doors_are_removed_after_confirmation() {
    let lab = Lab::new();
    lab.run("devices add a b c d --floor 3").expect(0);
    lab.run("devices remove a").expect(4).says(&[
        "this would remove a for good, and there is no terminal to confirm it; nothing was changed",
    ]);
    lab.run("devices remove --floor 3")
        .expect(4)
        .says(&["this would remove 4 doors for good"]);
    lab.run("devices remove a --yes")
        .expect(0)
        .says(&["1 removed"]);
    let output = lab.run("devices remove b c --yes -o json").expect(0);
    assert_eq!(rows(&output), pairs(&[("b", "removed"), ("c", "removed")]));
    lab.run("devices remove d a --yes")
        .expect(1)
        .says(&["the hub has no door `a`"]);
    let left = lab.json("devices list");
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
}

#[test]
fn a_rotated_key_is_written_to_a_private_file_and_the_old_one_is_invalid() {
    let lab = Lab::new();
    lab.run("devices add east").expect(0);
    let file = |name: &str| lab.folder().join(name);
    let key = |name: &str| {
        let text = fs::read_to_string(file(name)).unwrap();
        let (_, key) = text.trim().split_once("SharedAccessKey=").unwrap();
        key.to_owned()
    };
    let hand_out = |name: &str, flags: &str| {
        lab.run(format!(
            "devices connection-string east --out {name} {flags}"
        ))
        .expect(0);
        key(name)
    };
    let (primary, secondary) = (hand_out("p1", ""), hand_out("s1", "--secondary"));
    let output = lab
        .run("-v devices rotate-key east --out new")
        .expect(0)
        .says(&[
            "the old secondary key of east has stopped working",
            "--key primary --out FILE",
        ]);
    assert_eq!(
        fs::metadata(file("new")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!format!("{output:?}").contains(&key("new")));
    assert_eq!(hand_out("p2", ""), primary);
    assert_eq!(hand_out("s2", "--secondary"), key("new"));
    assert_ne!(key("new"), secondary);

    let rotated = lab.json("devices rotate-key east --key both --out newer");
    assert_eq!(
        (&rotated["door"], &rotated["key"]),
        (&json!("east"), &json!("both"))
    );
    assert_eq!(hand_out("p3", ""), key("newer"));
    // An existing file is kept, and so is the key.
    lab.run("devices rotate-key east --out newer")
        .expect(1)
        .says(&["cannot create newer"]);
    assert_eq!(hand_out("p4", ""), key("newer"));
    lab.run("devices rotate-key eats --out never")
        .expect(1)
        .says(&["did you mean `east`?"]);
    assert!(!file("never").exists());
}

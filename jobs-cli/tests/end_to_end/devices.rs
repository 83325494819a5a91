//! `devices ...` against a real hub.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use door_agent::AgentConfig;
use door_agent::gpio::simulated::{Hold, Sensor, SimCommand};
use doorfleet_testing::CommandOutput;
use serde_json::json;

use super::azure::proxy::{Azure, Queries, Trouble};
use super::support::Lab;

#[test]
fn an_added_door_is_listed_and_shown_and_can_connect() {
    let lab = Lab::new();
    let added = lab
        .run("devices add west east --building 43 --floor 3 --tag access.group=staff")
        .expect(0);
    assert_eq!(
        added.stdout,
        "DOOR  BUILDING  FLOOR\nwest  43        3\neast  43        3\n"
    );
    let _north = lab.door("north", "--floor mezzanine");

    let listed = lab.run("devices list --sort door -o csv").expect(0);
    insta::assert_snapshot!(listed.stdout, @r"
    door,connectionState,building,floor,lockState,doorState,secured,proof
    east,offline,43,3,,,,
    north,connected,,mezzanine,unlocked,closed,unsecured,bond
    west,offline,43,3,,,,
    ");
    let third = lab.json(r#"devices list --floor 3 --where "tags.access.group = 'staff'""#);
    let names: Vec<_> = third
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["door"].clone())
        .collect();
    assert_eq!(names, [json!("east"), json!("west")]);

    let shown = lab.run("devices show east").expect(0);
    for part in [
        "connectionState     offline",
        "status              enabled",
        r#"tags                {"access":{"group":"staff"}}"#,
    ] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
    assert!(!format!("{shown:?}").contains("Key"));
}

#[test]
fn filters_of_a_list_are_combined() {
    let lab = Lab::new();
    let east = lab.door("east", "--floor 3 --tag wing=east --tag group=7");
    let _west = lab.door("west", "--floor 4 --tag wing=west");
    lab.run("devices add new --tag wing=east --tag access.level=2")
        .expect(0);
    east.at(SimCommand::Hold(Sensor::Tamper, Hold::On));
    lab.until("devices list --alarm", |doors| doors[0]["door"] == "east");
    lab.run("lock west").expect(0);
    lab.reports("west", "secured", "secured");
    for (filters, expected) in [
        ("--offline", "new"),
        ("--alarm", "east"),
        ("--unsecured", "east new"),
        ("--tag wing=east", "east new"),
        ("--tag wing=east --offline", "new"),
        ("--tag tags.wing=east --alarm --unsecured --floor 3", "east"),
        ("--tag group=7", "east"),
        ("--tag access.level=2", "new"),
        ("--tag wing=east --tag group=8 --allow-none", ""),
        ("west --tag wing=east --allow-none", ""),
        ("--where \"tags.wing = 'west'\" --offline", ""),
    ] {
        let doors = lab.json(format!("devices list {filters}"));
        let names = doors.as_array().unwrap().iter();
        let names: Vec<_> = names.map(|row| row["door"].as_str().unwrap()).collect();
        assert_eq!(names.join(" "), expected, "{filters}");
    }
    lab.run("devices list --tag wing")
        .expect(1)
        .says(&["--tag", "expected NAME=VALUE"]);
}

#[test]
fn a_list_is_sorted_limited_and_has_the_requested_columns() {
    let lab = Lab::new();
    for (name, floor, tag) in [
        ("d", "10", "wing=east"),
        ("a", "9", "wing=west"),
        ("c", "attic", "x=1"),
        ("b", "9", "wing=east"),
    ] {
        lab.run(format!("devices add {name} --floor {floor} --tag {tag}"))
            .expect(0);
    }
    let list = |flags: &str| lab.run(format!("devices list {flags}")).expect(0);
    let by_floor = list("--sort floor --columns door,floor");
    assert_eq!(
        by_floor.stdout,
        "DOOR  FLOOR\na     9\nb     9\nd     10\nc     attic\n"
    );
    let by_wing =
        list("--sort tags.wing --reverse --columns door,tags.wing,desired.floor -o jsonl");
    let lines: Vec<&str> = by_wing.stdout.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"door":"a","tags.wing":"west","desired.floor":9}"#
    );
    assert_eq!(
        lines[3],
        r#"{"door":"c","tags.wing":null,"desired.floor":"attic"}"#
    );
    let last = list("--reverse --limit 2 --columns door -o csv");
    assert_eq!(last.stdout, "door\nd\nc\n");
    last.says(&["2 shown; there are more doors"]);
    let first = list("--limit 1 --columns door -o csv");
    assert_eq!(first.stdout.lines().count(), 2);
    first.says(&["1 shown; there are more doors"]);
    assert_eq!(list("--limit 4").stderr, "");
    list("a x -o csv").says(&["warning: the hub has no door `x`"]);
}

#[test]
fn existing_doors_are_not_created_again_and_a_failed_add_leaves_none() {
    let lab = Lab::new();
    lab.run("devices add west").expect(0);
    lab.run("devices add east west south").expect(1).says(&[
        "the hub already has a door west; nothing was changed",
        "doorctl devices show west",
    ]);
    // The hub refuses one door: none is created.
    let too_long = format!("wing={}", "x".repeat(5_000));
    lab.run(format!("devices add east south --tag {too_long}"))
        .expect(1)
        .says(&["error: cannot add east: ", "wing", "; nothing was changed"]);
    let left = lab.json("devices list");
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    // The hub creates them and the response is lost: their keys show who created them.
    let azure = Azure::before(&lab, Queries::AZURE);
    azure.trouble("south", Trouble::NoAnswer);
    lab.run("devices add east south --tag wing=east")
        .expect(1)
        .says(&[
            "error: cannot add east: lost the connection to localhost",
            "; nothing was changed",
        ]);
    let left = lab.json("devices list");
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
}

#[test]
fn agent_files_are_complete_and_private_and_never_overwritten() {
    let lab = Lab::new();
    let add = |name: &str, file: &str| -> CommandOutput {
        lab.run(format!("devices add {name} --agent-config {file}"))
    };
    add("east", "agents.toml").expect(0);
    let path = |name: &str| lab.folder().join(name);
    let mode = fs::metadata(path("east.connection-string"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let config = AgentConfig::load(&path("agents.toml")).unwrap();
    assert_eq!(config.hub.connection.device_id, "east");
    assert_eq!(config.hub.connection.host_name.as_str(), "localhost");
    assert_eq!(
        fs::read(config.hub.ca_file.unwrap()).unwrap(),
        fs::read(path("hub/ca.pem")).unwrap()
    );

    add("south", "agents.toml")
        .expect(1)
        .says(&["agents.toml exists and is not overwritten; nothing was changed"]);
    fs::write(path("south.connection-string"), "mine").unwrap();
    add("south", "south.toml")
        .expect(1)
        .says(&["south.connection-string exists"]);
    add("south", "nowhere/south.toml")
        .expect(1)
        .says(&["nowhere is not a folder; nothing was changed"]);
    // A folder that is not writable: no door is created.
    if !is_root() {
        fs::create_dir(path("locked")).unwrap();
        fs::set_permissions(path("locked"), fs::Permissions::from_mode(0o500)).unwrap();
        add("south", "locked/south.toml")
            .expect(1)
            .says(&["nothing was changed"]);
    }
    // The same if the files cannot be written: the file size limit of the process is 0.
    let line = format!(
        "trap '' XFSZ; ulimit -f 0; {} devices add north --agent-config north.toml",
        env!("CARGO_BIN_EXE_doorctl")
    );
    let output = Command::new("sh")
        .args(["-c", &line])
        .current_dir(lab.folder())
        .env("DOORCTL_CONFIG", path("doorctl.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!path("north.toml").exists() && !path("north.connection-string").exists());
    let left = lab.json("devices list");
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    assert_eq!(
        fs::read_to_string(path("south.connection-string")).unwrap(),
        "mine"
    );
}

#[test]
fn a_connection_string_is_written_only_to_a_private_file() {
    let lab = Lab::new();
    lab.run("devices add east").expect(0);
    let write = |out: &str, flags: &str| {
        lab.run(format!(
            "devices connection-string east --out {out} {flags}"
        ))
    };
    let output = write("primary", "").expect(0);
    write("secondary", "--secondary").expect(0);
    let read = |name: &str| fs::read_to_string(lab.folder().join(name)).unwrap();
    let (primary, secondary) = (read("primary"), read("secondary"));
    assert!(
        primary.starts_with("HostName=localhost;DeviceId=east;SharedAccessKey="),
        "{primary}"
    );
    assert_ne!(primary, secondary);
    let key = primary.trim().rsplit("SharedAccessKey=").next().unwrap();
    assert!(!format!("{output:?}").contains(key));
    write("primary", "")
        .expect(1)
        .says(&["cannot create primary"]);
}

#[test]
fn an_unknown_door_gets_a_suggestion() {
    let lab = Lab::new();
    lab.run("devices add lobby-east vault").expect(0);
    let output = lab.run("devices show lobby-eats").expect(1);
    insta::assert_snapshot!(output.stderr, @r"
    error: the hub has no door `lobby-eats`; did you mean `lobby-east`?
      next: doorctl devices list
    ");
    #[rustfmt::skip]
    lab.run_all(&[
        ("invoke valut getState", 1, "did you mean `vault`?"),
        ("twin show roof", 1, "the hub has no door `roof`\n"),
        ("jobs lock lobby-eats vault", 1,
            "the hub has no door `lobby-eats`; did you mean `lobby-east`?"),
    ]);
}

#[test]
fn an_invalid_key_and_an_untrusted_ca_are_reported() {
    let lab = Lab::new();
    let good = fs::read_to_string(lab.folder().join("hub/service-connection-string")).unwrap();
    let (start, _) = good.trim().rsplit_once("SharedAccessKey=").unwrap();
    let file = lab.folder().join("wrong");
    fs::write(
        &file,
        format!("{start}SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    )
    .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    lab.run("context add wrong --connection-string-file wrong --ca hub/ca.pem")
        .expect(0)
        .says(&[
            "context wrong is stored in",
            "the current one is still lab",
            "the hub refuses this connection string",
            "401",
            "doorctl context use wrong",
        ]);
    lab.run("devices list").expect(0);
    lab.run("devices list --context wrong")
        .expect(1)
        .says(&["the hub answers 401", "next: are policy and key right"]);
    lab.run("context add stranger --connection-string-file hub/service-connection-string")
        .expect(0)
        .says(&["the hub does not answer", "UnknownIssuer"]);
    lab.run("devices list")
        .expect(1)
        .says(&["does not trust the CA of this hub"]);
    lab.run("devices list --context lab").expect(0);
}

fn is_root() -> bool {
    fs::metadata("/proc/self")
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

#[test]
fn verbose_shows_requests_and_responses_without_keys() {
    let lab = Lab::new();
    lab.run("devices add east").expect(0);
    let output = lab
        .run("-v devices connection-string east --out east.key")
        .expect(0)
        .says(&[
            "> GET https://localhost:",
            "/devices/east?api-version=2021-04-12",
            "< 200 after ",
            "\"primaryKey\":\"(secret)\"",
        ]);
    let connection = std::fs::read_to_string(lab.folder().join("east.key")).unwrap();
    let (_, key) = connection.trim().split_once("SharedAccessKey=").unwrap();
    assert!(!output.stderr.contains(key), "{output:?}");
    assert!(
        !output.stderr.contains("SharedAccessSignature"),
        "{output:?}"
    );
}

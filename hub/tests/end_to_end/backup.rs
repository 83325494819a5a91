//! Backup of a running hub, and restore.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use doorfleet_testing::{CommandOutput, TestHub, answer, eventually, run};
use serde_json::{Value, json};

use crate::program::{program, run_on};

/// Checks a folder on free ports.
const CHECK: &str = "check --listen 127.0.0.1 --mqtt-port 0 --https-port 0";

fn backup(data: &Path, archive: &Path) -> CommandOutput {
    run_on(data, format!("backup {}", archive.display())).expect(0)
}

fn restore(archive: &Path, data: &Path) -> CommandOutput {
    run_on(data, format!("restore {}", archive.display()))
}

/// A twin without the members that a connection changes.
fn without_connection_state(mut twin: Value) -> Value {
    for member in ["connectionState", "lastActivityTime"] {
        twin.as_object_mut().unwrap().remove(member).unwrap();
    }
    twin
}

/// Runs a script from the documentation with this build's door-hub.
fn script(text: &str, state: &Path) -> CommandOutput {
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program().parent().unwrap().display());
    let mut shell = Command::new("sh");
    shell.args(["-euc", text]).env("PATH", path);
    run(shell.env("STATE_DIRECTORY", state))
}

fn read(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(name)).unwrap()
}

#[tokio::test]
async fn the_nightly_backup_works_and_the_documented_drill_restores_it() {
    let hub = TestHub::start().await;
    hub.add_device("lobby").await;
    let state = tempfile::tempdir().unwrap();
    let unit = read("systemd/door-hub-backup.service").replace("\\\n", "");
    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let data = hub.folder.path().to_str().unwrap();
    let command = command
        .unwrap()
        .replace("/usr/bin/door-hub", env!("CARGO_BIN_EXE_door-hub"))
        .replace("/var/lib/door-hub", data)
        .replace("%%", "%");
    // Twice: the second run overwrites the archive of the same weekday.
    for _ in 0..2 {
        script(&command, state.path()).expect(0);
    }
    let made: Vec<_> = std::fs::read_dir(state.path()).unwrap().collect();
    let [Ok(archive)] = &made[..] else {
        panic!("one archive a day: {made:?}")
    };
    let name = archive.file_name().into_string().unwrap();
    let day = name.strip_prefix("door-hub-").unwrap();
    assert!(("1.tar"..="7.tar").contains(&day), "{name}");

    let page = read("docs/operator/hub.md");
    let (_, drill) = page.split_once("## A restore drill").unwrap();
    let drill = drill
        .split("```")
        .nth(1)
        .unwrap()
        .strip_prefix("sh")
        .unwrap();
    let named = "/var/lib/door-hub-backup/door-hub-1.tar";
    assert!(drill.contains(named), "{drill}");
    let drill = drill
        .replace(named, archive.path().to_str().unwrap())
        .replace("28883", "0")
        .replace("28443", "0");
    script(&drill, state.path())
        .expect(0)
        .prints(&["database: intact"]);
}

#[tokio::test]
async fn reports_damage_that_it_finds_after_the_start() {
    let hub = TestHub::start().await;
    hub.add_device("lobby").await;
    hub.add_device("stairs").await;
    let health = |hub: &TestHub| answer(hub.anonymous(reqwest::Method::GET, "/healthz"));
    let metrics = |hub: &TestHub| answer(hub.request(reqwest::Method::GET, "/metrics"));
    let checked = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with("door_hub_database_checked_seconds "));
        line.is_some_and(|line| !line.ends_with(" 0"))
    };
    eventually("the database is checked", || async {
        let text = metrics(&hub).await.body.as_str()?.to_owned();
        (checked(&text) && text.contains("\ndoor_hub_database_faults 0\n")).then_some(())
    })
    .await;
    let well = health(&hub).await;
    assert!(well.body.get("damage").is_none(), "{}", well.body);

    let folder = hub.stop().await.folder;
    let connection = rusqlite::Connection::open(folder.path().join("hub.db")).unwrap();
    connection
        .execute_batch("UPDATE twin SET tags = x'ff' WHERE id = 1")
        .unwrap();
    drop(connection);
    let hub = TestHub::start_in(folder).await;
    let ill = eventually("the damage is found", || async {
        let answer = health(&hub).await;
        answer.body.get("damage").is_some().then_some(answer)
    })
    .await;
    assert_eq!(ill.status, 200, "the other devices are served");
    assert_eq!(
        ill.body["damage"],
        "faults in the database: 1; `door-hub check` names them"
    );
    let text = metrics(&hub).await.body;
    assert!(
        text.as_str()
            .unwrap()
            .contains("\ndoor_hub_database_faults 1\n"),
        "{text}"
    );
    run_on(hub.folder.path(), CHECK)
        .expect(0)
        .prints(&["warning  database: the device `lobby` is damaged"]);
    // Backup and restore work with a damaged row.
    let elsewhere = tempfile::tempdir().unwrap();
    let archive = elsewhere.path().join("hub.backup");
    backup(hub.folder.path(), &archive);
    let restored = elsewhere.path().join("data");
    restore(&archive, &restored).expect(0);

    // Clients see the other devices, and can delete the damaged one.
    let found = hub.query("SELECT * FROM devices").await;
    assert_eq!(found.status, 200, "{}", found.body);
    assert_eq!(found.body.as_array().unwrap().len(), 1);
    let removed = hub
        .send(reqwest::Method::DELETE, "/devices/lobby", None)
        .await;
    assert_eq!(removed.status, 204, "{}", removed.body);
    hub.add_device("lobby").await;

    // A bulk operation can delete it too.
    let connection = rusqlite::Connection::open(hub.folder.path().join("hub.db")).unwrap();
    let sql = "UPDATE twin SET desired = x'07ff' WHERE id = (SELECT max(id) FROM twin)";
    connection.execute_batch(sql).unwrap();
    let both =
        ["lobby", "stairs"].map(|id| json!({ "id": id, "importMode": "delete", "eTag": "*" }));
    let removed = hub.post("/devices", json!(both)).await;
    assert_eq!(removed.status, 200, "{}", removed.body);
    let left = hub.query("SELECT * FROM devices").await;
    assert_eq!(left.body, json!([]));
}

#[tokio::test]
async fn a_backup_of_a_running_hub_can_be_restored_elsewhere() {
    let hub = TestHub::start().await;
    let data = hub.folder.path();
    let key = hub.add_device("lobby").await;
    let device = hub.connect("lobby", &key, 200).await;
    let twin = json!({ "tags": { "floor": 3 }, "properties": { "desired": { "locked": true } } });
    assert_eq!(hub.patch("/twins/lobby", twin).await.status, 200);
    let job = json!({
        "jobId": "lock",
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": { "methodName": "lock", "payload": { "until": 5 } },
        "queryCondition": "*",
        "maxExecutionTimeInSeconds": 60,
    });
    assert_eq!(hub.put("/jobs/v2/lock", job).await.status, 200);
    let job = hub.job("lock", &["completed"]).await;
    let rows = hub.device_jobs("lock").await;
    drop(device);
    run_on(data, "policy add alice --rights ServiceConnect").expect(0);
    let settings = "aliases = [\"door.example\"]\n[events]\nmax_rows = 1234\n";
    std::fs::write(data.join("hub.toml"), settings).unwrap();
    hub.add_device("busy").await;

    // Writes continue during the backup.
    let elsewhere = tempfile::tempdir().unwrap();
    let archive = elsewhere.path().join("hub.backup");
    let stop = AtomicBool::new(false);
    let written = async {
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) {
            written += 1;
            let twin = json!({ "tags": { "written": written } });
            assert_eq!(hub.patch("/twins/busy", twin).await.status, 200);
        }
        written
    };
    let backup = async {
        let (data, archive) = (data.to_owned(), archive.clone());
        let backup = tokio::task::spawn_blocking(move || backup(&data, &archive));
        let output = backup.await.unwrap();
        stop.store(true, Ordering::Relaxed);
        output
    };
    let (written, output) = tokio::join!(written, backup);
    output.prints(&["hub.db"]);
    let mode = std::fs::metadata(&archive).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let line = format!("backup {}", archive.display());
    run_on(data, line)
        .expect(1)
        .mentions(&["already exists; use --force"]);
    let left: Vec<_> = std::fs::read_dir(elsewhere.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "no partial file is left: {left:?}");

    let twin = without_connection_state(hub.get("/twins/lobby").await.body);
    let identity = hub.get("/devices/lobby").await.body;
    let authority = std::fs::read_to_string(hub.hub.ca_file()).unwrap();
    let alice = eventually("the hub knows alice", || async { hub.hub.policy("alice") }).await;
    let restored = tempfile::tempdir().unwrap();
    restore(&archive, restored.path()).expect(0);
    let mode = |name: &str| {
        let metadata = std::fs::metadata(restored.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(
        (mode("."), mode("hub.db"), mode("ca.key")),
        (0o700, 0o600, 0o600)
    );
    let kept = std::fs::read_to_string(restored.path().join("hub.toml")).unwrap();
    assert_eq!(kept, settings);
    run_on(restored.path(), CHECK)
        .expect(0)
        .prints(&["database: intact"]);

    hub.hub.shutdown().await;
    let again = TestHub::start_in(restored).await;
    let same = std::fs::read_to_string(again.hub.ca_file()).unwrap();
    assert_eq!(same, authority, "doors still trust it");
    assert_eq!(
        without_connection_state(again.get("/twins/lobby").await.body),
        twin
    );
    let mut there = again.get("/devices/lobby").await.body;
    for member in [
        "connectionState",
        "connectionStateUpdatedTime",
        "lastActivityTime",
    ] {
        there[member] = identity[member].clone();
    }
    assert_eq!(there, identity);
    assert_eq!(again.job("lock", &["completed"]).await, job);
    assert_eq!(again.device_jobs("lock").await, rows);
    assert_eq!(again.hub.policy("alice"), Some(alice));
    let busy = again.get("/twins/busy").await.body;
    let number = busy["tags"]["written"].as_u64().unwrap_or_default();
    assert!(number <= written, "{number} of {written}");
    let _device = again.connect("lobby", &key, 200).await;
    let call = json!({ "methodName": "lock", "payload": null });
    assert_eq!(again.post("/twins/lobby/methods", call).await.status, 200);
}

#[tokio::test]
async fn a_restore_of_a_damaged_archive_leaves_nothing() {
    let hub = TestHub::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let archive = elsewhere.path().join("hub.backup");
    backup(hub.folder.path(), &archive);
    let whole = std::fs::read(&archive).unwrap();
    let target = elsewhere.path().join("data");

    let at = |text: &str| {
        let text = text.as_bytes();
        let found = whole.windows(text.len()).rposition(|window| window == text);
        found.unwrap()
    };
    let mut changed = whole.clone();
    changed[at("SQLite format 3")] = b'X';
    let mut renamed = whole.clone();
    let name = at("ca.key");
    renamed[name..name + 6].copy_from_slice(b"../key");
    for (what, bytes) in [
        ("torn", whole[..whole.len() / 2].to_vec()),
        ("changed", changed),
        ("renamed", renamed),
        ("empty", Vec::new()),
        ("something else", b"hello".repeat(1000)),
    ] {
        std::fs::write(&archive, bytes).unwrap();
        println!("{what}");
        restore(&archive, &target)
            .expect(1)
            .mentions(&["is not a usable backup"]);
        let left: Vec<_> = std::fs::read_dir(elsewhere.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{what}: {left:?}");
    }

    std::fs::write(&archive, &whole).unwrap();
    restore(&archive, hub.folder.path())
        .expect(1)
        .mentions(&["is not empty"]);
    restore(&archive, &target).expect(0);
    assert!(target.join("hub.db").exists());
}

#[tokio::test]
async fn check_names_each_fault_and_fails() {
    let hub = TestHub::start().await;
    let data = hub.folder.path();
    let check = |data: &Path| run_on(data, format!("{CHECK} --name localhost"));
    check(data).expect(0).prints(&[
        "running on this folder",
        "authority: expires on",
        "server certificate: expires on",
        "covers every name",
        "database: intact",
    ]);
    let folder = hub.folder;
    std::fs::set_permissions(
        folder.path().join("ca.key"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    check(folder.path())
        .expect(1)
        .mentions(&["ca.key has mode 0644; expected 0600"]);
    hub.hub.shutdown().await;

    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = other.local_addr().unwrap().port();
    let ports = format!("check --listen 127.0.0.1 --mqtt-port {in_use} --https-port 0");
    run_on(folder.path(), ports)
        .expect(1)
        .mentions(&[&format!("mqtt_port: cannot listen on 127.0.0.1:{in_use}")]);
    std::fs::write(folder.path().join("hub.db"), "no database at all").unwrap();
    std::fs::write(folder.path().join("server.key"), "no key").unwrap();
    check(folder.path())
        .expect(1)
        .mentions(&["fault    database: ", "fault    server.pem, server.key: "]);
    std::fs::write(folder.path().join("hub.toml"), "\nmqtt_port = -1\n").unwrap();
    check(folder.path())
        .expect(1)
        .mentions(&["hub.toml, line 2"]);
}

#[tokio::test]
async fn a_backup_includes_files_of_the_data_folder_and_reports_those_outside() {
    let hub = TestHub::start().await;
    let data = hub.folder.path();
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("outside.pem");
    let settings = format!("device_ca_files = [\"site.pem\", {outside:?}]\n");
    std::fs::write(data.join("hub.toml"), settings).unwrap();
    std::fs::copy(data.join("ca.pem"), data.join("site.pem")).unwrap();
    let archive = elsewhere.path().join("hub.backup");
    let output = backup(data, &archive).stdout;
    assert!(
        output.contains(&format!("not in it: {}", outside.display())),
        "{output}"
    );
    let restored = elsewhere.path().join("data");
    restore(&archive, &restored).expect(0);
    let site = std::fs::read(restored.join("site.pem")).unwrap();
    assert_eq!(site, std::fs::read(data.join("site.pem")).unwrap());
}

//! A data folder with missing files: a hub does not treat it as a new one.

use std::fs;
use std::path::Path;

use door_hub::Hub;
use door_hub::config::HubConfig;
use doorfleet_testing::{TestHub, eventually, write_secret, write_with_mode};

use crate::program::run_on;

/// The data folder of a stopped hub.
async fn stopped_hub_folder() -> tempfile::TempDir {
    let hub = TestHub::start().await;
    hub.add_device("door").await;

    hub.stop().await.folder
}

fn refused_backup(data: &Path) -> String {
    format!("backup {}/../refused.tar", data.display())
}

fn keep(folder: &Path, names: &[&str]) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if !names.iter().any(|name| entry.file_name() == *name) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// The files that are left, and whether a hub starts on them.
const REMAINING_FILES: [(&[&str], bool); 9] = [
    (&["hub.group"], false),
    (&["ca.key"], false),
    (&["service-connection-string"], false),
    (
        &["ca.pem", "ca.key", "server.pem", "server.key", "hub.lock"],
        false,
    ),
    (&["hub.toml", "hub.lock", "given.pem", "given.key"], true),
    (&[], true),
    (&["hub.db"], true),
    (&["hub.db", "hub.group"], true),
    (&["hub.db", "hub.group", "ca.pem", "ca.key"], true),
];

#[tokio::test]
async fn a_folder_without_its_database_is_not_initialised_again() {
    for (remaining, starts) in REMAINING_FILES {
        let folder = stopped_hub_folder().await;
        for name in ["hub.toml", "given.pem", "given.key"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let string = fs::read(folder.path().join("service-connection-string")).unwrap();
        keep(folder.path(), remaining);
        if starts {
            let hub = TestHub::start_in(folder).await;
            hub.hub.shutdown().await;
            continue;
        }
        let data = folder.path();
        let config = HubConfig::loopback(data.to_owned());
        let error = Hub::start(config.clone()).await.unwrap_err();
        let message = format!("{:#}", anyhow::Error::from(error));
        for part in ["hub.db", "door-hub restore", "--accept-older"] {
            assert!(message.contains(part), "{remaining:?}: {message}");
        }
        assert!(!data.join("hub.db").exists(), "{remaining:?}");
        for line in [
            "check --listen 127.0.0.1 --mqtt-port 0 --https-port 0",
            "init",
            &refused_backup(data),
        ] {
            run_on(data, line)
                .expect(1)
                .mentions(&["is missing or empty"]);
        }
        if remaining.contains(&"service-connection-string") {
            let now = fs::read(data.join("service-connection-string")).unwrap();
            assert_eq!(now, string, "the operator's keys were overwritten");
        }
        let accepted = HubConfig {
            accept_older: true,
            ..config
        };
        Hub::start(accepted).await.unwrap().shutdown().await;
        TestHub::start_in(folder).await.hub.shutdown().await;
    }
}

/// A first start may be interrupted anywhere; the next start continues it.
#[tokio::test]
async fn an_interrupted_first_start_is_continued() {
    let tables = "PRAGMA journal_mode = WAL";
    for (case, file) in [
        ("an empty file", None),
        ("a database without tables", Some(tables)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        write_secret(&path, "");
        if let Some(sql) = file {
            let connection = rusqlite::Connection::open(&path).unwrap();
            connection.query_row(sql, [], |_| Ok(())).unwrap();
        }
        let hub = TestHub::start_in(folder).await;
        hub.add_device(case.split(' ').next().unwrap()).await;
    }
    // The tables exist, but the policies do not.
    let folder = stopped_hub_folder().await;
    let connection = rusqlite::Connection::open(folder.path().join("hub.db")).unwrap();
    connection.execute_batch("DELETE FROM policy").unwrap();
    drop(connection);
    let config = HubConfig::loopback(folder.path().to_owned());
    let error = Hub::start(config).await.unwrap_err();
    let message = format!("{:#}", anyhow::Error::from(error));
    assert!(
        message.contains("has no policies"),
        "with keys in the folder: {message}"
    );
    keep(folder.path(), &["hub.db", "hub.group"]);
    TestHub::start_in(folder).await;
}

#[tokio::test]
async fn every_command_rejects_an_older_database() {
    let hub = TestHub::start().await;
    let older = hub.folder.path().join("older.db");
    hub.add_device("first").await;
    let connection = rusqlite::Connection::open(hub.folder.path().join("hub.db")).unwrap();
    let name = older.to_str().unwrap();
    write_secret(&older, "");
    connection.execute("VACUUM INTO ?1", [name]).unwrap();
    drop(connection);
    hub.add_device("second").await;
    let folder = hub.stop().await.folder;
    let data = folder.path();
    fs::rename(&older, data.join("hub.db")).unwrap();
    for line in [
        "serve --listen 127.0.0.1 --mqtt-port 0 --https-port 0",
        "check --listen 127.0.0.1 --mqtt-port 0 --https-port 0",
        &refused_backup(data),
        "policy list",
    ] {
        run_on(data, line)
            .expect(1)
            .mentions(&["has lost data", "--accept-older"]);
    }
    // A policy that was removed while no hub ran does not come back with an older copy, either.
    let accepted = HubConfig {
        accept_older: true,
        ..HubConfig::loopback(data.to_owned())
    };
    Hub::start(accepted).await.unwrap().shutdown().await;
    fs::copy(data.join("hub.db"), &older).unwrap();
    run_on(data, "policy remove service").expect(0);
    fs::rename(&older, data.join("hub.db")).unwrap();
    run_on(data, "policy list")
        .expect(1)
        .mentions(&["has lost data"]);
}

#[tokio::test]
async fn doors_connect_although_the_owners_policy_is_damaged_and_it_can_be_added_again() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let folder = hub.stop().await.folder;
    let connection = rusqlite::Connection::open(folder.path().join("hub.db")).unwrap();
    let sql = "UPDATE policy SET primary_key = x'' WHERE name = 'iothubowner'";
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let hub = TestHub::start_in(folder).await;
    let _door = hub.connect("door", &key, 200).await;
    assert!(hub.hub.policy("iothubowner").is_none());
    assert!(hub.hub.policy("service").is_some(), "other policies work");
    let data = hub.folder.path();
    // The operator needs it.
    run_on(data, "policy remove iothubowner").expect(1);
    let rights = "RegistryWrite,ServiceConnect,DeviceConnect";
    let out = data.join("owner").display().to_string();
    let line = format!("policy add iothubowner --rights {rights} --out {out}");
    run_on(data, line).expect(0);
    eventually("the hub has it again", || async {
        hub.hub.policy("iothubowner")
    })
    .await;
}

/// A hub does not start with a private file that others may read or write, and `check` names each.
#[tokio::test]
async fn check_and_serve_refuse_the_same_modes() {
    let folder = stopped_hub_folder().await;
    let data = folder.path();
    for (name, mode, refused) in [
        ("ca.key", 0o644, true),
        ("server.key", 0o640, true),
        ("hub.db", 0o604, true),
        ("hub.db-wal", 0o666, true),
        ("service-connection-string", 0o644, true),
        ("alice.connection-string", 0o644, true),
        ("registryRead.token", 0o660, true),
        ("ca.pem", 0o644, false),
        ("hub.toml", 0o644, false),
        ("hub.db", 0o400, false),
    ] {
        let path = data.join(name);
        let before = fs::read(&path).ok();
        write_with_mode(&path, before.as_deref().unwrap_or_default(), mode);
        let reason = format!("{name} has mode {mode:04o}; expected 0600");
        if refused {
            // Before `check`, which removes an empty WAL file.
            let started = Hub::start(HubConfig::loopback(data.to_owned())).await;
            let message = started.unwrap_err().to_string();
            assert!(message.contains(&reason), "{message}");
        }
        let checked = run_on(
            data,
            "check --listen 127.0.0.1 --mqtt-port 0 --https-port 0",
        );
        let found = checked.stdout.contains(&reason);
        assert_eq!(found, refused, "{name}: {checked:?}");
        if refused {
            assert_eq!(checked.status, 1, "{name}");
        }
        match before {
            Some(bytes) => write_secret(&path, bytes),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    TestHub::start_in(folder).await;
}

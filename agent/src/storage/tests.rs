use std::sync::mpsc;
use std::time::Duration;

use door_core::ClockQuality::{self, Synchronized, Unsynchronized};
use door_core::EventKind;

use super::*;

const BOOT: &str = "3f0c5d6e-0000-4000-8000-000000000001";
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Held {
    hold: String,
}

fn held(hold: &str) -> Held {
    Held {
        hold: hold.to_owned(),
    }
}

fn directory<'a>(path: &'a Path, boot_id: &'a str) -> DoorDirectory<'a> {
    DoorDirectory {
        path,
        door: "lobby-east",
        boot_id,
        event_log_bytes: 1 << 20,
    }
}

/// An urgent event; `method` is in its record.
fn event(clock: ClockQuality, method: &str) -> Event {
    Event {
        at: None,
        clock,
        kind: EventKind::Command {
            method: method.to_owned(),
            command_id: None,
            reason: None,
            status: 200,
            repeated: false,
        },
    }
}

fn save(storage: &DoorStorage, held: &Held) -> Result<(), StorageError> {
    let (tx, rx) = mpsc::sync_channel(1);
    storage.save_door(held, move |result| tx.send(result).unwrap());
    rx.recv_timeout(DEADLINE).unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

#[tokio::test]
async fn state_and_location_are_restored_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    let storage = Storage::spawn().unwrap();
    let (door, restored) = storage.open(&directory(&path, BOOT)).unwrap();
    assert_eq!(restored.door::<Held>().unwrap(), None);
    assert_eq!(restored.start_reason, StartReason::First);
    save(&door, &held("locked")).unwrap();
    door.append(event(Synchronized, "lockDoor"));
    let location = SiteLocation {
        building: Some(43.into()),
        floor: Some("3".into()),
    };
    door.save_location(location.clone(), |_| {});
    within(door.close()).await;

    let (door, restored) = storage.open(&directory(&path, BOOT)).unwrap();
    assert_eq!(restored.door::<Held>().unwrap(), Some(held("locked")));
    assert_eq!(restored.location, location);
    assert_eq!(restored.start_reason, StartReason::Restart);
    assert!(restored.clock_floor_unix_s > 1_700_000_000);
    within(door.close()).await;
    let (_, restored) = storage.open(&directory(&path, "another-boot")).unwrap();
    assert_eq!(restored.start_reason, StartReason::Boot);
}

#[tokio::test]
async fn a_start_without_its_state_folder_is_in_doubt() {
    let home = tempfile::tempdir().unwrap();
    // As when the disk of the folder is not there.
    std::os::unix::fs::symlink(home.path().join("gone"), home.path().join("disk")).unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    // `/proc` can be read, but takes no folder, as the folder of a disk that is mounted later.
    for path in ["disk/state", "file/state", "/proc/state"] {
        let storage = Storage::spawn().unwrap();
        let (door, restored) = storage
            .open(&directory(&home.path().join(path), BOOT))
            .unwrap();
        assert!(restored.doubt.is_some(), "{path}");
        within(door.close()).await;
    }
}

#[tokio::test]
async fn a_folder_in_place_of_a_file_does_not_block_saves() {
    for name in [
        "state.0",
        "state.1",
        "state.new",
        "events/acknowledged",
        "events/acknowledged.new",
    ] {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(name).join("full")).unwrap();
        let storage = Storage::spawn().unwrap();
        let (door, _) = storage.open(&directory(home.path(), BOOT)).unwrap();
        save(&door, &held("locked")).expect(name);
        save(&door, &held("released")).expect(name);
        door.append(event(Unsynchronized, "lockDoor"));
        within(door.written()).await;
        within(door.records_after(0, 1)).await.expect(name);
        let problem = door.disk().borrow().problem.clone();
        assert_eq!(problem, None, "{name}");
        within(door.close()).await;
        let (_, restored) = storage.open(&directory(home.path(), BOOT)).unwrap();
        assert_eq!(restored.doubt, None, "{name}");
    }
}

#[tokio::test]
async fn only_a_trusted_time_is_saved_and_it_corrects_one_years_ahead() {
    let home = tempfile::tempdir().unwrap();
    let ahead = Saved {
        clock_unix_s: 4_000_000_000,
        ..Saved::default()
    };
    StateFile::open::<Saved>(home.path())
        .0
        .save(&ahead)
        .unwrap();
    let storage = Storage::spawn().unwrap();
    for (clock, floor) in [
        (Unsynchronized, 4_000_000_000..4_000_000_001),
        (Synchronized, 1_700_000_000..4_000_000_000),
    ] {
        let (door, _) = storage.open(&directory(home.path(), BOOT)).unwrap();
        door.append(event(clock, "lockDoor"));
        within(door.close()).await;
        let (door, restored) = storage.open(&directory(home.path(), BOOT)).unwrap();
        assert!(floor.contains(&restored.clock_floor_unix_s), "{clock}");
        within(door.close()).await;
    }
}

#[tokio::test]
async fn a_state_that_does_not_parse_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let storage = Storage::spawn().unwrap();
    let (door, _) = storage.open(&directory(home.path(), BOOT)).unwrap();
    save(&door, &held("locked")).unwrap();
    within(door.close()).await;
    let (_, restored) = storage.open(&directory(home.path(), BOOT)).unwrap();
    assert!(matches!(restored.door::<u32>(), Err(StorageError::Form(_))));
}

#[tokio::test]
async fn a_requested_reboot_is_known_after_the_boot() {
    let home = tempfile::tempdir().unwrap();
    let storage = Storage::spawn().unwrap();
    let asked = RebootNote {
        reason: Some("kernel update".to_owned()),
        command_id: Some("r-1".parse().unwrap()),
        led_to: None,
    };
    let (door, _) = storage.open(&directory(home.path(), BOOT)).unwrap();
    door.save_reboot(asked.clone(), |_| {});
    within(door.close()).await;
    let (door, restored) = storage.open(&directory(home.path(), "next")).unwrap();
    let led = RebootNote {
        led_to: Some("next".to_owned()),
        ..asked.clone()
    };
    assert_eq!(restored.reboot, Some(led.clone()));
    within(door.close()).await;
    // Still known after a later boot, which it did not cause.
    let (door, restored) = storage.open(&directory(home.path(), "later")).unwrap();
    assert_eq!(restored.reboot, Some(led));
    // A reboot that did not happen is forgotten.
    door.save_reboot(asked, |_| {});
    within(door.close()).await;
    let (_, restored) = storage.open(&directory(home.path(), "later")).unwrap();
    assert_eq!(restored.reboot, None);
}

#[tokio::test]
async fn a_directory_serves_one_agent_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let storage = Storage::spawn().unwrap();
    let (door, _) = storage.open(&directory(home.path(), BOOT)).unwrap();
    let second = storage.open(&directory(home.path(), BOOT)).unwrap_err();
    assert!(matches!(second, StorageError::InUse { .. }), "{second}");
    within(door.close()).await;
    storage.open(&directory(home.path(), BOOT)).unwrap();
}

#[tokio::test]
async fn every_save_is_answered_even_if_a_newer_one_replaces_it() {
    let home = tempfile::tempdir().unwrap();
    let storage = Storage::spawn().unwrap();
    let (door, _) = storage.open(&directory(home.path(), BOOT)).unwrap();
    let (tx, rx) = mpsc::sync_channel(100);
    for n in 0..100 {
        let tx = tx.clone();
        door.save_door(&held(&n.to_string()), move |result| {
            tx.send(result.is_ok()).unwrap();
        });
    }
    for _ in 0..100 {
        assert!(rx.recv_timeout(DEADLINE).unwrap());
    }
    within(door.close()).await;
    let (_, restored) = storage.open(&directory(home.path(), BOOT)).unwrap();
    assert_eq!(restored.door::<Held>().unwrap(), Some(held("99")));
}

#[tokio::test]
async fn a_state_that_cannot_be_written_is_answered_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    let storage = Storage::spawn().unwrap();
    let (door, _) = storage.open(&directory(&path, BOOT)).unwrap();
    save(&door, &held("released")).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    let error = save(&door, &held("locked")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot save the state in {}", path.display())
    );
}

#[tokio::test]
async fn events_are_read_in_order_with_door_and_location_until_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let storage = Storage::spawn().unwrap();
    let (door, _) = storage.open(&directory(home.path(), BOOT)).unwrap();
    let mut newest = door.newest_record();
    door.save_location(
        SiteLocation {
            building: Some(43.into()),
            floor: None,
        },
        |_| {},
    );
    door.append(event(Unsynchronized, "lockDoor"));
    door.append(Event {
        kind: EventKind::Identify,
        ..event(Unsynchronized, "")
    });
    within(newest.wait_for(|position| *position == 2))
        .await
        .unwrap();
    let records = within(door.records_after(0, 10)).await.unwrap();
    let mids: Vec<_> = records.iter().map(|record| record.mid.as_str()).collect();
    assert_eq!(mids, [format!("{BOOT}-1"), format!("{BOOT}-2")]);
    let body: Value = serde_json::from_slice(&records[0].body).unwrap();
    assert_eq!(body["door"], "lobby-east");
    assert_eq!(body["building"], 43);
    assert_eq!(body.get("floor"), None);

    door.acknowledge(1);
    let records = within(door.records_after(0, 10)).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(door.waiting_records(), 1);
    within(door.close()).await;
    let (door, _) = storage.open(&directory(home.path(), BOOT)).unwrap();
    assert_eq!(within(door.records_after(0, 10)).await.unwrap(), records);
}

#[tokio::test]
async fn after_shutdown_everything_is_refused_and_nothing_waits() {
    let home = tempfile::tempdir().unwrap();
    let storage = Storage::spawn().unwrap();
    let (door, _) = storage.open(&directory(home.path(), BOOT)).unwrap();
    save(&door, &held("locked")).unwrap();
    storage.shutdown();
    within(door.close()).await;
    assert!(matches!(
        save(&door, &held("released")),
        Err(StorageError::Closed)
    ));
    assert!(matches!(
        within(door.records_after(0, 1)).await,
        Err(StorageError::Closed)
    ));
}

#[tokio::test]
async fn written_resolves_only_after_the_record_is_on_disk() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    let storage = Storage::spawn().unwrap();
    let (door, _) = storage.open(&directory(&path, BOOT)).unwrap();
    for number in 0..50 {
        let method = format!("method-{number}-end");
        door.append(event(Unsynchronized, &method));
        within(door.written()).await;
        let log: String = fs::read_dir(path.join("events"))
            .unwrap()
            .map(|file| {
                String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()).into_owned()
            })
            .collect();
        assert!(log.contains(&method), "{method} is not in {log}");
    }
    within(door.close()).await;
    storage.shutdown();
    // No caller waits forever for what will not be written.
    within(door.written()).await;
}

mod doubt;

use door_core::{ClockQuality, EventName};
use serde_json::{Map, Value};

use super::*;

const EVENTS_LOST: &str = EventName::EventsLost.as_str();
const BOOT: &str = "3f0c5d6e-0000-4000-8000-000000000001";
const NEXT_BOOT: &str = "3f0c5d6e-0000-4000-8000-000000000002";

fn open_clean(directory: &Path) -> EventLog {
    let (log, damages) = EventLog::open(directory, BOOT, 1 << 20);
    assert_eq!(damages, []);
    log
}

fn event(kind: &str) -> DoorEvent {
    DoorEvent {
        seq: 0,
        boot: String::new(),
        at: Some("2026-11-23T22:00:00Z".parse().unwrap()),
        clock: ClockQuality::Synchronized,
        kind: kind.to_owned().into(),
        door: "lobby-east".to_owned(),
        building: None,
        floor: Some(3.into()),
        members: Map::from_iter([("source".to_owned(), "remote".into())]),
    }
}

/// Appends an event and returns its number.
fn append_one(log: &mut EventLog, kind: &str) -> u64 {
    let mut event = event(kind);
    log.append(&mut event).unwrap();
    event.seq
}

/// An event that is too large for a record.
fn large(kind: &str) -> DoorEvent {
    let mut large = event(kind);
    let text = "x".repeat(segment::MAX_PAYLOAD);
    large.members.insert("text".to_owned(), text.into());
    large
}

fn append(log: &mut EventLog, kinds: &[&str]) {
    for kind in kinds {
        append_one(log, kind);
    }
    log.sync().unwrap();
}

fn bodies(records: &[LogRecord]) -> Vec<Value> {
    records
        .iter()
        .map(|record| serde_json::from_slice(&record.body).unwrap())
        .collect()
}

fn kinds(log: &mut EventLog) -> Vec<String> {
    bodies(&log.read_after(0, usize::MAX))
        .iter()
        .map(|body| body["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_record_carries_sequence_boot_and_fields_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_clean(directory.path());
    append(&mut log, &["locked"]);
    let records = log.read_after(0, 10);
    assert_eq!(records[0].mid, format!("{BOOT}-1"));
    assert_eq!(
        String::from_utf8(records[0].body.clone()).unwrap(),
        format!(
            concat!(
                r#"{{"seq":1,"boot":"{}","at":"2026-11-23T22:00:00Z","clock":"synchronized","#,
                r#""kind":"locked","door":"lobby-east","floor":3,"source":"remote"}}"#
            ),
            BOOT
        )
    );
}

#[test]
fn acknowledged_records_are_removed_and_the_others_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_clean(directory.path());
    append(&mut log, &["a", "b", "c", "d"]);
    log.acknowledge(2).unwrap();
    assert_eq!(kinds(&mut log), ["c", "d"]);
    drop(log);
    let mut log = open_clean(directory.path());
    assert_eq!(kinds(&mut log), ["c", "d"]);
    append(&mut log, &["e"]);
    let records = log.read_after(3, 10);
    let mids: Vec<_> = records.iter().map(|record| record.mid.clone()).collect();
    assert_eq!(mids, [format!("{BOOT}-4"), format!("{BOOT}-5")]);
}

#[test]
fn the_sequence_continues_after_acknowledgement_and_restarts_with_each_boot() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_clean(directory.path());
    append(&mut log, &["a", "b"]);
    log.acknowledge(2).unwrap();
    drop(log);
    let mut log = open_clean(directory.path());
    append(&mut log, &["c"]);
    assert_eq!(log.read_after(0, 1)[0].mid, format!("{BOOT}-3"));
    drop(log);
    let (mut log, _) = EventLog::open(directory.path(), NEXT_BOOT, 1 << 20);
    append(&mut log, &["d"]);
    let records = log.read_after(0, 10);
    let mids: Vec<_> = records.iter().map(|record| record.mid.clone()).collect();
    assert_eq!(mids, [format!("{BOOT}-3"), format!("{NEXT_BOOT}-1")]);
}

#[test]
fn a_torn_tail_is_cut_off_and_leaves_no_gap_in_the_sequence() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_clean(directory.path());
    append(&mut log, &["a", "b"]);
    let path = log.segments[0].path.clone();
    drop(log);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();

    let (mut log, damages) = EventLog::open(directory.path(), BOOT, 1 << 20);
    assert_eq!(damages.len(), 1);
    assert!(
        damages[0].reason.contains("not a complete record"),
        "{damages:?}"
    );
    assert_eq!(kinds(&mut log), ["a"]);
    append(&mut log, &["c"]);
    assert_eq!(log.read_after(1, 1)[0].mid, format!("{BOOT}-2"));
    drop(log);
    assert_eq!(kinds(&mut open_clean(directory.path())), ["a", "c"]);
}

#[test]
fn a_full_log_drops_its_oldest_records_and_reports_their_number() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = EventLog::open(directory.path(), BOOT, 16 * 1024);
    let total = 500;
    for n in 0..total {
        append_one(&mut log, &format!("event-{n}"));
    }
    let on_disk: u64 = open::segment_files(directory.path())
        .unwrap()
        .iter()
        .map(|(path, _)| fs::metadata(path).unwrap().len())
        .sum();
    assert!(on_disk <= 16 * 1024, "{on_disk}");

    let records = log.read_after(0, usize::MAX);
    let bodies = bodies(&records);
    let reports: Vec<_> = bodies
        .iter()
        .filter(|body| body["kind"] == EVENTS_LOST)
        .collect();
    let lost: u64 = reports
        .iter()
        .map(|body| body["lost"].as_u64().unwrap())
        .sum();
    let kept = (bodies.len() - reports.len()) as u64;
    // Lost and remaining events add up, although loss reports were dropped too.
    assert_eq!(lost + kept, total, "{} reports", reports.len());
    for pair in bodies.windows(2) {
        let [before, after] = [&pair[0], &pair[1]].map(|body| body["seq"].as_u64().unwrap());
        let from = pair[1]["from"].as_u64().unwrap_or(after);
        assert_eq!(from, before + 1, "{pair:?}");
    }
    assert_eq!(bodies.last().unwrap()["kind"], "event-499");
}

#[test]
fn dropping_acknowledged_records_is_not_a_loss() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = EventLog::open(directory.path(), BOOT, 16 * 1024);
    for n in 0..500 {
        append_one(&mut log, &format!("event-{n}"));
        log.acknowledge(log.newest()).unwrap();
    }
    assert_eq!(kinds(&mut log), [] as [&str; 0]);
    assert_eq!(log.lost, 0);
}

#[test]
fn a_segment_without_complete_records_is_kept_aside_and_the_loss_reported() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = EventLog::open(directory.path(), BOOT, 64 * 1024);
    for n in 0..100 {
        append_one(&mut log, &format!("event-{n}"));
    }
    assert!(log.segments.len() >= 3);
    let victim = log.segments[1].path.clone();
    let held = log.segments[1].len() as u64;
    drop(log);
    let mut bytes = fs::read(&victim).unwrap();
    bytes.fill(0);
    fs::write(&victim, &bytes).unwrap();

    let (mut log, damages) = EventLog::open(directory.path(), BOOT, 64 * 1024);
    assert_eq!(damages.len(), 1);
    assert_eq!(
        fs::read(damages[0].kept_as.as_ref().unwrap()).unwrap(),
        bytes
    );
    append(&mut log, &["after"]);
    let bodies = bodies(&log.read_after(0, usize::MAX));
    let report = &bodies[bodies.len() - 2];
    assert_eq!(report["kind"], EVENTS_LOST);
    assert_eq!(report["lost"], held);
    assert_eq!(report["door"], "lobby-east");
}

#[test]
fn a_damaged_ledger_causes_resending_instead_of_loss() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_clean(directory.path());
    append(&mut log, &["a", "b"]);
    log.acknowledge(1).unwrap();
    drop(log);
    fs::write(directory.path().join(ledger::LEDGER), "\0\0\0").unwrap();
    assert_eq!(kinds(&mut open_clean(directory.path())), ["a", "b"]);
}

#[test]
fn an_event_too_large_is_counted_as_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_clean(directory.path());
    assert!(log.append(&mut large("large")).is_err());
    append(&mut log, &["small"]);
    assert_eq!(kinds(&mut log), [EVENTS_LOST, "small"]);
}

mod damage;
mod full;
mod loss;

//! A full log: the order of dropping, and that every hole is explained.

use std::collections::BTreeMap;

use super::*;

fn number(body: &Value, key: &str) -> Option<u64> {
    body[key].as_u64()
}

/// Asserts that each sequence number is present or within an explanation, and that the explanations
/// count exactly the missing ones.
fn assert_explained(records: &[LogRecord], boot: &str, newest: u64, what: &str) {
    let bodies = bodies(records);
    let of_boot: Vec<_> = bodies.iter().filter(|body| body["boot"] == boot).collect();
    let explanations: Vec<_> = of_boot
        .iter()
        .filter(|body| body["kind"] == EVENTS_LOST)
        .map(|body| (number(body, "from").unwrap(), number(body, "to").unwrap()))
        .collect();
    let kept: Vec<_> = of_boot
        .iter()
        .filter(|body| body["kind"] != EVENTS_LOST)
        .filter_map(|body| number(body, "seq"))
        .collect();
    for seq in 1..=newest {
        let explained = explanations
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&seq));
        assert!(
            explained || kept.contains(&seq),
            "{what}: {seq} is not explained"
        );
    }
    let mut lost = 0;
    for body in of_boot.iter().filter(|body| body["kind"] == EVENTS_LOST) {
        let kinds = body["kinds"].as_object().unwrap();
        let sum: u64 = kinds.values().filter_map(Value::as_u64).sum();
        assert_eq!(number(body, "lost"), Some(sum), "{what}");
        lost += sum;
    }
    assert_eq!(lost + kept.len() as u64, newest, "{what}");
}

fn size(directory: &Path) -> (usize, u64) {
    let files = open::segment_files(directory).unwrap();
    let bytes = files
        .iter()
        .map(|(path, _)| fs::metadata(path).unwrap().len());
    (files.len(), bytes.sum())
}

/// A flood, its repetitions, and whether an alarm from before it must still be there.
const FLOODS: [(&[&str], usize, bool); 6] = [
    (&["doorState"], 1200, true),
    (&["doorState", "lockState"], 600, true),
    (&["requestToExit", "doorState", "localGrant"], 400, true),
    (
        &["doorState", "doorState", "doorState", "alarmRaised"],
        60,
        true,
    ),
    // Alarms alone fill the log: then they are dropped too, oldest first.
    (&["alarmRaised", "alarmCleared"], 600, false),
    (&["command", "doorState"], 600, false),
];

#[test]
fn a_full_log_drops_states_before_alarms_and_explains_every_hole() {
    const LIMIT: u64 = 64 * 1024;
    for (flood, times, keeps) in FLOODS {
        for reopens in [0, 3] {
            let what = format!("{flood:?} x {times}, opened again {reopens} times");
            let directory = tempfile::tempdir().unwrap();
            let (mut log, _) = EventLog::open(directory.path(), BOOT, LIMIT);
            append_one(&mut log, "forcedOpen");
            let mut newest = 1;
            for n in 0..times {
                for kind in flood {
                    newest = append_one(&mut log, kind);
                }
                if reopens > 0 && n % (times / (reopens + 1) + 1) == 7 {
                    log.sync().unwrap();
                    drop(log);
                    let (again, damages) = EventLog::open(directory.path(), BOOT, LIMIT);
                    assert_eq!(damages, [], "{what}");
                    log = again;
                }
            }
            let (files, bytes) = size(directory.path());
            assert!(
                bytes <= LIMIT && files <= 20,
                "{what}: {files} files, {bytes} bytes"
            );
            assert_eq!(log.lost, 0, "{what}");
            let records = log.read_after(0, usize::MAX);
            assert_explained(&records, BOOT, newest, &what);
            let kept = bodies(&records);
            assert_eq!(
                kept[0]["kind"] == "forcedOpen",
                keeps,
                "{what}: {}",
                kept[0]
            );
            // What is acknowledged is removed, whatever was dropped around it.
            log.acknowledge(log.newest()).unwrap();
            assert_eq!(kinds(&mut log), [] as [&str; 0], "{what}");
        }
    }
}

#[test]
fn holes_of_several_boots_are_explained_separately() {
    let directory = tempfile::tempdir().unwrap();
    let mut newest = BTreeMap::new();
    for boot in ["boot-a", "boot-b", "boot-c"] {
        let (mut log, damages) = EventLog::open(directory.path(), boot, 32 * 1024);
        assert_eq!(damages, []);
        for n in 0..400 {
            let kind = if n % 40 == 0 { "command" } else { "lockState" };
            newest.insert(boot, append_one(&mut log, kind));
        }
    }
    let (mut log, _) = EventLog::open(directory.path(), "boot-d", 32 * 1024);
    let records = log.read_after(0, usize::MAX);
    for (boot, newest) in newest {
        assert_explained(&records, boot, newest, boot);
    }
    let commands = bodies(&records)
        .iter()
        .filter(|body| body["kind"] == "command")
        .count();
    assert_eq!(commands, 30);
}

#[test]
fn positions_in_flight_stay_valid_while_the_log_is_thinned() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = EventLog::open(directory.path(), BOOT, 16 * 1024);
    let mut seen = Vec::new();
    for n in 0..2000 {
        append_one(&mut log, if n % 50 == 0 { "command" } else { "doorState" });
        if n % 300 == 299 {
            for record in log.read_after(log.acknowledged(), 5) {
                seen.push(record.mid.clone());
                log.acknowledge(record.position).unwrap();
            }
        }
    }
    let left = log.read_after(0, usize::MAX);
    seen.extend(left.iter().map(|record| record.mid.clone()));
    let commands = (0..40).map(|n| format!("{BOOT}-{}", n * 50 + 1));
    for command in commands {
        assert!(seen.contains(&command), "{command} is gone");
    }
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), seen.len(), "a record was given twice");
}

#[test]
fn an_interrupted_merge_leaves_no_duplicates_and_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = EventLog::open(directory.path(), BOOT, 16 * 1024);
    let mut before: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    let mut merged = None;
    for _ in 0..2000 {
        let count = log.segments.len();
        append_one(&mut log, "doorState");
        if log.segments.len() < count {
            merged = before.iter().find(|(path, _)| !path.exists()).cloned();
            break;
        }
        let files = open::segment_files(directory.path()).unwrap();
        before = files
            .into_iter()
            .map(|(path, _)| (path.clone(), fs::read(path).unwrap()))
            .collect();
    }
    let (path, bytes) = merged.expect("two segments were merged");
    let records = log.read_after(0, usize::MAX);
    drop(log);
    fs::write(&path, bytes).unwrap();
    let (mut log, damages) = EventLog::open(directory.path(), BOOT, 16 * 1024);
    assert_eq!(damages, []);
    assert_eq!(log.read_after(0, usize::MAX), records);
    assert!(!path.exists());
}

//! Content of `eventsLost`: numbers and kinds, as far as they can be known.

use super::*;

/// Damages the record whose kind is `kind`.
fn damage_record(log: &EventLog, kind: &str) {
    let needle = format!("kind\":\"{kind}\"");
    for segment in &log.segments {
        let mut bytes = fs::read(&segment.path).unwrap();
        let found = bytes
            .windows(needle.len())
            .position(|window| window == needle.as_bytes());
        if let Some(at) = found {
            bytes[at + 7] = b'#';
            // Written in place: the log has this file open.
            std::io::Write::write_all(
                &mut fs::OpenOptions::new()
                    .write(true)
                    .open(&segment.path)
                    .unwrap(),
                &bytes,
            )
            .unwrap();
            return;
        }
    }
    panic!("no record of {kind}");
}

fn damage_records(log: &EventLog, kinds: &[&str]) {
    for kind in kinds {
        damage_record(log, kind);
    }
}

fn reopen(log: &mut EventLog, directory: &Path, boot: &str) {
    *log = EventLog::open(directory, boot, 1 << 20).0;
}

/// What happens to a log with the events `a` to `f`, numbers 1 to 6, in segments of two; and the
/// members of the next `eventsLost`.
type Row = (&'static str, fn(&mut EventLog, &Path), Value);

#[test]
fn a_loss_report_contains_all_known_details() {
    let rows: Vec<Row> = vec![
        (
            "a damaged record",
            |log, directory| {
                damage_record(log, "c");
                reopen(log, directory, BOOT);
            },
            serde_json::json!({"lost": 1, "from": 3, "to": 3}),
        ),
        (
            "damaged records with whole ones between them",
            |log, directory| {
                damage_records(log, &["b", "e"]);
                reopen(log, directory, BOOT);
            },
            serde_json::json!({"lost": 2, "from": 2, "to": 5}),
        ),
        (
            "a segment is gone",
            |log, directory| {
                fs::remove_file(&log.segments[1].path).unwrap();
                reopen(log, directory, BOOT);
            },
            serde_json::json!({"lost": 2, "from": 3, "to": 4}),
        ),
        (
            "the first segment is gone",
            |log, directory| {
                fs::remove_file(&log.segments[0].path).unwrap();
                reopen(log, directory, BOOT);
            },
            serde_json::json!({"lost": 2, "from": 1, "to": 2}),
        ),
        (
            "damage of an earlier boot",
            |log, directory| {
                damage_record(log, "d");
                reopen(log, directory, NEXT_BOOT);
            },
            serde_json::json!({"lost": 1, "from": 4, "fromBoot": BOOT, "to": 4, "toBoot": BOOT}),
        ),
        (
            "damage where one boot follows another",
            |log, directory| {
                reopen(log, directory, NEXT_BOOT);
                append(log, &["g", "h", "i", "j"]);
                damage_records(log, &["g", "h"]);
                reopen(log, directory, NEXT_BOOT);
            },
            serde_json::json!({"lost": 2, "from": 7, "fromBoot": BOOT, "to": 2}),
        ),
        (
            "damage at the end of a boot",
            |log, directory| {
                reopen(log, directory, NEXT_BOOT);
                log.begin_segment(7).unwrap();
                append(log, &["g"]);
                fs::remove_file(&log.segments[2].path).unwrap();
                reopen(log, directory, NEXT_BOOT);
            },
            serde_json::json!({"lost": 2, "from": 5, "fromBoot": BOOT}),
        ),
        (
            "a record that goes bad while the log is read",
            |log, _| {
                damage_record(log, "d");
                assert_eq!(kinds(log), ["a", "b", "c", "e", "f"]);
            },
            serde_json::json!({"lost": 1, "from": 4, "to": 4}),
        ),
        (
            "two that go bad, the later one found first",
            |log, _| {
                damage_record(log, "e");
                assert_eq!(kinds(log), ["a", "b", "c", "d", "f"]);
                damage_record(log, "b");
                assert_eq!(kinds(log), ["a", "c", "d", "f"]);
            },
            serde_json::json!({"lost": 2, "from": 2, "to": 5}),
        ),
        (
            "an event that cannot be written",
            |log, _| assert!(log.append(&mut large("command")).is_err()),
            serde_json::json!({"lost": 1, "from": 7, "to": 7, "kinds": {"command": 1}}),
        ),
        (
            "events that never reached the log",
            |log, _| log.count_lost(BTreeMap::from([("lockState".to_owned(), 5)])),
            serde_json::json!({"lost": 5, "from": 7, "to": 7, "kinds": {"lockState": 5}}),
        ),
        (
            "damage, and events that never reached the log",
            |log, directory| {
                damage_record(log, "c");
                reopen(log, directory, BOOT);
                log.count_lost(BTreeMap::from([("command".to_owned(), 1)]));
            },
            serde_json::json!({"lost": 2, "from": 3, "to": 7, "kinds": {"command": 1}}),
        ),
        (
            "damage that an earlier run found but did not report",
            |log, directory| {
                damage_record(log, "c");
                reopen(log, directory, BOOT);
                reopen(log, directory, BOOT);
            },
            serde_json::json!({"lost": 1}),
        ),
        (
            "the oldest segment is dropped because it cannot be thinned",
            |log, _| {
                for segment in &mut log.segments {
                    segment.thinned = Thinned::Everything;
                }
                let limit = log.limit_bytes;
                log.limit_bytes = log.segments.iter().map(Segment::bytes).sum();
                log.make_room().unwrap();
                log.limit_bytes = limit;
            },
            serde_json::json!({"lost": 2, "from": 1, "to": 2, "kinds": {"a": 1, "b": 1}}),
        ),
    ];
    for (what, happens, expected) in rows {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = EventLog::open(directory.path(), BOOT, 1 << 20);
        for pair in [["a", "b"], ["c", "d"], ["e", "f"]] {
            append(&mut log, &pair);
            // The next record begins a segment.
            let next = log.next_position();
            if next < 7 {
                log.begin_segment(next).unwrap();
            }
        }
        happens(&mut log, directory.path());
        append(&mut log, &["x"]);
        let reported = bodies(&log.read_after(0, usize::MAX));
        let reports: Vec<_> = reported
            .iter()
            .filter(|body| body["kind"] == EVENTS_LOST)
            .collect();
        assert_eq!(reports.len(), 1, "{what}: {reported:#?}");
        let keys = ["lost", "from", "fromBoot", "to", "toBoot", "kinds"];
        let members: Map<_, _> = keys
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), reports[0].get(*key)?.clone())))
            .collect();
        assert_eq!(Value::Object(members), expected, "{what}");
        // Reported only once.
        append(&mut log, &["y"]);
        let reported = bodies(&log.read_after(0, usize::MAX));
        let reports = reported.iter().filter(|body| body["kind"] == EVENTS_LOST);
        assert_eq!(reports.count(), 1, "{what}");
    }
}

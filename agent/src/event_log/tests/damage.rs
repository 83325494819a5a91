//! Crashes, cuts and flipped bits anywhere: no durable record is lost or duplicated, and a loss is
//! reported once.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn read_all(log: &mut EventLog) -> Vec<LogRecord> {
    log.read_after(0, usize::MAX)
}

fn field(record: &LogRecord, key: &str) -> Value {
    let body: Value = serde_json::from_slice(&record.body).unwrap();
    body[key].clone()
}

fn lost_in(records: &[LogRecord]) -> u64 {
    let lost = records.iter().map(|record| field(record, "lost"));
    lost.filter_map(|lost| lost.as_u64()).sum()
}

fn names(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn sequence(records: &[LogRecord], boot: &str) -> Vec<u64> {
    let mids = records.iter().map(|record| segment::split_mid(&record.mid));
    mids.filter(|(of, _)| *of == boot)
        .map(|(_, seq)| seq)
        .collect()
}

#[test]
fn a_log_truncated_anywhere_keeps_its_complete_records() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_clean(directory.path());
    append(&mut log, &["a", "b", "c"]);
    let path = log.segments[0].path.clone();
    drop(log);
    let whole = fs::read(&path).unwrap();
    let mut seen = Vec::new();
    for length in 0..=whole.len() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(path.file_name().unwrap());
        fs::write(&path, &whole[..length]).unwrap();
        let (mut log, _) = EventLog::open(directory.path(), BOOT, 1 << 20);
        let left = kinds(&mut log);
        assert_eq!(left, ["a", "b", "c"][..left.len()], "cut at {length}");
        append(&mut log, &["d"]);
        let records = read_all(&mut log);
        let expected: Vec<_> = (1..=left.len() as u64 + 1).collect();
        assert_eq!(sequence(&records, BOOT), expected, "cut at {length}");
        drop(log);
        let (mut log, damages) = EventLog::open(directory.path(), BOOT, 1 << 20);
        assert_eq!(damages, [], "the cut at {length} is repaired");
        assert_eq!(read_all(&mut log), records);
        seen.push(left.len());
    }
    seen.dedup();
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[test]
fn a_damaged_byte_loses_one_record_at_most_and_is_reported_once() {
    let source = tempfile::tempdir().unwrap();
    let (mut log, _) = EventLog::open(source.path(), BOOT, 1536);
    append(&mut log, &["a", "b", "c", "d", "e"]);
    let (first, bytes) = {
        let segment = &log.segments[1];
        (segment.first, fs::read(&segment.path).unwrap())
    };
    assert_eq!(log.segments.len(), 5, "a segment each");
    drop(log);
    let frames = segment::Segment::open(&segment_path(source.path(), first), first).unwrap();
    let segment::OpenedSegment::Whole(segment) = frames else {
        panic!("{frames:?}")
    };
    assert_eq!(segment.len(), 1);
    for place in 0..bytes.len() {
        let directory = tempfile::tempdir().unwrap();
        for (path, _) in open::segment_files(source.path()).unwrap() {
            fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
        }
        fs::copy(
            source.path().join(ledger::LEDGER),
            directory.path().join(ledger::LEDGER),
        )
        .unwrap();
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x55;
        let path = segment_path(directory.path(), first);
        fs::write(&path, &damaged).unwrap();

        let mut reported = 0;
        let mut last = Vec::new();
        for kind in ["f", "g"] {
            let (mut log, damages) = EventLog::open(directory.path(), BOOT, 1 << 20);
            for damage in &damages {
                assert!(damage.kept_as.as_ref().is_some_and(|kept| kept.exists()));
            }
            append(&mut log, &[kind]);
            last = read_all(&mut log);
            reported = lost_in(&last);
        }
        let mut found: Vec<_> = last.iter().map(|record| field(record, "kind")).collect();
        found.retain(|kind| kind != EVENTS_LOST);
        let others = found.iter().filter(|kind| *kind != "b").count();
        assert_eq!(others, 6, "byte {place}: {found:?}");
        let missing = 7 - found.len() as u64;
        assert_eq!(reported, missing, "byte {place}: {found:?}");
        let mut mids: Vec<_> = last.iter().map(|record| &record.mid).collect();
        mids.sort();
        mids.dedup();
        assert_eq!(mids.len(), last.len());
    }
}

#[test]
fn records_after_a_damaged_one_are_kept_and_so_is_the_damaged_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_clean(directory.path());
    append(&mut log, &["a", "b", "c", "d"]);
    let path = log.segments[0].path.clone();
    drop(log);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|eight| eight == b"kind\":\"b");
    bytes[at.unwrap()] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let (mut log, damages) = EventLog::open(directory.path(), BOOT, 1 << 20);
    assert_eq!(damages.len(), 1);
    assert_eq!(
        fs::read(damages[0].kept_as.as_ref().unwrap()).unwrap(),
        bytes
    );
    assert_eq!(kinds(&mut log), ["a", "c", "d"]);
    append(&mut log, &["e"]);
    let records = read_all(&mut log);
    assert_eq!(sequence(&records, BOOT), [1, 3, 4, 5, 6]);
    assert_eq!(lost_in(&records), 1);
    // The hub has "a" and "c"; a restart neither resends them nor reports the loss again.
    log.acknowledge(records[1].position).unwrap();
    drop(log);
    let mut log = open_clean(directory.path());
    assert_eq!(kinds(&mut log), ["d", EVENTS_LOST, "e"]);
    append(&mut log, &["f"]);
    assert_eq!(lost_in(&read_all(&mut log)), 1);
}

#[test]
fn a_record_damaged_while_running_is_skipped_and_reported() {
    use std::os::unix::fs::FileExt as _;
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_clean(directory.path());
    append(&mut log, &["a", "b", "c"]);
    let path = log.segments[0].path.clone();
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|eight| eight == b"kind\":\"b");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"X", at.unwrap() as u64).unwrap();
    for _ in 0..2 {
        assert_eq!(kinds(&mut log), ["a", "c"]);
    }
    append(&mut log, &["d"]);
    assert_eq!(kinds(&mut log), ["a", "c", EVENTS_LOST, "d"]);
    assert_eq!(lost_in(&read_all(&mut log)), 1);
    log.acknowledge(1).unwrap();
    drop(log);
    let (mut log, _) = EventLog::open(directory.path(), BOOT, 1 << 20);
    append(&mut log, &["e"]);
    assert_eq!(kinds(&mut log), ["c", EVENTS_LOST, "d", "e"]);
}

#[test]
fn a_loss_is_reported_once_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut reported = 0;
    for _ in 0..20 {
        let (mut log, _) = EventLog::open(directory.path(), BOOT, 4 * 1024);
        for _ in 0..7 {
            append_one(&mut log, "x");
        }
        let records = read_all(&mut log);
        let events = records
            .iter()
            .filter(|record| field(record, "kind") != EVENTS_LOST);
        reported = lost_in(&records) + events.count() as u64;
    }
    assert_eq!(reported, 140);
}

#[test]
fn a_log_without_its_newest_file_reuses_no_position_or_message_id() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open_clean(directory.path());
    append(&mut log, &["a", "b", "c"]);
    log.acknowledge(3).unwrap();
    let path = log.segments[0].path.clone();
    drop(log);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let (mut log, damages) = EventLog::open(directory.path(), BOOT, 1 << 20);
    assert!(damages[0].kept_as.as_ref().unwrap().is_dir());
    append(&mut log, &["d"]);
    let records = read_all(&mut log);
    assert_eq!(records[0].mid, format!("{BOOT}-4"));
    drop(log);
    assert_eq!(read_all(&mut open_clean(directory.path())), records);
}

#[test]
fn a_file_in_place_of_the_folder_is_kept_aside() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("events");
    fs::write(&path, "no folder").unwrap();
    let (mut log, damages) = EventLog::open(&path, BOOT, 1 << 20);
    assert_eq!(damages[0].reason, "not a directory");
    append(&mut log, &["a"]);
    assert_eq!(names(home.path()).len(), 2);
}

/// An operation on a log.
#[derive(Debug, Clone)]
enum LogOperation {
    Append(usize),
    Sync,
    /// The hub accepts this many records.
    Take(usize),
    /// The program is killed: everything written stays.
    Kill,
    /// The power fails: a part of the unsynced bytes stays.
    Cut(u16),
}

fn operation() -> impl Strategy<Value = LogOperation> {
    prop_oneof![
        6 => (0..300_usize).prop_map(LogOperation::Append),
        2 => Just(LogOperation::Sync),
        2 => (1..12_usize).prop_map(LogOperation::Take),
        1 => Just(LogOperation::Kill),
        1 => any::<u16>().prop_map(LogOperation::Cut),
    ]
}

/// A log, and everything that a hub has received from it.
struct LogModel {
    directory: tempfile::TempDir,
    log: EventLog,
    boots: u32,
    appended: u64,
    /// Not durable when the power failed, and lost.
    gone: u64,
    /// Newest position at the last sync, and the length of its file.
    durable: (u64, PathBuf, u64),
    taken: BTreeMap<String, Vec<u8>>,
    /// Every record ever read, by its message id.
    seen: BTreeMap<String, Vec<u8>>,
}

impl LogModel {
    const LIMIT: u64 = 4096;

    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (log, _) = EventLog::open(directory.path(), "b0", Self::LIMIT);
        Self {
            directory,
            log,
            boots: 0,
            appended: 0,
            gone: 0,
            durable: (0, PathBuf::new(), 0),
            taken: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    fn act(&mut self, operation: &LogOperation) {
        match operation {
            LogOperation::Append(size) => {
                let mut event = event("x");
                event.members.insert("n".to_owned(), self.appended.into());
                let text = "x".repeat(*size);
                event.members.insert("text".to_owned(), text.into());
                self.log.append(&mut event).unwrap();
                self.appended += 1;
            }
            LogOperation::Sync => {
                self.log.sync().unwrap();
                self.mark_durable();
            }
            LogOperation::Take(count) => {
                let records = self.log.read_after(0, *count);
                if let Some(last) = records.last() {
                    self.log.acknowledge(last.position).unwrap();
                }
                let taken = records.into_iter().map(|record| (record.mid, record.body));
                self.taken.extend(taken);
            }
            LogOperation::Kill => self.reopen(),
            LogOperation::Cut(part) => {
                let before = read_all(&mut self.log);
                let acknowledged = self.log.acknowledged();
                if let Some(newest) = self.log.segments.back() {
                    let (_, path, length) = &self.durable;
                    let (from, to) = if newest.path == *path {
                        (*length, newest.bytes())
                    } else {
                        // Begun since the sync: all except its header may be lost.
                        (60, newest.bytes())
                    };
                    let left = from + (to.saturating_sub(from)) * u64::from(*part) / 65_535;
                    let file = fs::OpenOptions::new().write(true).open(&newest.path);
                    file.unwrap().set_len(left).unwrap();
                }
                self.boots += 1;
                self.reopen();
                let after = read_all(&mut self.log);
                for record in before {
                    if record.position > acknowledged && !after.contains(&record) {
                        assert!(record.position > self.durable.0, "a durable record is lost");
                        if field(&record, "kind") != EVENTS_LOST {
                            self.gone += 1;
                        }
                    }
                }
                // The rest was on disk.
                self.mark_durable();
            }
        }
        self.check_records();
    }

    fn mark_durable(&mut self) {
        if let Some(newest) = self.log.segments.back() {
            self.durable = (self.log.newest(), newest.path.clone(), newest.bytes());
        }
    }

    fn reopen(&mut self) {
        let boot = format!("b{}", self.boots);
        self.log = EventLog::open(self.directory.path(), &boot, Self::LIMIT).0;
    }

    fn check_records(&mut self) {
        let records = read_all(&mut self.log);
        assert!(
            records
                .windows(2)
                .all(|pair| pair[0].position < pair[1].position)
        );
        for boot in 0..=self.boots {
            let boot = format!("b{boot}");
            let of_boot: Vec<_> = records
                .iter()
                .filter(|record| field(record, "boot") == boot.as_str())
                .collect();
            let seqs = sequence(&records, &boot);
            for (pair, later) in seqs.windows(2).zip(of_boot.iter().skip(1)) {
                let explained = field(later, "from")
                    .as_u64()
                    .is_some_and(|from| from == pair[0] + 1);
                assert!(pair[1] == pair[0] + 1 || explained, "{seqs:?}");
            }
        }
        let numbers: Vec<_> = records
            .iter()
            .filter_map(|r| field(r, "n").as_u64())
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] < pair[1]),
            "{numbers:?}"
        );
        for record in records {
            assert!(
                !self.taken.contains_key(&record.mid),
                "{} comes twice",
                record.mid
            );
            let before = self.seen.insert(record.mid, record.body.clone());
            assert!(before.is_none_or(|body| body == record.body));
        }
    }
}

proptest! {
    // Each case syncs a file dozens of times.
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_durable_is_lost_or_duplicated_and_every_loss_is_reported(
        operations in proptest::collection::vec(operation(), 1..80),
    ) {
        let mut model = LogModel::new();
        for operation in &operations {
            model.act(operation);
        }
        model.act(&LogOperation::Append(0));
        model.act(&LogOperation::Take(usize::MAX));
        let bodies: Vec<Value> = model
            .taken
            .values()
            .map(|body| serde_json::from_slice(body).unwrap())
            .collect();
        let lost: u64 = bodies.iter().filter_map(|body| body["lost"].as_u64()).sum();
        let events = bodies.iter().filter(|body| body["kind"] == "x").count() as u64;
        prop_assert_eq!(events + lost + model.gone, model.appended);
    }
}

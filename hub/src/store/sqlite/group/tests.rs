//! Damaged and incomplete data folders, and whether a hub starts on them.

use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::store::Store;

/// Size of a frame of the write-ahead log: its header and a page.
const FRAME: usize = 24 + 4096;

/// Size of the header of the write-ahead log.
const HEAD: usize = 32;

const FILES: [&str; 3] = ["hub.db", "hub.db-wal", FILE];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Image([Option<Vec<u8>>; 3]);

impl Image {
    fn of(folder: &Path) -> Self {
        Self(FILES.map(|name| fs::read(folder.join(name)).ok()))
    }

    fn lay_out(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in FILES.iter().zip(&self.0) {
            if let Some(bytes) = bytes {
                fs::write(folder.path().join(name), bytes).unwrap();
            }
        }
        folder
    }

    fn with(&self, file: usize, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut changed = self.clone();
        change(changed.0[file].get_or_insert_default());
        changed
    }

    fn without(&self, file: usize) -> Self {
        let mut changed = self.clone();
        changed.0[file] = None;
        changed
    }

    fn flipped(&self, file: usize, byte: usize) -> Self {
        self.with(file, |bytes| bytes[byte] ^= 0x10)
    }
}

const DATABASE: usize = 0;
const LOG: usize = 1;
const GROUP: usize = 2;

fn open(folder: &Path) -> Store {
    Store::open(&folder.join("hub.db"), Box::new(|_| {}), ()).unwrap()
}

/// Commits one transaction.
async fn commit(store: &Store, name: &str) {
    let name = name.to_owned();
    let insert = store.write(1, move |write| {
        let sql = "INSERT INTO policy (name, rights, primary_key, secondary_key) \
                   VALUES (?1, 1, x'00', x'00')";
        write.connection.execute(sql, [name])?;
        Ok::<_, StoreError>(())
    });
    insert.await.unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let connection = schema::open_reader(&folder.join("hub.db")).unwrap();
    let mut statement = connection.prepare("SELECT name FROM policy").unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

/// The files of a hub that was killed after three transactions, those after the first of them, and
/// those with the log of an earlier start.
async fn images() -> (TempDir, Store, Image, Image, Image) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    commit(&store, "earlier").await;
    let earlier = Image::of(folder.path());
    store.checkpoint_if_idle(Duration::ZERO).await;
    commit(&store, "one").await;
    let first = Image::of(folder.path());
    commit(&store, "two").await;
    commit(&store, "three").await;
    let whole = Image::of(folder.path());
    (folder, store, whole, first, earlier)
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_a_database_that_lost_a_transaction_and_changes_nothing() {
    let (_folder, _store, whole, first, earlier) = images().await;
    let log = whole.0[LOG].clone().unwrap();
    let frames = (log.len() - HEAD) / FRAME;
    assert!(frames >= 3, "three transactions: {frames} frames");
    let [old, log_of_old, _] = first.0;
    let earlier = earlier.0[LOG].clone();
    let number = whole.0[GROUP].clone();
    let bad_number = Some(b"group 1\n".to_vec());
    let mut cases = Vec::new();
    let mut case = |name: &str, image: Image| cases.push((name.to_owned(), image));
    case("the log is deleted", whole.without(LOG));
    case("the log is empty", whole.with(LOG, Vec::clear));
    case("the database is deleted", whole.without(DATABASE));
    case("the database is empty", whole.with(DATABASE, Vec::clear));
    case("both are deleted", whole.without(DATABASE).without(LOG));
    case(
        "only a damaged number is left",
        Image([None, None, bad_number]),
    );
    let swapped = Image([whole.0[DATABASE].clone(), earlier, number.clone()]);
    case("the log is that of an earlier start", swapped);
    case("both are older copies", Image([old, log_of_old, number]));
    for byte in 0..HEAD {
        case(
            &format!("byte {byte} of the log's head"),
            whole.flipped(LOG, byte),
        );
    }
    for frame in 0..frames {
        let start = HEAD + frame * FRAME;
        let cut = |length| whole.with(LOG, |bytes| bytes.truncate(length));
        let flipped = |byte| whole.flipped(LOG, byte);
        case(
            &format!("page {frame} of the log"),
            flipped(start + 24 + 1000),
        );
        case(
            &format!("head of page {frame} of the log"),
            flipped(start + 8),
        );
        case(&format!("the log is cut before page {frame}"), cut(start));
        case(
            &format!("the log is cut within page {frame}"),
            cut(start + 100),
        );
    }
    for (case, image) in cases {
        let folder = image.lay_out();
        let database = folder.path().join("hub.db");
        let refused = check_for_loss(&database, &[]);
        assert!(
            refused.as_ref().is_err_and(StoreError::is_loss),
            "{case}: {refused:?}"
        );
        // A reader creates an empty log if there is none.
        let left = Image::of(folder.path());
        let same = |file: usize| {
            let bytes = |image: &Image| image.0[file].clone().unwrap_or_default();
            bytes(&left) == bytes(&image)
        };
        assert!(
            same(DATABASE) && same(LOG) && same(GROUP),
            "{case}: a file was changed"
        );

        // A start that accepts it sets the number in both places, higher than all before.
        let RecordedNumber::Number(before) = recorded_number(&database) else {
            continue;
        };
        open(folder.path()).close().await;
        check_for_loss(&database, &[]).unwrap();
        assert!(
            matches!(recorded_number(&database), RecordedNumber::Number(after) if after > before),
            "{case}"
        );
        fs::write(&database, whole.0[DATABASE].as_ref().unwrap()).unwrap();
        fs::write(folder.path().join("hub.db-wal"), &log).unwrap();
        assert!(
            check_for_loss(&database, &[]).is_err(),
            "{case}: the abandoned copy is accepted again"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_a_database_without_loss() {
    let (folder, store, whole, first, _) = images().await;
    let all = ["earlier", "one", "three", "two"];
    let [database, log_now, number_now] = whole.0.clone();
    let before = first.0[GROUP].clone();
    let mut cases = Vec::new();
    let mut case = |name: &str, image: Image| cases.push((name.to_owned(), image));
    case("killed", whole.clone());
    case(
        "killed between a commit and its number",
        Image([database, log_now, before]),
    );
    case("without the file", whole.without(GROUP));
    case("with an empty file", whole.with(GROUP, Vec::clear));
    let other = whole.with(GROUP, |bytes| bytes.fill(b'x'));
    case("with a file of other content", other);
    case(
        "with a torn tail",
        whole.with(LOG, |bytes| bytes.extend([7; 100])),
    );
    case(
        "with a torn page",
        whole.with(LOG, |bytes| bytes.extend([0; FRAME])),
    );
    for byte in 0..number_now.unwrap().len() {
        case(
            &format!("byte {byte} of the file"),
            whole.flipped(GROUP, byte),
        );
    }
    // A transaction larger than the cache is in the log before its commit.
    let other = Connection::open(folder.path().join("hub.db")).unwrap();
    other
        .execute_batch("PRAGMA cache_size = 5; BEGIN IMMEDIATE")
        .unwrap();
    for row in 0..100 {
        let sql = "INSERT INTO policy (name, rights, primary_key, secondary_key) \
                   VALUES (?1, 1, zeroblob(3000), x'00')";
        other.execute(sql, [format!("{row}")]).unwrap();
    }
    let within = Image::of(folder.path());
    assert!(within.0[LOG].as_ref().unwrap().len() > whole.0[LOG].as_ref().unwrap().len());
    case("killed in a transaction", within.clone());
    other.execute_batch("ROLLBACK; VACUUM").unwrap();
    drop(other);
    case("compacted", Image::of(folder.path()));

    let again = within.lay_out();
    let second = open(again.path());
    case("killed twice", Image::of(again.path()));
    second.close().await;
    case("killed and stopped", Image::of(again.path()));

    store.close().await;
    let stopped = Image::of(folder.path());
    let left = stopped.0[LOG].as_ref().map_or(0, Vec::len);
    assert_eq!(left, 0, "a clean stop leaves nothing in the log");
    case("stopped", stopped.clone());
    case("stopped, without a log", stopped.without(LOG));

    for (case, image) in cases {
        let folder = image.lay_out();
        let database = folder.path().join("hub.db");
        check_for_loss(&database, &[]).unwrap_or_else(|error| panic!("{case}: {error}"));
        let store = open(folder.path());
        assert_eq!(names(folder.path()), all, "{case}");
        commit(&store, "zero").await;
        let number = number(&schema::open_reader(&database).unwrap()).unwrap();
        assert_eq!(
            recorded_number(&database),
            RecordedNumber::Number(number),
            "{case}"
        );
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_a_database_without_a_number_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("hub.db");
    let old = Connection::open(&database).unwrap();
    for script in [
        include_str!("../schema/0001.sql"),
        include_str!("../schema/0002.sql"),
        include_str!("../schema/0003.sql"),
        include_str!("../schema/0004.sql"),
        include_str!("../schema/0005.sql"),
        "PRAGMA user_version = 5",
    ] {
        old.execute_batch(script).unwrap();
    }
    drop(old);
    let before = fs::read(&database).unwrap();
    check_for_loss(&database, &[]).unwrap();
    open(folder.path()).close().await;
    check_for_loss(&database, &[]).unwrap();
    fs::write(&database, before).unwrap();
    let refused = check_for_loss(&database, &[]);
    assert!(
        matches!(refused, Err(StoreError::Older { found: 0, .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_only_changes_and_truncates_the_log_when_idle() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("hub.db");
    let store = open(folder.path());
    let log = || fs::metadata(folder.path().join("hub.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log(), 0, "a start empties the log");
    let before = recorded_number(&database);
    store.write(1, |_| Ok::<_, StoreError>(())).await.unwrap();
    assert_eq!(
        (recorded_number(&database), log()),
        (before, 0),
        "nothing was written"
    );
    commit(&store, "one").await;
    assert_ne!(recorded_number(&database), before);
    store.checkpoint_if_idle(Duration::from_secs(60)).await;
    store.write(1, |_| Ok::<_, StoreError>(())).await.unwrap();
    assert!(log() > 0, "it was not quiet for long enough");
    store.checkpoint_if_idle(Duration::ZERO).await;
    store.write(1, |_| Ok::<_, StoreError>(())).await.unwrap();
    assert_eq!(log(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwritable_group_file_does_not_stop_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("hub.db");
    fs::create_dir(folder.path().join(FILE)).unwrap();
    let store = open(folder.path());
    commit(&store, "one").await;
    store.close().await;
    check_for_loss(&database, &[]).unwrap();

    // A full disk: the file stays behind, but the next start is not rejected.
    fs::remove_dir(folder.path().join(FILE)).unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join(FILE)).unwrap();
    let store = open(folder.path());
    commit(&store, "two").await;
    store.close().await;
    check_for_loss(&database, &[]).unwrap_or_else(|error| panic!("{error}"));
}

/// Until a new database has its write-ahead log, SQLite uses a rollback journal.
#[test]
fn a_first_start_killed_in_a_transaction_is_not_a_loss() {
    let made = tempfile::tempdir().unwrap();
    let connection = Connection::open(made.path().join("hub.db")).unwrap();
    let sql = "PRAGMA cache_size = 1; BEGIN; CREATE TABLE device (bytes BLOB); \
        INSERT INTO device VALUES (zeroblob(100000));";
    connection.execute_batch(sql).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["hub.db", "hub.db-journal"] {
        let killed = fs::read(made.path().join(name)).unwrap();
        assert!(!killed.is_empty(), "{name}");
        fs::write(folder.path().join(name), killed).unwrap();
    }
    let path = folder.path().join("hub.db");
    let read = number(&schema::open_reader(&path).unwrap());
    assert!(
        matches!(&read, Err(error) if schema::is_unfinished(error)),
        "{read:?}"
    );
    check_for_loss(&path, &["ca.key"]).unwrap();
    assert_eq!(crate::store::faults(&path).unwrap(), [""; 0]);
    assert_eq!(crate::store::damaged(&path).unwrap(), [""; 0]);
    open(folder.path());
}

//! Writes of a door to its SD card. The test sets limits; `bench/sd-card` uses it to measure the
//! figures of the docs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use doorfleet_testing::TestHub;
use serde_json::json;

use crate::cli::{Running, status_until, write_config};

/// Number of locks, for a mean.
const LOCKS: u64 = 3;

/// Writes of the agent's storage thread, the only one that writes to the disk.
#[derive(Debug, Clone, Copy)]
struct Written {
    bytes: u64,
    writes: u64,
}

impl Written {
    fn by(process: u32) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let is_storage = |task: &PathBuf| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "storage")
        };
        let mut tasks = tasks.map(|task| task.unwrap().path());
        let task = tasks.find(is_storage).unwrap();
        let counters = std::fs::read_to_string(task.join("io")).unwrap();
        let counter = |name: &str| {
            let line = counters.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().parse().unwrap()
        };
        Self {
            bytes: counter("wchar:"),
            writes: counter("syscw:"),
        }
    }

    /// Whether nothing was written to the disk. Waking another thread counts as a write of 8 bytes;
    /// records and states are longer.
    fn is_nothing(self) -> bool {
        self.bytes == 8 * self.writes
    }

    fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes - before.bytes,
            writes: self.writes - before.writes,
        }
    }
}

/// Statistics of a block device used only by this test, when figures are measured.
struct Card(Option<PathBuf>);

impl Card {
    fn bytes(&self) -> u64 {
        const SECTOR: u64 = 512;
        let Some(statistics) = &self.0 else {
            return 0;
        };
        // The seventh field: sectors written, see `Documentation/block/stat.rst` of the kernel.
        let text = std::fs::read_to_string(statistics).unwrap();
        let sectors: u64 = text.split_whitespace().nth(6).unwrap().parse().unwrap();
        sectors * SECTOR
    }

    /// Flushes the file system, which otherwise happens after a while.
    async fn settle(&self) {
        if self.0.is_some() {
            tokio::time::sleep(Duration::from_secs(7)).await;
            doorfleet_testing::run(&mut Command::new("sync")).expect(0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_writes_little_and_an_idle_door_nothing() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let state =
        std::env::var("WEAR_DIRECTORY").map_or_else(|_| home.path().join("state"), PathBuf::from);
    let card = Card(std::env::var("WEAR_STATISTICS").ok().map(PathBuf::from));
    let connection = hub.add_door("lobby-east").await;
    hub.set_desired("lobby-east", json!({"building": 43, "floor": "3"}))
        .await;
    // Log lines are not written to the card.
    let settings = hub.agent_settings()
        + "\nreconnect_max = \"1s\"\n[log]\nlevel = \"error\"\n\
           [door]\nrelinquish_default = \"released\"";
    let config = write_config(home.path(), &connection, &settings);
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("\"state\"", &format!("{:?}", state.to_str().unwrap()));
    std::fs::write(&config, text).unwrap();
    let agent = Running::start(&config);
    let quiet = |path: &str| {
        let path = path.to_owned();
        tokio::task::block_in_place(|| {
            status_until(&path, |status| {
                status["link"]["state"] == "connected"
                    && status["waitingEvents"] == 0
                    && status["door"]["report"]["lockState"] == "unlocked"
                    && status["door"]["slots"] == json!([])
            })
        })
    };
    hub.reports("lobby-east", "/floor/value", "3").await;
    quiet(&config);
    card.settle().await;

    let (before, card_before) = (Written::by(agent.id()), card.bytes());
    for number in 0..LOCKS {
        let id = format!("lock-20261123-220000-{number:04}");
        let payload = json!({"lockTime": "3s", "commandId": id});
        let (status, answer) = hub.invoke("lobby-east", "lockDoor", payload).await;
        assert_eq!(answer["status"], 200, "{status} {answer}");
        quiet(&config);
        card.settle().await;
    }
    let locks = Written::by(agent.id()).since(before);
    println!(
        "a lock, its end and their events: {} bytes in {} writes; on the card {} bytes",
        locks.bytes / LOCKS,
        locks.writes / LOCKS,
        (card.bytes() - card_before) / LOCKS
    );
    assert!(locks.bytes / LOCKS < 16 * 1024, "{locks:?}");
    assert!(size_of_state(&state) < 64 * 1024);

    if card.0.is_some() {
        // The remaining time of a hold is saved periodically.
        let (before, card_before) = (Written::by(agent.id()), card.bytes());
        let (_, answer) = hub
            .invoke("lobby-east", "lockDoor", json!({"lockTime": "10m"}))
            .await;
        assert_eq!(answer["status"], 200, "{answer}");
        tokio::time::sleep(Duration::from_secs(570)).await;
        card.settle().await;
        let held = Written::by(agent.id()).since(before);
        println!(
            "ten minutes of a hold: {} bytes in {} writes; on the card {} bytes",
            held.bytes,
            held.writes,
            card.bytes() - card_before
        );
        quiet(&config);
        card.settle().await;
    }

    // Acknowledgements are saved a moment after the door has become idle, too.
    let mut last = Written::by(agent.id());
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        quiet(&config);
        let now = Written::by(agent.id());
        if now.since(last).is_nothing() {
            break;
        }
        last = now;
    }
    card.settle().await;

    // An idle period, then the link is lost and restored.
    let (before, card_before) = (Written::by(agent.id()), card.bytes());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = Written::by(agent.id()).since(before);
    assert!(idle.is_nothing(), "an idle door writes {idle:?}");
    let hub = hub.stop().await;
    tokio::task::block_in_place(|| {
        status_until(&config, |status| status["link"]["state"] == "waiting")
    });
    let _hub = hub.start().await;
    quiet(&config);
    card.settle().await;
    let link = Written::by(agent.id()).since(before);
    println!(
        "a connection that ends and comes again: {} bytes; on the card {} bytes",
        link.bytes,
        card.bytes() - card_before
    );
    assert!(link.is_nothing(), "{link:?}");
}

/// Total size of the files in a folder.
fn size_of_state(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            if entry.file_type().unwrap().is_dir() {
                size_of_state(&entry.path())
            } else {
                entry.metadata().unwrap().len()
            }
        })
        .sum()
}

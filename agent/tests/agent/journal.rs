//! Content of the journal: a socket replaces journald's in the agent's own mount namespace.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use doorfleet_testing::{TestHub, eventually};
use serde_json::json;

use crate::cli::{Running, write_config};
use crate::site::events;

const DEADLINE: Duration = Duration::from_secs(30);

/// Mounts the socket `$1` in place of journald's, marks stderr as the journal, and executes the
/// other arguments.
const UNDER_JOURNALD: &str = r#"
    set -e
    mount -t tmpfs none /run
    mkdir -p /run/systemd/journal
    : > /run/systemd/journal/socket
    mount --bind "$1" /run/systemd/journal/socket
    shift
    JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)
    export JOURNAL_STREAM
    exec "$@"
"#;

type JournalEntry = BTreeMap<String, String>;

/// Reads continuously: a journal that does not read would block the logger.
struct Journal {
    entries: Receiver<JournalEntry>,
    read: Vec<JournalEntry>,
}

impl Journal {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let (sender, entries) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            while let Ok(length) = socket.recv(&mut bytes) {
                if sender.send(fields(&bytes[..length])).is_err() {
                    return;
                }
            }
        });
        Self {
            entries,
            read: Vec::new(),
        }
    }

    fn command(path: &Path, program: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount"])
            .args(["sh", "-c", UNDER_JOURNALD, "sh"])
            .arg(path)
            .args(program);
        command
    }

    /// The first entry whose message contains `text`.
    fn until(&mut self, text: &str) -> JournalEntry {
        let is_it = |entry: &&JournalEntry| {
            let message = entry.get("MESSAGE");
            message.is_some_and(|message| message.contains(text))
        };
        loop {
            if let Some(entry) = self.read.iter().find(is_it) {
                return entry.clone();
            }
            let entry = self.entries.recv_timeout(DEADLINE);
            let entry = entry.unwrap_or_else(|_| panic!("no {text} in {:#?}", self.read));
            self.read.push(entry);
        }
    }
}

/// The journal's native protocol: `NAME=value`, or `NAME`, a line feed, the length in eight bytes
/// and the value; each ended by a line feed.
fn fields(mut bytes: &[u8]) -> JournalEntry {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields = BTreeMap::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (text(&bytes[..end]), &bytes[end + 1..]);
        let (name, value) = if let Some((name, value)) = line.split_once('=') {
            bytes = rest;
            (name.to_owned(), value.to_owned())
        } else {
            let (length, rest) = rest.split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            bytes = &rest[length + 1..];
            (line, text(&rest[..length]))
        };
        assert_eq!(fields.insert(name, value), None, "a field occurs once");
    }
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_gets_fields_to_filter_by() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("journal");
    let mut journal = Journal::bind(&socket);
    let allowed = Journal::command(&socket, &["true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        // Some systems do not allow user namespaces; CI does.
        eprintln!("skipped: unshare --user --mount is not allowed here");
        return;
    }
    let hub = TestHub::start().await;
    let connection = hub.add_door("lobby-east").await;
    hub.set_desired("lobby-east", json!({"building": 43, "floor": "3"}))
        .await;
    let settings = hub.agent_settings();
    let config = write_config(home.path(), &connection, &settings);
    let program = env!("CARGO_BIN_EXE_door-agent");
    let mut agent = Running::spawn(Journal::command(&socket, &[program, "--config", &config]));
    hub.reports("lobby-east", "/floor/value", "3").await;
    let job = "lock-20261123-220000-x7k2";
    let payload = json!({"lockTime": "10m", "commandId": job});
    let (status, answer) = hub.invoke("lobby-east", "lockDoor", payload).await;
    assert_eq!(status, 200, "{answer}");

    let started = journal.until("lobby-east: running");
    assert_eq!(started["DOOR_ID"], "lobby-east");
    assert_eq!(started["PRIORITY"], "5");
    assert_eq!(started["SYSLOG_IDENTIFIER"], "door-agent");
    assert!(!started.contains_key("JOB_ID"), "{started:?}");
    let placed = journal.until("located in building 43, floor 3");
    assert_eq!(placed["BUILDING"], "43");
    assert_eq!(placed["FLOOR"], "3");
    let command = journal.until("lobby-east: command ");
    for (field, value) in [
        ("DOOR_ID", "lobby-east"),
        ("JOB_ID", job),
        ("COMMAND_ID", job),
        ("BUILDING", "43"),
        ("FLOOR", "3"),
    ] {
        assert_eq!(command[field], value, "{command:?}");
    }
    // The sequence number by which the hub knows the same event.
    let event = eventually("the event arrives", async || {
        let mut events = events(&hub, "lobby-east").await.into_iter();
        events.find(|event| event["kind"] == "command")
    })
    .await;
    assert_eq!(command["SEQ"], event["seq"].to_string());

    assert_eq!(tokio::task::block_in_place(|| agent.terminate()), 0);
    assert_eq!(agent.rest_of_log(), "", "everything is in the journal");
}

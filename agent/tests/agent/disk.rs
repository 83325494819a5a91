//! Full, read-only and damaged disks: the door keeps working, reports the problem, and recovers by
//! itself.
//!
//! A small disk is mounted in a private mount namespace: each test starts itself again under
//! `unshare`, which needs root or user namespaces. Without either the test fails.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use door_agent::gpio::simulated::SimCommand;
use door_agent::{Agent, AgentSnapshot, RunningAgent, Shared};
use door_core::contract::{LockState, Mode};
use doorfleet_testing::{Process, TestHub, agent_until, start_agent_again};
use serde_json::{Value, json};

use crate::cli::{status_of, write_quick_config};

const DEADLINE: Duration = Duration::from_secs(30);
const INSIDE: &str = "DOORFLEET_OWN_MOUNTS";

/// True inside the private mounts; otherwise runs the test there and checks its result.
fn in_private_mounts(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .args(["--map-root-user", "--user", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("this test needs unshare of util-linux");
    let status = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && status.contains("1 passed"),
        "{test} failed in private mounts; it needs root or user namespaces:\n{status}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let status = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {status}");
}

/// A disk of 64 KiB.
fn mount_small_disk(at: &Path) {
    fs::create_dir_all(at).unwrap();
    let at = at.to_str().unwrap();
    run(
        "mount",
        &["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", at],
    );
}

/// Uses up the remaining room.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("something-else");
    let mut file = fs::File::create(&path).unwrap();
    while file.write_all(&[b'x'; 256]).is_ok() {}
    path
}

/// The program with a simulated door and its state in the folder `state`.
struct Program {
    config: PathBuf,
    state: PathBuf,
    log: PathBuf,
    child: Option<Process>,
}

impl Program {
    async fn new(hub: &TestHub, home: &Path) -> Self {
        Self {
            config: write_quick_config(home, hub, "lobby-east").await,
            state: home.join("state"),
            log: home.join("log"),
            child: None,
        }
    }

    fn start(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log);
        let mut command = Command::new(env!("CARGO_BIN_EXE_door-agent"));
        command
            .arg("--config")
            .arg(&self.config)
            .env_remove("STATE_DIRECTORY")
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        self.child = Some(Process::spawn(&mut command));
    }

    fn kill(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    async fn status(&self, condition: impl Fn(&Value) -> bool) -> Value {
        status_of(&self.state, "lobby-east", condition).await
    }

    fn sim(&self, action: &str) {
        let config = self.config.to_str().unwrap();
        run(
            env!("CARGO_BIN_EXE_door-agent"),
            &["sim", action, "--config", config],
        );
    }
}

fn lock_state(status: &Value) -> &str {
    status["door"]["report"]["lockState"].as_str().unwrap()
}

/// Every event at the hub, without repetitions; asserts that the sequence has no gaps.
async fn events(hub: &TestHub) -> Vec<Value> {
    let mut seen: std::collections::HashMap<String, u64> = std::collections::HashMap::new();
    let mut events = Vec::new();
    for event in hub.events("lobby-east").await {
        if event["repeated"] == true {
            continue;
        }
        let mid = event["systemProperties"]["message-id"].as_str().unwrap();
        let (boot, seq) = mid.rsplit_once('-').unwrap();
        let last = seen.entry(boot.to_owned()).or_default();
        assert_eq!(seq.parse::<u64>().unwrap(), *last + 1, "{event}");
        *last += 1;
        events.push(event["body"].clone());
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_door_works_reports_it_and_recovers_with_room() {
    if !in_private_mounts("disk::on_a_full_disk_the_door_works_reports_it_and_recovers_with_room") {
        return;
    }
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    mount_small_disk(&state);
    let mut door = Program::new(&hub, home.path()).await;
    door.start();
    hub.reported_until("lobby-east", |reported| {
        reported["door"]["secured"] == "secured" && reported["device"]["disk"]["problem"].is_null()
    })
    .await;

    let filler = fill(&state);
    let mut commands = 0;
    let status = loop {
        let (method, reached) = [("unlockDoor", "unlocked"), ("lockDoor", "locked")][commands % 2];
        let id = format!("c-{commands}");
        commands += 1;
        let (status, answer) = hub
            .invoke("lobby-east", method, json!({"commandId": id}))
            .await;
        // Both generations can be overwritten in place: a command is still saved.
        assert_eq!((status, &answer["status"]), (200, &json!(200)), "{answer}");
        let status = door.status(|status| lock_state(status) == reached).await;
        if !status["disk"]["problem"].is_null() {
            break status;
        }
        assert!(commands < 200, "the disk does not fill");
    };
    let problem = status["disk"]["problem"].as_str().unwrap();
    assert!(problem.contains("No space left on device"), "{problem}");
    hub.reported_until("lobby-east", |reported| {
        reported["device"]["disk"]["problem"] == problem
    })
    .await;
    assert_eq!(door.log().matches("; the door keeps working").count(), 1);
    if lock_state(&status) == "unlocked" {
        let (_, answer) = hub.invoke("lobby-east", "lockDoor", json!({})).await;
        assert_eq!(answer["status"], 200, "{answer}");
    }
    door.sim("rex");
    door.status(|status| lock_state(status) == "unlocked").await;
    door.status(|status| lock_state(status) == "locked").await;

    // It also starts on the full disk, with the saved state.
    door.kill();
    door.start();
    let status = door.status(|status| lock_state(status) == "locked").await;
    assert_eq!(status["door"]["slots"][0]["slot"], 8, "{status:#}");
    let id = json!({"commandId": "on-the-full-disk"});
    let (_, answer) = hub.invoke_when_online("lobby-east", "lockDoor", id).await;
    assert_eq!(answer["status"], 200, "{answer}");
    door.status(|status| !status["disk"]["problem"].is_null())
        .await;

    // With room it recovers by itself.
    fs::remove_file(&filler).unwrap();
    door.status(|status| {
        status["disk"]["problem"].is_null()
            && status["link"]["state"] == "connected"
            && status["waitingEvents"] == 0
    })
    .await;
    hub.reported_until("lobby-east", |reported| {
        reported["device"]["disk"]["problem"].is_null()
    })
    .await;
    assert!(door.log().contains("the disk accepts writes again"));
    let (_, answer) = hub.invoke("lobby-east", "unlockDoor", json!({})).await;
    assert_eq!(answer["status"], 200, "{answer}");
    door.status(|status| lock_state(status) == "unlocked" && status["waitingEvents"] == 0)
        .await;
    let events = events(&hub).await;
    let of = |kind: &'static str| events.iter().filter(move |event| event["kind"] == kind);
    let lost: u64 = of("eventsLost")
        .map(|event| event["lost"].as_u64().unwrap())
        .sum();
    assert!(lost > 0, "{events:#?}");
    assert_eq!(of("storageRestored").count(), 1, "{events:#?}");
}

async fn call(agent: &RunningAgent, method: &str, payload: &str) -> u16 {
    let reply = agent.controller().invoke(method, payload.as_bytes());
    reply.await.status
}

fn lock_of(snapshot: &AgentSnapshot) -> LockState {
    snapshot.door.report.status.lock_state
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_read_only_disk_the_door_works_reports_it_and_recovers_when_writable() {
    if !in_private_mounts(
        "disk::on_a_read_only_disk_the_door_works_reports_it_and_recovers_when_writable",
    ) {
        return;
    }
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    mount_small_disk(&state);
    let connection = hub.add_door("lobby-east").await;
    let config = hub.agent_config(&connection, &state);
    let shared = Shared::new().unwrap();
    let agent = Agent::start(config.clone(), &shared).await.unwrap();
    assert_eq!(
        call(&agent, "lockDoor", r#"{"commandId":"held"}"#).await,
        200
    );
    agent_until(&agent, |seen| seen.waiting_events == 0).await;
    agent.shutdown().await;

    let disk = state.to_str().unwrap();
    run("mount", &["-o", "remount,bind,ro", disk]);
    let agent = start_agent_again(&config, &shared).await;
    let sim = agent.sim().unwrap();
    agent_until(&agent, |seen| {
        seen.disk.problem.is_some() && lock_of(seen) == LockState::Locked
    })
    .await;
    let seen = agent.snapshot();
    let problem = seen.disk.problem.clone().unwrap();
    assert!(problem.contains("Read-only file system"), "{problem}");
    assert!(
        seen.to_text().contains("disk     FAULT cannot "),
        "{}",
        seen.to_text()
    );
    assert!(seen.to_string().contains("; DISK cannot "), "{seen}");
    let held = seen.door.slots[0].command_id.as_ref();
    assert_eq!(held.map(ToString::to_string).as_deref(), Some("held"));
    hub.reported_until("lobby-east", |reported| {
        reported["device"]["disk"]["problem"].is_string()
    })
    .await;
    // An unlock would be lost at a restart, and is refused; a lock acts, and reports that it is not
    // saved. A duplicate does not act again.
    assert_eq!(call(&agent, "unlockDoor", "{}").await, 500);
    assert_eq!(lock_of(&agent.snapshot()), LockState::Locked);
    assert_eq!(
        call(&agent, "lockDoor", r#"{"commandId":"held"}"#).await,
        200
    );
    sim.apply(SimCommand::parse(&["rex"]).unwrap()).unwrap();
    agent_until(&agent, |seen| lock_of(seen) == LockState::Unlocked).await;
    agent_until(&agent, |seen| lock_of(seen) == LockState::Locked).await;
    assert_eq!(call(&agent, "lockDoor", "{}").await, 500);
    // Desired values are not acknowledged as applied before they are saved.
    let desired = json!({"mode": "passage", "floor": 3, "settings": {"strikeTime": "7s"}});
    hub.set_desired("lobby-east", desired).await;
    let reported = hub.reports("lobby-east", "/mode/ac", 500).await;
    assert_eq!(reported["floor"]["ac"], 500, "{reported}");
    assert_eq!(reported["settings"]["strikeTime"]["ac"], 500, "{reported}");
    assert_eq!(reported["door"]["mode"], "normal", "{reported}");

    run("mount", &["-o", "remount,bind,rw", disk]);
    let reported = hub.reports("lobby-east", "/mode/ac", 200).await;
    assert_eq!(reported["floor"]["ac"], 200, "{reported}");
    hub.reports("lobby-east", "/door/mode", "passage").await;
    agent_until(&agent, |seen| {
        seen.disk.problem.is_none() && seen.waiting_events == 0
    })
    .await;
    assert_eq!(call(&agent, "unlockDoor", "{}").await, 200);
    hub.reported_until("lobby-east", |reported| {
        reported["device"]["disk"]["problem"].is_null()
    })
    .await;
    agent_until(&agent, |seen| seen.waiting_events == 0).await;
    let events = events(&hub).await;
    let has = |kind: &str| events.iter().any(|event| event["kind"] == kind);
    assert!(has("eventsLost") && has("storageRestored"), "{events:#?}");
    agent.shutdown().await;
}

/// Damages a state directory.
type Harm = fn(&Path);

fn first_in(folder: &Path, suffix: &str) -> PathBuf {
    let files = fs::read_dir(folder).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    let found = paths.find(|path| path.to_str().unwrap().ends_with(suffix));
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_kept_aside_and_reported_while_the_door_works() {
    let harms: [(&str, Harm); 6] = [
        ("both generations", |state| {
            for slot in ["state.0", "state.1"] {
                fs::write(state.join(slot), b"\0\0\0").unwrap();
            }
        }),
        ("a newer form of the file", |state| {
            for slot in ["state.0", "state.1"] {
                fs::write(state.join(slot), b"door-agent-state-9 3 00000000\n{}\n").unwrap();
            }
        }),
        ("a directory in the place of a file", |state| {
            for slot in ["state.0", "state.1"] {
                fs::remove_file(state.join(slot)).unwrap();
                fs::create_dir(state.join(slot)).unwrap();
            }
        }),
        ("an event file of nonsense", |state| {
            let path = first_in(&state.join("events"), ".log");
            fs::write(path, vec![0xa5; 1000]).unwrap();
        }),
        ("a torn event file", |state| {
            let path = first_in(&state.join("events"), ".log");
            let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(&[7, 1, 0, 0, 1, 2]).unwrap();
        }),
        ("a file in the place of the events", |state| {
            fs::remove_dir_all(state.join("events")).unwrap();
            fs::write(state.join("events"), b"?").unwrap();
        }),
    ];
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let shared = Shared::new().unwrap();
    for (number, (what, harm)) in harms.into_iter().enumerate() {
        let name = format!("door-{number}");
        let state = home.path().join(&name);
        let connection = hub.add_door(&name).await;
        let config = hub.agent_config(&connection, &state);
        let agent = Agent::start(config.clone(), &shared).await.unwrap();
        assert_eq!(call(&agent, "lockDoor", "{}").await, 200, "{what}");
        agent.shutdown().await;
        harm(&state);

        let agent = start_agent_again(&config, &shared).await;
        let kept = agent.snapshot().disk.kept_aside;
        assert!(!kept.is_empty(), "{what}");
        for kept in &kept {
            assert!(kept.contains(".damaged-2"), "{what}: {kept}");
            assert!(Path::new(kept).exists(), "{what}: {kept}");
            assert!(agent.snapshot().to_text().contains(kept));
        }
        // Only if the state file is lost is the door in doubt, until the next operator command.
        let problem = agent.snapshot().disk.problem;
        let in_doubt = problem.is_some_and(|problem| problem.contains("in doubt"));
        assert_eq!(
            in_doubt,
            kept.iter().any(|kept| kept.contains("state.")),
            "{what}"
        );
        if in_doubt {
            assert_eq!(agent.snapshot().door.report.mode, Mode::Secure, "{what}");
            assert_eq!(call(&agent, "unlockDoor", "{}").await, 409, "{what}");
            hub.reported_until(&name, |reported| {
                let problem = reported["device"]["disk"]["problem"].as_str();
                problem.is_some_and(|problem| problem.contains("in doubt"))
            })
            .await;
        }
        assert_eq!(call(&agent, "lockDoor", "{}").await, 200, "{what}");
        agent_until(&agent, |seen| seen.disk.problem.is_none()).await;
        assert_eq!(call(&agent, "unlockDoor", "{}").await, 200, "{what}");
        let begin = Instant::now();
        loop {
            let events = hub.events(&name).await;
            let is_damage = |event: &Value| event["body"]["kind"] == "stateDamaged";
            if events.iter().filter(|event| is_damage(event)).count() == kept.len() {
                break;
            }
            assert!(begin.elapsed() < DEADLINE, "{what}: {events:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        agent.shutdown().await;

        // Repaired: the next start finds no damage, and the kept files are unchanged.
        let agent = start_agent_again(&config, &shared).await;
        assert_eq!(agent.snapshot().disk.kept_aside, [] as [&str; 0], "{what}");
        assert!(kept.iter().all(|kept| Path::new(kept).exists()));
        agent.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_another_version_is_kept_aside() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let connection = hub.add_door("lobby-east").await;
    let config = hub.agent_config(&connection, &state);
    let shared = Shared::new().unwrap();
    let storage = door_agent::storage::Storage::spawn().unwrap();
    let directory = door_agent::storage::DoorDirectory {
        path: &state,
        door: "lobby-east",
        boot_id: "an-earlier-boot",
        event_log_bytes: 1 << 20,
    };
    let (door, _) = storage.open(&directory).unwrap();
    door.save_door(&json!({"slots": {"of": "another kind"}}), |result| {
        result.unwrap();
    });
    door.close().await;

    let agent = start_agent_again(&config, &shared).await;
    assert_eq!(call(&agent, "lockDoor", "{}").await, 200);
    assert_eq!(call(&agent, "unlockDoor", "{}").await, 200);
    let kept = agent.snapshot().disk.kept_aside;
    // The generation before it does not parse either.
    assert_eq!(kept.len(), 2, "{kept:?}");
    for kept in kept {
        let text = fs::read_to_string(kept).unwrap();
        assert!(text.contains("another kind"), "{text}");
    }
    agent.shutdown().await;
}

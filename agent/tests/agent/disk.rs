//! Full, read-only and damaged disks: the door keeps working, reports the problem, and recovers by
//! itself.
//!
//! A small disk is mounted in a private mount namespace: each test starts itself again under
//! `unshare`, which needs root or user namespaces. Without either the test fails.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use door_agent::{Agent, AgentSnapshot, Shared};
use door_core::contract::{LockState, Mode};
use doorfleet_testing::{Process, TestHub, agent_until, eventually, start_agent_again};
use serde_json::{Value, json};

use crate::cli::{program, run_with, status_of, write_quick_config};
use crate::site::{DOOR, Site, all_sent, call, events, sim};

const INSIDE: &str = "DOORFLEET_OWN_MOUNTS";

/// True inside the private mounts; otherwise runs the test there and checks its result.
fn in_private_mounts(test: &str) -> bool {
    in_namespaces(test, &["--map-root-user", "--user", "--mount"])
}

/// The same with every user id of the machine; needs root.
pub(crate) fn in_private_mounts_of_root(test: &str) -> bool {
    in_namespaces(test, &["--mount"])
}

fn in_namespaces(test: &str, namespaces: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .args(namespaces)
        .arg("--")
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

pub(crate) fn run(program: &str, arguments: &[&str]) {
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
            config: write_quick_config(home, hub, DOOR).await,
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
        let mut command = program(["--config"]);
        command
            .arg(&self.config)
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
        status_of(&self.state, DOOR, condition).await
    }

    fn sim(&self, action: &str) {
        run_with(self.config.to_str().unwrap(), &format!("sim {action}")).expect(0);
    }
}

/// Waits until the hub knows that the disk has no problem.
async fn has_no_problem(hub: &TestHub) {
    hub.reported_until(DOOR, |reported| {
        let disk = &reported["device"]["disk"];
        !reported["device"].is_null() && disk["problem"].is_null()
    })
    .await;
}

fn lock_state(status: &Value) -> &str {
    status["door"]["report"]["lockState"].as_str().unwrap()
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
    hub.reports(DOOR, "/door/secured", "secured").await;
    has_no_problem(&hub).await;

    let filler = fill(&state);
    let mut commands = 0;
    let status = loop {
        let (method, reached) = [("unlockDoor", "unlocked"), ("lockDoor", "locked")][commands % 2];
        let id = format!("c-{commands}");
        commands += 1;
        let payload = json!({"commandId": id});
        let (status, answer) = hub.invoke(DOOR, method, payload).await;
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
    hub.reports(DOOR, "/device/disk/problem", problem).await;
    assert_eq!(door.log().matches("; the door keeps working").count(), 1);
    if lock_state(&status) == "unlocked" {
        let (_, answer) = hub.invoke(DOOR, "lockDoor", json!({})).await;
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
    let (_, answer) = hub.invoke_when_online(DOOR, "lockDoor", id).await;
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
    has_no_problem(&hub).await;
    assert!(door.log().contains("the disk accepts writes again"));
    let (_, answer) = hub.invoke(DOOR, "unlockDoor", json!({})).await;
    assert_eq!(answer["status"], 200, "{answer}");
    door.status(|status| lock_state(status) == "unlocked" && status["waitingEvents"] == 0)
        .await;
    let events = events(&hub, DOOR).await;
    let of = |kind: &'static str| events.iter().filter(move |event| event["kind"] == kind);
    let lost: u64 = of("eventsLost")
        .map(|event| event["lost"].as_u64().unwrap())
        .sum();
    assert!(lost > 0, "{events:#?}");
    assert_eq!(of("storageRestored").count(), 1, "{events:#?}");
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
    let site = Site::new().await;
    let state = &site.config.state.directory;
    mount_small_disk(state);
    let agent = site.start().await;
    let held = r#"{"commandId":"held"}"#;
    assert_eq!(call(&agent, "lockDoor", held).await, 200);
    all_sent(&agent).await;
    agent.shutdown().await;

    let disk = state.to_str().unwrap();
    run("mount", &["-o", "remount,bind,ro", disk]);
    let agent = site.start().await;
    agent_until(&agent, |seen| {
        seen.disk.problem.is_some() && lock_of(seen) == LockState::Locked
    })
    .await;
    let seen = agent.snapshot();
    let problem = seen.disk.problem.clone().unwrap();
    assert!(problem.contains("Read-only file system"), "{problem}");
    let text = seen.to_text();
    assert!(text.contains("disk     FAULT cannot "), "{text}");
    assert!(seen.to_string().contains("; DISK cannot "), "{seen}");
    let id = seen.door.slots[0].command_id.as_ref().unwrap();
    assert_eq!(id.as_str(), "held");
    site.reports("/device/disk/problem", problem).await;
    // An unlock would be lost at a restart, and is refused; a lock acts, and reports that it is not
    // saved. A duplicate does not act again.
    assert_eq!(call(&agent, "unlockDoor", "{}").await, 500);
    assert_eq!(lock_of(&agent.snapshot()), LockState::Locked);
    assert_eq!(call(&agent, "lockDoor", held).await, 200);
    sim(&agent, "rex");
    agent_until(&agent, |seen| lock_of(seen) == LockState::Unlocked).await;
    agent_until(&agent, |seen| lock_of(seen) == LockState::Locked).await;
    assert_eq!(call(&agent, "lockDoor", "{}").await, 500);
    // Desired values are not acknowledged as applied before they are saved.
    let desired = json!({"mode": "passage", "floor": 3, "settings": {"strikeTime": "7s"}});
    site.desire(desired).await;
    let reported = site.reports("/mode/ac", 500).await;
    assert_eq!(reported["floor"]["ac"], 500, "{reported}");
    assert_eq!(reported["settings"]["strikeTime"]["ac"], 500, "{reported}");
    assert_eq!(reported["door"]["mode"], "normal", "{reported}");

    run("mount", &["-o", "remount,bind,rw", disk]);
    let reported = site.reports("/mode/ac", 200).await;
    assert_eq!(reported["floor"]["ac"], 200, "{reported}");
    site.reports("/door/mode", "passage").await;
    agent_until(&agent, |seen| seen.disk.problem.is_none()).await;
    all_sent(&agent).await;
    assert_eq!(call(&agent, "unlockDoor", "{}").await, 200);
    has_no_problem(&site.hub).await;
    all_sent(&agent).await;
    let events = events(&site.hub, DOOR).await;
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
    const SLOTS: [&str; 2] = ["state.0", "state.1"];
    let harms: [(&str, Harm); 6] = [
        ("both generations", |state| {
            SLOTS
                .iter()
                .for_each(|slot| fs::write(state.join(slot), b"\0\0\0").unwrap());
        }),
        ("a newer form of the file", |state| {
            let newer = b"door-agent-state-9 3 00000000\n{}\n";
            SLOTS
                .iter()
                .for_each(|slot| fs::write(state.join(slot), newer).unwrap());
        }),
        ("a directory in the place of a file", |state| {
            for slot in SLOTS {
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
        eventually(what, || async {
            let mut events = hub.events(&name).await;
            events.retain(|event| event["body"]["kind"] == "stateDamaged");
            (events.len() == kept.len()).then_some(())
        })
        .await;
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
    let site = Site::new().await;
    let storage = door_agent::storage::Storage::spawn().unwrap();
    let directory = door_agent::storage::DoorDirectory {
        path: &site.config.state.directory,
        door: DOOR,
        boot_id: "an-earlier-boot",
        event_log_bytes: 1 << 20,
    };
    let (door, _) = storage.open(&directory).unwrap();
    door.save_door(&json!({"slots": {"of": "another kind"}}), |result| {
        result.unwrap();
    });
    door.close().await;

    let agent = site.start().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn without_a_state_folder_the_door_works_in_doubt_until_it_can_be_created() {
    if !in_private_mounts(
        "disk::without_a_state_folder_the_door_works_in_doubt_until_it_can_be_created",
    ) {
        return;
    }
    let mut site = Site::new().await;
    let disk = site.home.path().join("disk");
    mount_small_disk(&disk);
    let state = disk.join("state");
    let at = disk.to_str().unwrap();
    run("mount", &["-o", "remount,bind,ro", at]);
    site.config.state.directory = state.clone();
    let agent = site.start().await;
    agent_until(&agent, |seen| {
        seen.disk.problem.is_some() && lock_of(seen) == LockState::Locked
    })
    .await;
    let problem = agent.snapshot().disk.problem.unwrap();
    let create = format!("cannot create {}: ", state.display());
    assert!(problem.contains(&create), "{problem}");
    assert!(problem.contains("in doubt"), "{problem}");
    sim(&agent, "rex");
    agent_until(&agent, |seen| lock_of(seen) == LockState::Unlocked).await;
    agent_until(&agent, |seen| lock_of(seen) == LockState::Locked).await;
    assert_eq!(call(&agent, "unlockDoor", "{}").await, 409);
    assert_eq!(lock_of(&agent.snapshot()), LockState::Locked);

    run("mount", &["-o", "remount,bind,rw", at]);
    let held = r#"{"commandId":"held"}"#;
    assert_eq!(call(&agent, "lockDoor", held).await, 200);
    agent_until(&agent, |seen| seen.disk.problem.is_none()).await;
    agent.shutdown().await;
    let agent = site.start().await;
    let seen = agent.snapshot();
    assert_eq!(seen.disk.problem, None);
    let id = seen.door.slots[0].command_id.as_ref().unwrap();
    assert_eq!(id.as_str(), "held");
    agent.shutdown().await;
}

/// A state folder on a disk that is mounted after the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_appears_after_the_start_is_kept_for_the_next_start() {
    let mut site = Site::new().await;
    let link = site.home.path().join("link");
    symlink("earlier", &link).unwrap();
    site.config.state.directory = link.join("state");
    fs::create_dir(site.home.path().join("earlier")).unwrap();
    let agent = site.start().await;
    let held = r#"{"commandId":"held"}"#;
    assert_eq!(call(&agent, "lockDoor", held).await, 200);
    agent.shutdown().await;

    fs::remove_file(&link).unwrap();
    symlink("nowhere", &link).unwrap();
    let agent = site.start().await;
    agent_until(&agent, |seen| seen.disk.problem.is_some()).await;
    assert!(agent.snapshot().door.slots.is_empty());
    let mounted = site.home.path().join("mounted");
    symlink("earlier", &mounted).unwrap();
    fs::rename(&mounted, &link).unwrap();
    // In doubt: what the disk holds is unknown.
    assert_eq!(call(&agent, "unlockDoor", "{}").await, 409);
    agent_until(&agent, |seen| {
        let problem = seen.disk.problem.as_deref();
        problem.is_some_and(|problem| {
            problem.contains("is of an earlier run: restart door-agent to use it")
        })
    })
    .await;
    agent.shutdown().await;

    let agent = site.start().await;
    let seen = agent.snapshot();
    assert_eq!(seen.disk.problem, None);
    let id = seen.door.slots[0].command_id.as_ref().unwrap();
    assert_eq!(id.as_str(), "held");
    agent.shutdown().await;
}

//! Files written by version 0.1, kept under `tests/0.1/`: this version continues with them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use door_agent::{Agent, AgentConfig, AgentSnapshot, Shared};
use door_core::contract::{LockState, Mode};
use door_core::schedule::AssignedWeek;
use door_core::{DesiredDoor, Want};
use doorfleet_testing::{TestHub, agent_until, start_agent_again, write_secret};
use serde_json::Value;

use crate::cli::{CONNECTION, run_with};
use crate::site::{all_sent, sim};

const DOOR: &str = "lobby-west";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The numbers of the occupied slots.
fn slots(seen: &AgentSnapshot) -> Vec<u8> {
    let slots = seen.door.slots.iter();
    slots.map(|slot| slot.slot.number()).collect()
}

/// The files of a door of 0.1, with a key and the CA of this hub; returns its configuration.
async fn door_of_0_1(hub: &TestHub, home: &Path) -> AgentConfig {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/0.1/agent");
    copy(&kept, home);
    write_secret(home.join("connection-string"), hub.add_door(DOOR).await);
    fs::copy(hub.hub.ca_file(), home.join("ca.pem")).unwrap();
    let mut config = AgentConfig::load(&home.join("door.toml")).unwrap();
    config.hub.mqtt_port = hub.hub.mqtt_address().port();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_of_0_1_keeps_its_configuration_state_and_events() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let config = door_of_0_1(&hub, home.path()).await;
    assert_eq!(config.door.held_open_time, Duration::from_secs(90));
    assert_eq!(config.state.event_log_bytes, 1024 * 1024);
    let shared = Shared::new().unwrap();
    let agent = Agent::start(config.clone(), &shared).await.unwrap();
    let seen = agent.snapshot();
    assert_eq!(seen.disk.problem, None);
    assert_eq!(seen.disk.kept_aside, [] as [&str; 0]);
    // A fire release was not reset at the door; below it are an operator's lock and passage mode.
    assert_eq!(slots(&seen), [1, 8, 9]);
    let wants = [Want::Released, Want::Locked, Want::Released];
    assert!(seen.door.slots.iter().map(|slot| slot.want).eq(wants));
    assert_eq!(seen.door.report.mode, Mode::Passage);
    let lock = seen.door.slots[1].command_id.as_ref().unwrap();
    assert_eq!(lock.as_str(), "lock-1");

    // 0.1 saved only the id: any command with this id counts as the duplicate.
    let payload = br#"{"commandId":"lock-1"}"#;
    let reply = agent.controller().invoke("unlockDoor", payload).await;
    assert!(reply.is_success() && reply.body.repeated, "{reply:?}");
    assert_eq!(agent.snapshot().door.slots[1].want, Want::Locked);

    // Unsent events are sent without gaps, with the message ids from 0.1.
    all_sent(&agent).await;
    let events = hub.events(DOOR).await;
    let of_0_1: Vec<&Value> = events
        .iter()
        .map(|event| &event["body"])
        .filter(|body| body["boot"] == "8ca0d38e-b8ba-42f7-a765-0153c98b60fe")
        .filter(|body| (10..=21).contains(&body["seq"].as_u64().unwrap()))
        .collect();
    assert_eq!(of_0_1.len(), 12, "{events:#?}");
    assert!(of_0_1.iter().any(|body| body["doorState"] == "open"));
    assert!(of_0_1.iter().any(|body| body["kind"] == "fireRelease"));
    let lost = |event: &Value| event["body"]["kind"] == "eventsLost";
    assert!(!events.iter().any(lost), "{events:#?}");

    sim(&agent, "fire-reset");
    let lock_state = |seen: &AgentSnapshot| seen.door.report.status.lock_state;
    agent_until(&agent, |seen| lock_state(seen) == LockState::Locked).await;
    agent.shutdown().await;

    // The files written since are complete.
    let agent = start_agent_again(&config, &shared).await;
    let seen = agent.snapshot();
    assert_eq!(seen.disk.problem, None);
    assert_eq!(slots(&seen), [8, 9]);
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_0_1_that_lost_its_newest_file_leaves_the_door_in_doubt() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let config = door_of_0_1(&hub, home.path()).await;
    // The ledger of 0.1 names no generation.
    fs::remove_file(home.path().join("state/state.1")).unwrap();
    let agent = Agent::start(config, &Shared::new().unwrap()).await.unwrap();
    let seen = agent.snapshot();
    let problem = seen.disk.problem.as_deref().unwrap();
    let expected = "one of its two state files is missing";
    assert!(problem.contains(expected), "{problem}");
    assert_eq!(seen.door.report.mode, Mode::Secure);
    assert_eq!(slots(&seen), [8]);
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_a_saved_week_that_the_door_cannot_carry_out() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let mut config = door_of_0_1(&hub, home.path()).await;
    config.hub.mqtt_port = 1;
    let path = home.path().join("door.toml");
    let shared = Shared::new().unwrap();
    for (text, problem) in [
        ("{}", ".: missing field `name`"),
        (
            r#"{"name":"shop","zone":"Europe/Nowhere"}"#,
            "zone: \"Europe/Nowhere\" is not a time zone",
        ),
    ] {
        let agent = start_agent_again(&config, &shared).await;
        let week = AssignedWeek {
            digest: String::new(),
            text: text.to_owned(),
            now: false,
        };
        let door = DesiredDoor {
            schedule: Some(week),
            ..DesiredDoor::default()
        };
        agent.controller().desire(door).await.unwrap();
        agent.shutdown().await;
        let checked = tokio::task::block_in_place(|| run_with(path.to_str().unwrap(), "check"));
        let line = format!("WRONG  week: the door cannot carry it out: {problem}");
        checked.expect(1).prints(&[&line, "; slot 16 is locked"]);
    }
}

#[test]
fn check_reports_what_the_next_start_drops() {
    let home = tempfile::tempdir().unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/0.1/agent");
    copy(&kept, home.path());
    write_secret(home.path().join("connection-string"), CONNECTION);
    let path = home.path().join("door.toml");
    let config = path.to_str().unwrap().to_owned();
    let simulated = fs::read_to_string(&path).unwrap();
    // A Pi whose fire release is not wired any more.
    let without_fire = simulated.replace("ca_file = \"ca.pem\"\n", "").replace(
        "kind = \"simulated\"\nbolt_travel = \"300ms\"\n",
        "kind = \"raspberry-pi\"\n\
         outputs.throw = { pin = 17, active = \"high\" }\n\
         outputs.retract = { pin = 27, active = \"high\" }\n\
         inputs.door = { pin = 22, active = \"low\", bias = \"pull-up\" }\n",
    );
    let line = "note   state: slot 1 is occupied and [board.inputs.fire] is not configured";
    let checked = run_with(&config, "check");
    assert!(!checked.stdout.contains(line), "{checked:?}");
    fs::write(&path, without_fire).unwrap();
    run_with(&config, "check").prints(&[line]);
}

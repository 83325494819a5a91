//! The program under a service manager: readiness, the watchdog, the status line, SIGHUP.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use doorfleet_testing::TestHub;
use serde_json::json;

use crate::cli::{CONNECTION, Running, program, run, run_with, write_config};

const DEADLINE: Duration = Duration::from_secs(30);

/// Receives the notifications of the program.
struct ServiceManager {
    socket: UnixDatagram,
    received: Vec<String>,
}

impl ServiceManager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            socket,
            received: Vec::new(),
        }
    }

    /// Receives until a message satisfies `condition`, and returns it.
    fn until(&mut self, condition: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let mut bytes = [0; 4096];
            let length = match self.socket.recv(&mut bytes) {
                Ok(length) => length,
                Err(error) => panic!("{error}, after {:#?}", self.received),
            };
            let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
            self.received.push(message.clone());
            if condition(&message) {
                return message;
            }
            assert!(begin.elapsed() < DEADLINE, "{:#?}", self.received);
        }
    }
}

fn start(config: &str, manager: &Path, extra: &[(&str, &str)]) -> Running {
    let mut command = program(["--config", config]);
    command
        .env("NOTIFY_SOCKET", manager)
        .env_remove("WATCHDOG_PID")
        .envs(extra.iter().copied());
    Running::spawn(command)
}

#[test]
fn the_service_manager_gets_readiness_watchdog_and_status() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let mut manager = ServiceManager::listen(&path);
    // Nothing listens on port 1: a door needs no hub to be ready.
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let mut agent = start(&config, &path, &[("WATCHDOG_USEC", "200000")]);
    let first = manager.until(|_| true);
    assert!(
        first.starts_with("READY=1\nSTATUS=unlocked, door closed"),
        "{first}"
    );
    manager.until(|message| {
        message.contains(
            "STATUS=locked, door closed, secured (bolt sensed); held by nobody; no \
            alarms; hub away: nothing listens at localhost:1",
        )
    });
    for _ in 0..3 {
        manager.until(|message| message.contains("WATCHDOG=1"));
    }
    run_with(&config, "sim force").expect(0);
    manager.until(|message| message.contains("door open, not secured"));
    assert_eq!(agent.terminate(), 0);
    manager.until(|message| message.contains("STOPPING=1"));
}

#[test]
fn the_service_managers_state_and_credential_override_the_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let mut manager = ServiceManager::listen(&path);
    let config = write_config(home.path(), "not a connection string", "mqtt_port = 1");
    let credentials = home.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("connection-string"), CONNECTION).unwrap();
    let state = home.path().join("var");
    let mut agent = start(
        &config,
        &path,
        &[
            ("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap()),
            ("STATE_DIRECTORY", state.to_str().unwrap()),
        ],
    );
    manager.until(|message| message.starts_with("READY=1"));
    assert!(state.join("status.sock").exists());
    assert!(!home.path().join("state").exists());
    assert_eq!(agent.terminate(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_the_hub_settings_without_moving_the_lock() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let mut manager = ServiceManager::listen(&path);
    let connection = hub.add_door("lobby-east").await;
    let config = write_config(home.path(), &connection, "mqtt_port = 1");
    let mut agent = start(&config, &path, &[]);
    let received = tokio::task::block_in_place(|| {
        manager.until(|message| {
            message.contains("STATUS=locked, ") && message.contains("nothing listens")
        });
        // A mistake changes nothing, and the agent keeps running.
        write_config(home.path(), &connection, "mqtt_prot = 1");
        agent.signal("HUP");
        let log = agent.log_until("keeping the present settings");
        assert!(log.contains("hub.mqtt_prot: unknown key"), "{log}");

        let settings = hub.agent_settings() + "\n[door]\nrelinquish_default = \"released\"";
        write_config(home.path(), &connection, &settings);
        agent.signal("HUP");
        let log = agent.log_until("need a restart");
        assert!(log.contains("[door] need"), "{log}");
        manager.until(|message| message.contains("hub connected"))
    });
    let expected = "STATUS=locked, door closed";
    assert!(received.contains(expected), "{received}");
    let code = tokio::task::block_in_place(|| agent.terminate());
    assert_eq!(code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_is_answered_then_the_door_de_energised_then_the_request_written() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let connection = hub.add_door("lobby-east").await;
    let settings = hub.agent_settings() + "\n[machine]\nreboot_directory = \"reboot\"";
    let config = write_config(home.path(), &connection, &settings);
    let mut agent = start(&config, &home.path().join("nobody"), &[]);
    let reported = hub.reports("lobby-east", "/door/secured", "secured").await;
    let cause = json!({"cause": "unknown"});
    assert_eq!(reported["device"]["bootReason"], cause);

    let reboot = async |payload, status, member: &str, value: &str| {
        let (_, answer) = hub.invoke("lobby-east", "reboot", payload).await;
        let seen = (&answer["status"], &answer["payload"][member]);
        assert_eq!(seen, (&json!(status), &json!(value)), "{answer}");
    };
    let misspelt = json!({"resaon": "kernel update"});
    reboot(misspelt, 400, "field", "resaon").await;
    let late = json!({"notAfter": "2020-01-01T00:00:00Z"});
    reboot(late, 410, "error", "expired").await;
    // Without the folder there is no service that would reboot.
    let update = json!({"reason": "kernel update", "commandId": "r-1"});
    reboot(update.clone(), 500, "error", "notPossible").await;

    std::fs::create_dir(home.path().join("reboot")).unwrap();
    reboot(update, 202, "Response", "reboot called successfully").await;
    let (code, log) =
        tokio::task::block_in_place(|| (agent.ended(), agent.log_until("lobby-east: ended")));
    assert_eq!(code, 0, "{log}");
    let safe = log.find("the strike is de-energised").expect(&log);
    let asked = log.find("requested a reboot").expect(&log);
    assert!(safe < asked, "{log}");

    let request = home.path().join("reboot/request");
    let judge = || run(["reboot-requested", "--file", request.to_str().unwrap()]);
    let expected = "door lobby-east requests a reboot: \"kernel update\"\n";
    assert_eq!(judge().expect(0).stdout, expected);
    // A request counts once.
    judge().expect(1);
}

//! The program as a service manager meets it: readiness, the watchdog, the status line, SIGHUP.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cli::{CONNECTION, Running, run, write_config};
use crate::support::TestHub;

const DEADLINE: Duration = Duration::from_secs(30);

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            socket,
            heard: Vec::new(),
        }
    }

    /// Listens until a message satisfies `condition`, and gives it.
    fn until(&mut self, condition: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let mut bytes = [0; 4096];
            let length = match self.socket.recv(&mut bytes) {
                Ok(length) => length,
                Err(error) => panic!("{error}, after {:#?}", self.heard),
            };
            let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
            self.heard.push(message.clone());
            if condition(&message) {
                return message;
            }
            assert!(begin.elapsed() < DEADLINE, "{:#?}", self.heard);
        }
    }
}

fn start(config: &str, manager: &Path, extra: &[(&str, &str)]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_door-agent"));
    command
        .args(["--config", config])
        .env("NOTIFY_SOCKET", manager)
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("STATE_DIRECTORY")
        .env_remove("WATCHDOG_PID")
        .envs(extra.iter().copied());
    Running::spawn(command)
}

#[test]
fn it_is_ready_when_the_door_is_safe_feeds_the_watchdog_and_says_what_is() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let mut manager = Manager::listen(&path);
    // Nothing listens on port 1: a door needs no hub to be ready.
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let mut agent = start(&config, &path, &[("WATCHDOG_USEC", "200000")]);
    let first = manager.until(|_| true);
    assert!(
        first.starts_with("READY=1\nSTATUS=unlocked, door closed"),
        "{first}"
    );
    manager.until(|message| {
        message.contains("STATUS=locked, door closed, secured (bolt sensed); held by nobody; no alarms; hub away (nothing listens at localhost:1)")
    });
    for _ in 0..3 {
        manager.until(|message| message.contains("WATCHDOG=1"));
    }
    let (code, _, stderr) = run(&["sim", "force", "--config", &config]);
    assert_eq!(code, 0, "{stderr}");
    manager.until(|message| message.contains("door open, not secured"));
    assert_eq!(agent.terminate(), 0);
    manager.until(|message| message.contains("STOPPING=1"));
}

#[test]
fn state_and_credential_of_the_service_manager_win_over_the_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let mut manager = Manager::listen(&path);
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
async fn sighup_takes_up_the_hub_and_leaves_the_lock_alone() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let mut manager = Manager::listen(&path);
    let connection = hub.add_device("lobby-east").await;
    // The wrong port.
    let ca = hub.hub().ca_file().display();
    let port = hub.hub().mqtt_address().port();
    let config = write_config(
        home.path(),
        &connection,
        &format!("mqtt_port = 1\nca_file = \"{ca}\""),
    );
    let mut agent = start(&config, &path, &[]);
    let heard = tokio::task::block_in_place(|| {
        manager.until(|message| message.contains("nothing listens"));
        // A mistake changes nothing, and the agent lives.
        write_config(home.path(), &connection, "mqtt_prot = 1");
        agent.signal("HUP");
        let log = agent.log_until("the settings stay as they are");
        assert!(log.contains("hub.mqtt_prot: unknown key"), "{log}");

        write_config(
            home.path(),
            &connection,
            &format!(
                "mqtt_port = {port}\nca_file = \"{ca}\"\n[door]\nrelinquish_default = \"released\""
            ),
        );
        agent.signal("HUP");
        let log = agent.log_until("wait for a restart");
        assert!(log.contains("[door] wait"), "{log}");
        manager.until(|message| message.contains("hub connected"))
    });
    assert!(heard.contains("locked, door closed"), "{heard}");
    let mut agent = agent;
    let code = tokio::task::block_in_place(|| agent.terminate());
    assert_eq!(code, 0);
}

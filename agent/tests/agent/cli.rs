//! The program as a person meets it: exit status, stdout and stderr.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::TestHub;

const DEADLINE: Duration = Duration::from_secs(30);

/// What a run that ends by itself gives: exit status, stdout, stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_door-agent"))
        .args(arguments)
        .env_remove("CREDENTIALS_DIRECTORY")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Writes a configuration of a simulated door and gives its path.
fn write_config(home: &Path, connection_string: &str, hub: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let secret = home.join("door.connection-string");
    std::fs::write(&secret, connection_string).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = home.join("door.toml");
    let text = format!(
        "[hub]\nconnection_string_file = \"door.connection-string\"\n{hub}\n\
         [strike]\nkind = \"motor-lock\"\n[board]\nkind = \"simulated\"\n[state]\ndirectory = \"state\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const CONNECTION: &str = "HostName=localhost;DeviceId=lobby-east;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A running agent, killed when the test ends before it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(config: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_door-agent"))
            .args(["--config", config])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Sends SIGTERM and gives the exit status.
    fn terminate(&mut self) -> i32 {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        let begin = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(begin.elapsed() < DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn status_until(config: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let (code, stdout, stderr) = run(&["status", "--config", config]);
        let status: Value = serde_json::from_str(&stdout).unwrap_or_default();
        if code == 0 && condition(&status) {
            return status;
        }
        assert!(begin.elapsed() < DEADLINE, "{stdout}{stderr}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn without_a_configuration_it_says_what_is_missing() {
    let (code, stdout, stderr) = run(&[]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with("error: --config is missing"), "{stderr}");
    assert!(stderr.contains("Examples"), "{stderr}");
}

#[test]
fn a_mistake_in_the_configuration_is_placed_and_nothing_is_made() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_prot = 8883");
    for command in [&["--config", &config][..], &["check", "--config", &config]] {
        let (code, stdout, stderr) = run(command);
        assert_eq!((code, stdout.as_str()), (1, ""));
        let expected =
            format!("error: {config}:3: hub.mqtt_prot: unknown key, did you mean `mqtt_port`?");
        assert!(stderr.starts_with(&expected), "{stderr}");
    }
    assert!(!home.path().join("state").exists());
}

#[test]
fn check_reads_what_the_configuration_names() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 18883");
    let (code, stdout, stderr) = run(&["check", "--config", &config]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.contains("fine: door lobby-east at localhost:18883"),
        "{stdout}"
    );
    let config = write_config(home.path(), CONNECTION, "ca_file = \"missing.pem\"");
    let (code, _, stderr) = run(&["check", "--config", &config]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("missing.pem: cannot read the hub's CA certificate"),
        "{stderr}"
    );
}

#[test]
fn a_second_agent_on_the_same_state_is_refused_and_the_first_drains_on_sigterm() {
    let home = tempfile::tempdir().unwrap();
    // Nothing listens on port 1: the door works all the same.
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let mut agent = Running::start(&config);
    let status = status_until(&config, |status| {
        status["door"]["report"]["secured"] == "secured" && !status["link"]["lastProblem"].is_null()
    });
    assert_eq!(
        status["link"]["lastProblem"],
        "nothing listens at localhost:1"
    );

    let (code, _, stderr) = run(&["--config", &config]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("is in use by another door-agent"),
        "{stderr}"
    );

    let (code, stdout, _) = run(&["sim", "jam", "--config", &config]);
    assert_eq!(code, 0);
    assert!(stdout.contains(r#""jammed":true"#), "{stdout}");
    let (code, _, stderr) = run(&["sim", "open", "--config", &config]);
    assert_eq!(code, 1);
    assert!(stderr.contains("the door is locked"), "{stderr}");

    assert_eq!(agent.terminate(), 0);
    let (code, _, stderr) = run(&["status", "--config", &config]);
    assert_eq!(code, 1);
    assert!(stderr.contains("no running agent answers"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_serves_its_hub_and_says_goodbye() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let connection = hub.add_device("lobby-east").await;
    let settings = format!(
        "mqtt_port = {}\nca_file = \"{}\"",
        hub.hub().mqtt_address().port(),
        hub.hub().ca_file().display()
    );
    let config = write_config(home.path(), &connection, &settings);
    let mut agent = Running::start(&config);
    let reported = hub
        .reported_until("lobby-east", |reported| {
            reported["door"]["secured"] == "secured"
        })
        .await;
    assert_eq!(reported["device"]["startReason"], "first");
    let code = tokio::task::spawn_blocking(move || agent.terminate())
        .await
        .unwrap();
    assert_eq!(code, 0);
    let (status, answer) = hub
        .invoke("lobby-east", "getState", serde_json::json!({}))
        .await;
    assert_eq!(status, 404, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_too_deep_for_a_socket_does_not_stop_the_door() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    // The path of a Unix socket has at most 108 bytes.
    let deep = home.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let connection = hub.add_device("lobby-east").await;
    let settings = format!(
        "mqtt_port = {}\nca_file = \"{}\"",
        hub.hub().mqtt_address().port(),
        hub.hub().ca_file().display()
    );
    let config = write_config(&deep, &connection, &settings);
    let mut agent = Running::start(&config);
    hub.reported_until("lobby-east", |reported| {
        reported["door"]["secured"] == "secured"
    })
    .await;
    let code = tokio::task::spawn_blocking(move || agent.terminate())
        .await
        .unwrap();
    assert_eq!(code, 0);
}

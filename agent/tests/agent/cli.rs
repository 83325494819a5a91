//! The command line: exit status, stdout and stderr.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::TestHub;

const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a command that ends by itself: exit status, stdout, stderr.
pub(crate) fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_door-agent"))
        .args(arguments)
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("STATE_DIRECTORY")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_closed_output_pipe_is_not_an_error() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let mut child = Command::new(env!("CARGO_BIN_EXE_door-agent"))
        .args(["check", "--config", &config])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    // Nothing listens on port 1.
    assert_eq!((output.status.code(), stderr.as_str()), (Some(1), ""));
}

/// Runs a command with text on its standard input.
pub(crate) fn fed(mut command: Command, input: &str) -> (i32, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses at once may end without reading.
    match child.stdin.take().unwrap().write_all(input.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => panic!("{error}"),
        Ok(()) | Err(_) => {}
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Writes the configuration of a simulated door and returns its path.
pub(crate) fn write_config(home: &Path, connection_string: &str, hub: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let secret = home.join("door.connection-string");
    std::fs::write(&secret, connection_string).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = home.join("door.toml");
    let text = format!(
        "[hub]\nconnection_string_file = \"door.connection-string\"\n{hub}\n\
         [strike]\nkind = \"motor-lock\"\n[board]\nkind = \"simulated\"\n[state]\ndirectory \
         = \"state\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

pub(crate) const CONNECTION: &str = "HostName=localhost;DeviceId=lobby-east;\
    SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A running agent, killed when dropped.
pub(crate) struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub(crate) fn start(config: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_door-agent"));
        command.args(["--config", config]);
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Reads the log up to the line that contains `text`, and returns it.
    pub(crate) fn log_until(&mut self, text: &str) -> String {
        let mut log = String::new();
        while !log.contains(text) {
            let length = self.log.read_line(&mut log).unwrap();
            assert!(length > 0, "it ended without {text}: {log}");
        }
        log
    }

    /// The rest of the log of an agent that has ended.
    pub(crate) fn rest_of_log(&mut self) -> String {
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        log
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Sends SIGTERM and returns the exit status.
    pub(crate) fn terminate(&mut self) -> i32 {
        self.signal("TERM");
        self.ended()
    }

    /// Waits for the end and returns the exit status.
    pub(crate) fn ended(&mut self) -> i32 {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(begin.elapsed() < DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub(crate) fn status_until(config: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let (code, stdout, stderr) = run(&["status", "--json", "--config", config]);
        let status: Value = serde_json::from_str(&stdout).unwrap_or_default();
        if code == 0 && condition(&status) {
            return status;
        }
        assert!(begin.elapsed() < DEADLINE, "{stdout}{stderr}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_missing_config_option_is_reported() {
    let (code, stdout, stderr) = run(&[]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with("error: --config is missing"), "{stderr}");
    assert!(stderr.contains("Examples"), "{stderr}");
}

#[test]
fn a_configuration_mistake_is_located_and_no_state_is_created() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "[door]\nstrike_tim = \"5s\"");
    let problem = format!("{config}:4: door.strike_tim: unknown key, did you mean `strike_time`?");
    let (code, stdout, stderr) = run(&["--config", &config]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with(&format!("error: {problem}")), "{stderr}");
    let (code, stdout, stderr) = run(&["check", "--config", &config]);
    assert_eq!((code, stderr.as_str()), (1, ""));
    let expected = format!("WRONG  configuration: {problem}");
    assert!(stdout.starts_with(&expected), "{stdout}");
    // What does not depend on the mistake is checked too.
    assert!(stdout.contains("note   pins: none"), "{stdout}");
    // De-energising needs only the board's table.
    let (code, stdout, stderr) = run(&["de-energise", "--config", &config]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "door: the strike is de-energised\n");
    assert!(!home.path().join("state").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_one_line_per_check() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let port = hub.hub().mqtt_address().port();
    let ca = hub.hub().ca_file().display().to_string();
    let config = write_config(
        home.path(),
        CONNECTION,
        &format!("mqtt_port = {port}\nca_file = \"{ca}\""),
    );
    let check = || {
        let (code, stdout, stderr) = run(&["check", "--config", &config]);
        assert_eq!(stderr, "");
        (code, stdout)
    };
    let (code, stdout) = tokio::task::block_in_place(check);
    assert_eq!(code, 0, "{stdout}");
    for expected in [
        format!("fine   configuration: {config}\n"),
        "fine   connection string: device lobby-east of localhost; no other user may read the \
         file\n"
            .to_owned(),
        "note   state: ".to_owned(),
        "note   pins: none: the board is simulated".to_owned(),
        "fine   clock: ".to_owned(),
        format!("fine   hub: 127.0.0.1:{port} answers, and its certificate is trusted"),
    ] {
        assert!(stdout.contains(&expected), "{stdout}\nlacks {expected}");
    }
    assert!(
        !home.path().join("state").exists(),
        "check creates no state"
    );

    // The hub's CA is not configured: reachable, but not trusted.
    write_config(home.path(), CONNECTION, &format!("mqtt_port = {port}"));
    let (code, stdout) = tokio::task::block_in_place(check);
    assert_eq!(code, 1, "{stdout}");
    assert!(
        stdout.contains("WRONG  hub: the certificate of localhost"),
        "{stdout}"
    );
    write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let (code, stdout) = tokio::task::block_in_place(check);
    assert_eq!(code, 1, "{stdout}");
    assert!(
        stdout.contains("WRONG  hub: nothing listens at localhost:1; check that the hub runs"),
        "{stdout}"
    );
    write_config(home.path(), CONNECTION, "ca_file = \"missing.pem\"");
    let (code, stdout) = tokio::task::block_in_place(check);
    assert_eq!(code, 1, "{stdout}");
    assert!(
        stdout.contains("missing.pem: cannot read the hub's CA certificate"),
        "{stdout}"
    );
    let secret = home.path().join("door.connection-string");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (code, stdout) = tokio::task::block_in_place(check);
    assert_eq!(code, 1, "{stdout}");
    assert!(
        stdout.contains("mode 0644 lets other users read the device's key"),
        "{stdout}"
    );
}

#[test]
fn a_second_agent_on_the_same_state_is_refused_and_the_first_drains_on_sigterm() {
    let home = tempfile::tempdir().unwrap();
    // Nothing listens on port 1: the door works without a hub.
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
    let (code, stdout, _) = run(&["status", "--config", &config]);
    assert_eq!(code, 0);
    let expected =
        "lobby-east: locked, door closed, secured (bolt sensed); held by nobody; no alarms\n";
    assert!(stdout.starts_with(expected), "{stdout}");
    for line in [
        "decides  relinquish default: locked\n",
        "inputs   bond thrown, door closed, ",
        // Waiting, or connecting at the moment.
        ": nothing listens at localhost:1\n",
    ] {
        assert!(stdout.contains(line), "{stdout}\nlacks {line}");
    }
    assert!(stdout.ends_with('\n'));
    let (_, stdout, _) = run(&["check", "--config", &config]);
    assert!(stdout.contains("in use by the running agent"), "{stdout}");

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
async fn the_program_serves_its_hub_and_disconnects() {
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

/// For each damaged file of the hub's settings: the door runs, and the status names the file.
#[test]
fn mistakes_that_affect_only_the_hub_do_not_stop_the_door() {
    let x509 = "HostName=localhost;DeviceId=lobby-east;x509=true";
    let identity = "certificate_file = \"door.pem\"\nkey_file = \"door.key\"";
    let files = [
        ("door.connection-string", CONNECTION, ""),
        ("ca.pem", CONNECTION, "ca_file = \"ca.pem\""),
        ("door.pem", x509, identity),
        ("door.key", x509, identity),
    ];
    for (file, connection, hub) in files {
        for spoilt in [
            "missing",
            "empty",
            "unreadable",
            "garbage",
            "open to others",
        ] {
            let home = tempfile::tempdir().unwrap();
            let config = write_config(home.path(), connection, &format!("mqtt_port = 1\n{hub}"));
            for other in ["door.pem", "door.key"] {
                std::fs::write(home.path().join(other), "").unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(home.path().join(other), mode).unwrap();
            }
            let path = home.path().join(file);
            let _ = std::fs::remove_file(&path);
            match spoilt {
                "missing" => {}
                "empty" => std::fs::write(&path, "").unwrap(),
                "unreadable" => std::fs::create_dir(&path).unwrap(),
                _ => std::fs::write(&path, "\u{1}garbage").unwrap(),
            }
            let mut agent = Running::start(&config);
            let status = status_until(&config, |status| {
                status["door"]["report"]["lockState"] == "locked"
                    && status["link"]["state"] == "waiting"
            });
            let problem = status["link"]["lastProblem"].as_str().unwrap();
            // Without a key there is no certificate either: the file that is read first is named.
            let named = problem.contains(file) || problem.contains("door.pem");
            assert!(named, "{file} {spoilt}: {problem}");
            // A file that is read only at the start: the status asks for a restart.
            let asks = problem.ends_with("; fix it, then `door-agent restart door`");
            assert_eq!(
                asks,
                file == "door.connection-string" || problem.contains(": mode "),
                "{spoilt}: {problem}"
            );
            let (_, text, _) = run(&["status", "--config", &config]);
            assert!(text.contains("hub away: "), "{file} {spoilt}: {text}");
            let (code, _, stderr) = run(&["sim", "rex", "on", "--config", &config]);
            assert_eq!(code, 0, "{file} {spoilt}: {stderr}");
            status_until(&config, |status| status["door"]["want"] == "released");
            assert_eq!(run(&["check", "--config", &config]).0, 1, "{file} {spoilt}");
            assert_eq!(agent.terminate(), 0);
        }
    }
}

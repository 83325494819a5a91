//! The command line: exit status, stdout and stderr.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use doorfleet_testing::{
    CommandLine, DEADLINE, Process, TestHub, run_with_input, write_secret, write_with_mode,
};
use serde_json::Value;

/// Runs a command that ends by itself: exit status, stdout, stderr.
pub(crate) fn run(line: impl CommandLine) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_door-agent"));
    command
        .args(line.words())
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("STATE_DIRECTORY");
    doorfleet_testing::run(&mut command).parts()
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
    run_with_input(&mut command, input).parts()
}

/// Writes the configuration of a simulated door and returns its path.
pub(crate) fn write_config(home: &Path, connection_string: &str, hub: &str) -> String {
    write_secret(home.join("door.connection-string"), connection_string);
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

/// Writes the configuration of a door with a quick bolt, which reconnects quickly.
pub(crate) async fn write_quick_config(home: &Path, hub: &TestHub, name: &str) -> PathBuf {
    let settings = format!("{}\nreconnect_min = \"100ms\"", hub.agent_settings());
    let path = write_config(home, &hub.add_door(name).await, &settings);
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("\"simulated\"", "\"simulated\"\nbolt_travel = \"20ms\"");
    std::fs::write(&path, text).unwrap();
    path.into()
}

/// A running agent, killed when dropped.
pub(crate) struct Running {
    process: Process,
    log: Box<dyn Iterator<Item = String> + Send>,
}

impl Deref for Running {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Running {
    pub(crate) fn start(config: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_door-agent"));
        command.args(["--config", config]);
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut process = Process::spawn(command.stderr(Stdio::piped()));
        let log = Box::new(process.stderr());
        Self { process, log }
    }

    /// Reads the log up to the line that contains `text`, and returns it.
    pub(crate) fn log_until(&mut self, text: &str) -> String {
        let mut log = String::new();
        while !log.contains(text) {
            let line = self.log.next();
            log += &line.unwrap_or_else(|| panic!("it ended without {text}: {log}"));
            log += "\n";
        }
        log
    }

    /// The rest of the log of an agent that has ended.
    pub(crate) fn rest_of_log(&mut self) -> String {
        self.log.by_ref().collect()
    }

    /// Sends SIGTERM and returns the exit status.
    pub(crate) fn terminate(&mut self) -> i32 {
        self.process.terminate().code().unwrap()
    }

    /// Waits for the end and returns the exit status.
    pub(crate) fn ended(&mut self) -> i32 {
        self.process.wait().code().unwrap()
    }
}

/// The status that the agent with this state folder reports, once `condition` holds.
pub(crate) async fn status_of(
    state: &Path,
    name: &str,
    condition: impl Fn(&Value) -> bool,
) -> Value {
    let begin = Instant::now();
    loop {
        let status = door_agent::status::ask(state).await;
        let status = status.map(|status| status.document).unwrap_or_default();
        if status.is_object() && condition(&status) {
            return status;
        }
        assert!(begin.elapsed() < DEADLINE, "{name}: still {status:#}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the status has `value` at the pointer.
pub(crate) fn shows(config: &str, pointer: &str, value: &str) -> Value {
    status_until(config, |status| {
        status.pointer(pointer).is_some_and(|it| it == value)
    })
}

pub(crate) fn status_until(config: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let (code, stdout, stderr) = run(format!("status --json --config {config}"));
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
    let (code, stdout, stderr) = run("");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with("error: --config is missing"), "{stderr}");
    assert!(stderr.contains("Examples"), "{stderr}");
}

#[test]
fn a_configuration_mistake_is_located_and_no_state_is_created() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "[door]\nstrike_tim = \"5s\"");
    let problem = format!("{config}:4: door.strike_tim: unknown key, did you mean `strike_time`?");
    let (code, stdout, stderr) = run(format!("--config {config}"));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with(&format!("error: {problem}")), "{stderr}");
    let (code, stdout, stderr) = run(format!("check --config {config}"));
    assert_eq!((code, stderr.as_str()), (1, ""));
    let expected = format!("WRONG  configuration: {problem}");
    assert!(stdout.starts_with(&expected), "{stdout}");
    // What does not depend on the mistake is checked too.
    assert!(stdout.contains("note   pins: none"), "{stdout}");
    // De-energising needs only the board's table.
    let (code, stdout, stderr) = run(format!("de-energise --config {config}"));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "door: the strike is de-energised\n");
    assert!(!home.path().join("state").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_one_line_per_check() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let port = hub.hub.mqtt_address().port();
    let ca = hub.hub.ca_file().display().to_string();
    let config = write_config(
        home.path(),
        CONNECTION,
        &format!("mqtt_port = {port}\nca_file = \"{ca}\""),
    );
    let check = || {
        let (code, stdout, stderr) = run(format!("check --config {config}"));
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
    write_with_mode(
        home.path().join("door.connection-string"),
        CONNECTION,
        0o644,
    );
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

    let (code, _, stderr) = run(format!("--config {config}"));
    assert_eq!(code, 1);
    assert!(
        stderr.contains("is in use by another door-agent"),
        "{stderr}"
    );
    let (code, stdout, _) = run(format!("status --config {config}"));
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
    let (_, stdout, _) = run(format!("check --config {config}"));
    assert!(stdout.contains("in use by the running agent"), "{stdout}");

    let (code, stdout, _) = run(format!("sim jam --config {config}"));
    assert_eq!(code, 0);
    assert!(stdout.contains(r#""jammed":true"#), "{stdout}");
    let (code, _, stderr) = run(format!("sim open --config {config}"));
    assert_eq!(code, 1);
    assert!(stderr.contains("the door is locked"), "{stderr}");

    assert_eq!(agent.terminate(), 0);
    let (code, _, stderr) = run(format!("status --config {config}"));
    assert_eq!(code, 1);
    assert!(stderr.contains("no running agent answers"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_serves_its_hub_and_disconnects() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let connection = hub.add_door("lobby-east").await;
    let settings = hub.agent_settings();
    let config = write_config(home.path(), &connection, &settings);
    let mut agent = Running::start(&config);
    let reported = hub.reports("lobby-east", "/door/secured", "secured").await;
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
    let connection = hub.add_door("lobby-east").await;
    let settings = hub.agent_settings();
    let config = write_config(&deep, &connection, &settings);
    let mut agent = Running::start(&config);
    hub.reports("lobby-east", "/door/secured", "secured").await;
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
                write_secret(home.path().join(other), "");
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
            let (_, text, _) = run(format!("status --config {config}"));
            assert!(text.contains("hub away: "), "{file} {spoilt}: {text}");
            let (code, _, stderr) = run(format!("sim rex on --config {config}"));
            assert_eq!(code, 0, "{file} {spoilt}: {stderr}");
            shows(&config, "/door/want", "released");
            assert_eq!(
                run(format!("check --config {config}")).0,
                1,
                "{file} {spoilt}"
            );
            assert_eq!(agent.terminate(), 0);
        }
    }
}

//! The command line: exit status, stdout and stderr.

use std::fs::Permissions;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use doorfleet_testing::{
    CommandLine, CommandOutput, DEADLINE, Process, TestHub, write_secret, write_with_mode,
};
use jiff::Timestamp;
use jiff::civil::date;
use serde_json::Value;

use crate::hub::write_certificate;

/// A door-agent without the variables of a service.
pub(crate) fn program(line: impl CommandLine) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_door-agent"));
    command
        .args(line.words())
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("STATE_DIRECTORY");
    command
}

/// Runs a command that ends by itself.
pub(crate) fn run(line: impl CommandLine) -> CommandOutput {
    doorfleet_testing::run(&mut program(line))
}

/// Runs a command with this configuration.
pub(crate) fn run_with(config: &str, line: &str) -> CommandOutput {
    run(format!("{line} --config {config}"))
}

#[test]
fn a_closed_output_pipe_is_not_an_error() {
    let home = tempfile::tempdir().unwrap();
    // Nothing listens on port 1.
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let mut check = program(["check", "--config", &config]);
    let mut child = Process::spawn(check.stdout(Stdio::piped()).stderr(Stdio::piped()));
    drop(child.stdout());
    assert_eq!(child.output().expect(1).stderr, "");
}

#[test]
fn no_line_of_an_error_or_a_help_is_wider_than_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let long = "x".repeat(50);
    for line in [
        "",
        "selftest --wait forever --config none",
        &format!("status --config {config} --{long}"),
        "restart no-such-door",
        "--help",
        "check --help",
        "install --help",
        "selftest --help",
        "sim --help",
    ] {
        let output = doorfleet_testing::run(program(line).env("COLUMNS", "80"));
        let text = output.stderr + &output.stdout;
        assert!(!text.is_empty(), "{line}");
        let wide = |line: &&str| line.contains(' ') && line.chars().count() > 80;
        assert_eq!(text.lines().find(wide), None, "{line}");
    }
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
        Self::spawn(program(["--config", config]))
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
        let output = run_with(config, "status --json");
        let status: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        if output.status == 0 && condition(&status) {
            return status;
        }
        assert!(begin.elapsed() < DEADLINE, "{output:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_missing_config_option_is_reported() {
    let refused = run("").expect(1).says(&["Examples"]);
    let expected = "error: --config is missing";
    assert!(refused.stderr.starts_with(expected), "{refused:?}");
}

#[test]
fn a_configuration_mistake_is_located_and_no_state_is_created() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "[door]\nstrike_tim = \"5s\"");
    let problem = format!("{config}:4: door.strike_tim: unknown key, did you mean `strike_time`?");
    let started = run_with(&config, "").expect(1);
    let expected = format!("error: {problem}");
    assert!(started.stderr.starts_with(&expected), "{started:?}");
    // What does not depend on the mistake is checked too.
    let checked = run_with(&config, "check").expect(1);
    let checked = checked.prints(&["note   pins: none"]);
    let expected = format!("WRONG  configuration: {problem}");
    assert!(checked.stdout.starts_with(&expected), "{checked:?}");
    // De-energising needs only the board's table.
    let done = run_with(&config, "de-energise").expect(0);
    assert_eq!(done.stdout, "door: the strike is de-energised\n");
    assert!(!home.path().join("state").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_one_line_per_check() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let port = hub.hub.mqtt_address().port();
    let ca = hub.hub.ca_file().display();
    let config = home.path().join("door.toml");
    let check = |status, hub: &str, expected: &[&str]| {
        let config = write_config(home.path(), CONNECTION, hub);
        tokio::task::block_in_place(|| run_with(&config, "check").expect(status).prints(expected));
    };
    let expected = [
        &format!("fine   configuration: {}\n", config.display()),
        "fine   connection string: device lobby-east of localhost; no other user may read the \
         file\n",
        "note   state: ",
        "note   pins: none: the board is simulated",
        "fine   clock: ",
        &format!("fine   hub: 127.0.0.1:{port} answers, and its certificate is trusted"),
    ];
    check(
        0,
        &format!("mqtt_port = {port}\nca_file = \"{ca}\""),
        &expected,
    );
    let state = home.path().join("state");
    assert!(!state.exists(), "check creates no state");

    // The hub's CA is not configured: reachable, but not trusted.
    let expected = "WRONG  hub: the certificate of localhost";
    check(1, &format!("mqtt_port = {port}"), &[expected]);
    let expected = "WRONG  hub: nothing listens at localhost:1; check that the hub runs";
    check(1, "mqtt_port = 1", &[expected]);
    let expected = "missing.pem: cannot read the hub's CA certificate";
    check(1, "ca_file = \"missing.pem\"", &[expected]);
    let secret = home.path().join("door.connection-string");
    write_with_mode(secret, CONNECTION, 0o644);
    let config = config.to_str().unwrap();
    let checked = tokio::task::block_in_place(|| run_with(config, "check"));
    let expected = "mode 0644 lets other users read the device's key";
    checked.expect(1).prints(&[expected]);
}

#[test]
fn check_prints_what_inputs_and_strike_cannot_do() {
    const MOTOR: &str = "kind = \"motor-lock\"";
    const BOLT: &str = "kind = \"solenoid-bolt\"\nfail = \"safe\"\nmax_on = \"4s\"";
    const PULSE: &str = "kind = \"pulse-strike\"\nmax_on = \"10s\"";
    const SIMULATED: &str = "kind = \"simulated\"";
    const QUIET: &str = "kind = \"simulated\"\ninputs = [\"door\", \"bond\", \"tamper\"]";
    let reports = "kind = \"raspberry-pi\"\noutputs.throw = { pin = 17, active = \"high\" }\n\
                   outputs.retract = { pin = 27, active = \"high\" }\n\
                   inputs.door = { pin = 22, active = \"low\", bias = \"pull-up\" }\n\
                   inputs.rex = { pin = 24, active = \"low\", bias = \"pull-up\", releases = false }";
    let home = tempfile::tempdir().unwrap();
    let closed = "note   grant: under a lockdown the reader does not open this door; a button inside \
                  must be wired as rex\n";
    for (door, strike, board, expected) in [
        ("", MOTOR, SIMULATED, closed),
        (
            "grant_in_lockdown = true",
            MOTOR,
            SIMULATED,
            "note   grant: under a lockdown the reader opens this door (door.grant_in_lockdown)",
        ),
        (
            "relinquish_default = \"released\"",
            BOLT,
            SIMULATED,
            "note   strike: no lock lasts longer than 4s (strike.max_on)\n",
        ),
        (
            "",
            PULSE,
            QUIET,
            "note   strike: no unlock lasts longer than 10s (strike.max_on)\n",
        ),
        (
            "egress = \"free-mechanical\"",
            MOTOR,
            reports,
            "note   rex: releases nothing (releases = false): people get out as [door] egress says",
        ),
        (
            "",
            MOTOR,
            reports,
            "[door] egress does not name another way out: expected egress = \"free-mechanical\"",
        ),
    ] {
        let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace(MOTOR, strike).replace(SIMULATED, board);
        std::fs::write(&config, format!("{text}[door]\n{door}\n")).unwrap();
        let checked = run_with(&config, "check").expect(1).prints(&[expected]);
        let grants = checked.stdout.contains("grant:");
        assert_eq!(grants, board == SIMULATED, "{checked:?}");
    }
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

    let run = |line| run_with(&config, line);
    run("").expect(1).says(&["is in use by another door-agent"]);
    let shown = run("status").expect(0).prints(&[
        "decides  relinquish default: locked\n",
        "inputs   bond thrown, door closed, ",
        // Waiting, or connecting at the moment.
        ": nothing listens at localhost:1\n",
    ]);
    let expected =
        "lobby-east: locked, door closed, secured (bolt sensed); held by nobody; no alarms\n";
    assert!(shown.stdout.starts_with(expected), "{shown:?}");
    assert!(shown.stdout.ends_with('\n'));
    run("check").prints(&["in use by the running agent"]);

    run("sim jam").expect(0).prints(&[r#""jammed":true"#]);
    run("sim open").expect(1).says(&["the door is locked"]);

    assert_eq!(agent.terminate(), 0);
    run("status").expect(1).says(&["no running agent answers"]);
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
        for spoilt in "missing,empty,unreadable,garbage,open to others".split(',') {
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
            run_with(&config, "status").prints(&["hub away: "]);
            run_with(&config, "sim rex on").expect(0);
            shows(&config, "/door/want", "released");
            let checked = run_with(&config, "check");
            assert_eq!(checked.status, 1, "{file} {spoilt}: {checked:?}");
            assert_eq!(agent.terminate(), 0);
        }
    }
}

#[test]
fn check_reports_every_mistake_in_one_go() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), "DeviceId=lobby-east", "mqtt_prot = 1");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "event_log_kib = 1\n[log]\nlevel = 7\n").unwrap();
    let connection = home.path().join("door.connection-string");
    let checked = run_with(&config, "check").expect(1).prints(&[
        &format!("WRONG  configuration: {config}:3: hub.mqtt_prot: unknown key"),
        &format!("WRONG  configuration: {config}:10: state.event_log_kib: 1, expected from 64"),
        &format!("WRONG  configuration: {config}:12: log.level: 7, expected one of \"off\""),
        &format!(
            "WRONG  configuration: {}: not a connection string",
            connection.display()
        ),
    ]);
    assert_eq!(checked.stdout.matches("WRONG").count(), 4, "{checked:?}");
    // A start names the same.
    let started = run_with(&config, "").expect(1);
    assert_eq!(started.stderr.lines().count(), 4, "{started:?}");
}

#[test]
fn check_reports_a_state_folder_that_cannot_be_written() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    std::fs::write(home.path().join("state"), "in the way").unwrap();
    let state = home.path().join("state");
    let expected = format!("WRONG  state: {} cannot be written: ", state.display());
    run_with(&config, "check").expect(1).prints(&[&expected]);
}

#[test]
fn check_reminds_of_settings_that_others_may_change() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let drop_ins = home.path().join("door.toml.d");
    let drop_in = drop_ins.join("10.toml");
    std::fs::create_dir(&drop_ins).unwrap();
    std::fs::copy(&config, &drop_in).unwrap();
    // As root also another owner and group; others cannot give files away.
    let is_root = rustix::process::geteuid().is_root();
    for path in [Path::new(&config), &drop_in, &drop_ins, home.path()] {
        for (mode, owner, who) in [
            (0o700, None, None),
            (0o702, None, Some("every user")),
            (0o1702, None, path.is_file().then_some("every user")),
            (0o720, Some((0, 0)), None),
            (0o720, Some((0, 4242)), Some("group 4242")),
            (0o700, Some((4242, 0)), Some("user 4242")),
        ] {
            if owner.is_some() && !is_root {
                continue;
            }
            let (user, group) = owner.unzip();
            std::os::unix::fs::chown(path, user, group).unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            let checked = run_with(&config, "check");
            let of_file = format!("note   settings: {}: mode ", path.display());
            let mut notes = checked.stdout.lines();
            let note = notes.find(|line| line.starts_with(&of_file));
            let expected = who.map(|who| format!("{of_file}{mode:04o} lets {who} change"));
            let is_right = match (note, &expected) {
                (Some(note), Some(expected)) => note.starts_with(expected),
                (note, expected) => note.is_none() && expected.is_none(),
            };
            assert!(is_right, "{expected:?}: {checked:?}");
            if is_root {
                std::os::unix::fs::chown(path, Some(0), Some(0)).unwrap();
            }
            std::fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        }
    }
}

#[test]
fn check_judges_the_end_of_the_devices_certificate() {
    let soon = Timestamp::now() + jiff::SignedDuration::from_hours(10 * 24);
    let soon = jiff::tz::TimeZone::UTC.to_datetime(soon).date();
    for (end, expected) in [
        (date(2024, 1, 1), "WRONG  certificate: "),
        (soon, "note   certificate: "),
        (date(2100, 1, 1), "fine   certificate: "),
    ] {
        let home = tempfile::tempdir().unwrap();
        let (files, _) = write_certificate(home.path(), "door", end);
        let settings = format!(
            "mqtt_port = 1\ncertificate_file = {:?}\nkey_file = {:?}",
            files.certificate, files.key
        );
        let x509 = "HostName=localhost;DeviceId=lobby-east;x509=true";
        let config = write_config(home.path(), x509, &settings);
        let expected = format!("{expected}{}", files.certificate.display());
        let end = format!("{end}T00:00:00Z");
        run_with(&config, "check").prints(&[&expected, &end]);
    }
}

#[test]
fn status_finds_the_agent_by_the_state_directory_of_the_service_manager() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let state = home.path().join("var");
    let mut command = program(["--config", &config]);
    command.env("STATE_DIRECTORY", &state);
    let mut agent = Running::spawn(command);
    agent.log_until("running, state in");
    let mut status = program(["status", "--config", &config]);
    doorfleet_testing::run(status.env("STATE_DIRECTORY", &state)).expect(0);
    assert_eq!(agent.terminate(), 0);
}

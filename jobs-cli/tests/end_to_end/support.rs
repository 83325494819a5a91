//! A hub, doors, and an operator with a folder.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use door_agent::config::HubConfig as AgentHubConfig;
use door_agent::gpio::simulated::SimCommand;
use door_agent::{Agent, AgentConfig, RunningAgent, Shared};
use door_core::Want;
use door_hub::config::HubConfig;
use door_hub::{Hub, RunningHub};
use serde_json::Value;
use tempfile::TempDir;

/// Deadline of every wait; reached only on a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Result of a run of doorctl.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl CommandOutput {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit status.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Asserts that stderr contains all these texts.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing: {self:?}");
        }
        self
    }

    /// Asserts that stderr contains one of these texts, for a time that passes meanwhile.
    #[track_caller]
    pub(crate) fn says_one_of(self, parts: &[&str]) -> Self {
        let is_printed = parts.iter().any(|part| self.stderr.contains(part));
        assert!(is_printed, "none of {parts:?} is printed: {self:?}");
        self
    }
}

/// An operator's folder with the configuration.
pub(crate) struct Operator {
    folder: TempDir,
}

impl Operator {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorctl"));
        command
            .args(arguments)
            .current_dir(self.folder())
            .env("DOORCTL_CONFIG", self.folder().join("doorctl.toml"))
            .env("XDG_STATE_HOME", self.folder().join("state"))
            .env_remove("DOORCTL_CONTEXT")
            .env("NO_COLOR", "1")
            // `twin edit` runs this script of the test.
            .env_remove("VISUAL")
            .env("EDITOR", "sh edit.sh")
            .stdin(Stdio::null());
        command
    }

    /// Runs doorctl.
    pub(crate) fn run(&self, arguments: &[&str]) -> CommandOutput {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        CommandOutput {
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs doorctl successfully and returns stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        self.run(&arguments).expect(0).json()
    }

    /// Repeats a command until its JSON satisfies `wanted`.
    #[track_caller]
    pub(crate) fn until(&self, arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let value = self.json(arguments);
            if wanted(&value) {
                return value;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "{arguments:?} still prints {value:#}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes the hub in `data` the current context.
    pub(crate) fn use_hub(&self, data: &Path) -> CommandOutput {
        let file = data.join("service-connection-string");
        let ca = data.join("ca.pem");
        self.run(&[
            "context",
            "add",
            "lab",
            "--connection-string-file",
            file.to_str().unwrap(),
            "--ca",
            ca.to_str().unwrap(),
        ])
        .expect(0)
    }
}

/// A hub with doors in this process, and an operator. Tests are plain threads; hub and doors have a
/// runtime.
pub(crate) struct Lab {
    pub(crate) operator: Operator,
    pub(crate) runtime: tokio::runtime::Runtime,
    hub: RunningHub,
    pub(crate) data: PathBuf,
    shared: Shared,
}

/// A door of a [`Lab`], or of a hub in another process.
pub(crate) struct Door {
    agent: RunningAgent,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Door names that need three conditions.
    pub(crate) fn many_names() -> Vec<String> {
        (0..300).map(|n| format!("{n:-<60}")).collect()
    }

    /// A lab with other hub settings.
    pub(crate) fn with(change: impl FnOnce(&mut HubConfig)) -> Self {
        let operator = Operator::new();
        let data = operator.folder().join("hub");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut config = HubConfig::loopback(data.clone());
        change(&mut config);
        let hub = runtime.block_on(Hub::start(config)).unwrap();
        operator
            .use_hub(&data)
            .says(&["answers: 0 doors connected"]);
        Self {
            operator,
            runtime,
            hub,
            data,
            shared: Shared::new().unwrap(),
        }
    }

    /// Shuts down the agent of a door and waits until the hub shows it offline.
    pub(crate) fn stop(&self, name: &str, door: Door) {
        self.runtime.block_on(door.agent.shutdown());
        // Written again when the door is restarted.
        std::fs::remove_file(self.operator.folder().join(format!("{name}.key"))).unwrap();
        self.operator.until(&["twin", "show", name], |twin| {
            twin["connectionState"] == "Disconnected"
        });
    }

    /// Adds a door by doorctl and starts its agent, by default released. Waits until the hub shows
    /// it connected.
    pub(crate) fn door(&self, name: &str, flags: &[&str]) -> Door {
        let door = self.door_on_its_way(name, flags);
        // Wait for its configured state: the first report may show another one.
        let settled = |value: &Value| {
            value["connectionState"] == "Connected"
                && value["properties"]["reported"]["door"]["lockState"] == "unlocked"
        };
        self.operator.until(&["twin", "show", name], settled);
        door
    }

    /// MQTT over TLS port of the hub.
    pub(crate) fn mqtt_port(&self) -> u16 {
        self.hub.mqtt_address().port()
    }

    fn door_on_its_way(&self, name: &str, flags: &[&str]) -> Door {
        let mut arguments = vec!["devices", "add", name];
        arguments.extend(flags);
        self.operator.run(&arguments).expect(0);
        self.start(name)
    }

    /// Starts the agent of a registered door.
    pub(crate) fn start(&self, name: &str) -> Door {
        start_door(
            &self.operator,
            &self.runtime,
            &self.shared,
            name,
            self.hub.mqtt_address().port(),
            &self.data.join("ca.pem"),
        )
    }
}

/// Starts the agent of a registered door.
pub(crate) fn start_door(
    operator: &Operator,
    runtime: &tokio::runtime::Runtime,
    shared: &Shared,
    name: &str,
    mqtt_port: u16,
    ca_file: &Path,
) -> Door {
    let file = format!("{name}.key");
    operator
        .run(&["devices", "connection-string", name, "--out", &file])
        .expect(0);
    let connection = std::fs::read_to_string(operator.folder().join(file)).unwrap();
    let mut hub = AgentHubConfig::new(connection.trim().parse().unwrap());
    hub.mqtt_port = mqtt_port;
    hub.ca_file = Some(ca_file.to_owned());
    hub.reconnect_min = Duration::from_millis(100);
    hub.reconnect_max = Duration::from_millis(500);
    let mut config = AgentConfig::simulated(hub, operator.folder().join(format!("{name}.state")));
    config.door.relinquish_default = Want::Released;
    let agent = runtime.block_on(Agent::start(config, shared)).unwrap();
    Door { agent }
}

impl Door {
    /// Changes an input of the door.
    pub(crate) fn at(&self, command: SimCommand) {
        self.agent.sim().unwrap().apply(command).unwrap();
    }

    /// Disconnects the network.
    pub(crate) fn unplug(&self) {
        self.agent.disconnect_link();
    }
}

/// A program that is killed at the end of the test.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Kills the program, as a power cut does.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Its stderr, which must be piped.
    pub(crate) fn stderr(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stderr.take().unwrap())
            .lines()
            .map(Result::unwrap)
    }

    /// Waits for the exit and returns the output, which must be piped.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let stdout = std::io::read_to_string(self.0.stdout.take().unwrap()).unwrap();
        (self.0.wait().unwrap(), stdout)
    }

    /// Sends SIGTERM as systemd does, and waits for the exit.
    pub(crate) fn terminate(self) -> ExitStatus {
        self.signal("-TERM")
    }

    /// Sends SIGINT (Ctrl-C), and waits for the exit.
    pub(crate) fn interrupt(self) -> ExitStatus {
        self.signal("-INT")
    }

    pub(crate) fn wait_for_end(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    /// Like [`Self::interrupt`], without waiting.
    pub(crate) fn press_ctrl_c(&self) {
        self.send("-INT");
    }

    fn send(&self, signal: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }

    fn signal(mut self, signal: &str) -> ExitStatus {
        self.send(signal);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "it does not end on {signal}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already exited if the test passed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A program of another package of this workspace; built if missing.
pub(crate) fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let doorctl = PathBuf::from(env!("CARGO_BIN_EXE_doorctl"));
        let folder = doorctl.parent().unwrap().to_owned();
        let mut build = Command::new(env!("CARGO"));
        // The whole workspace with the features of the tests, so that nothing is compiled twice.
        build.args(["build", "--quiet", "--bins"]);
        build
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .env("CARGO_TARGET_DIR", folder.parent().unwrap());
        if folder
            .file_name()
            .is_some_and(|profile| profile == "release")
        {
            build.arg("--release");
        }
        assert!(
            build.status().unwrap().success(),
            "door-hub and door-agent do not build"
        );
        folder
    });
    folder.join(name)
}

/// A hub in its own process, on ports that stay the same after a restart.
pub(crate) struct HubProcess {
    process: Process,
    pub(crate) data: PathBuf,
    pub(crate) mqtt_port: u16,
    pub(crate) https_port: u16,
}

impl HubProcess {
    pub(crate) fn start(data: &Path) -> Self {
        let (mqtt_port, https_port) = (free_port(), free_port());
        Self::start_on(data, mqtt_port, https_port)
    }

    fn start_on(data: &Path, mqtt_port: u16, https_port: u16) -> Self {
        let mut command = Command::new(program("door-hub"));
        command
            .args(["serve", "--name", "localhost", "--listen", "127.0.0.1"])
            .args([
                "--mqtt-port",
                &mqtt_port.to_string(),
                "--https-port",
                &https_port.to_string(),
                "--data",
            ])
            .arg(data)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        // The last line of its start; the deadline of the test applies.
        let stdout = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let operator = stdout
            .map(Result::unwrap)
            .find(|line| line.contains("operator"));
        assert!(operator.is_some(), "the hub ended without serving");
        Self {
            process,
            data: data.to_owned(),
            mqtt_port,
            https_port,
        }
    }

    /// Kills the hub, as a power cut does; returns what restarts it.
    pub(crate) fn kill(self) -> impl FnOnce() -> Self {
        let Self {
            process,
            data,
            mqtt_port,
            https_port,
        } = self;
        process.kill();
        move || Self::start_on(&data, mqtt_port, https_port)
    }

    pub(crate) fn terminate(self) -> ExitStatus {
        self.process.terminate()
    }
}

/// Sets the environment of a program that starts doorctl, and removes variables that would change
/// its behaviour.
pub(crate) fn same_environment(command: &mut Command, doorctl: &Command) {
    for (name, value) in doorctl.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// A missing program skips the test, except in CI, where it fails.
#[track_caller]
pub(crate) fn missing(program: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "there is no `{program}` on this machine, and CI tests all"
    );
    eprintln!("there is no `{program}` on this machine");
}

/// An unused port.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

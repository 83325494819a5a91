//! A hub, doors, and an operator with a folder of their own.

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

/// How long anything here may take. It is reached only when something is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What a run of doorctl came to.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Told {
    /// Stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless stderr says all of this.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not said: {self:?}");
        }
        self
    }

    /// Fails unless stderr says one of these: of a time that goes by meanwhile.
    #[track_caller]
    pub(crate) fn says_one_of(self, parts: &[&str]) -> Self {
        let said = parts.iter().any(|part| self.stderr.contains(part));
        assert!(said, "none of {parts:?} is said: {self:?}");
        self
    }
}

/// An operator's folder and settings.
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
            // What `twin edit` opens: a script that a test writes.
            .env_remove("VISUAL")
            .env("EDITOR", "sh edit.sh")
            .stdin(Stdio::null());
        command
    }

    /// Runs doorctl to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Told {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Told {
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs doorctl, expects success, and gives its stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        self.run(&arguments).expect(0).json()
    }

    /// Runs doorctl until what it prints as JSON satisfies `wanted`.
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
    pub(crate) fn use_hub(&self, data: &Path) -> Told {
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

/// A hub in this process, with doors in this process, and an operator. Tests are plain threads; the
/// runtime is the hub's and the doors'.
pub(crate) struct Lab {
    pub(crate) operator: Operator,
    pub(crate) runtime: tokio::runtime::Runtime,
    hub: RunningHub,
    pub(crate) data: PathBuf,
    shared: Shared,
}

/// A door of a [`Lab`], or of a hub that is a process.
pub(crate) struct Door {
    agent: RunningAgent,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Names of doors, more than one condition holds: three take them.
    pub(crate) fn many_names() -> Vec<String> {
        (0..300).map(|n| format!("{n:-<60}")).collect()
    }

    /// A lab whose hub has other settings.
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

    /// Ends the agent of a door, as when its machine is switched off; waits until the hub shows it.
    pub(crate) fn stop(&self, name: &str, door: Door) {
        self.runtime.block_on(door.agent.shutdown());
        // It is written anew when the door is started again.
        std::fs::remove_file(self.operator.folder().join(format!("{name}.key"))).unwrap();
        self.operator.until(&["twin", "show", name], |twin| {
            twin["connectionState"] == "Disconnected"
        });
    }

    /// Adds a door by doorctl and starts its agent; released unless told otherwise. Waits until the
    /// hub shows it connected.
    pub(crate) fn door(&self, name: &str, flags: &[&str]) -> Door {
        let door = self.door_on_its_way(name, flags);
        // Released, as it is configured to be: what it reports at first may still be under way.
        let settled = |value: &Value| {
            value["connectionState"] == "Connected"
                && value["properties"]["reported"]["door"]["lockState"] == "unlocked"
        };
        self.operator.until(&["twin", "show", name], settled);
        door
    }

    /// The hub's port of MQTT over TLS.
    pub(crate) fn mqtt_port(&self) -> u16 {
        self.hub.mqtt_address().port()
    }

    fn door_on_its_way(&self, name: &str, flags: &[&str]) -> Door {
        let mut arguments = vec!["devices", "add", name];
        arguments.extend(flags);
        self.operator.run(&arguments).expect(0);
        self.start(name)
    }

    /// Starts the agent of a door that is registered.
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

/// Starts the agent of a door that is registered.
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
    /// Does something at the door.
    pub(crate) fn at(&self, command: SimCommand) {
        self.agent.sim().unwrap().apply(command).unwrap();
    }

    /// Pulls its cable.
    pub(crate) fn unplug(&self) {
        self.agent.disconnect_link();
    }
}

/// A program that ends with the test.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// As a power cut would.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Its output, which must have been piped.
    pub(crate) fn stderr(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stderr.take().unwrap())
            .lines()
            .map(Result::unwrap)
    }

    /// Waits until it ends by itself; gives what it printed, which must have been piped.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let stdout = std::io::read_to_string(self.0.stdout.take().unwrap()).unwrap();
        (self.0.wait().unwrap(), stdout)
    }

    /// As systemd would; waits until it has drained.
    pub(crate) fn terminate(self) -> ExitStatus {
        self.signal("-TERM")
    }

    /// As a person would who presses Ctrl-C.
    pub(crate) fn interrupt(self) -> ExitStatus {
        self.signal("-INT")
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait_for_end(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    /// Like [`Self::interrupt`], and waits for nothing.
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
        // Ended already when the test went well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A program of another package of this workspace, built when it is not.
pub(crate) fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let doorctl = PathBuf::from(env!("CARGO_BIN_EXE_doorctl"));
        let folder = doorctl.parent().unwrap().to_owned();
        let mut build = Command::new(env!("CARGO"));
        // The whole workspace, with the features that the tests were built with: nothing is
        // compiled twice.
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

/// A hub that is a process, on ports that stay the same when it is started again.
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
        // The last line it says when it serves; the test's own time limit is the deadline.
        let said = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let operator = said
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

    /// Kills it, as a power cut would; gives what starts it again.
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

/// Gives a program that starts doorctl its settings, and takes from it what doorctl must not have.
pub(crate) fn same_environment(command: &mut Command, doorctl: &Command) {
    for (name, value) in doorctl.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// This machine has no such program, and the test is left out; CI has all, so there it fails.
#[track_caller]
pub(crate) fn missing(program: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "there is no `{program}` on this machine, and CI tests all"
    );
    eprintln!("there is no `{program}` on this machine");
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

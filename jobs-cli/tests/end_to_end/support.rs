//! A hub, doors, and an operator with a folder.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use door_agent::gpio::simulated::SimCommand;
use door_agent::{Agent, RunningAgent, Shared};
use door_core::Want;
use door_hub::config::HubConfig;
use door_hub::{Hub, RunningHub};
use doorfleet_testing::{
    CommandLine, CommandOutput, DEADLINE, HubProcess, free_port, run, simulated_door,
    workspace_program,
};
use serde_json::Value;
use tempfile::TempDir;

/// Command line, exit status and part of the output.
pub(crate) type Row = (&'static str, i32, &'static str);

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

    pub(crate) fn command(&self, line: impl CommandLine) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorctl"));
        command
            .args(line.words())
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
    pub(crate) fn run(&self, line: impl CommandLine) -> CommandOutput {
        run(&mut self.command(line))
    }

    /// Runs each line; asserts the exit status and a part of the output.
    #[track_caller]
    pub(crate) fn run_all(&self, rows: &[Row]) {
        for (line, status, part) in rows {
            let output = self.run(line);
            assert_eq!(output.status, *status, "doorctl {line}: {output:?}");
            let printed = output.stdout.contains(part) || output.stderr.contains(part);
            assert!(
                printed,
                "doorctl {line} does not print {part:?}: {output:?}"
            );
        }
    }

    /// Runs doorctl successfully and returns stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self, line: impl CommandLine) -> Value {
        let mut words = line.words();
        words.extend(["-o", "json"].map(str::to_owned));
        self.run(&words).expect(0).json()
    }

    /// Repeats a command until its JSON satisfies `wanted`.
    #[track_caller]
    pub(crate) fn until(&self, line: impl CommandLine, wanted: impl Fn(&Value) -> bool) -> Value {
        let words = line.words();
        let begun = Instant::now();
        loop {
            let value = self.json(&words);
            if wanted(&value) {
                return value;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "{words:?} still prints {value:#}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Repeats a command until its JSON has `value` at the pointer.
    #[track_caller]
    pub(crate) fn shows(&self, line: impl CommandLine, pointer: &str, value: &str) -> Value {
        self.until(line, |shown| {
            shown.pointer(pointer).is_some_and(|it| it == value)
        })
    }

    /// Waits until a door reports this value in its `door` property.
    #[track_caller]
    pub(crate) fn reports(&self, door: &str, member: &str, value: &str) -> Value {
        let pointer = format!("/properties/reported/door/{member}");
        self.shows(format!("twin show {door}"), &pointer, value)
    }

    /// Makes the hub in `data` the current context.
    pub(crate) fn use_hub(&self, data: &Path) -> CommandOutput {
        let data = data.display();
        self.run(format!(
            "context add lab --connection-string-file {data}/service-connection-string \
             --ca {data}/ca.pem"
        ))
        .expect(0)
    }
}

/// A hub with doors in this process, and an operator. Tests are plain threads; hub and doors have a
/// runtime.
pub(crate) struct Lab {
    operator: Operator,
    pub(crate) runtime: tokio::runtime::Runtime,
    hub: RunningHub,
    pub(crate) data: PathBuf,
    shared: Shared,
}

/// A door of a [`Lab`], or of a hub in another process.
pub(crate) struct Door {
    agent: RunningAgent,
}

impl Deref for Lab {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.operator
    }
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
        let shown = format!("twin show {name}");
        self.operator
            .until(shown, |twin| twin["connectionState"] == "Disconnected");
    }

    /// Adds a door by doorctl and starts its agent, by default released. Waits until the hub shows
    /// it connected.
    pub(crate) fn door(&self, name: &str, flags: impl CommandLine) -> Door {
        let door = self.door_on_its_way(name, flags);
        // Wait for its configured state: the first report may show another one.
        let settled = |value: &Value| {
            value["connectionState"] == "Connected"
                && value["properties"]["reported"]["door"]["lockState"] == "unlocked"
        };
        self.operator.until(format!("twin show {name}"), settled);
        door
    }

    /// MQTT over TLS port of the hub.
    pub(crate) fn mqtt_port(&self) -> u16 {
        self.hub.mqtt_address().port()
    }

    fn door_on_its_way(&self, name: &str, flags: impl CommandLine) -> Door {
        let mut words = format!("devices add {name}").words();
        words.extend(flags.words());
        self.operator.run(&words).expect(0);
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
        .run(format!("devices connection-string {name} --out {file}"))
        .expect(0);
    let connection = std::fs::read_to_string(operator.folder().join(file)).unwrap();
    let state = operator.folder().join(format!("{name}.state"));
    let mut config = simulated_door(&connection, mqtt_port, ca_file, &state);
    config.hub.reconnect_max = Duration::from_millis(500);
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

/// A hub in its own process, on ports that stay the same after a restart.
pub(crate) fn start_hub(data: &Path) -> HubProcess {
    let ports = (free_port(), free_port());
    HubProcess::start_on(&workspace_program("door-hub"), data, ports, |command| {
        command.env("RUST_LOG", "warn");
    })
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

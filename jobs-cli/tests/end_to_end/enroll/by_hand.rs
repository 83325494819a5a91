//! Installs a door with `door-agent install` on the Pi, without doorctl there.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::{PACKAGE, Site, exists};
use doorfleet_testing::{CommandOutput, Process};

impl Site {
    /// A site with the package on the Pi and the files that the installation needs.
    fn with_files() -> Self {
        let site = Self::new();
        let operator = &site.lab;
        operator.run("devices add lobby --floor 3").expect(0);
        operator
            .run("devices connection-string lobby --out lobby.connection-string")
            .expect(0);
        site.write("lobby.toml", &site.settings_by_hand(""));
        site.on_pi("apt-get", &[PACKAGE]).expect(0);
        site
    }

    fn settings_by_hand(&self, extra: &str) -> String {
        let port = self.lab.mqtt_port();
        format!(
            "[hub]\nconnection_string_file = \"lobby.connection-string\"\nca_file = \
             \"lobby.ca.pem\"\nmqtt_port = {port}\n{extra}{}",
            self.settings("locked")
        )
    }

    fn on_pi(&self, program: &str, arguments: &[&str]) -> CommandOutput {
        self.run(&mut self.pi_command(program, arguments))
    }

    fn pi_command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut path = self.pi.at("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut command = Command::new("env");
        command
            .arg(format!("PATH={}", path.to_string_lossy()))
            .arg(program)
            .args(arguments)
            .current_dir(self.lab.folder())
            .stdin(Stdio::null());
        command
    }

    fn install(&self, flags: &[&str]) -> CommandOutput {
        let usual = [
            "install",
            "lobby",
            "--connection-string",
            "lobby.connection-string",
        ];
        self.on_pi("door-agent", &[&usual, flags].concat())
    }
}

const CA: [&str; 2] = ["--ca", "hub/ca.pem"];

#[test]
fn install_sets_up_a_door_and_is_repeatable() {
    let site = Site::with_files();
    let all = [&CA[..], &["--config", "lobby.toml"]].concat();
    site.install(&all).expect(0).prints(&[
        "fine   configuration",
        "settings: lobby.toml is new",
        "settings: lobby.connection-string is new",
        "settings: lobby.ca.pem is new",
        "service: door-agent@lobby is started",
        "hub connected",
    ]);
    assert_eq!(
        site.pi.mode("etc/door-agent/lobby.connection-string"),
        0o600
    );
    assert_eq!(site.pi.mode("etc/door-agent/lobby.toml"), 0o644);
    let secret = site.pi.text("etc/door-agent/lobby.connection-string");
    let key = secret.trim().split("SharedAccessKey=").nth(1).unwrap();
    assert!(!site.pi.text("log").contains(key), "the key is an argument");

    let process = site.pi.process("lobby");
    site.install(&all).expect(0).prints(&[
        "settings: lobby.toml is unchanged",
        "settings: lobby.connection-string is unchanged",
        "service: door-agent@lobby is running and not restarted",
    ]);
    // Without --config and --ca those on the Pi are kept. With other settings the door is restarted
    // only if that moves nothing.
    site.install(&[]).expect(0);
    assert_eq!(site.pi.process("lobby"), process);
    let settings = site.pi.text("etc/door-agent/lobby.toml");
    site.write(
        "lobby.toml",
        &settings.replace("\"locked\"", "\"released\""),
    );
    site.install(&["--config", "lobby.toml"])
        .expect(3)
        .says(&["lobby is not restarted"]);
    assert_eq!(site.pi.process("lobby"), process);
    site.install(&["--force"]).expect(0);
    assert_ne!(site.pi.process("lobby"), process);
    assert_eq!(site.pi.text("etc/door-agent/lobby.toml.bak"), settings);
    for left in [".enroll-lobby", ".enroll-lobby.running"] {
        assert!(
            !exists(&site.pi.at("etc/door-agent").join(left)),
            "{left} is left behind"
        );
    }
}

#[test]
fn install_reports_errors_and_changes_nothing() {
    let site = Site::with_files();
    site.write(
        "wrong.toml",
        &site.settings_by_hand("").replace("\"locked\"", "\"ajar\""),
    );
    let other = site.settings_by_hand("");
    let operator = &site.lab;
    operator.run("devices add yard").expect(0);
    operator
        .run("devices connection-string yard --out yard.connection-string")
        .expect(0);
    let file = operator.folder().join("yard.connection-string");
    let other = other.replace("lobby.connection-string", file.to_str().unwrap());
    site.write("other.toml", &other);
    let file = operator.folder().join(CA[1]);
    let other = site.settings_by_hand("");
    let other = other.replace("lobby.ca.pem", file.to_str().unwrap());
    site.write("other-ca.toml", &other);
    for (flags, parts) in [
        (
            &["--config", "absent.toml"][..],
            &["cannot read absent.toml"][..],
        ),
        (
            &[],
            &["--config is missing", "/etc/door-agent/example.toml"],
        ),
        (
            &["--config", "wrong.toml", CA[0], CA[1]],
            &["the settings are not installed: fix what is WRONG"],
        ),
        (
            &["--config", "other.toml", CA[0], CA[1]],
            &["hub.connection_string_file names another file"],
        ),
        (
            &["--config", "other-ca.toml", CA[0], CA[1]],
            &["--ca was given, expected hub.ca_file = \"lobby.ca.pem\""],
        ),
        (
            &["--config", "lobby.toml"],
            &["the settings are not installed"],
        ),
    ] {
        site.install(flags).expect(1).says(parts);
    }
    let wrong = site.install(&["--config", "wrong.toml"]);
    wrong.expect(1).prints(&["relinquish_default"]);
    for name in ["-x", "../lobby", ""] {
        let output = site.on_pi(
            "door-agent",
            &[
                "install",
                "--connection-string",
                "lobby.connection-string",
                "--",
                name,
            ],
        );
        output.expect(1).says(&["invalid NAME"]);
    }
    for left in ["lobby.toml", "lobby.connection-string", ".enroll-lobby"] {
        assert!(
            !exists(&site.pi.at("etc/door-agent").join(left)),
            "{left} was written"
        );
    }
    assert_eq!(site.pi.called("systemctl"), 0);
}

#[test]
fn an_interrupted_install_leaves_no_key() {
    let site = Site::with_files();
    // A hub that accepts connections and never answers, so that the check waits.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let settings = site.settings_by_hand("");
    let settings = settings.replace(
        &format!("mqtt_port = {}", site.lab.mqtt_port()),
        &format!("mqtt_port = {port}"),
    );
    site.write("lobby.toml", &settings);
    for (signal, status) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let arguments = [
            "install",
            "lobby",
            "--connection-string",
            "lobby.connection-string",
            CA[0],
            CA[1],
            "--config",
            "lobby.toml",
        ];
        let mut command = site.pi_command("door-agent", &arguments);
        command
            .env("PI", site.pi.at(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = Process::spawn(&mut command);
        let (connection, _) = silent.accept().unwrap();
        let stage = site.pi.at("etc/door-agent/.enroll-lobby");
        assert!(exists(&stage.join("lobby.connection-string")));
        process.signal(signal);
        process.output().expect(status);
        assert!(!exists(&stage), "{signal} leaves the key");
        assert!(!exists(&site.pi.at("etc/door-agent/lobby.toml")));
        drop(connection);
    }
}

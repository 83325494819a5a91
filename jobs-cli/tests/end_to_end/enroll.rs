//! `devices enroll` against a real hub and the real agent; ssh is replaced by enroll/pi.sh, which
//! runs commands on this machine.

mod by_hand;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use doorfleet_testing::{CommandOutput, run, workspace_program, write_program};
use serde_json::Value;
use tempfile::TempDir;

use super::support::Lab;

/// Names under which the stand-in is called.
const PROGRAMS: [&str; 10] = [
    "uname",
    "dpkg",
    "dpkg-deb",
    "dpkg-query",
    "apt-get",
    "id",
    "sudo",
    "systemctl",
    "journalctl",
    "door-agent",
];

/// A folder as the root of a Pi.
pub(crate) struct Pi(TempDir);

impl Pi {
    pub(crate) fn new() -> Self {
        let pi = Self(tempfile::tempdir().unwrap());
        for folder in ["here", "bin", "usr/bin", "etc", "run/systemd/system"] {
            fs::create_dir_all(pi.at(folder)).unwrap();
        }
        let script = pi.at("pi.sh");
        write_program(&script, include_str!("enroll/pi.sh"));
        symlink(&script, pi.at("here/ssh")).unwrap();
        for name in PROGRAMS {
            symlink(&script, pi.at("bin").join(name)).unwrap();
        }
        pi
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Injects a fault.
    fn fault(&self, name: &str) {
        fs::write(self.at(name), "").unwrap();
    }

    fn mended(&self, name: &str) {
        fs::remove_file(self.at(name)).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.at(path)).unwrap().permissions().mode() & 0o777
    }

    /// Number of calls of a program.
    fn called(&self, line: &str) -> usize {
        let log = fs::read_to_string(self.at("log")).unwrap_or_default();
        log.lines().filter(|entry| entry.starts_with(line)).count()
    }

    /// Process of a running door.
    fn process(&self, door: &str) -> String {
        self.text(&format!("run/door-agent@{door}.pid"))
    }
}

impl Drop for Pi {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.at("run")).into_iter().flatten().flatten() {
            let process = fs::read_to_string(entry.path()).unwrap_or_default();
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "pid")
            {
                drop(
                    Command::new("kill")
                        .args(["-KILL", process.trim()])
                        .status(),
                );
            }
        }
    }
}

/// A hub, a Pi, and an operator with settings and a package.
struct Site {
    lab: Lab,
    pi: Pi,
}

pub(crate) const PACKAGE: &str = "door-agent_0.1.0-1_arm64.deb";

impl Site {
    fn new() -> Self {
        let site = Self {
            lab: Lab::new(),
            pi: Pi::new(),
        };
        site.write("lobby.toml", &site.settings("locked"));
        site.write(PACKAGE, "0.1.0-1");
        site
    }

    fn settings(&self, default: &str) -> String {
        format!(
            "# Wired by the installer.\n[strike]\nkind = \
             \"motor-lock\"\n[door]\nrelinquish_default = \"{default}\"\n\
             [board]\nkind = \"simulated\"\n[state]\ndirectory = \"{}\"\n",
            self.pi.at("state").display()
        )
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.lab.folder().join(name), text).unwrap();
    }

    /// Runs `devices enroll` for door `lobby`.
    fn enroll(&self, flags: &[&str]) -> CommandOutput {
        self.enroll_with(
            &["--hub-host", "localhost", "--config", "lobby.toml"],
            flags,
        )
    }

    fn enroll_with(&self, usual: &[&str], flags: &[&str]) -> CommandOutput {
        let operator = &self.lab;
        let mut command = operator.command("devices enroll pi@door.example lobby");
        command.args(usual).args(flags);
        self.run(&mut command)
    }

    /// Runs a program of the operator with ssh replaced.
    fn run(&self, command: &mut Command) -> CommandOutput {
        let mut path = self.pi.at("here").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        command
            .env("PATH", path)
            .env("PI", self.pi.0.path())
            .env("DOOR_AGENT", workspace_program("door-agent"));
        run(command)
    }

    /// Whether the hub has the door.
    fn is_registered(&self) -> bool {
        self.lab.run("devices show lobby").status == 0
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[test]
fn enroll_sets_up_a_pi_as_a_door_that_reports() {
    let site = Site::new();
    let output = site
        .enroll(&[
            "--building",
            "43",
            "--floor",
            "3",
            "--ssh-port",
            "2222",
            "--ssh-option",
            "StrictHostKeyChecking=no",
        ])
        .expect(0)
        .says(&[
            "pi@door.example is aarch64 (arm64), root by sudo, no door-agent yet",
            "lobby is registered now",
            "building 43, floor 3",
            "door-agent 0.1.0-1 is installed from ./door-agent_0.1.0-1_arm64.deb",
            "lobby.connection-string is new, lobby.ca.pem is new, lobby.toml is new",
            "door-agent@lobby is started",
            "lobby is connected and has reported",
        ]);
    let row: Vec<&str> = output
        .stdout
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(row[..4], ["lobby", "connected", "43", "3"]);

    let settings = site.pi.text("etc/door-agent/lobby.toml");
    assert!(
        settings.starts_with("# Wired by the installer.\n"),
        "{settings}"
    );
    assert!(
        settings.contains("connection_string_file = \"lobby.connection-string\""),
        "{settings}"
    );
    let secret = site.pi.text("etc/door-agent/lobby.connection-string");
    assert!(
        secret.starts_with("HostName=localhost;DeviceId=lobby;SharedAccessKey="),
        "its form"
    );
    assert_eq!(
        site.pi.mode("etc/door-agent/lobby.connection-string"),
        0o600
    );
    assert_eq!(site.pi.mode("etc/door-agent/lobby.toml"), 0o644);
    assert!(
        !exists(&site.pi.at("etc/door-agent/.enroll-lobby")),
        "nothing is left behind"
    );
    assert!(site.pi.called("systemctl enable --quiet door-agent@lobby") == 1);

    let asked = site.pi.text("ssh.log");
    assert!(
        asked.contains("-p 2222 -o StrictHostKeyChecking=no"),
        "{asked}"
    );
    assert!(
        asked.lines().last().unwrap().contains("-O exit"),
        "the shared connection is ended"
    );
    let key = secret.trim().split("SharedAccessKey=").nth(1).unwrap();
    for text in [&asked, &site.pi.text("log"), &output.stdout, &output.stderr] {
        assert!(
            !text.contains(key),
            "the key is an argument or on the screen"
        );
    }
}

#[test]
fn a_second_enroll_changes_only_what_differs() {
    let site = Site::new();
    site.enroll(&["--floor", "3"]).expect(0);
    let process = site.pi.process("lobby");
    site.enroll(&["--floor", "3"]).expect(0).says(&[
        "lobby is registered already",
        "floor 3 already",
        "door-agent 0.1.0-1 is installed already",
        "lobby.ca.pem is unchanged, lobby.toml is unchanged",
        "door-agent@lobby is running and not restarted",
    ]);
    assert_eq!(site.pi.process("lobby"), process);
    assert_eq!(site.pi.called("apt-get install"), 1);

    // Changed settings: the old ones are kept, and the restart may be refused and requested again.
    let before = site.pi.text("etc/door-agent/lobby.toml");
    site.write("lobby.toml", &site.settings("released"));
    for settings in ["is replaced (backup: lobby.toml.bak)", "is unchanged"] {
        site.enroll(&[]).expect(4).says(&[
            &format!("lobby.toml {settings}"),
            "door-agent@lobby on pi@door.example keeps running with its old program or settings",
            "lobby is not restarted",
            "door-agent restart --force lobby; or repeat this command with --force",
        ]);
    }
    assert_eq!(site.pi.text("etc/door-agent/lobby.toml.bak"), before);
    assert_eq!(site.pi.process("lobby"), process);
    site.enroll(&["--force"])
        .expect(0)
        .says(&["door-agent@lobby is restarted with the changes"]);
    let restarted = site.pi.process("lobby");
    assert_ne!(restarted, process);

    // The default state, so that a restart moves nothing.
    let at_rest = |twin: &Value| twin["properties"]["reported"]["door"]["lockState"] == "unlocked";
    site.lab.until("twin show lobby", at_rest);

    // Another version of the package; without --config the settings on the Pi are kept.
    site.write("door-agent_0.2.0-1_arm64.deb", "0.2.0-1");
    site.enroll_with(
        &["--hub-host", "localhost"],
        &["--package", "door-agent_0.2.0-1_arm64.deb"],
    )
    .expect(0)
    .says(&[
        "door-agent 0.2.0-1 is installed",
        "lobby.toml is unchanged",
        "door-agent@lobby is restarted",
    ]);
    assert_ne!(site.pi.process("lobby"), restarted);
    assert!(
        site.pi
            .text("etc/door-agent/lobby.toml")
            .contains("\"released\"")
    );
}

#[test]
fn an_unsuitable_pi_is_refused_before_any_change() {
    let site = Site::new();
    for (fault, parts) in [
        (
            "down",
            [
                "No route to host",
                "check that this works without a password: ssh pi@door.example true",
            ],
        ),
        (
            "wrong-machine",
            ["it is ARMv6 (Pi 1 or Zero)", "expected ARMv7 or ARM64"],
        ),
        (
            "no-sudo",
            ["sudo is missing or asks for a password", "connect as root"],
        ),
    ] {
        site.pi.fault(fault);
        site.enroll(&[])
            .expect(1)
            .says(&["inspecting the Pi on pi@door.example"])
            .says(&parts);
        site.pi.mended(fault);
    }
    site.write("door-agent_0.1.0-1_armhf.deb", "0.1.0-1");
    site.enroll(&["--package", "door-agent_0.1.0-1_armhf.deb"])
        .expect(1)
        .says(&[
            "is for armhf, and the Pi is arm64",
            "deploy/packages.sh door-agent:arm64",
        ]);
    site.enroll_with(&["--hub-host", "localhost"], &[])
        .expect(1)
        .says(&[
            "no --config was given, and pi@door.example has no",
            "lobby.toml yet",
            "deploy/examples/lobby-east.toml",
        ]);
    site.enroll_with(&["--config", "lobby.toml"], &[])
        .expect(1)
        .says(&[
            "the context reaches the hub as localhost, which on the Pi is the Pi itself",
            "--hub-host",
        ]);
    fs::remove_file(site.lab.folder().join(PACKAGE)).unwrap();
    site.enroll(&[])
        .expect(1)
        .says(&["no package of door-agent for arm64", "deploy/packages.sh"]);
    assert!(!site.is_registered());
    assert!(!exists(&site.pi.at("etc/door-agent")));
}

#[test]
fn invalid_settings_do_not_replace_valid_ones() {
    let site = Site::new();
    site.enroll(&[]).expect(0);
    let (process, before) = (
        site.pi.process("lobby"),
        site.pi.text("etc/door-agent/lobby.toml"),
    );
    site.write("lobby.toml", &site.settings("ajar"));
    site.enroll(&[]).expect(1).says(&[
        "door-agent check on pi@door.example rejected the settings, which were not put in place",
        "relinquish_default",
        "next: fix lobby.toml and repeat this command",
    ]);
    // Settings of version 0.1 that a running door accepts are refused for a new enroll.
    for (settings, mistake) in [
        ("settle_time = \"30\"", "door.settle_time: 30 has no unit, "),
        (
            "settle_time = \"5m\"",
            "door.settle_time: 300s, expected from 1ms to 60s",
        ),
        ("egress = \"hardware-release\"", "door.egress: "),
    ] {
        let text = site.settings("locked");
        let text = text.replace("[door]\n", &format!("[door]\n{settings}\n"));
        site.write("lobby.toml", &text);
        site.enroll(&[]).expect(1).says(&[
            "rejected the settings, which were not put in place",
            "WRONG  configuration: ",
            mistake,
            "next: fix lobby.toml and repeat this command",
        ]);
    }
    site.write("lobby.toml", &site.settings("locked"));
    site.enroll(&["--mqtt-port", "1"])
        .expect(1)
        .says(&["WRONG  hub", "fix lobby.toml"]);
    assert_eq!(site.pi.text("etc/door-agent/lobby.toml"), before);
    assert_eq!(site.pi.process("lobby"), process);
    assert!(
        !exists(&site.pi.at("etc/door-agent/.enroll-lobby")),
        "the staged key is gone"
    );
}

#[test]
fn a_failed_restart_is_reported() {
    let site = Site::new();
    site.enroll(&[]).expect(0);
    site.write("lobby.toml", &site.settings("released"));
    site.pi.fault("no-start");
    site.enroll(&["--force"]).expect(1).says(&[
        "setting up the door on pi@door.example: ",
        "`systemctl restart door-agent@lobby.service` failed",
        "see `journalctl -u door-agent@lobby.service`",
    ]);
    site.pi.mended("no-start");
    site.enroll(&[])
        .expect(0)
        .says(&["door-agent@lobby is started"]);
}

#[test]
fn a_door_that_does_not_start_or_report_is_reported_with_its_log() {
    let site = Site::new();
    site.pi.fault("no-start");
    site.enroll(&[]).expect(1).says(&[
        "setting up the door on pi@door.example",
        "Job for door-agent@lobby.service failed.",
        "then repeat this command",
    ]);
    site.pi.mended("no-start");
    site.pi.fault("outdated");
    site.enroll(&[]).expect(1).says(&[
        "door-agent on pi@door.example is older than this doorctl and cannot install doors",
        "next: install the current package: --package FILE",
    ]);
    site.pi.mended("outdated");
    site.pi.fault("mute");
    site.enroll(&["--deadline", "1s"]).expect(3).says(&[
        "lobby is not connected to the hub after 1 s; status on pi@door.example:",
        "the network is down",
        "next: ssh pi@door.example journalctl -u door-agent@lobby -f; then repeat this command",
    ]);
}

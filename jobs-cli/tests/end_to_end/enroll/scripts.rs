//! Enrolls with `deploy/enroll.sh` and `deploy/install-agent.sh`, without doorctl.

use std::process::{Command, Stdio};

use super::{PACKAGE, Site, exists};
use doorfleet_testing::CommandOutput;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/enroll.sh");

impl Site {
    /// A site with the files that the script needs, created as its header describes.
    fn with_files() -> Self {
        let site = Self::new();
        let operator = &site.lab.operator;
        operator.run("devices add lobby --floor 3").expect(0);
        let out = [
            "devices",
            "connection-string",
            "lobby",
            "--out",
            "lobby.connection-string",
        ];
        operator.run(&out).expect(0);
        let port = site.lab.mqtt_port();
        site.write(
            "lobby.toml",
            &format!(
                "[hub]\nconnection_string_file = \"lobby.connection-string\"\nca_file = \
                 \"lobby.ca.pem\"\nmqtt_port = {port}\n{}",
                site.settings("locked")
            ),
        );
        site
    }

    fn script(&self, flags: &[&str]) -> CommandOutput {
        let mut command = Command::new("sh");
        command
            .arg(SCRIPT)
            .args([
                "-p",
                "2222",
                "pi@door.example",
                "lobby",
                "-o",
                "BatchMode=yes",
            ])
            .args([
                "--connection-string",
                "lobby.connection-string",
                "--ca",
                "hub/ca.pem",
            ])
            .args(flags)
            .current_dir(self.lab.operator.folder())
            .stdin(Stdio::null());
        self.run(&mut command)
    }
}

#[test]
fn the_install_scripts_set_up_a_door_and_are_repeatable() {
    let site = Site::with_files();
    let all = ["--config", "lobby.toml", "--package", PACKAGE];
    let output = site.script(&all).expect(0);
    for part in [
        "package: door-agent 0.1.0-1 is installed",
        "lobby.toml is written",
        "service: door-agent@lobby is started",
        "hub connected",
    ] {
        assert!(
            output.stdout.contains(part),
            "{part:?} is missing: {output:?}"
        );
    }
    assert_eq!(
        site.pi.mode("etc/door-agent/lobby.connection-string"),
        0o600
    );
    assert_eq!(site.pi.mode("etc/door-agent/lobby.toml"), 0o644);
    let secret = site.pi.text("etc/door-agent/lobby.connection-string");
    let key = secret.trim().split("SharedAccessKey=").nth(1).unwrap();
    let asked = site.pi.text("ssh.log");
    assert!(
        asked.contains("-p 2222 -o BatchMode=yes -- pi@door.example"),
        "{asked}"
    );
    assert!(
        !asked.contains(key) && !site.pi.text("log").contains(key),
        "the key is an argument"
    );

    let process = site.pi.process("lobby");
    let again = site.script(&all).expect(0);
    for part in [
        "package: door-agent 0.1.0-1 is there already",
        "lobby.toml is there already",
        "service: door-agent@lobby runs already and is not restarted",
    ] {
        assert!(
            again.stdout.contains(part),
            "{part:?} is missing: {again:?}"
        );
    }
    // Without --config the settings on the Pi are kept. With other settings the door is restarted
    // only if that moves nothing.
    site.script(&[]).expect(0);
    assert_eq!(site.pi.process("lobby"), process);
    let settings = site.pi.text("etc/door-agent/lobby.toml");
    site.write(
        "lobby.toml",
        &settings.replace("\"locked\"", "\"released\""),
    );
    site.script(&["--config", "lobby.toml"])
        .expect(3)
        .says(&["lobby is not restarted"]);
    site.script(&["--force"]).expect(0);
    assert_ne!(site.pi.process("lobby"), process);
    assert!(exists(&site.pi.at("etc/door-agent/lobby.toml.bak")));
    assert!(
        !exists(&site.pi.at("etc/door-agent/.enroll-lobby")),
        "nothing is left behind"
    );
}

#[test]
fn the_install_scripts_report_errors_and_change_nothing() {
    let site = Site::with_files();
    site.write("wrong.toml", &site.settings("ajar"));
    for (flags, parts) in [
        (
            vec!["extra"],
            ["unexpected argument extra", "usage: enroll.sh"],
        ),
        (
            vec!["--config"],
            ["--config has no value", "usage: enroll.sh"],
        ),
        (
            vec!["--config", "absent.toml"],
            ["--config: cannot read absent.toml", "enroll.sh: "],
        ),
        (
            vec![],
            ["--config is missing", "deploy/examples/lobby-east.toml"],
        ),
        (
            vec!["--config", "lobby.toml"],
            ["door-agent is not installed", "--package FILE"],
        ),
    ] {
        site.script(&flags).expect(1).says(&parts);
    }
    let wrong = site.script(&["--config", "wrong.toml", "--package", PACKAGE]);
    let wrong = wrong.expect(1).says(&["the settings are not installed"]);
    assert!(wrong.stdout.contains("relinquish_default"), "{wrong:?}");
    assert!(!exists(&site.pi.at("etc/door-agent/lobby.toml")));
    assert!(
        !exists(&site.pi.at("etc/door-agent/.enroll-lobby")),
        "the staged key is gone"
    );
}

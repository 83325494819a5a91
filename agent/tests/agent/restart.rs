//! `door-agent restart` with running agents and a service manager that records its calls.

use std::path::Path;

use doorfleet_testing::{CommandOutput, write_program};

use crate::cli::{CONNECTION, Running, program, run, shows, write_config};

/// A running door with the given `strike`, locked as far as it can tell.
fn locked_door(home: &Path, strike: &str) -> (String, Running) {
    let config = write_config(home, CONNECTION, "mqtt_port = 1");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("kind = \"motor-lock\"", strike);
    std::fs::write(&config, text).unwrap();
    let agent = Running::start(&config);
    shows(&config, "/door/report/lockState", "locked");
    (config, agent)
}

/// Runs `door-agent restart`; its output and the calls of the service manager.
fn restart(home: &Path, config: &str, arguments: &str) -> (CommandOutput, String) {
    let tools = home.join("bin");
    let asked = home.join("asked");
    std::fs::create_dir_all(&tools).unwrap();
    let broken = home.join("broken");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>'{}'\n[ ! -e '{}' ]\n",
        asked.display(),
        broken.display()
    );
    write_program(tools.join("systemctl"), &script);
    let path = std::env::var("PATH").unwrap();
    let mut command = program(format!("restart --config {config} {arguments}"));
    command.env("PATH", format!("{}:{path}", tools.display()));
    let output = doorfleet_testing::run(&mut command);
    (output, std::fs::read_to_string(&asked).unwrap_or_default())
}

/// Asserts that the door is not restarted, for this reason.
fn assert_not_restarted(home: &Path, config: &str, reasons: &[&str]) {
    let (output, asked) = restart(home, config, "lobby-east");
    assert_eq!(output.expect(3).says(reasons).stdout, "");
    assert_eq!(asked, "");
}

const RESTART: &str = "restart door-agent@lobby-east.service\n";

/// A maglock, whose exit button cuts its power.
const MAGLOCK: &str = "kind = \"maglock\"\n[door]\negress = \"hardware-release\"";

#[test]
fn a_door_locked_without_power_is_restarted_and_stays_locked() {
    for strike in [
        "kind = \"hold-strike\"\nfail = \"secure\"",
        "kind = \"motor-lock\"",
    ] {
        let home = tempfile::tempdir().unwrap();
        let (config, _agent) = locked_door(home.path(), strike);
        let (output, asked) = restart(home.path(), &config, "lobby-east");
        let output = output.expect(0);
        let stdout = "lobby-east: restarted; the lock stayed locked\n";
        assert_eq!((&*output.stdout, &*output.stderr), (stdout, ""), "{strike}");
        assert_eq!(asked, RESTART);
    }
}

#[test]
fn a_door_kept_locked_by_power_is_restarted_only_with_force() {
    let home = tempfile::tempdir().unwrap();
    let (config, _agent) = locked_door(home.path(), MAGLOCK);
    let expected = "error: lobby-east is not restarted (`door-agent restart --force lobby-east` \
                    restarts it even if the lock moves): power keeps the lock locked, and a \
                    restart takes the power off for a moment\n";
    assert_not_restarted(home.path(), &config, &[expected]);
    let (output, asked) = restart(home.path(), &config, "--force lobby-east");
    assert_eq!(output.expect(0).stdout, "lobby-east: restarted\n");
    assert_eq!(asked, RESTART);
}

#[test]
fn a_failed_restart_has_its_own_exit_status() {
    let home = tempfile::tempdir().unwrap();
    let (config, _agent) = locked_door(home.path(), MAGLOCK);
    std::fs::write(home.path().join("broken"), "").unwrap();
    let (output, asked) = restart(home.path(), &config, "--force lobby-east");
    let expected = "journalctl -u door-agent@lobby-east.service";
    output.expect(1).says(&[expected]);
    assert_eq!(asked, RESTART);
}

#[test]
fn a_door_that_would_not_start_again_is_not_restarted() {
    let home = tempfile::tempdir().unwrap();
    let (config, _agent) = locked_door(home.path(), "kind = \"hold-strike\"\nfail = \"secure\"");
    let text = std::fs::read_to_string(&config).unwrap();
    let refused = "the agent would not start again: ";
    std::fs::write(&config, text.replace("mqtt_port", "mqtt_prot")).unwrap();
    let expected = "hub.mqtt_prot: unknown key";
    assert_not_restarted(home.path(), &config, &[refused, expected]);
    let settings = "ca_file = \"nowhere.pem\"\nmqtt_port = 1";
    std::fs::write(&config, text.replace("mqtt_port = 1", settings)).unwrap();
    assert_not_restarted(home.path(), &config, &[refused, "nowhere.pem"]);
    // The unit passes the file beside the configuration, whichever file that names.
    std::fs::write(&config, text).unwrap();
    let handed_over = home.path().join("door.connection-string");
    std::fs::write(&handed_over, "HostName=localhost").unwrap();
    assert_not_restarted(home.path(), &config, &["not a connection string"]);
}

#[test]
fn a_stopped_door_and_an_invalid_name_are_reported() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let expected = "systemctl start door-agent@lobby-east";
    assert_not_restarted(home.path(), &config, &[expected]);
    let invalid = run("restart ../lobby").expect(1);
    invalid.says(&["expected the name of a door"]);
    let missing = run("restart nowhere").expect(3);
    missing.says(&["/etc/door-agent/nowhere.toml"]);
}

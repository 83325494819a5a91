//! `door-agent restart` with running agents and a service manager that records its calls.

use std::path::Path;
use std::process::Command;

use doorfleet_testing::write_with_mode;

use crate::cli::{CONNECTION, Running, run, shows, write_config};

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

/// Runs `door-agent restart`; exit status, stdout, stderr and the calls of the service manager.
fn restart(home: &Path, config: &str, arguments: &[&str]) -> (i32, String, String, String) {
    let tools = home.join("bin");
    let asked = home.join("asked");
    std::fs::create_dir_all(&tools).unwrap();
    let broken = home.join("broken");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>'{}'\n[ ! -e '{}' ]\n",
        asked.display(),
        broken.display()
    );
    write_with_mode(tools.join("systemctl"), script, 0o755);
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_door-agent"));
    command
        .args(["restart", "--config", config])
        .args(arguments)
        .env("PATH", format!("{}:{path}", tools.display()));
    let output = doorfleet_testing::run(&mut command);
    let asked = std::fs::read_to_string(&asked).unwrap_or_default();
    (output.status, output.stdout, output.stderr, asked)
}

#[test]
fn a_door_locked_without_power_is_restarted_and_stays_locked() {
    for strike in [
        "kind = \"hold-strike\"\nfail = \"secure\"",
        "kind = \"motor-lock\"",
    ] {
        let home = tempfile::tempdir().unwrap();
        let (config, _agent) = locked_door(home.path(), strike);
        let (code, stdout, stderr, asked) = restart(home.path(), &config, &["lobby-east"]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{strike}");
        assert_eq!(stdout, "lobby-east: restarted; the lock stayed locked\n");
        assert_eq!(asked, "restart door-agent@lobby-east.service\n");
    }
}

#[test]
fn a_door_kept_locked_by_power_is_restarted_only_with_force() {
    let home = tempfile::tempdir().unwrap();
    let (config, _agent) = locked_door(
        home.path(),
        "kind = \"maglock\"\n[door]\negress = \"hardware-release\"",
    );
    let (code, stdout, stderr, asked) = restart(home.path(), &config, &["lobby-east"]);
    assert_eq!((code, stdout.as_str(), asked.as_str()), (3, "", ""));
    assert_eq!(
        stderr,
        "error: lobby-east is not restarted (`door-agent restart --force lobby-east` restarts it \
         even if the lock moves): \
         power keeps the lock locked, and a restart takes the power off for a moment\n"
    );
    let (code, stdout, stderr, asked) = restart(home.path(), &config, &["--force", "lobby-east"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "lobby-east: restarted\n");
    assert_eq!(asked, "restart door-agent@lobby-east.service\n");
}

#[test]
fn a_failed_restart_has_its_own_exit_status() {
    let home = tempfile::tempdir().unwrap();
    let (config, _agent) = locked_door(
        home.path(),
        "kind = \"maglock\"\n[door]\negress = \"hardware-release\"",
    );
    std::fs::write(home.path().join("broken"), "").unwrap();
    let (code, _, stderr, asked) = restart(home.path(), &config, &["--force", "lobby-east"]);
    assert_eq!(code, 1);
    assert_eq!(asked, "restart door-agent@lobby-east.service\n");
    assert!(
        stderr.contains("journalctl -u door-agent@lobby-east.service"),
        "{stderr}"
    );
}

#[test]
fn a_door_that_would_not_start_again_is_not_restarted() {
    let home = tempfile::tempdir().unwrap();
    let (config, _agent) = locked_door(home.path(), "kind = \"hold-strike\"\nfail = \"secure\"");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("mqtt_port", "mqtt_prot")).unwrap();
    let (code, _, stderr, asked) = restart(home.path(), &config, &["lobby-east"]);
    assert_eq!((code, asked.as_str()), (3, ""));
    assert!(
        stderr.contains("the agent would not start again: ")
            && stderr.contains("hub.mqtt_prot: unknown key"),
        "{stderr}"
    );
    let settings = "ca_file = \"nowhere.pem\"\nmqtt_port = 1";
    std::fs::write(&config, text.replace("mqtt_port = 1", settings)).unwrap();
    let (code, _, stderr, asked) = restart(home.path(), &config, &["lobby-east"]);
    assert_eq!((code, asked.as_str()), (3, ""));
    assert!(
        stderr.contains("the agent would not start again: ") && stderr.contains("nowhere.pem"),
        "{stderr}"
    );
    // The unit passes the file beside the configuration, whichever file that names.
    std::fs::write(&config, text).unwrap();
    let handed_over = home.path().join("door.connection-string");
    std::fs::write(&handed_over, "HostName=localhost").unwrap();
    let (code, _, stderr, asked) = restart(home.path(), &config, &["lobby-east"]);
    assert_eq!((code, asked.as_str()), (3, ""));
    assert!(stderr.contains("not a connection string"), "{stderr}");
}

#[test]
fn a_stopped_door_and_an_invalid_name_are_reported() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let (code, _, stderr, asked) = restart(home.path(), &config, &["lobby-east"]);
    assert_eq!((code, asked.as_str()), (3, ""));
    assert!(
        stderr.contains("systemctl start door-agent@lobby-east"),
        "{stderr}"
    );
    let (code, _, stderr) = run("restart ../lobby");
    assert_eq!(code, 1);
    assert!(stderr.contains("expected the name of a door"), "{stderr}");
    let (code, _, stderr) = run("restart nowhere");
    assert_eq!(code, 3);
    assert!(stderr.contains("/etc/door-agent/nowhere.toml"), "{stderr}");
}

//! The configurations under `deploy/examples`: `check` accepts them.

use std::path::{Path, PathBuf};

use doorfleet_testing::{TestHub, write_secret};

use crate::cli::{CONNECTION, program, run_with};

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Copies an example and its files to a folder; returns its path.
pub(crate) fn install(home: &Path, name: &str, connection: &str) -> String {
    let config = home.join(format!("{name}.toml"));
    std::fs::copy(repository(&format!("deploy/examples/{name}.toml")), &config).unwrap();
    write_secret(home.join(format!("{name}.connection-string")), connection);
    config.to_str().unwrap().to_owned()
}

#[test]
fn all_pi_examples_use_the_same_pins() {
    let board = |path: &str| -> toml::Table {
        let text = std::fs::read_to_string(repository(path)).unwrap();
        let document: toml::Table = text.parse().unwrap();
        document["board"].as_table().unwrap().clone()
    };
    let explained = board("deploy/examples/lobby-east.toml");
    let packaged = board("deploy/debian/door-agent/example.toml");
    let mut compared = 0;
    for table in ["inputs", "outputs"] {
        for (role, pin) in packaged[table].as_table().unwrap() {
            for key in ["pin", "active", "bias"] {
                assert_eq!(
                    pin.get(key),
                    explained[table][role].get(key),
                    "{table}.{role}.{key}"
                );
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_example_passes_check() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let connection = hub.add_door("lobby-east").await;
    let config = install(home.path(), "simulated", &connection);
    std::fs::copy(hub.hub.ca_file(), home.path().join("ca.pem")).unwrap();
    let port = hub.hub.mqtt_address().port().to_string();
    let mut check = program(["check", "--config", &config]);
    check.env("DOOR_AGENT__HUB__MQTT_PORT", port);
    let checked = tokio::task::block_in_place(|| doorfleet_testing::run(&mut check));
    let checked = checked.expect(0).prints(&["fine   hub: "]);
    assert!(!checked.stdout.contains("WRONG"), "{checked:?}");
}

#[test]
fn the_pi_example_fails_only_checks_of_missing_hardware_and_hub() {
    let home = tempfile::tempdir().unwrap();
    let config = install(home.path(), "lobby-east", CONNECTION);
    let stdout = run_with(&config, "check").stdout;
    assert!(
        stdout.starts_with(&format!("fine   configuration: {config}\n")),
        "{stdout}"
    );
    // This machine has no header, and no hub on the port.
    let wrong = stdout.lines().filter(|line| line.starts_with("WRONG"));
    for line in wrong {
        assert!(
            line.starts_with("WRONG  pins: ") || line.starts_with("WRONG  hub: "),
            "{stdout}"
        );
    }
}

//! The configurations under `deploy/examples`: `check` accepts them, and one of them and the README
//! name every key there is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use door_core::contract::{Identity, METHODS, Reboot};

use crate::cli::{CONNECTION, run};
use crate::support::TestHub;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Copies an example to a folder where its files are; gives its path.
fn install(home: &Path, name: &str, connection: &str) -> String {
    let config = home.join(format!("{name}.toml"));
    std::fs::copy(repository(&format!("deploy/examples/{name}.toml")), &config).unwrap();
    let secret = home.join(format!("{name}.connection-string"));
    std::fs::write(&secret, connection).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    config.to_str().unwrap().to_owned()
}

#[test]
fn every_example_on_a_pi_has_the_pins_of_the_drawings() {
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
async fn the_simulated_door_is_ready_to_run() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let connection = hub.add_device("lobby-east").await;
    let config = install(home.path(), "simulated", &connection);
    std::fs::copy(hub.hub().ca_file(), home.path().join("ca.pem")).unwrap();
    let port = hub.hub().mqtt_address().port().to_string();
    let output = tokio::task::block_in_place(|| {
        Command::new(env!("CARGO_BIN_EXE_door-agent"))
            .args(["check", "--config", &config])
            .env("DOOR_AGENT__HUB__MQTT_PORT", port)
            .env_remove("CREDENTIALS_DIRECTORY")
            .output()
            .unwrap()
    });
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    assert!(
        stdout.contains("fine   hub: ") && !stdout.contains("WRONG"),
        "{stdout}"
    );
}

#[test]
fn the_door_on_a_pi_has_nothing_wrong_but_what_this_machine_lacks() {
    let home = tempfile::tempdir().unwrap();
    let config = install(home.path(), "lobby-east", CONNECTION);
    let (_, stdout, _) = run(&["check", "--config", &config]);
    assert!(
        stdout.starts_with(&format!("fine   configuration: {config}\n")),
        "{stdout}"
    );
    // No header, and no hub on the port.
    let wrong = stdout.lines().filter(|line| line.starts_with("WRONG"));
    for line in wrong {
        assert!(
            line.starts_with("WRONG  pins: ") || line.starts_with("WRONG  hub: "),
            "{stdout}"
        );
    }
}

#[test]
fn the_readme_tells_of_every_method_and_verb() {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    for method in METHODS
        .into_iter()
        .chain([Identity::METHOD, Reboot::METHOD])
    {
        assert!(
            readme.contains(&format!("\n| `{method}` | ")),
            "README.md lacks {method}"
        );
    }
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    let (_, verbs) = help.split_once("Commands:\n").unwrap();
    let verbs = verbs
        .lines()
        .map_while(|line| line.strip_prefix("  "))
        .filter_map(|line| line.split(' ').next());
    for verb in verbs.filter(|verb| !verb.is_empty() && *verb != "help") {
        assert!(
            readme.contains(&format!("`{verb}")),
            "README.md lacks {verb}"
        );
    }
}

/// The keys of a table, as the error for one that is none tells them.
fn keys(config: &str, table: &str) -> Vec<String> {
    let variable = format!(
        "DOOR_AGENT__{}__XYZZY",
        table.to_ascii_uppercase().replace('.', "__")
    );
    let output = Command::new(env!("CARGO_BIN_EXE_door-agent"))
        .args(["check", "--config", config])
        .env(&variable, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let line = stdout
        .lines()
        .find(|line| line.contains("xyzzy"))
        .expect(&stdout)
        .to_owned();
    let (_, expected) = line.split_once("expected").expect(&line);
    // `one of: a, b`, or serde's own "one of `a`, `b`".
    let expected = expected
        .trim_start()
        .trim_start_matches("one of")
        .trim_start_matches(':');
    let keys: Vec<_> = expected
        .split([',', ' ', '`'])
        .filter(|key| !key.is_empty() && *key != "or")
        .map(ToOwned::to_owned)
        .collect();
    assert!(!keys.is_empty(), "{line}");
    keys
}

#[test]
fn every_key_is_in_the_example_and_in_the_readme() {
    let home = tempfile::tempdir().unwrap();
    let config = install(home.path(), "lobby-east", CONNECTION);
    let example = std::fs::read_to_string(repository("deploy/examples/lobby-east.toml")).unwrap();
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    for table in [
        "hub",
        "door",
        "strike",
        "board",
        "board.outputs",
        "board.inputs",
        "state",
        "log",
        "machine",
    ] {
        let heading = format!("\n[{table}]\n");
        let from = example
            .find(&heading)
            .or_else(|| example.find(&format!("\n# [{table}]\n")))
            .expect(&heading);
        let text = &example[from + heading.len()..];
        let text = text.find("\n[").map_or(text, |end| &text[..end]);
        for key in keys(&config, table) {
            // The pins have tables of their own.
            if table == "board" && ["outputs", "inputs"].contains(&key.as_str()) {
                continue;
            }
            let named = text.lines().any(|line| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{key} = "))
            });
            assert!(named, "[{table}] {key} is not in the example");
            assert!(
                readme.contains(&format!("`{table}.{key}`")),
                "README.md lacks `{table}.{key}`"
            );
        }
    }
}

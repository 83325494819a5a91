//! `door-agent install` into another root, with a service manager that starts nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use doorfleet_testing::{TestHub, run, write_secret, write_with_mode};

use crate::cli::program;
use crate::hub::{add_certificate, write_certificate};

/// The relative files that the settings name are checked and installed with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_door_with_a_certificate_is_installed_with_its_files() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let (_, thumbprint) = write_certificate(home.path(), "lobby-east", 2100);
    add_certificate(&hub, &thumbprint).await;
    let connection = home.path().join("connection-string");
    write_secret(
        &connection,
        "HostName=localhost;DeviceId=lobby-east;x509=true",
    );
    let settings = home.path().join("settings.toml");
    let text = format!(
        "[hub]\nconnection_string_file = \"lobby-east.connection-string\"\n{}\n\
         certificate_file = \"lobby-east.pem\"\nkey_file = \"lobby-east.key\"\n\
         [strike]\nkind = \"motor-lock\"\n[board]\nkind = \"simulated\"\n",
        hub.agent_settings()
    );
    std::fs::write(&settings, text).unwrap();
    let root = home.path().join("root");
    std::fs::create_dir_all(root.join("run/systemd/system")).unwrap();
    let tools = home.path().join("bin");
    std::fs::create_dir(&tools).unwrap();
    write_with_mode(
        tools.join("systemctl"),
        "#!/bin/sh\n[ \"$1\" != is-active ]\n",
        0o755,
    );
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let install = |config: Option<&Path>| {
        let mut command = program(["install", "lobby-east", "--no-wait", "--connection-string"]);
        command
            .arg(&connection)
            .arg("--root")
            .arg(&root)
            .env("PATH", &path);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        tokio::task::block_in_place(|| run(&mut command)).expect(0)
    };
    let folder = root.join("etc/door-agent");
    install(Some(&settings)).prints(&[
        "settings: lobby-east.pem is new\n",
        "settings: lobby-east.key is new\n",
        "settings: lobby-east.toml is new\n",
    ]);
    let key = std::fs::metadata(folder.join("lobby-east.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    // Again, with the files of the earlier installation.
    for file in ["lobby-east.pem", "lobby-east.key"] {
        std::fs::remove_file(home.path().join(file)).unwrap();
    }
    install(None).prints(&["settings: lobby-east.key is unchanged\n"]);
    assert!(!folder.join(".enroll-lobby-east").exists());
}

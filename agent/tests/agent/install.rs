//! `door-agent install` into another root, with a service manager that starts nothing.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use doorfleet_testing::{TestHub, run, write_program, write_secret};
use jiff::civil::date;

use crate::cli::program;
use crate::disk::{in_private_mounts_of_root, run as mount};
use crate::hub::{add_certificate, write_certificate};

/// The relative files that the settings name are checked and installed with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_door_with_a_certificate_is_installed_with_its_files() {
    const NAME: &str = "install::a_door_with_a_certificate_is_installed_with_its_files";
    // A user that the service has; only root can give files away.
    const SERVICE: u32 = 64_321;
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root && !in_private_mounts_of_root(NAME) {
        return;
    }
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    if is_root {
        let users = home.path().join("passwd");
        let present = std::fs::read_to_string("/etc/passwd").unwrap();
        let service = format!("door-agent:x:{SERVICE}:{SERVICE}::/:/bin/false\n");
        std::fs::write(&users, present + &service).unwrap();
        mount("mount", &["--bind", users.to_str().unwrap(), "/etc/passwd"]);
    }
    let (_, thumbprint) = write_certificate(home.path(), "lobby-east", date(2100, 1, 1));
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
    write_program(
        tools.join("systemctl"),
        "#!/bin/sh\n[ \"$1\" != is-active ]\n",
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
    // The service reads it; the connection string reaches it as a credential.
    let owner = |file| std::fs::metadata(folder.join(file)).unwrap().uid();
    let user = if is_root { SERVICE } else { key.uid() };
    assert_eq!(owner("lobby-east.key"), user);
    assert_eq!(is_root, owner("lobby-east.connection-string") == 0);
    // Again, with the files of the earlier installation.
    for file in ["lobby-east.pem", "lobby-east.key"] {
        std::fs::remove_file(home.path().join(file)).unwrap();
    }
    install(None).prints(&["settings: lobby-east.key is unchanged\n"]);
    assert_eq!(owner("lobby-east.key"), user);
    assert!(!folder.join(".enroll-lobby-east").exists());
}

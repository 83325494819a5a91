//! Contexts: files, formats and error messages.

use doorfleet_testing::write_with_mode;

use super::support::{Home, KEY};

const GOOD: &str = "HostName=localhost:1;SharedAccessKeyName=service;SharedAccessKey=";

#[test]
fn a_context_is_added_even_if_its_hub_does_not_answer() {
    let home = Home::new();
    home.secret("good", &format!("{GOOD}{KEY}\n"));
    let output = home.run("context add lab --connection-string-file good --zone Europe/Berlin");
    insta::assert_snapshot!(output, @r"
    status: 0
    --- stderr
    context lab is stored in HOME/config.toml and is the current one
    warning: the hub does not answer: cannot reach localhost:1: Connection refused
      next: is the hub running, and are host and port right? doorctl context list
    ");
    insta::assert_snapshot!(home.run("context list"), @r"
    status: 0
    --- stdout
    CURRENT  NAME  HUB          POLICY   ZONE
    *        lab   localhost:1  service  Europe/Berlin
    ");
    let output = home.run("context add lab --connection-string-file good");
    insta::assert_snapshot!(output, @r"
    status: 1
    --- stderr
    error: there is a context called `lab` already
      next: choose another name, or add --replace
    ");
    home.snapshot("context use lap");
    insta::assert_snapshot!(home.run("context list -o json"), @r#"
    status: 0
    --- stdout
    [
      {
        "current": true,
        "name": "lab",
        "hub": "localhost:1",
        "policy": "service",
        "zone": "Europe/Berlin"
      }
    ]
    "#);
    insta::assert_snapshot!(home.run("context remove lab"), @r"
    status: 0
    --- stderr
    context lab is removed
    no context selected: doorctl context use NAME
    ");
}

#[test]
fn contexts_added_at_once_are_all_kept_and_a_link_stays_a_link() {
    let home = Home::new();
    home.secret("good", &format!("{GOOD}{KEY}\n"));
    let link = home.path().join("config.toml");
    // The file behind the second link and its folder do not exist yet.
    std::os::unix::fs::symlink("second.toml", &link).unwrap();
    let second = home.path().join("second.toml");
    std::os::unix::fs::symlink("dotfiles/doorctl.toml", &second).unwrap();
    let add = |name: &str| {
        let line = format!("context add {name} --connection-string-file good");
        let mut command = home.command(line.as_str());
        command.stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    // `h0` to `h6` once, and `h7` three times.
    let mut running: Vec<_> = (0..10).map(|n| add(&format!("h{}", n.min(7)))).collect();
    let ended = running.iter_mut().map(|child| child.wait().unwrap());
    assert_eq!(ended.filter(|status| status.success()).count(), 8);
    assert!(link.is_symlink() && second.is_symlink());
    let listed = home.run("context list -o csv");
    for n in 0..8 {
        assert!(listed.contains(&format!(",h{n},")), "{listed}");
    }
    let names = std::fs::read_dir(home.path().join("dotfiles")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["doorctl.toml", "doorctl.toml.lock"]);
}

#[test]
fn the_contexts_file_has_mode_0600() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::with_absent_hub();
    let path = home.path().join("config.toml");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    insta::assert_snapshot!(home.run("devices list"));
}

#[test]
fn an_invalid_connection_string_is_explained_and_changes_nothing() {
    let home = Home::new();
    for (name, text) in [
        ("empty", ""),
        (
            "device",
            &format!("HostName=hub;DeviceId=d;SharedAccessKey={KEY}"),
        ),
        ("keyless", "HostName=hub;SharedAccessKeyName=service"),
        (
            "typo",
            &format!("HostNam=hub;SharedAccessKeyName=service;SharedAccessKey={KEY}"),
        ),
        (
            "not-base64",
            "HostName=hub;SharedAccessKeyName=service;SharedAccessKey=!!c2VjcmV0",
        ),
        (
            "url",
            &format!("HostName=https://hub/;SharedAccessKeyName=service;SharedAccessKey={KEY}"),
        ),
    ] {
        home.secret(name, text);
        let output = home.run(format!("context add lab --connection-string-file {name}"));
        assert!(
            !output.contains(KEY) && !output.contains("c2VjcmV0"),
            "{output}"
        );
        insta::assert_snapshot!(format!("connection_string_{name}"), output);
    }
    assert!(!home.path().join("config.toml").exists());
}

#[test]
fn missing_or_readable_or_invalid_files_are_refused() {
    let home = Home::new();
    let output = home.run("context add lab --connection-string-file nowhere");
    insta::assert_snapshot!(output, @r"
    status: 1
    --- stderr
    error: --connection-string-file: cannot read nowhere: No such file or directory
    ");
    write_with_mode(home.path().join("open"), format!("{GOOD}{KEY}"), 0o644);
    home.snapshot("context add lab --connection-string-file open");
    home.secret("good", &format!("{GOOD}{KEY}"));
    let output = home.run("context add lab --connection-string-file good --ca good");
    insta::assert_snapshot!(output, @r"
    status: 1
    --- stderr
    error: --ca good: the CA file has no certificate; expected PEM with BEGIN CERTIFICATE
    ");
    home.snapshot("context add lab --connection-string-file good --zone Berlin");
    assert!(!home.path().join("config.toml").exists());
}

#[test]
fn a_damaged_contexts_file_is_reported_with_its_line() {
    let home = Home::new();
    home.secret(
        "config.toml",
        "current = \"lab\"\n[context.lab]\nconnection_strin = \"x\"\n",
    );
    insta::assert_snapshot!(home.run("devices list"));
}

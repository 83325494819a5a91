//! `devices enroll` without a hub or a Pi.

use super::support::Home;

const SETTINGS: &str = "[strike]\nkind = \"maglock\"\n[board]\nkind = \"simulated\"\n";

#[test]
fn a_dry_run_prints_every_step_and_sends_no_request() {
    let home = Home::with_absent_hub();
    std::fs::write(home.path().join("lobby.toml"), SETTINGS).unwrap();
    home.snapshot(
        "devices enroll pi@10.0.3.7 lobby-east --building 43 --floor 3 --config \
             lobby.toml --hub-host 10.0.3.1 --mqtt-port 18883 --ssh-port 2222 --ssh-option \
             StrictHostKeyChecking=accept-new --dry-run",
    );
}

#[test]
fn invalid_arguments_are_refused_before_any_request() {
    let home = Home::with_absent_hub();
    std::fs::write(
        home.path().join("broken.toml"),
        "[strike]\nkind = maglock\n",
    )
    .unwrap();
    std::fs::write(
        home.path().join("half.toml"),
        "[strike]\nkind = \"maglock\"\n",
    )
    .unwrap();
    let enroll = |line: &str| home.snapshot(format!("devices enroll {line} --mqtt-port 8883"));
    enroll("-oProxyCommand=x lobby");
    enroll("pi@10.0.3.7 'lobby east'");
    enroll("pi@10.0.3.7 lobby");
    enroll("pi@10.0.3.7 lobby --hub-host 10.0.3.1:443");
    for file in ["absent.toml", "broken.toml", "half.toml"] {
        enroll(&format!(
            "pi@10.0.3.7 lobby --hub-host 10.0.3.1 --config {file}"
        ));
    }
}

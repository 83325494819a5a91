use std::fs;

use super::*;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The smallest valid configuration.
const DOOR: &str = "[strike]\nkind = \"motor-lock\"\n[board]\nkind = \"simulated\"\n";

/// A directory with a valid connection string and a configuration file.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new(config: &str) -> Self {
        let home = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        home.write("door.toml", &format!("{config}{DOOR}"));
        home.write(
            "door.connection-string",
            &format!("HostName=hub.example.net;DeviceId=lobby-east;SharedAccessKey={KEY}\n"),
        );
        home.set_mode("door.connection-string", 0o600);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn set_mode(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<AgentConfig, ConfigErrors> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        AgentConfig::load_from(&self.path("door.toml"), environment, None, Rules::Strict)
    }

    fn load_as_service(&self) -> Result<AgentConfig, ConfigErrors> {
        let path = self.path("door.toml");
        let credentials = self.path("credentials");
        AgentConfig::load_from(&path, std::iter::empty(), Some(&credentials), Rules::Strict)
    }

    fn load_board(&self) -> Result<BoardConfig, ConfigErrors> {
        let path = self.path("door.toml");
        AgentConfig::load_board_from(&path, std::iter::empty(), Rules::Strict)
    }

    fn load_to_run(&self) -> Result<AgentConfig, ConfigErrors> {
        let path = self.path("door.toml");
        AgentConfig::load_from(&path, std::iter::empty(), None, Rules::Lenient)
    }

    /// The error text, without the directory's name.
    fn error(&self, environment: &[(&str, &str)]) -> String {
        let text = self.load(environment).unwrap_err().to_string();
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

const HUB: &str = "[hub]\nconnection_string_file = \"door.connection-string\"\n";

#[test]
fn a_minimal_file_gets_defaults_and_relative_paths() {
    let home = Home::new(&format!(
        "{HUB}ca_file = \"ca.pem\"\n[state]\ndirectory = \"state\"\n"
    ));
    let config = home.load(&[]).unwrap();
    assert_eq!(config.hub.connection.device_id.as_ref(), "lobby-east");
    assert_eq!(config.hub.ca_file, Some(home.path("ca.pem")));
    assert_eq!(config.hub.mqtt_port, 8883);
    assert_eq!(config.hub.sas_lifetime, Duration::from_secs(3600));
    assert_eq!(config.hub.reconnect_max, Duration::from_secs(60));
    assert_eq!(config.state.directory, home.path("state"));
    assert_eq!(config.log_level, LevelFilter::Info);
}

#[test]
fn the_state_directory_defaults_to_the_name_of_the_file() {
    let config = Home::new(HUB).load(&[]).unwrap();
    assert_eq!(
        config.state.directory,
        Path::new("/var/lib/door-agent/door")
    );
}

#[test]
fn drop_ins_override_the_file_in_order_and_the_environment_overrides_both() {
    let home = Home::new(&format!("{HUB}mqtt_port = 1\nsas_lifetime = \"2h\"\n"));
    home.write("door.toml.d/20-late.toml", "[hub]\nmqtt_port = 3\n");
    home.write(
        "door.toml.d/10-early.toml",
        "[hub]\nmqtt_port = 2\nkeep_alive = \"30s\"\n",
    );
    home.write("door.toml.d/README", "not read");
    let config = home.load(&[]).unwrap();
    assert_eq!(config.hub.mqtt_port, 3);
    assert_eq!(config.hub.keep_alive, Duration::from_secs(30));
    let config = home
        .load(&[
            ("DOOR_AGENT__HUB__MQTT_PORT", "4"),
            ("DOOR_AGENT__HUB__SAS_LIFETIME", "30m"),
            ("DOOR_AGENT_OTHER", "ignored"),
        ])
        .unwrap();
    assert_eq!(config.hub.mqtt_port, 4);
    assert_eq!(config.hub.sas_lifetime, Duration::from_secs(1800));
}

/// Text of the file, below `[hub]`, and its error.
const FILES: [(&str, &str); 10] = [
    (
        "mqtt_prot = 8884",
        "door.toml:3: hub.mqtt_prot: unknown key, did you mean `mqtt_port`? expected one of: \
         connection_string_file, ca_file, certificate_file, key_file, mqtt_port, sas_lifetime, \
         reconnect_min, reconnect_max, keep_alive",
    ),
    (
        "\n[stat]\ndirectory = \"x\"",
        "door.toml:4: stat: unknown key, did you mean `state`? expected one of: hub, door, \
         strike, board, state, log, machine",
    ),
    (
        "[log]\nzzz = 1",
        "door.toml:4: log.zzz: unknown key, expected one of: level",
    ),
    (
        "mqtt_port = 99999",
        "door.toml:3: hub.mqtt_port: 99999, expected a port number from \
         1 to 65535",
    ),
    (
        "mqtt_port = \"x\"",
        "door.toml:3: hub.mqtt_port: \"x\", expected a port number from 1 \
         to 65535",
    ),
    (
        "sas_lifetime = 3600",
        "door.toml:3: hub.sas_lifetime: 3600 has no unit, expected from 60s to 604800s: write \
         \"3600ms\" or \"3600s\"",
    ),
    (
        "[log]\nlevel = \"loud\"",
        "door.toml:4: log.level: \"loud\", expected one of \"off\", \
         \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
    ),
    (
        "",
        "door.toml: strike.kind: missing, expected \"motor-lock\", \"solenoid-bolt\", \
         \"hold-strike\", \"pulse-strike\" or \"maglock\"",
    ),
    (
        "[strike]\nkind = \"motor-lock\"",
        "door.toml: board.kind: missing, expected \"simulated\", \"raspberry-pi\" or \"gpio\"",
    ),
    ("[hub", "door.toml:3: not TOML: "),
];

/// Text of a drop-in of a valid file, and its error.
const DROP_INS: [(&str, &str); 3] = [
    (
        "\n[hub]\nreconnect_min = \"2m\"",
        "door.toml.d/10.toml:3: hub.reconnect_min: 120s is above hub.reconnect_max, expected at \
         most 60s",
    ),
    (
        "[strike]\nbond_time = \"1s\"",
        "door.toml.d/10.toml:2: strike.bond_time: [strike] bond_time = 1s is too short: it must be \
         at least 2s, as long as [strike] pulse",
    ),
    // Although another table of this layer lacks a key.
    (
        "[strike]\nbond_time = \"4s\"\n[log]\nlevels = \"info\"",
        "door.toml.d/10.toml:4: log.levels: unknown key",
    ),
];

/// An environment variable, its value and the error.
const VARIABLES: [(&str, &str, &str); 4] = [
    (
        "DOOR_AGENT__HUB__SAS_LIFETIME",
        "5s",
        "hub.sas_lifetime: 5s, expected from 60s to 604800s",
    ),
    (
        "DOOR_AGENT__LOG__LEVELS",
        "info",
        "log.levels: unknown key, did you mean `level`? expected one of: level",
    ),
    (
        "DOOR_AGENT__HUB__MQTT_PORT",
        "many",
        "hub.mqtt_port: \"many\", expected a port number from 1 to 65535",
    ),
    (
        "DOOR_AGENT__STRIKE__BOND_TIME",
        "soon",
        "strike.bond_time: \"soon\", expected a duration such as 250ms, 5s \
         or 1m30s, above zero",
    ),
];

#[test]
fn a_mistake_is_located_in_its_layer_and_explained() {
    let check = |home: &Home, environment: &[_], expected: &str| {
        let error = home.error(environment);
        assert!(error.starts_with(expected), "{error}\nexpected {expected}");
    };
    for (text, expected) in FILES {
        let home = Home::new("");
        home.write("door.toml", &format!("{HUB}{text}\n"));
        check(&home, &[], expected);
    }
    for (text, expected) in DROP_INS {
        let home = Home::new(HUB);
        home.write("door.toml.d/10.toml", text);
        check(&home, &[], expected);
    }
    for (name, value, expected) in VARIABLES {
        let expected = format!("{name}: {expected}");
        check(&Home::new(HUB), &[(name, value)], &expected);
    }
}

/// Each mistake at its own line, in the words of a person who has wired a door.
#[test]
fn every_mistake_is_reported_in_one_go() {
    let home = Home::new("");
    home.write("door.connection-string", "DeviceId=x");
    home.write(
        "door.toml",
        r#"[hub]
connection_string_file = "door.connection-string"
reconnect_min = "2m"
mqtt_port = 0
certificate_file = 5
[door]
relinquish_default = "open"
held_open_time = 60
[strike]
kind = "glue"
bond_time = "2s"
cool_dwon = "1s"
[board]
kind = "raspberry-pi"
outputs.throw = { pin = 300, active = "high" }
outputs.coil = { pin = "17", active = "up" }
inputs.door = { pin = 5, active = "low" }
inputs.rex = [5]
[state]
event_log_kib = 1
"#,
    );
    home.write(
        "door.toml.d/10.toml",
        "[log]\nlevel = true\n[machine]\nreboot = \"x\"\n",
    );
    home.write("door.toml.d/20.toml", "[log\n");
    assert_eq!(
        home.error(&[]).lines().collect::<Vec<_>>(),
        [
            "door.toml:4: hub.mqtt_port: 0, expected a port number from 1 to 65535",
            "door.toml:5: hub.certificate_file: 5, expected text in quotes",
            "door.toml:7: door.relinquish_default: \"open\", expected \"locked\" or \"released\"",
            "door.toml:8: door.held_open_time: 60 has no unit, expected from 1ms to 86400s: write \
             \"60ms\" or \"60s\"",
            "door.toml:10: strike.kind: \"glue\", expected one of \"motor-lock\", \
             \"solenoid-bolt\", \"hold-strike\", \"pulse-strike\", \"maglock\"",
            "door.toml:12: strike.cool_dwon: unknown key, did you mean `cool_down`? expected one \
             of: kind, bond_time, pulse, dead_time, fail, max_on, cool_down",
            "door.toml:15: board.outputs.throw.pin: 300, expected a whole number from 0 to 255",
            "door.toml:16: board.outputs.coil.pin: \"17\", expected a whole number from 0 to 255",
            "door.toml:16: board.outputs.coil.active: \"up\", expected \"high\" or \"low\"",
            "door.toml:18: board.inputs.rex: a list, expected a table",
            "door.toml.d/10.toml:2: log.level: true, expected one of \"off\", \"error\", \"warn\", \
             \"info\", \"debug\", \"trace\"",
            "door.toml.d/10.toml:4: machine.reboot: unknown key, expected one of: reboot_directory",
            "door.toml.d/20.toml:1: not TOML: unclosed table, expected `]`",
        ]
    );
    // What needs valid values, and all files, is judged once they are there.
    fs::remove_file(home.path("door.toml.d/20.toml")).unwrap();
    let error = home.error(&[]);
    let connection = "door.connection-string: not a connection string: ";
    assert!(
        error.lines().any(|line| line.starts_with(connection)),
        "{error}"
    );
    fs::remove_file(home.path("door.toml.d/10.toml")).unwrap();
    home.write(
        "door.toml",
        r#"[hub]
reconnect_min = "2m"
[door]
held_open_time = "10s"
[strike]
kind = "motor-lock"
fail = "safe"
[board]
kind = "raspberry-pi"
outputs.coil = { pin = 40, active = "high" }
outputs.throw = { pin = 17, active = "high" }
outputs.retract = { pin = 17, active = "high" }
inputs.fire = { pin = 5, active = "low", bias = "off" }
inputs.rex.pin = 6
[state]
event_log_kib = 1
"#,
    );
    let expected = [
        "door.toml:14: board.inputs.rex.active: missing, expected \"high\" or \"low\"",
        "door.toml:14: board.inputs.rex.bias: missing, expected \"pull-up\", \"pull-down\" or \
         \"off\"",
        "door.toml: hub.connection_string_file: not set, and there is no systemd credential \
         `connection-string`; expected one of them",
        "door.toml:2: hub.reconnect_min: 120s is above hub.reconnect_max, expected at most 60s",
        "door.toml:16: state.event_log_kib: 1, expected from 64 to 1048576 (KiB)",
    ];
    assert_eq!(home.error(&[]).lines().collect::<Vec<_>>(), expected);
    let text = fs::read_to_string(home.path("door.toml")).unwrap();
    home.write("door.toml", &text.replace("inputs.rex.pin = 6\n", ""));
    let fit = [
        "door.toml:10: board.outputs.coil: [board.outputs.coil] is not used by [strike] kind = \
         \"motor-lock\": remove it",
        "door.toml:12: board.outputs.retract.pin: BCM 17 is both throw and retract",
        "door.toml:10: board.outputs.coil.pin: [board.outputs.coil] pin = 40: the header has BCM 0 \
         to 27",
        "door.toml:13: board.inputs.door: a bolt must not fire into an open door: fit a door \
         position switch ([board.inputs.door])",
        "door.toml:13: board.inputs.fire_reset: a fire release lasts until it is reset at the \
         door: fit its key switch ([board.inputs.fire_reset])",
        "door.toml:4: door.held_open_time: [door] held_open_time = 10s is too short: it must be \
         at least 16s, longer than [door] pre_alarm_time, by a second",
        "door.toml:7: strike.fail: [strike] fail does not apply to motor-lock",
    ];
    let error = home.error(&[]);
    for expected in fit {
        assert!(
            error.lines().any(|line| line == expected),
            "{error}\nlacks {expected}"
        );
    }
    assert_eq!(error.lines().count(), fit.len() + 3, "{error}");
    home.write("door.toml.d/10.toml", "[board]\nkind = \"gpio\"\n");
    let error = home.error(&[]);
    for expected in [
        "door.toml.d/10.toml:1: board.chip: [board] chip is missing, expected the label",
        "door.toml:10: board.outputs.coil.pin: [board.outputs.coil] pin = 40: [board] kind = \
         \"gpio\" expects `line`",
        "door.toml:13: board.inputs.fire.pin: [board.inputs.fire] pin = 5: [board] kind = \"gpio\"",
    ] {
        assert!(
            error.lines().any(|line| line.starts_with(expected)),
            "{error}\nlacks {expected}"
        );
    }
}

/// What an editor or a shell makes of a file of the operator.
#[test]
fn text_files_of_the_operator_are_decoded_or_named_for_what_they_are() {
    let home = Home::new(HUB);
    let mut files = Vec::new();
    for name in ["door.toml", "door.connection-string"] {
        files.push((name, fs::read_to_string(home.path(name)).unwrap()));
    }
    for (name, text) in &files {
        home.write(name, &format!("\u{feff}{}", text.replace('\n', "\r\n")));
        home.load(&[]).unwrap();
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(home.path(name), utf16).unwrap();
        let error = home.error(&[]);
        assert!(
            error.starts_with(&format!("{name}: cannot read ")),
            "{error}"
        );
        assert!(error.contains(": UTF-16, expected UTF-8"), "{error}");
        home.write(name, text);
    }
    let connection = files[1].1.trim();
    for (text, expected) in [
        (format!("\"{connection}\"\n"), None),
        (
            format!("CONNECTION=\"{connection}\"\n"),
            Some("a name stands before"),
        ),
        (
            format!("{{\"connectionString\": \"{connection}\"}}"),
            Some("JSON, expected"),
        ),
    ] {
        home.write("door.connection-string", &text);
        let error = home.load(&[]).err().map(|error| error.to_string());
        match (&error, expected) {
            (None, None) => {}
            (Some(error), Some(expected)) => {
                assert!(
                    error.contains(expected) && !error.contains(&KEY[..20]),
                    "{error}"
                );
            }
            _ => panic!("{text}: {error:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn missing_files_are_named() {
    let home = Home::new("[hub]\nconnection_string_file = \"missing\"\n");
    assert_eq!(
        home.error(&[]),
        "missing: cannot read the connection string: No such file or directory (os error 2)"
    );
    fs::remove_file(home.path("door.toml")).unwrap();
    let error = home.error(&[]);
    assert!(
        error.starts_with("door.toml: cannot read the configuration: "),
        "{error}"
    );
}

#[test]
fn a_pipe_in_place_of_a_file_does_not_block() {
    let home = tempfile::tempdir().unwrap();
    let pipe = home.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&pipe, mode).unwrap();
    let (sender, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let send = |error: anyhow::Error| sender.send(format!("{error:#}")).unwrap();
        let read = connection::read(Path::new("door.toml"), Some(&pipe), None);
        send(read.unwrap_err().into());
        let tls = crate::tls::TlsCache::default();
        send(tls.client_config(Some(&pipe), None).unwrap_err().into());
        let files = CertificateFiles {
            certificate: pipe.clone(),
            key: pipe,
        };
        send(tls.client_config(None, Some(&files)).unwrap_err().into());
    });
    for _ in 0..3 {
        let error = answer.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(error.contains("not a plain file"), "{error}");
    }
}

#[test]
fn a_connection_string_readable_by_others_is_refused() {
    let home = Home::new(HUB);
    home.set_mode("door.connection-string", 0o640);
    assert_eq!(
        home.error(&[]),
        "door.connection-string: mode 0640 lets other users read the device's key, expected 0600 \
         or stricter (`chmod 600 door.connection-string`)"
    );
    home.set_mode("door.connection-string", 0o400);
    home.load(&[]).unwrap();
}

#[test]
fn a_certificate_requires_a_connection_string_with_x509() {
    let home = Home::new(HUB);
    let files = "certificate_file = \"door.pem\"\nkey_file = \"door.key\"\n";
    home.write("door.toml", &format!("{HUB}{files}{DOOR}"));
    assert_eq!(
        home.error(&[]),
        "door.toml:3: hub.certificate_file: needs a connection string with x509=true, found one \
         with a key"
    );

    home.write(
        "door.connection-string",
        "HostName=hub.example.net;DeviceId=lobby-east;x509=true",
    );
    home.write("door.key", "a key");
    home.set_mode("door.key", 0o644);
    let problem = home.error(&[]);
    assert!(problem.starts_with("door.key: mode 0644 lets"), "{problem}");
    home.set_mode("door.key", 0o600);
    let config = home.load(&[]).unwrap();
    let expected = CertificateFiles {
        certificate: home.path("door.pem"),
        key: home.path("door.key"),
    };
    assert_eq!(config.hub.certificate, Some(expected));

    home.write(
        "door.toml",
        &format!("{HUB}certificate_file = \"door.pem\"\n{DOOR}"),
    );
    assert_eq!(
        home.error(&[]),
        "door.toml:1: hub.key_file: missing, expected a PEM file: the connection string says \
         x509=true"
    );
    home.write("credentials/key", "a key");
    let certificate = home.load_as_service().unwrap().hub.certificate.unwrap();
    assert_eq!(certificate.key, home.path("credentials/key"));
}

#[test]
fn the_credential_is_used_and_overrides_a_file() {
    let home = Home::new("");
    assert_eq!(
        home.error(&[]),
        "door.toml: hub.connection_string_file: not set, and there is no systemd credential \
         `connection-string`; expected one of them"
    );
    home.write(
        "credentials/connection-string",
        &format!("HostName=hub.example.net;DeviceId=from-systemd;SharedAccessKey={KEY}"),
    );
    // systemd's copy is readable for the service by an ACL, which appears as the group's bits.
    home.set_mode("credentials/connection-string", 0o440);
    for text in [DOOR, &format!("{HUB}\n{DOOR}")] {
        home.write("door.toml", text);
        let config = home.load_as_service().unwrap();
        assert_eq!(config.hub.connection.device_id.as_ref(), "from-systemd");
    }
}

#[test]
fn the_board_is_read_despite_mistakes_elsewhere() {
    let home = Home::new("");
    home.write(
        "door.toml",
        "[hub]\nmqtt_prot = 1\nconnection_string_file = \"missing\"\n[board]\nkind \
         = \"simulated\"\nbolt_travel = \"1s\"\n[strike]\nkind = \"glue\"\n",
    );
    home.write("door.toml.d/10.toml", "[board]\nbolt_travel = \"2s\"\n");
    let board = home.load_board().unwrap();
    assert_eq!(board.bolt_travel, Duration::from_secs(2));

    home.write("door.toml", "[board]\nkind = \"raspberry-pie\"\n");
    let error = home.load_board().unwrap_err().to_string();
    assert!(
        error.contains("board.kind") && error.contains("raspberry-pi"),
        "{error}"
    );
    home.write("door.toml", "[hub]\n");
    fs::remove_file(home.path("door.toml.d/10.toml")).unwrap();
    let error = home.load_board().unwrap_err().to_string();
    assert!(error.contains("board.kind: missing"), "{error}");
}

#[test]
fn no_error_and_no_debug_text_holds_the_key() {
    let home = Home::new(HUB);
    let config = home.load(&[]).unwrap();
    assert!(!format!("{config:?}").contains(&KEY[..20]));
    for text in [
        format!("HostName=hub.example.net;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}"),
        format!("HostName=hub.example.net;DevceId=x;SharedAccessKey={KEY}"),
        format!("SharedAccessKey={KEY}"),
        KEY.to_owned(),
    ] {
        home.write("door.connection-string", &text);
        let error = home.error(&[]);
        assert!(error.starts_with("door.connection-string: "), "{error}");
        assert!(!error.contains(&KEY[..20]), "{error}");
    }
}

/// A file that sets one key, with everything that the key requires.
fn with_time(key: &str, value: &str) -> Home {
    let home = Home::new("");
    let (table, key) = key.rsplit_once('.').unwrap();
    let setting = match table {
        "door" => format!("{HUB}[door]\n{key} = {value}\n{DOOR}"),
        "strike" => format!(
            "{HUB}[strike]\nkind = \"motor-lock\"\n{key} = {value}\n[board]\nkind = \"simulated\"\n"
        ),
        "board" => format!("{HUB}{DOOR}{key} = {value}\n"),
        "hub" => format!("{HUB}{key} = {value}\n{DOOR}"),
        inputs => {
            let input = inputs.strip_prefix("board.").unwrap();
            let others = ["door", "fire_reset"].map(|other| format!("inputs.{other}"));
            let mut text = format!(
                "{HUB}[strike]\nkind = \"motor-lock\"\n[board]\nkind = \"raspberry-pi\"\n\
                 outputs.throw = {{ pin = 17, active = \"high\" }}\noutputs.retract = {{ pin = 27, \
                 active = \"high\" }}\n\
                 {input} = {{ pin = 5, active = \"low\", bias = \"off\", {key} = {value} }}\n"
            );
            for (other, pin) in others
                .iter()
                .zip([6, 7])
                .filter(|(other, _)| *other != input)
            {
                let pin = format!("{{ pin = {pin}, active = \"low\", bias = \"off\" }}");
                text += &format!("{other} = {pin}\n");
            }
            text
        }
    };
    home.write("door.toml", &setting);
    home
}

/// Asserts that a time is refused only because it contradicts another one.
fn assert_contradicts(error: &ConfigErrors) {
    let text = error.to_string();
    let unfit = ["must be at least", "is above hub.reconnect_max"];
    assert!(unfit.iter().any(|unfit| text.contains(unfit)), "{text}");
}

#[test]
fn every_time_requires_a_unit_and_has_limits() {
    for limit in times::limits() {
        let key = limit.key;
        for number in ["30", "\"30\"", "\" 30 \""] {
            let text = with_time(key, number).error(&[]);
            let wanted = format!("{key}: 30 has no unit");
            assert!(text.contains(&wanted), "{text}");
            assert!(text.contains("\"30ms\" or \"30s\""), "{text}");
        }
        let beyond = format!("\"{}ms\"", limit.to.as_millis() + 1);
        let home = with_time(key, &beyond);
        if limit.to < Duration::from_secs(604_800) {
            let text = home.error(&[]);
            let wanted = format!("expected from {:?} to {:?}", limit.from, limit.to);
            assert!(text.contains(key) && text.contains(&wanted), "{text}");
            // Version 0.1 accepted it, unless it contradicted another time.
            match home.load_to_run() {
                Ok(AgentConfig { problems, .. }) => {
                    let used = format!("{:?} is used", limit.to);
                    let found =
                        |problem: &String| problem.contains(key) && problem.ends_with(&used);
                    assert!(problems.iter().any(found), "{problems:?}");
                }
                Err(error) => assert_contradicts(&error),
            }
        }
        if let Err(error) = with_time(key, &format!("\"{}ms\"", limit.to.as_millis())).load(&[]) {
            assert_contradicts(&error);
        }
    }
}

#[test]
fn takes_the_lengths_of_time_that_all_programs_take() {
    for row in include_str!("../../../testing/lengths.tsv").lines() {
        let (text, seconds) = row.split_once('\t').unwrap();
        let expected = seconds.parse().ok().map(Duration::from_secs);
        let config = with_time("hub.sas_lifetime", &format!("\"{text}\"")).load(&[]);
        let lifetime = config.ok().map(|config| config.hub.sas_lifetime);
        assert_eq!(lifetime, expected, "{text}");
        assert_eq!(crate::gpio::simulated::parse_time(text), expected, "{text}");
    }
}

#[test]
fn every_time_in_the_example_has_limits() {
    let example = include_str!("../../../deploy/examples/lobby-east.toml");
    let mut found = 0;
    for line in example.lines() {
        let Some((key, value)) = line.trim_start_matches("# ").split_once(" = \"") else {
            continue;
        };
        let value = value.split('"').next().unwrap_or_default();
        if !key.contains(' ') && crate::gpio::simulated::parse_time(value).is_some() {
            found += 1;
            let known = times::limits().any(|limit| limit.key.ends_with(&format!(".{key}")));
            assert!(known, "{key} has no limits");
        }
    }
    assert!(found >= 14, "{found}");
}

#[test]
fn the_extended_strike_time_is_at_least_the_strike_time() {
    let load = |text: &str| Home::new(&format!("{HUB}[door]\n{text}\n")).load(&[]);
    let error = load("strike_time = \"20s\"\nextended_strike_time = \"10s\"").unwrap_err();
    let expected =
        "door.extended_strike_time: 10s is shorter than door.strike_time, expected at least 20s";
    assert!(error.to_string().ends_with(expected), "{error}");
    let config = load("strike_time = \"20s\"").unwrap();
    assert_eq!(config.door.extended_strike_time, Duration::from_secs(20));
}

/// File of version 0.1, the error from `check`, and the replacements that a running door reports.
#[test]
fn a_configuration_accepted_by_0_1_runs_and_fails_check() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/0.1/agent");
    let rows: [(&str, &str, &[&str]); 4] = [
        (
            "bare-numbers",
            "sas_lifetime: 3600 has no unit",
            &[
                "3600s is used",
                "7s is used",
                "4s is used",
                "debounce: 30 has no unit, expected from 1ms to 1s: write \"30ms\" or \"30s\"; 1s \
                 is used",
            ],
        ),
        (
            "far-times",
            "strike_time: 3600s, expected from 1ms to 600s",
            &[
                "; 600s is used",
                "settle_time: 300s, expected from 1ms to 60s; 60s is used",
                "86400s is used",
                "extended_strike_time: 10s is shorter",
            ],
        ),
        (
            "hardware-release",
            "motor-lock, which stays as it is without power",
            &["the door keeps working"],
        ),
        (
            "maglock",
            "[door] egress is missing",
            &["the door keeps working"],
        ),
    ];
    for (name, invalid, used) in rows {
        let text = fs::read_to_string(fixtures.join(format!("{name}.toml"))).unwrap();
        let home = Home::new("");
        home.write("door.toml", &text);
        let refused = home.error(&[]);
        assert!(refused.contains(invalid), "{name}: {refused}");
        let config = home.load_to_run().unwrap();
        for used in used {
            let reported = config.problems.iter().any(|problem| problem.contains(used));
            assert!(reported, "{name}: {used}: {:?}", config.problems);
        }
        // The replacement values are valid.
        AgentConfig::load_board(&home.path("door.toml")).unwrap();
    }
}

//! The agent's configuration: a text is a configuration or a located mistake, and an accepted one
//! is within its limits.

use std::time::Duration;

use door_agent::fuzzing::configuration;
use iothub_protocol::connection_string::DeviceConnectionString;

use crate::{Seeds, texts};

/// The lines before the first that begins with `[` are environment variables, the rest is the file.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let at = if text.starts_with('[') {
        0
    } else {
        text.find("\n[").map_or(text.len(), |at| at + 1)
    };
    let (variables, file) = text.split_at(at);
    let variables = variables.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((format!("DOOR_AGENT__{name}"), value.to_owned()))
    });
    match configuration(file, variables, connection()) {
        Ok(config) => {
            let hub = &config.hub;
            assert!(hub.reconnect_min <= hub.reconnect_max && hub.mqtt_port > 0);
            assert!(hub.keep_alive <= Duration::from_secs(1177));
            assert!(hub.sas_lifetime >= Duration::from_secs(60));
            assert!(config.state.event_log_bytes >= 64 << 10);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn connection() -> DeviceConnectionString {
    "HostName=hub.example.net;DeviceId=lobby-east;SharedAccessKey=c2VjcmV0"
        .parse()
        .expect("a connection string")
}

/// The output of `doorctl devices add --agent-config`, plus all keys that it omits.
const WHOLE: &str = r#"[hub]
connection_string_file = "lobby-east.connection-string"
ca_file = "lobby-east.ca.pem"
mqtt_port = 18883
sas_lifetime = "1h"
reconnect_min = "1s"
reconnect_max = "60s"
keep_alive = "60s"

[door]
relinquish_default = "locked"

[strike]
kind = "motor-lock"

[board]
kind = "simulated"

[state]
directory = "state"
event_log_kib = 4096

[log]
level = "info"
"#;

pub(crate) fn seeds() -> Seeds {
    texts([
        WHOLE.to_owned(),
        format!("HUB__MQTT_PORT=8884\nLOG__LEVEL=debug\nHUB__KEEP_ALIVE=30s\n{WHOLE}"),
        "[strike]\nkind = \"solenoid-bolt\"\nbond_time = 3\n[board]\nkind = \"raspberry-pi\"\n"
            .to_owned(),
        "BOARD__INPUTS__REX__LINE=GPIO24\n[strike]\nkind = \"maglock\"\n[board]\nkind = \"gpio\"\n\
         chip = \"gpiochip0\"\noutputs.coil = { line = 17, active = \"high\" }\n\
         inputs.rex = { active = \"low\", bias = \"off\" }\n"
            .to_owned(),
    ])
}

//! User name and client id of a CONNECT, which are parsed before the peer is authenticated.

use door_hub::fuzzing::user_name;
use iothub_protocol::id::DeviceId;

use crate::{Seeds, texts};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (client_id, name) = text.split_once('\n').unwrap_or(("lobby-east", text));
    let Ok((host, device)) = user_name(client_id, name) else {
        return;
    };
    assert_eq!(device, client_id, "one login, two devices");
    assert!(device.parse::<DeviceId>().is_ok());
    assert!(name.starts_with(&format!("{host}/{device}")));
    let written = format!("{host}/{device}/?api-version=2021-04-12");
    assert_eq!(user_name(client_id, &written), Ok((host, device)));
}

pub(crate) fn seeds() -> Seeds {
    texts([
        "lobby-east\n\
         hub.example.net/lobby-east/?api-version=2021-04-12\
         &DeviceClientType=azure-iot-device%2F1.18.4",
        "lobby-east\nhub.example.net/lobby-east/api-version=2016-11-14",
        "lobby-east\nhub.example.net/lobby-east",
        "d?1\nhub.example.net/d?1/?api-version=2021-04-12",
        "d/m\nhub.example.net/d/m/?api-version=2021-04-12",
    ])
}

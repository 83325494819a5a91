//! `identify`, a method of the device as a whole: the shell answers it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Fields;
use crate::config::StrikeKind;
use crate::contract::MethodReply;

/// Identity of a device, for an operator to compare with the door in front of the installer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The device id.
    pub device_id: String,
    /// The building, from the desired properties.
    pub building: Option<Value>,
    /// The floor, from the desired properties.
    pub floor: Option<Value>,
    /// The agent's version.
    pub version: String,
    /// The machine's host name, if it can be read.
    pub host_name: Option<String>,
    /// The machine's model, such as "Raspberry Pi 4 Model B Rev 1.5".
    pub model: Option<String>,
    /// The serial number of the machine's board.
    pub serial_number: Option<String>,
    /// The kind of actuator.
    pub strike: StrikeKind,
    /// The fitted inputs, by their keys in `[board.inputs]`.
    pub inputs: Vec<String>,
}

impl Identity {
    /// The method's name.
    pub const METHOD: &'static str = "identify";

    /// Checks the payload: empty, `null` or an empty object.
    ///
    /// # Errors
    /// The reply to send: 400 with the invalid field, its value and what was expected.
    pub fn judge(payload: &[u8]) -> Result<(), MethodReply> {
        Fields::read(Self::METHOD, payload, &[]).map(|_| ())
    }

    /// The reply: 200 with this identity.
    #[must_use]
    pub fn reply(self) -> MethodReply {
        MethodReply::identity(Self::METHOD, self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn identify_takes_no_fields_and_returns_its_members() {
        assert_eq!(Identity::judge(b"null"), Ok(()));
        let refused = Identity::judge(br#"{"for":5}"#).unwrap_err();
        assert_eq!(
            (refused.status, refused.body.field.as_deref()),
            (400, Some("for"))
        );
        let identity = Identity {
            device_id: "lobby-east".to_owned(),
            building: Some(43.into()),
            floor: None,
            version: "1.2.3".to_owned(),
            host_name: None,
            model: None,
            serial_number: Some("10000000abcdef01".to_owned()),
            strike: StrikeKind::MotorLock,
            inputs: vec!["door".to_owned()],
        };
        let reply = identity.reply();
        assert_eq!(reply.status, 200);
        assert_eq!(
            serde_json::to_value(&reply.body).unwrap(),
            json!({
                "Response": "identify called successfully",
                "identity": {
                    "deviceId": "lobby-east", "building": 43, "floor": null, "version": "1.2.3",
                    "hostName": null,
                    "model": null, "serialNumber": "10000000abcdef01", "strike": "motor-lock",
                    "inputs": ["door"],
                },
            })
        );
    }
}

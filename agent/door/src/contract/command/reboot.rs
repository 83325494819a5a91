//! `reboot`, a method of the machine: the shell answers it.

use serde::Serialize;

use super::{CommandHeader, Fields};
use crate::contract::{MethodReply, ReplyError};

/// Longest reason, in characters.
const MAX_REASON: usize = 200;

/// Payload of `reboot`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reboot {
    /// Why, for the records: reported as `device.bootReason` after the reboot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Id and validity.
    #[serde(flatten)]
    pub header: CommandHeader,
}

impl Reboot {
    /// The method's name.
    pub const METHOD: &'static str = "reboot";

    /// Parses the payload: an object, a JSON string that contains one, `null` or empty.
    ///
    /// # Errors
    /// The reply to send: 400 with the invalid field, its value and what was expected.
    pub fn parse(payload: &[u8]) -> Result<Self, MethodReply> {
        let fields = Fields::read(Self::METHOD, payload, &["reason", "commandId", "notAfter"])?;
        let reason = match fields.get("reason") {
            None => None,
            Some(value) => {
                let text = value.as_str().filter(|text| {
                    (1..=MAX_REASON).contains(&text.chars().count())
                        && !text.chars().any(char::is_control)
                });
                let refuse = || fields.refuse("reason", value, "1 to 200 characters on one line");
                Some(text.ok_or_else(refuse)?.to_owned())
            }
        };
        Ok(Self {
            reason,
            header: fields.header()?,
        })
    }

    /// 202: the machine will reboot.
    #[must_use]
    pub fn accepted() -> MethodReply {
        MethodReply::of_machine(202, None, "reboot called successfully".to_owned())
    }

    /// 200: a duplicate of a command that has rebooted the machine, or is about to.
    #[must_use]
    pub fn done_before() -> MethodReply {
        let response = "reboot: this commandId was already accepted".to_owned();
        let mut reply = MethodReply::of_machine(200, None, response);
        reply.body.repeated = true;
        reply
    }

    /// The reply if nothing was done.
    #[must_use]
    pub fn refused(status: u16, error: ReplyError, why: &str) -> MethodReply {
        MethodReply::of_machine(status, Some(error), format!("reboot: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_read_strictly() {
        let parsed = Reboot::parse(br#"{"reason":"kernel update","commandId":"r-1"}"#).unwrap();
        assert_eq!(parsed.reason.as_deref(), Some("kernel update"));
        assert_eq!(parsed.header.command_id.unwrap().as_str(), "r-1");
        assert_eq!(Reboot::parse(b"").unwrap(), Reboot::default());
        assert_eq!(
            Reboot::parse(br#""{\"reason\":\"x\"}""#).unwrap().reason,
            Some("x".to_owned())
        );
        for (payload, field) in [
            (r#"{"reason":""}"#.to_owned(), "reason"),
            (r#"{"reason":"a\nb"}"#.to_owned(), "reason"),
            (r#"{"reason":7}"#.to_owned(), "reason"),
            (format!(r#"{{"reason":"{}"}}"#, "x".repeat(201)), "reason"),
            (r#"{"resaon":"x"}"#.to_owned(), "resaon"),
            (r#"{"notAfter":"soon"}"#.to_owned(), "notAfter"),
        ] {
            let reply = Reboot::parse(payload.as_bytes()).unwrap_err();
            assert_eq!(
                (reply.status, reply.body.field.as_deref()),
                (400, Some(field)),
                "{payload}"
            );
        }
    }

    #[test]
    fn replies_serialize_to_their_wire_form() {
        let text = |reply: MethodReply| String::from_utf8(reply.body_json()).unwrap();
        assert_eq!(
            text(Reboot::accepted()),
            r#"{"Response":"reboot called successfully"}"#
        );
        assert_eq!(
            text(Reboot::refused(500, ReplyError::NotPossible, "no")),
            r#"{"Response":"reboot: no","error":"notPossible"}"#
        );
    }
}

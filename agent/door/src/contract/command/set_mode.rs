//! Payload of `setMode`.

use serde::Serialize;

use super::{CommandHeader, Fields};
use crate::contract::{MethodReply, Mode};

/// Payload of `setMode`. The mode lasts until another one is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetMode {
    /// The mode to set.
    pub mode: Mode,
    /// Id, validity and reason.
    #[serde(flatten)]
    pub header: CommandHeader,
}

impl SetMode {
    pub(super) const FIELDS: &'static [&'static str] = &["mode", "commandId", "notAfter", "reason"];

    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, MethodReply> {
        let value = fields.get("mode").cloned().unwrap_or_default();
        let mode = value.as_str().and_then(Mode::parse);
        Ok(Self {
            mode: mode.ok_or_else(|| fields.refuse("mode", &value, Mode::EXPECTED))?,
            header: fields.header_with_reason()?,
        })
    }
}

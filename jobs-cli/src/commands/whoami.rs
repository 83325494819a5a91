//! `doorctl whoami`: the policy in use, its rights and its bounds.

use serde::Serialize;
use serde_json::Value;

use crate::exit_status::ExitStatus;
use crate::printer::{Cell, Row, Tone, facts, plain};
use crate::role::Permissions;
use crate::session::Session;

pub(super) async fn run(session: &Session) -> anyhow::Result<ExitStatus> {
    let is_door_hub = session.hub.is_door_hub().await?;
    let rights = session.hub.policy_rights().await?;
    let own = rights.granted.join(",");
    let row = PolicyRow {
        context: session.context.clone(),
        hub: session.hub.host_name().to_string(),
        policy: session.hub.policy().to_owned(),
        permissions: is_door_hub.then(|| Permissions::of(&own, rights.bounds.as_ref())),
        rights: rights.granted,
        missing: rights.missing,
    };
    let rows = std::slice::from_ref(&row);
    session.printer.text_or_rows(&facts(&row), rows)?;
    if !row.missing.is_empty() {
        session.printer.say(match is_door_hub {
            true => "for more, an administrator: doorctl policy change NAME --role ROLE",
            false => "for more rights: a policy under \"Shared access policies\" of the hub",
        });
    }
    Ok(ExitStatus::Success)
}

#[derive(Debug, Serialize)]
struct PolicyRow {
    context: String,
    hub: String,
    policy: String,
    rights: Vec<String>,
    /// Rights that the policy certainly lacks.
    missing: Vec<String>,
    /// `None` of Azure, which has no bounds.
    #[serde(flatten)]
    permissions: Option<Permissions>,
}

impl Row for PolicyRow {
    fn titles() -> Vec<&'static str> {
        let mut titles = vec!["context", "hub", "policy", "rights", "missing"];
        titles.extend(Permissions::TITLES);
        titles
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match title {
            "rights" => Cell::toned(self.rights.join(" "), Tone::Good),
            "missing" => Cell::toned(self.missing.join(" "), Tone::Doubtful),
            _ => Cell::from(plain(member)),
        }
    }
}

//! `doorctl whoami`: the policy in use and its rights.

use serde::Serialize;
use serde_json::Value;

use crate::exit_status::ExitStatus;
use crate::printer::{Cell, Row, Tone, plain, printable};
use crate::session::Session;

pub(super) async fn run(session: &Session) -> anyhow::Result<ExitStatus> {
    let rights = session.hub.policy_rights().await?;
    let row = PolicyRow {
        context: session.context.clone(),
        hub: session.hub.host_name().to_string(),
        policy: session.hub.policy().to_owned(),
        rights: rights.granted,
        missing: rights.missing,
    };
    let rows = std::slice::from_ref(&row);
    session.printer.text_or_rows(&row.text(), rows)?;
    if !row.missing.is_empty() {
        session.printer.say(match session.hub.is_door_hub().await? {
            true => {
                "for more rights, on the server: door-hub policy add NAME --rights RIGHT,.. \
                 --out FILE"
            }
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
}

impl PolicyRow {
    /// One fact on each line: the names of rights are too wide for a table.
    fn text(&self) -> String {
        let facts = Self::titles().into_iter().zip(self.cells());
        let facts = facts.filter(|(_, fact)| !fact.text.is_empty());
        facts
            .map(|(title, fact)| format!("{title:<9}{}\n", printable(&fact.text)))
            .collect()
    }
}

impl Row for PolicyRow {
    fn titles() -> Vec<&'static str> {
        vec!["context", "hub", "policy", "rights", "missing"]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match title {
            "rights" => Cell::toned(self.rights.join(" "), Tone::Good),
            "missing" => Cell::toned(self.missing.join(" "), Tone::Doubtful),
            _ => Cell::from(plain(member)),
        }
    }
}

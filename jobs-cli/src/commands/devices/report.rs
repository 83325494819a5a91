//! The outcomes of a verb that handles many doors.

use iothub_client::ClientError;
use iothub_protocol::DeviceId;
use serde::Serialize;
use serde_json::Value;

use crate::exit_status::ExitStatus;
use crate::failure::{needed_rights, sentence};
use crate::printer::{Cell, Row, Tone, plain};
use crate::session::{Session, explain_door};

/// Outcome of a door with an error.
const FAILED: &str = "failed";

/// A door with its outcome or error.
pub(super) type DoorOutcome = (DeviceId, anyhow::Result<&'static str>);

/// A door with its outcome or error, as printed.
#[derive(Debug, Serialize)]
struct ReportRow {
    door: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Row for ReportRow {
    fn titles() -> Vec<&'static str> {
        vec!["door", "outcome", "error"]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match (title, &self.error) {
            ("outcome", Some(_)) => Cell::toned(self.outcome, Tone::Bad),
            _ => Cell::from(plain(member)),
        }
    }
}

/// Prints the outcome of each door and their counts.
///
/// # Errors
///
/// For a single door, its error is the error of the command.
pub(super) async fn report(
    mut done: Vec<DoorOutcome>,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    if let [(_, Err(_))] = &done[..] {
        if let Some((door, Err(error))) = done.pop() {
            return Err(match error.downcast::<ClientError>() {
                Ok(error) => explain_door(session, &door, error).await,
                Err(error) => error,
            });
        }
    }
    // A policy that lacks a right lacks it for every door.
    let lacks_right = |(_, outcome): &DoorOutcome| {
        let error = outcome.as_ref().err();
        error.is_some_and(|error| needed_rights(error).is_some())
    };
    if !done.is_empty() && done.iter().all(lacks_right) {
        if let Some((_, Err(error))) = done.pop() {
            return Err(error);
        }
    }
    let rows: Vec<ReportRow> = done
        .into_iter()
        .map(|(door, outcome)| ReportRow {
            door: door.to_string(),
            outcome: outcome.as_ref().map_or(FAILED, |outcome| *outcome),
            error: outcome.err().map(|error| sentence(&error)),
        })
        .collect();
    session.printer.rows(&rows)?;
    session.printer.say(match rows.is_empty() {
        true => "no door matches; nothing was changed".to_owned(),
        false => tally(rows.iter().map(|row| row.outcome)),
    });
    Ok(match rows.iter().any(|row| row.error.is_some()) {
        true => ExitStatus::Incomplete,
        false => ExitStatus::Success,
    })
}

/// `2 changed, 1 failed`: failures last.
pub(super) fn tally(outcomes: impl Iterator<Item = &'static str>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for outcome in outcomes {
        match counts.iter_mut().find(|(name, _)| *name == outcome) {
            Some((_, count)) => *count += 1,
            None => counts.push((outcome, 1)),
        }
    }
    counts.sort_by_key(|(name, _)| *name == FAILED);
    let texts: Vec<String> = counts
        .into_iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_last() {
        assert_eq!(
            tally(["failed", "changed", "unchanged", "changed"].into_iter()),
            "2 changed, 1 unchanged, 1 failed"
        );
    }
}

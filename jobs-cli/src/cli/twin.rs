//! `doorctl twin ...`, `doorctl query`, `doorctl invoke`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{period, period_or_zero};

/// A door's twin.
#[derive(Debug, Subcommand)]
pub(crate) enum TwinCommand {
    /// Print the twin.
    Show {
        /// The door.
        door: String,
    },
    /// Set desired properties and tags.
    #[command(after_help = "\
A value is JSON when it can be read as JSON, else text; null removes the key; dots nest.

Examples:
  doorctl twin set lobby-east building=43 floor=3
  doorctl twin set lobby-east --tag wing=east --tag old=null
  doorctl twin set lobby-east floor=4 --etag AAAAAAAAAAI=")]
    Set(SetArgs),
    /// Edit tags and desired properties in your editor.
    #[command(after_help = "\
Examples:
  doorctl twin edit lobby-east
  VISUAL=\"code --wait\" doorctl twin edit lobby-east
  EDITOR=\"sed -i s/east/west/\" doorctl twin edit lobby-east --yes

Opens $VISUAL, else $EDITOR, else an editor that this machine has. What you change is shown as a
diff and, when you say so, written: only the keys that differ, and only while nobody else has
changed the twin. A key that you take away, or set to null, is removed. What cannot be written stays
in a file, which is named.")]
    Edit(EditArgs),
}

/// `twin edit`.
#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// The door.
    pub(crate) door: String,
    /// Write without asking.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `twin set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The door.
    pub(crate) door: String,
    /// Desired properties.
    #[arg(value_name = "KEY=VALUE", value_parser = assignment, required_unless_present = "tags")]
    pub(crate) desired: Vec<(String, Value)>,
    /// A tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = assignment)]
    pub(crate) tags: Vec<(String, Value)>,
    /// Only when the twin's etag is still this one.
    #[arg(long, value_name = "ETAG")]
    pub(crate) etag: Option<String>,
}

/// `query`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl query \"SELECT * FROM devices WHERE properties.reported.door.secured != 'secured'\"
  doorctl query \"SELECT deviceId, tags.wing FROM devices WHERE IS_DEFINED(tags.wing)\" -o csv
  doorctl query \"SELECT status, COUNT() AS doors FROM devices GROUP BY status\"
  doorctl query \"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'lock-1'\" -o jsonl

All pages are read. CSV and lines of JSON go out with each page; a table waits for the last. Columns
are in the order of the query. A table and CSV show whole devices as doors; -o json and -o jsonl
have all that they are.")]
pub(crate) struct QueryArgs {
    /// The query.
    #[arg(value_name = "QUERY")]
    pub(crate) text: String,
}

/// `invoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl invoke lobby-east getState
  doorctl invoke lobby-east lockDoor --payload '{\"lockTime\":\"10m\"}'
  doorctl invoke lobby-east lockDoor --payload @payload.json --connect-timeout 30s")]
pub(crate) struct InvokeArgs {
    /// The door.
    pub(crate) door: String,
    /// The method: lockDoor, unlockDoor, relinquish, setMode, getState, selfTest, identify, reboot.
    pub(crate) method: String,
    /// What to hand to it: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) payload: Option<String>,
    /// How long to wait for the door's answer: 5 s to 5 min.
    #[arg(long, default_value = "30s", value_parser = period, value_name = "DURATION")]
    pub(crate) response_timeout: Duration,
    /// How long to wait for the door to come online: 0 to 5 min.
    #[arg(long, default_value = "0", value_parser = period_or_zero, value_name = "DURATION")]
    pub(crate) connect_timeout: Duration,
}

/// `KEY=VALUE`, the value JSON when it can be read as JSON, else text.
pub(crate) fn assignment(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((checked(key, "KEY=VALUE")?, scalar(value)))
}

/// `KEY`, of what is to be removed.
pub(crate) fn key(text: &str) -> Result<String, String> {
    match text.contains('=') {
        true => Err("expected KEY, without a value".to_owned()),
        false => checked(text, "KEY"),
    }
}

fn checked(key: &str, expected: &str) -> Result<String, String> {
    let key = key.trim();
    match key.split('.').any(str::is_empty) {
        true => Err(format!(
            "the key is empty or has an empty part; expected {expected}, dots nest"
        )),
        false => Ok(key.to_owned()),
    }
}

/// JSON when it can be read as JSON, else text.
pub(crate) fn scalar(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

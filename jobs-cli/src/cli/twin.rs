//! `doorctl twin ...`, `doorctl query`, `doorctl invoke`.

use std::time::Duration;

use clap::{Args, Subcommand};
use iothub_protocol::twin::SectionKind;
use serde_json::Value;

use super::{period, period_or_zero};

/// Default time for a door to acknowledge desired properties.
pub(crate) const DEFAULT_ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// Show and change a door's twin.
#[derive(Debug, Subcommand)]
pub(crate) enum TwinCommand {
    /// Show the twin of a door.
    Show {
        /// Name of the door.
        door: String,
    },
    /// Set desired properties and tags.
    #[command(after_help = "\
A value that parses as JSON is JSON, else text; null removes the key; dots separate nested keys. \
The key may include its section: desired.floor=3, properties.desired.floor=3, --tag \
tags.wing=east.

Examples:
  doorctl twin set lobby-east building=43 floor=3
  doorctl twin set lobby-east --tag wing=east --tag old=null
  doorctl twin set lobby-east floor=4 --etag AAAAAAAAAAI=
  doorctl twin set lobby-east floor=4 -o json               print the whole twin

For `building`, `floor`, `mode`, `settings` and properties that the door acknowledged before, \
doorctl waits for its answer: the exit status is 2 if the door refuses, 3 if it has not applied \
the change yet. Other properties are only stored.")]
    Set(SetArgs),
    /// Edit tags and desired properties in your editor.
    #[command(after_help = "\
Examples:
  doorctl twin edit lobby-east
  VISUAL=\"code --wait\" doorctl twin edit lobby-east
  EDITOR=\"sed -i s/east/west/\" doorctl twin edit lobby-east --yes

Opens $VISUAL, else $EDITOR, else an editor found on this machine. Shows your change as a diff \
and, once you confirm, writes only the keys that differ, and only if the twin did not change in \
the meantime. Keys that you delete or set to null are removed. A change that cannot be written is \
kept in a file, and its name is printed.")]
    Edit(EditArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// Name of the door.
    pub(crate) door: String,
    /// Write the change without confirmation.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) acknowledged: AckArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AckArgs {
    /// Time for the door to apply the change; when exceeded, the exit status is 3; 0 does not wait.
    #[arg(
        long,
        default_value = "30s",
        value_parser = period_or_zero,
        value_name = "DURATION"
    )]
    pub(crate) deadline: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Name of the door.
    pub(crate) door: String,
    /// Desired properties to set.
    #[arg(
        value_name = "KEY=VALUE",
        value_parser = desired_assignment,
        required_unless_present = "tags"
    )]
    pub(crate) desired: Vec<(String, Value)>,
    /// Tag to set (repeatable).
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag_assignment)]
    pub(crate) tags: Vec<(String, Value)>,
    /// Write only if the twin still has this etag.
    #[arg(long, value_name = "ETAG")]
    pub(crate) etag: Option<String>,
    #[command(flatten)]
    pub(crate) acknowledged: AckArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl query \"SELECT * FROM devices WHERE properties.reported.door.secured != 'secured'\"
  doorctl query \"SELECT deviceId, tags.wing FROM devices WHERE IS_DEFINED(tags.wing)\" -o csv
  doorctl query \"SELECT status, COUNT() AS doors FROM devices GROUP BY status\"
  doorctl query \"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'lock-1'\" -o jsonl

Reads all pages. CSV and JSON lines are streamed page by page; a table is printed after the last. \
Columns follow the order of the query. A table and CSV show whole devices as doors; -o json and \
-o jsonl have all members.")]
pub(crate) struct QueryArgs {
    /// Query text.
    #[arg(value_name = "QUERY")]
    pub(crate) text: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl invoke lobby-east getState
  doorctl invoke lobby-east lockDoor --payload '{\"lockTime\":\"10m\"}'
  doorctl invoke lobby-east lockDoor --payload @payload.json --connect-timeout 30s

The payload is sent unchanged: --reason goes to the hub's audit log only. To record it in the \
event of the door, add a member \"reason\" to the payload.")]
pub(crate) struct InvokeArgs {
    /// Name of the door.
    pub(crate) door: String,
    /// Method: lockDoor, unlockDoor, relinquish, setMode, lockdown, allClear, getState,
    /// selfTest, identify, reboot.
    pub(crate) method: String,
    /// Payload of the call: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) payload: Option<String>,
    /// Time for the door to answer: 5 s to 5 min, at least --connect-timeout [default: 30s, or
    /// --connect-timeout if greater].
    #[arg(long, value_parser = period, value_name = "DURATION")]
    pub(crate) response_timeout: Option<Duration>,
    /// Time for the door to come online: 0 to 5 min.
    #[arg(
        long,
        default_value = "0",
        value_parser = period_or_zero,
        value_name = "DURATION"
    )]
    pub(crate) connect_timeout: Duration,
}

/// Parses `KEY=VALUE` of a desired property; a value that parses as JSON is JSON, else text.
pub(crate) fn desired_assignment(text: &str) -> Result<(String, Value), String> {
    assignment(text, SectionKind::Desired)
}

/// Parses `KEY=VALUE` of a tag; a value that parses as JSON is JSON, else text.
pub(crate) fn tag_assignment(text: &str) -> Result<(String, Value), String> {
    assignment(text, SectionKind::Tags)
}

/// Parses the `KEY` of a tag to remove.
pub(crate) fn tag_key(text: &str) -> Result<String, String> {
    match text.contains('=') {
        true => Err("expected KEY, without a value".to_owned()),
        false => key_in_section(&checked_key(text, "KEY")?, SectionKind::Tags, "KEY"),
    }
}

fn assignment(text: &str, section: SectionKind) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let key = checked_key(key, "KEY=VALUE")?;
    let key = key_in_section(&key, section, &format!("KEY={value}"))?;
    Ok((key, scalar(value)))
}

/// Removes the name of `section` from the front of a key. It may be spelled as in queries
/// (`properties.desired.floor`) or documents (`desired.floor`). A key of another section is an
/// error.
fn key_in_section(key: &str, section: SectionKind, expected: &str) -> Result<String, String> {
    if let Some(lowercase) = lowercase_section(key) {
        return Err(format!(
            "`{key}`: sections of a twin are lower case; write {lowercase}"
        ));
    }
    let whole = key.strip_prefix("properties.").unwrap_or(key);
    let (first, rest) = match whole.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (whole, None),
    };
    let write = |rest: &str| expected.replace("KEY", rest);
    let named = match first {
        _ if whole == "properties" => None,
        "desired" => Some(SectionKind::Desired),
        "reported" => Some(SectionKind::Reported),
        "tags" if whole == key => Some(SectionKind::Tags),
        _ if whole == key => return Ok(key.to_owned()),
        _ => None,
    };
    let rest = match (named, rest) {
        (Some(named), Some(rest)) if named == section => return Ok(rest.to_owned()),
        (_, rest) => rest.unwrap_or("KEY"),
    };
    Err(match named {
        Some(named) if named == section => {
            format!("`{key}` is a whole section; expected {expected}, with dots for nested keys")
        }
        Some(SectionKind::Tags) => format!(
            "`{key}` is a tag; expected a desired property; for tags: doorctl devices tag DOOR {}",
            write(rest)
        ),
        Some(SectionKind::Desired) => format!(
            "`{key}` is a desired property; expected a tag; use: doorctl twin set DOOR {}",
            write(rest)
        ),
        Some(SectionKind::Reported) => format!(
            "`{key}` is a reported property, which only the door writes; to see it: doorctl twin \
             show DOOR"
        ),
        None => format!(
            "`{key}` is neither a desired property nor a tag; expected {expected}, with dots for \
             nested keys"
        ),
    })
}

/// A key that starts with a section in the wrong case: returns it with that section (and
/// `properties` before it) in lower case.
fn lowercase_section(key: &str) -> Option<String> {
    let mut words: Vec<String> = key.split('.').map(str::to_owned).collect();
    let mut first = 0;
    if words.len() > 1 && words[0].eq_ignore_ascii_case("properties") {
        words[0] = "properties".to_owned();
        first = 1;
    }
    let sections = ["desired", "reported", "tags"];
    let section = sections
        .iter()
        .find(|section| words[first].eq_ignore_ascii_case(section))?;
    words[first] = (*section).to_owned();
    let lowercase = words.join(".");
    (words.len() > first + 1 && lowercase != key).then_some(lowercase)
}

fn checked_key(key: &str, expected: &str) -> Result<String, String> {
    let key = key.trim();
    if key.split('.').any(str::is_empty) {
        return Err(format!(
            "the key is empty or has an empty part; expected {expected}, with dots for nested keys"
        ));
    }
    // The hub refuses these in any name. It ignores `$version` and `$metadata` of a section.
    let is_refused = |letter: char| matches!(letter, '$' | '#' | ' ') || letter.is_control();
    match key.chars().find(|letter| is_refused(*letter)) {
        Some(letter) => Err(format!(
            "the key has {letter:?}; expected no `$`, no `#`, no space and no control character"
        )),
        None => Ok(key.to_owned()),
    }
}

/// JSON when it can be read as JSON, else text.
pub(crate) fn scalar(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_name_its_own_section_but_no_other() {
        let check = |text: &str, as_desired: Result<&str, &str>, as_tag| {
            let (desired, tag) = (desired_assignment(text), tag_assignment(text));
            for (assigned, expected) in [(desired, as_desired), (tag, as_tag)] {
                match (&assigned, expected) {
                    (Ok((key, _)), Ok(expected)) => assert_eq!(key, expected, "{text}"),
                    (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                    _ => panic!("{text}: {assigned:?}, not {expected:?}"),
                }
            }
        };
        // The argument, then the key or part of the error: as a desired property, and as a tag.
        let (tag, desired, reported) =
            ("is a tag", "is a desired property", "only the door writes");
        let section = "is a whole section";
        for (text, as_desired, as_tag) in [
            ("desired.floor=3", Ok("floor"), Err(desired)),
            ("properties.desired.floor=3", Ok("floor"), Err(desired)),
            ("properties.desired.a.b=5s", Ok("a.b"), Err(desired)),
            ("tags.wing=east", Err(tag), Ok("wing")),
            ("tags.access.group=staff", Err(tag), Ok("access.group")),
            ("desired=3", Err(section), Err(desired)),
            ("properties.desired=3", Err(section), Err(desired)),
            ("tags=3", Err(tag), Err(section)),
            ("desired.Desired.a=3", Ok("Desired.a"), Err(desired)),
            // A key inside a section may have any name.
            ("desired.tags.a=1", Ok("tags.a"), Err(desired)),
        ] {
            check(text, as_desired, as_tag);
        }
        for (text, expected) in [
            ("floor=3", Ok("floor")),
            ("settings.strikeTime=5s", Ok("settings.strikeTime")),
            ("reported.floor=3", Err(reported)),
            ("properties.reported.door.mode=x", Err(reported)),
            ("properties=3", Err("neither")),
            ("properties.floor=3", Err("neither")),
            ("properties.tags.wing=east", Err("neither")),
            // Keys that only start like a section.
            ("desiredMode=3", Ok("desiredMode")),
            ("Desired=3", Ok("Desired")),
            ("Desired.floor=3", Err("write desired.floor")),
            ("Properties.Desired.a=3", Err("write properties.desired.a")),
            ("properties.DESIRED.A=3", Err("write properties.desired.A")),
            ("Tags.a=3", Err("write tags.a")),
            ("REPORTED.floor=3", Err("write reported.floor")),
            // Characters that a hub refuses or ignores in a name.
            ("$version=3", Err("has '$'")),
            ("a.$metadata=3", Err("has '$'")),
            ("a b=3", Err("has ' '")),
            ("settings. strikeTime=5s", Err("has ' '")),
            ("a\tb=3", Err("has '\\t'")),
            ("a.tags.b=3", Ok("a.tags.b")),
            (" floor =3", Ok("floor")),
            ("=3", Err("empty")),
            ("desired.=3", Err("empty")),
            ("floor", Err("expected KEY=VALUE")),
        ] {
            check(text, expected, expected);
        }
        assert_eq!(tag_key("tags.old").as_deref(), Ok("old"));
        let error = desired_assignment("tags.wing=east").unwrap_err();
        assert!(
            error.contains("doorctl devices tag DOOR wing=east"),
            "{error}"
        );
        let error = tag_assignment("properties.desired.floor=3").unwrap_err();
        assert!(error.contains("doorctl twin set DOOR floor=3"), "{error}");
    }
}

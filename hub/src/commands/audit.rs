//! `door-hub audit`: who changed or commanded what.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use door_hub::audit::read;
use iothub_protocol::audit::{AuditEntry, AuditFilter};
use iothub_protocol::time::{self, LengthError, parse_length};
use jiff::Timestamp;

use super::{print, print_error};

/// Flags of `audit`.
#[derive(Args)]
pub(crate) struct AuditArguments {
    /// The data folder.
    #[arg(long, value_name = "DIR", env = "DOOR_HUB_DATA")]
    data: Option<PathBuf>,
    /// Only rows since a time in RFC 3339 or since a time ago (`90m`, `24h`, `7d`).
    #[arg(long, value_name = "TIME|AGO", value_parser = since)]
    since: Option<Timestamp>,
    /// Only rows of this policy.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Only rows about this device or job.
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// Only rows of this operation, such as `method.invoke` or `job.create`.
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Maximum number of rows; prints the newest.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    top: u32,
    /// The output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// Columns, for people.
    Table,
    /// One JSON object per line, in the format of `GET /audit`.
    Jsonl,
}

/// Prints the rows, newest last, like a log.
pub(crate) fn audit(arguments: AuditArguments) -> anyhow::Result<()> {
    let data = super::data_folder(arguments.data)?;
    let filter = AuditFilter {
        since: arguments.since,
        policy: arguments.policy,
        target: arguments.target,
        operation: arguments.operation,
    };
    let rows = read(&data, &filter, arguments.top)?;
    match arguments.output {
        Output::Table if rows.is_empty() => {
            print_error("no entry matches these filters");
            Ok(())
        }
        Output::Table => print(table(&rows)?),
        Output::Jsonl => print(json_lines(&rows)?),
    }
}

fn table(rows: &[AuditEntry]) -> anyhow::Result<String> {
    let mut out = String::new();
    writeln!(
        out,
        "{:<28}  {:<16}  {:<15}  {:<24}  {:<30}  {:<24}  DETAIL",
        "TIME", "POLICY", "OPERATION", "TARGET", "RESULT", "REASON"
    )?;
    for row in rows.iter().rev() {
        let result = match (row.status, &row.error) {
            (None, _) => "unknown: may have been done".to_owned(),
            (Some(status), None) => status.to_string(),
            (Some(status), Some(error)) => format!("{status} {error}"),
        };
        writeln!(
            out,
            "{:<28}  {:<16}  {:<15}  {:<24}  {:<30}  {:<24}  {}",
            time::format(row.time),
            printable(&row.policy),
            row.operation,
            printable(&row.target),
            result,
            printable(row.reason.as_deref().unwrap_or_default()),
            printable(row.detail.as_deref().unwrap_or_default())
        )?;
    }
    Ok(out)
}

fn json_lines(rows: &[AuditEntry]) -> anyhow::Result<String> {
    let mut out = String::new();
    for row in rows.iter().rev() {
        out += &serde_json::to_string(row)?;
        out.push('\n');
    }
    Ok(out)
}

/// Escapes control characters, so that a caller's text stays on one line and cannot control the
/// terminal.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = character.is_control();
            let plain = (!escaped).then_some(character);
            plain.into_iter().chain(
                escaped
                    .then(|| character.escape_default())
                    .into_iter()
                    .flatten(),
            )
        })
        .collect()
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let expected = "expected a time such as 2026-11-23T22:00:00Z or a time ago: 90m, 24h, 7d";
    let ago = parse_length(text).map_err(|error| match error {
        LengthError::NoUnit(_) => error.to_string(),
        LengthError::Malformed => expected.to_owned(),
    })?;
    (Timestamp::now().checked_sub(ago)).map_err(|_| expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_absolute_and_relative_times() {
        let given = since("2026-11-23T22:00:00Z").expect("a time");
        assert_eq!(given.to_string(), "2026-11-23T22:00:00Z");
        let ago = since("1d12h").expect("a span");
        let hours = (Timestamp::now() - ago).as_secs_f64() / 3600.0;
        assert!((hours - 36.0).abs() < 0.1, "{hours}");
        for wrong in ["yesterday", "", "-2h", "2h ago", "10:00:00"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn takes_the_lengths_of_time_that_all_programs_take() {
        for row in include_str!("../../../testing/lengths.tsv").lines() {
            let (text, seconds) = row.split_once('\t').expect("two columns");
            let ago = since(text).map(|then| (Timestamp::now() - then).as_secs());
            match seconds.parse::<i64>() {
                Ok(seconds) => assert!((ago.expect(text) - seconds).abs() < 60, "{text}"),
                Err(_) => assert!(ago.is_err(), "{text}"),
            }
        }
        let error = since("600").expect_err("no unit");
        assert_eq!(error, "600 has no unit: write 600s or 600m");
    }

    #[test]
    fn escapes_control_characters() {
        assert_eq!(printable("T\u{fc}r\u{1b}[2J\n"), "T\u{fc}r\\u{1b}[2J\\n");
    }
}

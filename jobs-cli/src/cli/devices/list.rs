//! `doorctl devices list`.

use clap::Args;

use crate::cli::target::TargetArgs;

const FILTERS: &str = "Filters (all given must match)";

pub(super) const EXAMPLES: &str = "\
Examples:
  doorctl devices list
  doorctl devices list --floor 3 -o csv
  doorctl devices list --offline --tag wing=east
  doorctl devices list --alarm --building 43 -o json
  doorctl devices list --where \"status = 'disabled'\"
  doorctl devices list --sort floor --reverse --limit 10
  doorctl devices list --columns door,tags.wing,desired.floor,reported.door.mode --sort tags.wing

What an offline door last reported is in brackets, with its age: [locked 3h ago].

Columns: door, connectionState, building, floor, lockState, doorState, secured, proof; status, \
statusReason, authenticationType, lastActivityTime, version, etag, modelId; and the paths \
tags.KEY, desired.KEY and reported.KEY.

CSV and JSON lines (-o csv, -o jsonl) are streamed page by page in the order of the hub, for any \
number of doors, unless --sort or --reverse is given. A table and -o json are sorted by door.";

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Only doors that are offline.
    #[arg(long, help_heading = FILTERS)]
    pub(crate) offline: bool,
    /// Only doors whose last report has an alarm.
    #[arg(long, help_heading = FILTERS)]
    pub(crate) alarm: bool,
    /// Only doors that are not secured by their last report: unsecured, unknown, or no report.
    #[arg(long, help_heading = FILTERS)]
    pub(crate) unsecured: bool,
    /// Sort by this column; doors without a value come last.
    #[arg(long, value_name = "COLUMN", help_heading = "View")]
    pub(crate) sort: Option<String>,
    /// Reverse the order.
    #[arg(long, help_heading = "View")]
    pub(crate) reverse: bool,
    /// Columns to show, separated by commas.
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        help_heading = "View"
    )]
    pub(crate) columns: Option<Vec<String>>,
    /// Show at most this many doors; without --sort, the first ones of the hub.
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "View")]
    pub(crate) limit: Option<usize>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a number from 1".to_owned()),
    }
}

//! `doorctl devices list`.

use clap::Args;

use crate::cli::target::TargetArgs;

pub(super) const EXAMPLES: &str = "\
Examples:
  doorctl devices list
  doorctl devices list --floor 3 -o csv
  doorctl devices list --where \"connectionState = 'Disconnected'\"
  doorctl devices list --sort floor --reverse --limit 10
  doorctl devices list --columns door,tags.wing,desired.floor,reported.door.mode --sort tags.wing

Columns: door, connectionState, building, floor, lockState, doorState, secured, proof; status,
statusReason, authenticationType, lastActivityTime, version, etag, modelId; and the paths tags.KEY,
desired.KEY and reported.KEY.

CSV and lines of JSON (-o csv, -o jsonl) go out page by page, in the order of the hub, whatever the
number of doors, unless --sort or --reverse is given. A table and -o json are sorted by door.";

/// `devices list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Sort by this column; doors that have nothing there come last.
    #[arg(long, value_name = "COLUMN", help_heading = "View")]
    pub(crate) sort: Option<String>,
    /// The other way around.
    #[arg(long, help_heading = "View")]
    pub(crate) reverse: bool,
    /// Show these columns, separated by commas.
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        help_heading = "View"
    )]
    pub(crate) columns: Option<Vec<String>>,
    /// Show no more doors than this; without --sort those that the hub gives first.
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "View")]
    pub(crate) limit: Option<usize>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a number from 1".to_owned()),
    }
}

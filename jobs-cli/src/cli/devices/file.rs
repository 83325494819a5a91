//! `doorctl devices add`, `export`, `import`.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::cli::target::TargetArgs;
use crate::cli::twin::tag_assignment;

pub(super) const ADD_EXAMPLES: &str = "\
Examples:
  doorctl devices add lobby-east lobby-west --building 43 --floor 3
  doorctl devices add lobby-east --building 43 --floor 3 --agent-config lobby-east.toml
  doorctl devices add lobby-east --tag wing=east --tag access.group=staff
  doorctl devices add --from doors.csv --keys-folder keys
  doorctl devices add --from doors.csv --dry-run

--agent-config writes three files for a door-agent with a simulated board: the configuration and, \
in the same folder, <name>.connection-string (mode 0600) and, if the context has a CA, \
<name>.ca.pem. Existing files are not overwritten.

--from reads CSV with a header. Column door is required; building and floor assign the door; \
tags.KEY and desired.KEY set tags and desired properties, with dots for nested keys. A value that \
parses as JSON is JSON, else text; an empty cell sets nothing:

  door,building,floor,tags.wing,desired.settings.strikeTime
  lobby-east,43,3,east,5
  lobby-west,43,3,west,

All lines are checked before any door is created, and each error is reported with its line. \
Either all doors are created or none: if one fails, or on Ctrl-C, the doors created so far are \
removed.";

pub(super) const EXPORT_EXAMPLES: &str = "\
Examples:
  doorctl devices export --out doors.jsonl
  doorctl devices export --building 43 --out doors.csv
  doorctl devices export --with-keys --out doors-with-keys.jsonl
  doorctl devices export -o csv | head

Writes one line of JSON per door, in the format of Azure's export, unless -o or the file name \
selects CSV or JSON. Without --with-keys, an import gives the doors new keys. Reported properties \
are not exported. An existing file is not overwritten.";

pub(super) const IMPORT_EXAMPLES: &str = "\
Examples:
  doorctl devices import doors.jsonl --dry-run
  doorctl devices import doors-with-keys.jsonl
  doorctl devices import doors.csv --update

Reads the output of `doorctl devices export`, lines of an Azure export, and CSV with the columns \
of `doorctl devices add --from`; `-` is standard input. All lines are checked before any change. \
If one of the doors exists, nothing is imported, unless --update is given: then status and keys \
in the file replace those on the hub, and tags and desired properties are merged into those on \
the hub. A line that cannot be applied is reported and the others go on; the exit status is 2. \
Doors without keys in the file get new ones: doorctl devices connection-string DOOR --out FILE";

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Names of the doors: letters, digits, `_` and `-`, at most 64.
    #[arg(required_unless_present = "from", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Assign the doors to this building (desired property `building`).
    #[arg(long, allow_negative_numbers = true, value_name = "BUILDING")]
    pub(crate) building: Option<String>,
    /// Assign the doors to this floor (desired property `floor`).
    #[arg(long, allow_negative_numbers = true, value_name = "FLOOR")]
    pub(crate) floor: Option<String>,
    /// Tag for the doors; dots separate nested keys (repeatable).
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag_assignment)]
    pub(crate) tags: Vec<(String, Value)>,
    /// Write the configuration of a door-agent with a simulated board to this file (one door
    /// only).
    #[arg(long, value_name = "FILE")]
    pub(crate) agent_config: Option<PathBuf>,
    /// MQTT over TLS port of the hub [default: as reported by the hub, else 8883].
    #[arg(long, value_name = "PORT", requires = "agent_config")]
    pub(crate) mqtt_port: Option<u16>,
    /// Add the doors of this CSV file, all or none; `-` is standard input.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["names", "building", "floor", "tags", "agent_config"],
        help_heading = "From a file"
    )]
    pub(crate) from: Option<PathBuf>,
    /// Write each connection string to FOLDER/NAME.connection-string (mode 0600).
    #[arg(
        long,
        value_name = "FOLDER",
        requires = "from",
        help_heading = "From a file"
    )]
    pub(crate) keys_folder: Option<PathBuf>,
    /// Check the file and the hub, and create nothing.
    #[arg(long, requires = "from", help_heading = "From a file")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// File to create [default: standard output].
    #[arg(long, value_name = "FILE", help_heading = "File")]
    pub(crate) out: Option<PathBuf>,
    /// Include the keys of the doors; the file gets mode 0600.
    #[arg(long, requires = "out", help_heading = "File")]
    pub(crate) with_keys: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// File to read; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Change doors that exist, instead of refusing the import.
    #[arg(long)]
    pub(crate) update: bool,
    /// Check the file and the hub, print what would be done, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

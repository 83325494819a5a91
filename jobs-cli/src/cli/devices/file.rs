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

With --agent-config, three files are made for a door-agent with a simulated board: the configuration
and, beside it, <name>.connection-string (mode 0600), and <name>.ca.pem when the context has a CA.
Nothing that exists is overwritten.

With --from, the file is CSV with a header. The column door is needed; building and floor assign;
tags.KEY and desired.KEY set tags and desired properties, dots nest. A value is JSON when it can be
read as JSON, else text; an empty cell says nothing:

  door,building,floor,tags.wing,desired.settings.strikeTime
  lobby-east,43,3,east,5
  lobby-west,43,3,west,

Every line is checked before anything is made, and every mistake is told with its line. All doors
are made, or none: what was made is taken back when one fails, also by Ctrl-C.";

pub(super) const EXPORT_EXAMPLES: &str = "\
Examples:
  doorctl devices export --out doors.jsonl
  doorctl devices export --building 43 --out doors.csv
  doorctl devices export --with-keys --out doors-with-keys.jsonl
  doorctl devices export -o csv | head

A line of JSON for each door, as Azure's own export has it, unless -o or the name of the file says
CSV or JSON. Without --with-keys, an import gives the doors new keys. What doors report is not
exported. A file that exists is not overwritten.";

pub(super) const IMPORT_EXAMPLES: &str = "\
Examples:
  doorctl devices import doors.jsonl --dry-run
  doorctl devices import doors-with-keys.jsonl
  doorctl devices import doors.csv --update

Reads what `doorctl devices export` writes, lines of an Azure export, and CSV with the columns of
`doorctl devices add --from`; `-` is standard input. Every line is checked before anything is done.
Doors that exist are refused, all of them and before anything is done, unless --update is given: then
status and keys that the file has take the place of those there, and tags and desired properties are
merged into those there. What cannot be done is told for its line, and the others go on: status 2.
Doors whose keys are not in the file get new ones: doorctl devices connection-string DOOR --out FILE";

/// `devices add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// What to call the doors: letters, digits, `_` and `-`, at most 64.
    #[arg(required_unless_present = "from", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Assign them to this building (desired property `building`).
    #[arg(long, value_name = "BUILDING")]
    pub(crate) building: Option<String>,
    /// Assign them to this floor (desired property `floor`).
    #[arg(long, value_name = "FLOOR")]
    pub(crate) floor: Option<String>,
    /// Tag them; dots nest; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag_assignment)]
    pub(crate) tags: Vec<(String, Value)>,
    /// Write the configuration of a door-agent with a simulated board to this file (one door
    /// only).
    #[arg(long, value_name = "FILE")]
    pub(crate) agent_config: Option<PathBuf>,
    /// The hub's port for MQTT over TLS [default: asked of the hub, else 8883].
    #[arg(long, value_name = "PORT", requires = "agent_config")]
    pub(crate) mqtt_port: Option<u16>,
    /// Add the doors of this CSV file, all or none; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["names", "building", "floor", "tags", "agent_config"], help_heading = "From a file")]
    pub(crate) from: Option<PathBuf>,
    /// Write each door's connection string to FOLDER/NAME.connection-string, for your eyes only.
    #[arg(
        long,
        value_name = "FOLDER",
        requires = "from",
        help_heading = "From a file"
    )]
    pub(crate) keys_folder: Option<PathBuf>,
    /// Check the file and the hub, and make nothing.
    #[arg(long, requires = "from", help_heading = "From a file")]
    pub(crate) dry_run: bool,
}

/// `devices export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// The file to make [default: standard output].
    #[arg(long, value_name = "FILE", help_heading = "File")]
    pub(crate) out: Option<PathBuf>,
    /// With the keys of the doors; the file gets mode 0600.
    #[arg(long, requires = "out", help_heading = "File")]
    pub(crate) with_keys: bool,
}

/// `devices import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Change doors that exist; without it they are refused.
    #[arg(long)]
    pub(crate) update: bool,
    /// Check the file and the hub, say what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

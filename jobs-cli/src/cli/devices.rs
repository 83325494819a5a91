//! `doorctl devices ...`

pub(crate) mod change;
pub(crate) mod file;
pub(crate) mod list;

use std::path::PathBuf;

use super::enroll::{self, EnrollArgs};
use change::{RemoveArgs, RotateKeyArgs, StatusArgs, TagArgs};
use clap::Subcommand;
use clap::builder::Resettable;
use file::{AddArgs, ExportArgs, ImportArgs};
use list::ListArgs;

/// Register, list and change doors on the hub.
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// Register doors, each with its own keys.
    #[command(after_help = file::ADD_EXAMPLES)]
    Add(AddArgs),
    /// Set up a Raspberry Pi as a door over ssh: register, install, configure, start, and wait for
    /// its report.
    #[command(after_help = enroll::EXAMPLES)]
    Enroll(Box<EnrollArgs>),
    /// List doors: connection, building and floor, lock and door state.
    #[command(after_help = list::EXAMPLES)]
    List(ListArgs),
    /// Show one door: its identity without keys, and its twin.
    Show {
        /// Name of the door.
        door: String,
    },
    /// Set and remove tags of doors now; `jobs tags` does it at a set time.
    #[command(
        // `--all` may be combined with words that are tags, but not with doors: the verb checks.
        mut_arg("all", |arg| {
            arg.conflicts_with(Resettable::<clap::Id>::Reset)
                .conflicts_with_all(["building", "floor", "condition"])
        }),
        mut_arg("doors", |arg| {
            arg.value_name("DOOR|KEY=VALUE").help("Doors by name, and tags to set")
        }),
        after_help = change::TAG_EXAMPLES
    )]
    Tag(TagArgs),
    /// Allow disabled doors to connect again.
    #[command(after_help = change::ENABLE_EXAMPLES)]
    Enable(StatusArgs),
    /// Block doors from connecting, without removing them.
    #[command(after_help = change::DISABLE_EXAMPLES)]
    Disable(StatusArgs),
    /// Remove doors from the hub: identity, keys and twin.
    #[command(after_help = change::REMOVE_EXAMPLES)]
    Remove(RemoveArgs),
    /// Give a door a new key and write its connection string to a file that only you may read.
    #[command(after_help = change::ROTATE_KEY_EXAMPLES)]
    RotateKey(RotateKeyArgs),
    /// Export doors to a file: identities, tags and desired properties.
    #[command(after_help = file::EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Create doors from an export or a CSV file.
    #[command(after_help = file::IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Write a door's connection string to a file that only you may read.
    ConnectionString {
        /// Name of the door.
        door: String,
        /// File to create.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Use the secondary key instead of the primary.
        #[arg(long)]
        secondary: bool,
    },
}

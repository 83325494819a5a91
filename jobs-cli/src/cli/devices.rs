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

/// Doors as the hub knows them.
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// Register doors, each with keys of its own.
    #[command(after_help = file::ADD_EXAMPLES)]
    Add(AddArgs),
    /// Make a Raspberry Pi a door, over ssh: registered, installed, set up, started, and seen to
    /// report.
    #[command(after_help = enroll::EXAMPLES)]
    Enroll(Box<EnrollArgs>),
    /// List doors: connection, place, lock and door state.
    #[command(after_help = list::EXAMPLES)]
    List(ListArgs),
    /// Show one door: identity (without keys) and twin.
    Show {
        /// The door.
        door: String,
    },
    /// Set and remove tags of doors, now; `jobs tags` does it at a set time.
    #[command(
        // The tags among the words do not contradict --all; doors do, which is for the verb to see.
        mut_arg("all", |arg| arg.conflicts_with(Resettable::<clap::Id>::Reset).conflicts_with_all(["building", "floor", "condition"])),
        mut_arg("doors", |arg| arg.value_name("DOOR|KEY=VALUE").help("These doors; these tags")),
        after_help = change::TAG_EXAMPLES
    )]
    Tag(TagArgs),
    /// Let doors connect again.
    #[command(after_help = change::ENABLE_EXAMPLES)]
    Enable(StatusArgs),
    /// Keep doors from connecting, without removing them.
    #[command(after_help = change::DISABLE_EXAMPLES)]
    Disable(StatusArgs),
    /// Remove doors from the hub: identity, keys and twin.
    #[command(after_help = change::REMOVE_EXAMPLES)]
    Remove(RemoveArgs),
    /// Give a door a new key; its connection string goes to a file that only you may read.
    #[command(after_help = change::ROTATE_KEY_EXAMPLES)]
    RotateKey(RotateKeyArgs),
    /// Write doors to a file, to keep or to move: identities, tags and desired properties.
    #[command(after_help = file::EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Make the doors of a file again.
    #[command(after_help = file::IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Write a door's connection string to a file that only you may read.
    ConnectionString {
        /// The door.
        door: String,
        /// The file to make.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Use the secondary key.
        #[arg(long)]
        secondary: bool,
    },
}

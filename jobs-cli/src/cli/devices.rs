//! `doorctl devices ...`

pub(crate) mod change;

use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::enroll::{self, EnrollArgs};
use super::target::TargetArgs;
use super::twin::assignment;
use change::{RemoveArgs, RotateKeyArgs, StatusArgs, TagArgs};

/// Doors as the hub knows them.
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// Register doors, each with keys of its own.
    #[command(after_help = "\
Examples:
  doorctl devices add lobby-east lobby-west --building 43 --floor 3
  doorctl devices add lobby-east --building 43 --floor 3 --agent-config lobby-east.toml
  doorctl devices add lobby-east --tag wing=east --tag access.group=staff

With --agent-config, three files are made for a door-agent with a simulated board: the configuration,
beside it <name>.connection-string (mode 0600), and <name>.ca.pem when the context has a CA. Nothing
that exists is overwritten.")]
    Add(AddArgs),
    /// Make a Raspberry Pi a door, over ssh: registered, installed, set up, started, and seen to report.
    #[command(after_help = enroll::EXAMPLES)]
    Enroll(Box<EnrollArgs>),
    /// List doors: connection, place, lock and door state.
    #[command(after_help = "\
Examples:
  doorctl devices list
  doorctl devices list --floor 3 -o csv
  doorctl devices list --where \"connectionState = 'Disconnected'\"")]
    List {
        #[command(flatten)]
        target: TargetArgs,
    },
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

/// `devices add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// What to call the doors: letters, digits, `_` and `-`, at most 64.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Assign them to this building (desired property `building`).
    #[arg(long, value_name = "BUILDING")]
    pub(crate) building: Option<String>,
    /// Assign them to this floor (desired property `floor`).
    #[arg(long, value_name = "FLOOR")]
    pub(crate) floor: Option<String>,
    /// Tag them; dots nest; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = assignment)]
    pub(crate) tags: Vec<(String, Value)>,
    /// Write the configuration of a door-agent with a simulated board to this file (one door only).
    #[arg(long, value_name = "FILE")]
    pub(crate) agent_config: Option<PathBuf>,
    /// The hub's port for MQTT over TLS [default: asked of the hub, else 8883].
    #[arg(long, value_name = "PORT", requires = "agent_config")]
    pub(crate) mqtt_port: Option<u16>,
}

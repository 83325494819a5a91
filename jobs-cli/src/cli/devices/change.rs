//! `doorctl devices tag`, `enable`, `disable`, `remove`, `rotate-key`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::confirm::ConfirmArgs;
use crate::cli::target::TargetArgs;

pub(super) const TAG_EXAMPLES: &str = "\
An argument with `=` is a tag; any other is the name of a door. A value that parses as JSON is \
JSON, else text; dots separate nested keys.

Examples:
  doorctl devices tag lobby-east lobby-west wing=east access.group=staff
  doorctl devices tag --floor 3 wing=north --remove old
  doorctl devices tag --where \"NOT IS_DEFINED(tags.wing)\" wing=unknown --yes

Doors that already have these tags are not changed. The exit status is 2 if some doors could not \
be changed; each is listed with its reason.";

pub(super) const ENABLE_EXAMPLES: &str = "\
Examples:
  doorctl devices enable lobby-east
  doorctl devices enable --where \"status = 'disabled' AND tags.wing = 'east'\"

Clears the reason that was given when the doors were disabled, unless --reason sets a new one: at \
most 128 characters.";

pub(super) const DISABLE_EXAMPLES: &str = "\
Examples:
  doorctl devices disable lobby-east --reason \"controller stolen\"
  doorctl devices disable --building 43 --yes

A connected door is disconnected at once. It keeps its keys, its twin and its commands: it stays \
locked or unlocked as it is, and no command reaches it until it is enabled. --reason is also \
stored in the identity, as statusReason: at most 128 characters.";

pub(super) const REMOVE_EXAMPLES: &str = "\
Examples:
  doorctl devices remove lobby-east
  doorctl devices remove --where \"tags.site = 'closed'\"
  doorctl devices remove --building 43 --yes

Confirm by typing the name of the door, or the number of doors. A script passes --yes; without it \
the command is refused with status 4. Removed keys cannot be restored: if the doors are to \
return, first run `doorctl devices export --with-keys --out FILE`. To block a door but keep its \
identity, use `doorctl devices disable`. The controller at the door keeps its last state and \
settings.";

pub(super) const ROTATE_KEY_EXAMPLES: &str = "\
Examples, in an order that never leaves the door without a valid key:
  doorctl devices rotate-key lobby-east --key secondary --out lobby-east.new
      install lobby-east.new at the door and restart its agent; it now uses the secondary key
  doorctl devices rotate-key lobby-east --key primary --out lobby-east.newer
      the old primary key is now invalid; install lobby-east.newer at any time

The old key stops working at once: a door that uses it is cut off until it gets the file. The key \
is never printed. Nothing changes if the door's identity was changed concurrently, or if the file \
already exists.";

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Tag to remove; dots separate nested keys (repeatable).
    #[arg(long, value_name = "KEY", help_heading = "Tags")]
    pub(crate) remove: Vec<String>,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// `devices enable`, `devices disable`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Skip the confirmation.
    #[arg(long, help_heading = "Confirmation")]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RotateKeyArgs {
    /// Name of the door.
    pub(crate) door: String,
    /// Key to regenerate: secondary, primary or both.
    #[arg(
        long,
        value_enum,
        default_value_t = WhichKey::Secondary,
        value_name = "KEY",
        hide_possible_values = true
    )]
    pub(crate) key: WhichKey,
    /// File to create, with the connection string of the new key (for both: of the primary).
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// Which of a door's keys to regenerate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum WhichKey {
    /// The primary key, which `devices add` and `devices connection-string` hand out.
    Primary,
    /// The secondary key.
    Secondary,
    /// Both keys: the door is cut off, whichever it uses.
    Both,
}

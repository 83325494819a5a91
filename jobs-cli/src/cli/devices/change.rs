//! `doorctl devices tag`, `enable`, `disable`, `remove`, `rotate-key`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::confirm::ConfirmArgs;
use crate::cli::target::TargetArgs;

pub(super) const TAG_EXAMPLES: &str = "\
A word with `=` is a tag, any other the name of a door. A value is JSON when it can be read as JSON,
else text; dots nest.

Examples:
  doorctl devices tag lobby-east lobby-west wing=east access.group=staff
  doorctl devices tag --floor 3 wing=north --remove old
  doorctl devices tag --where \"NOT IS_DEFINED(tags.wing)\" wing=unknown --yes

A door that has these tags already is left as it is. Ends with status 2 when some doors could not be
changed; each is told with its reason.";

pub(super) const ENABLE_EXAMPLES: &str = "\
Examples:
  doorctl devices enable lobby-east
  doorctl devices enable --where \"status = 'disabled' AND tags.wing = 'east'\"

The reason that was given when they were disabled goes, unless --reason gives another, of at most
128 characters.";

pub(super) const DISABLE_EXAMPLES: &str = "\
Examples:
  doorctl devices disable lobby-east --reason \"controller stolen\"
  doorctl devices disable --building 43 --yes

A door that is connected is disconnected at once. It keeps its keys, its twin and what it was told:
it stays locked or unlocked as it is, and no command reaches it until it is enabled. The identity
keeps --reason, too, as statusReason: at most 128 characters.";

pub(super) const REMOVE_EXAMPLES: &str = "\
Examples:
  doorctl devices remove lobby-east
  doorctl devices remove --where \"tags.site = 'closed'\"
  doorctl devices remove --building 43 --yes

Asks for the name of the door, or for the number of doors, to be typed; a script says --yes, and is
refused with status 4 otherwise. Nothing brings the keys back: keep them first when the doors are to
return, with `doorctl devices export --with-keys --out FILE`. `doorctl devices disable` keeps a door
out and its identity in. The machine at the door goes on as it was told last.";

pub(super) const ROTATE_KEY_EXAMPLES: &str = "\
Examples, in the order in which no door is ever without a good key:
  doorctl devices rotate-key lobby-east --key secondary --out lobby-east.new
      hand lobby-east.new to the door and restart its agent; it now uses the secondary key
  doorctl devices rotate-key lobby-east --key primary --out lobby-east.newer
      nobody has the old primary key any more; hand lobby-east.newer to the door when you like

The old key stops working at once. A door that uses it is cut off until it gets the file. The key is
never printed. Nothing is changed when somebody else changed the door's identity in the meantime, or
when the file exists.";

/// `devices tag`.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// A tag to remove; dots nest; may be repeated.
    #[arg(long, value_name = "KEY", help_heading = "Tags")]
    pub(crate) remove: Vec<String>,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// `devices enable`, `devices disable`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
}

/// `devices remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Do not ask.
    #[arg(long, help_heading = "Confirmation")]
    pub(crate) yes: bool,
}

/// `devices rotate-key`.
#[derive(Debug, Args)]
pub(crate) struct RotateKeyArgs {
    /// The door.
    pub(crate) door: String,
    /// Which key is made anew: secondary, primary or both.
    #[arg(long, value_enum, default_value_t = WhichKey::Secondary, value_name = "KEY", hide_possible_values = true)]
    pub(crate) key: WhichKey,
    /// The file to make; it holds the connection string with the new key (of both: the primary).
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// Which of a door's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhichKey {
    /// The first; `devices add` and `devices connection-string` hand out this one.
    Primary,
    /// The second.
    Secondary,
    /// Each of them: a door is cut off whichever it uses.
    Both,
}

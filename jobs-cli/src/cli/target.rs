//! Which doors: the flags that all verbs over many doors share.

use clap::Args;

/// Which doors.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which doors (all that are given must hold)")]
pub(crate) struct TargetArgs {
    /// These doors.
    #[arg(value_name = "DOOR")]
    pub(crate) doors: Vec<String>,
    /// Doors assigned to this building (desired property `building`); may be repeated.
    #[arg(long, value_name = "BUILDING")]
    pub(crate) building: Vec<String>,
    /// Doors assigned to this floor (desired property `floor`); may be repeated.
    #[arg(long, value_name = "FLOOR")]
    pub(crate) floor: Vec<String>,
    /// Doors for which this condition of the query language holds.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
    /// Every door.
    #[arg(long, conflicts_with_all = ["doors", "building", "floor", "condition"])]
    pub(crate) all: bool,
    /// Go on when no door is assigned to a given building or floor.
    #[arg(long)]
    pub(crate) allow_none: bool,
}

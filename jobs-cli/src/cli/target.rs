//! Door selection: the flags that all verbs over many doors share.

use clap::Args;

/// Selects doors; all given filters must match.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Door selection (all given filters must match)")]
pub(crate) struct TargetArgs {
    /// Doors by name.
    #[arg(value_name = "DOOR")]
    pub(crate) doors: Vec<String>,
    /// Doors assigned to this building (desired property `building`; repeatable).
    #[arg(long, allow_negative_numbers = true, value_name = "BUILDING")]
    pub(crate) building: Vec<String>,
    /// Doors assigned to this floor (desired property `floor`; repeatable).
    #[arg(long, allow_negative_numbers = true, value_name = "FLOOR")]
    pub(crate) floor: Vec<String>,
    /// Doors that match this condition of the query language.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
    /// Every door.
    #[arg(long, conflicts_with_all = ["doors", "building", "floor", "condition"])]
    pub(crate) all: bool,
    /// Continue if no door is assigned to a given building or floor.
    #[arg(long)]
    pub(crate) allow_none: bool,
    /// Conditions of other flags of the verb.
    #[arg(skip)]
    pub(crate) others: Vec<String>,
}

//! Door selection: the flags that all verbs over many doors share.

use clap::Args;

use super::twin::tag_assignment;

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
    /// Doors with this tag, such as group=public; dots separate nested names (repeatable; a name
    /// given twice: either value).
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag_filter)]
    pub(crate) tags: Vec<(String, String)>,
    /// Doors that match this condition of the query language.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
    /// Every door.
    #[arg(long, conflicts_with_all = ["doors", "building", "floor", "tags", "condition"])]
    pub(crate) all: bool,
    /// Continue if no door is assigned to a given building or floor, or has a given tag.
    #[arg(long)]
    pub(crate) allow_none: bool,
    /// Conditions of other flags of the verb.
    #[arg(skip)]
    pub(crate) others: Vec<String>,
}

/// Parses `NAME=VALUE` of a tag; the value stays text.
pub(crate) fn tag_filter(text: &str) -> Result<(String, String), String> {
    let error = |error: String| error.replace("KEY", "NAME");
    let (name, _) = tag_assignment(text).map_err(error)?;
    let (_, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    match name.contains("]]") {
        true => Err("the name has `]]`, which no condition can contain; use --where".to_owned()),
        false => Ok((name, value.to_owned())),
    }
}

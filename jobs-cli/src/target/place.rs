//! Selection by building and floor. A value that no door is assigned to is more likely a typing
//! error than an empty selection.

use serde_json::Value;

use super::{Target, place_condition};
use crate::cli::target::TargetArgs;
use crate::failure::Failure;
use crate::printer::{compare_values, first_names, plain};
use crate::session::Session;
use crate::suggest;

/// Most values listed in an error.
const MAX_LISTED: usize = 10;

/// The values of `--building` and `--floor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PlaceFilter {
    building: Vec<String>,
    floor: Vec<String>,
    /// `--allow-none`.
    allow_none: bool,
}

impl PlaceFilter {
    pub(super) fn from_args(args: &TargetArgs) -> Self {
        Self {
            building: args.building.clone(),
            floor: args.floor.clone(),
            allow_none: args.allow_none,
        }
    }
}

impl Target {
    /// Whether an empty selection is allowed (`--allow-none`).
    pub(crate) fn allows_none(&self) -> bool {
        self.places.allow_none
    }

    /// Refuses a building or floor that no door is assigned to, and a combination that matches no
    /// door. `found` is the number of doors in the whole selection.
    ///
    /// # Errors
    ///
    /// Suggests the closest value that doors are assigned to.
    pub(crate) async fn refuse_empty_places(
        &self,
        found: usize,
        session: &Session,
    ) -> anyhow::Result<()> {
        let places = &self.places;
        let given = [("building", &places.building), ("floor", &places.floor)];
        if places.allow_none || given.iter().all(|(_, values)| values.is_empty()) {
            return Ok(());
        }
        for (property, values) in given {
            // The doors found prove a single value; several are checked one by one.
            if values.is_empty() || (found > 0 && values.len() == 1) {
                continue;
            }
            let assigned = assigned_values(property, "*", session).await?;
            if let Some(value) = values.iter().find(|value| !is_assigned(value, &assigned)) {
                return Err(unassigned_place(property, value, &assigned, "").into());
            }
        }
        if found > 0 {
            return Ok(());
        }
        if let ([building], Some(floor)) = (&places.building[..], places.floor.first()) {
            let within = place_condition("building", &places.building);
            let assigned = assigned_values("floor", &within, session).await?;
            if !places
                .floor
                .iter()
                .any(|floor| is_assigned(floor, &assigned))
            {
                let within = format!(" of building `{building}`");
                return Err(unassigned_place("floor", floor, &assigned, &within).into());
            }
        }
        Err(next(Failure::new("no door matches all given filters")).into())
    }
}

/// Values of a desired property among the doors that match a condition.
async fn assigned_values(
    property: &str,
    condition: &str,
    session: &Session,
) -> anyhow::Result<Vec<String>> {
    let within = match condition {
        "*" => String::new(),
        condition => format!("WHERE {condition} "),
    };
    let path = format!("properties.desired.{property}");
    let query = format!(
        "SELECT {path} AS {property}, COUNT() AS doors FROM devices {within}GROUP BY {path}"
    );
    let rows: Vec<Value> = session.hub.query(&query).await?;
    let values = rows.iter().filter_map(|row| row.get(property));
    let mut values: Vec<String> = values.filter(|value| !value.is_null()).map(plain).collect();
    values.sort_by(|a, b| compare_values(a, b));
    values.dedup();
    Ok(values)
}

/// Compares as the condition does: a number matches as text, too.
fn is_assigned(value: &str, assigned: &[String]) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    assigned
        .iter()
        .any(|known| known == value || (number(value).is_some() && number(known) == number(value)))
}

fn unassigned_place(property: &str, value: &str, assigned: &[String], within: &str) -> Failure {
    let hint = match suggest::closest(value, assigned.iter().map(String::as_str)) {
        Some(closest) => format!("did you mean `{closest}`?"),
        None if assigned.is_empty() => format!("no door is assigned to any {property}{within}"),
        None => format!(
            "doors are assigned to {}",
            first_names(assigned, MAX_LISTED)
        ),
    };
    next(Failure::new(format!(
        "no door is assigned to {property} `{value}`{within}; {hint}"
    )))
}

fn next(failure: Failure) -> Failure {
    failure.next("doorctl devices list; to continue without doors: --allow-none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unassigned_place_is_reported_with_those_that_have_doors() {
        let many: Vec<String> = (1..=12).map(|n| (n * 100).to_string()).collect();
        for (value, assigned, expected) in [
            ("nroth", "43 north south", "did you mean `north`?"),
            ("North", "north", "did you mean `north`?"),
            ("34", "43", "did you mean `43`?"),
            ("9", "1 2", "doors are assigned to 1, 2"),
            ("annex", "43 44", "doors are assigned to 43, 44"),
            ("9", "", "no door is assigned to any building"),
            (
                "annex",
                &many.join(" "),
                "doors are assigned to 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000 and 2 \
                 more",
            ),
        ] {
            let assigned: Vec<String> = assigned.split_whitespace().map(str::to_owned).collect();
            let expected = format!("`{value}`; {expected}");
            let error = unassigned_place("building", value, &assigned, "").to_string();
            assert!(error.ends_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_number_matches_as_number_or_text() {
        let assigned = ["3".to_owned(), "mezzanine".to_owned()];
        for (value, expected) in [
            ("3", true),
            ("3.0", true),
            ("33", false),
            ("Mezzanine", false),
        ] {
            assert_eq!(is_assigned(value, &assigned), expected, "{value}");
        }
    }
}

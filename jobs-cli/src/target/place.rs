//! Selection by building, floor and tag. A value that no door has is more likely a typing error
//! than an empty selection.

use serde_json::Value;

use super::{Target, equals_any, tag_path};
use crate::cli::target::TargetArgs;
use crate::failure::Failure;
use crate::printer::{compare_values, first_names, plain};
use crate::session::Session;
use crate::suggest;

/// Most values listed in an error.
const MAX_LISTED: usize = 10;

/// The values of `--building`, `--floor` and `--tag`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PlaceFilter {
    places: Vec<Place>,
    /// `--allow-none`.
    allow_none: bool,
}

/// A property or tag, and the values of which a door has to have one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    is_tag: bool,
    name: String,
    values: Vec<String>,
}

impl PlaceFilter {
    pub(super) fn from_args(args: &TargetArgs) -> Self {
        let mut places: Vec<Place> = Vec::new();
        for (name, values) in [("building", &args.building), ("floor", &args.floor)] {
            places.extend((!values.is_empty()).then(|| Place {
                is_tag: false,
                name: name.to_owned(),
                values: values.clone(),
            }));
        }
        for (name, value) in &args.tags {
            let mut known = places.iter_mut();
            match known.find(|place| place.is_tag && place.name == *name) {
                Some(place) => place.values.push(value.clone()),
                None => places.push(Place {
                    is_tag: true,
                    name: name.clone(),
                    values: vec![value.clone()],
                }),
            }
        }
        Self {
            places,
            allow_none: args.allow_none,
        }
    }

    /// Conditions that all have to hold.
    pub(super) fn conditions(&self) -> Vec<String> {
        self.places.iter().map(Place::condition).collect()
    }

    /// The values of `--building` or `--floor`.
    fn named(&self, name: &str) -> Option<&Place> {
        let mut places = self.places.iter();
        places.find(|place| !place.is_tag && place.name == name)
    }
}

impl Place {
    fn path(&self) -> String {
        match self.is_tag {
            true => tag_path(&self.name),
            // The assigned value, applied or not.
            false => format!("properties.desired.{}", self.name),
        }
    }

    fn condition(&self) -> String {
        equals_any(&self.path(), &self.values)
    }

    /// The values among the doors that match a condition.
    async fn assigned(&self, condition: &str, session: &Session) -> anyhow::Result<Vec<String>> {
        let within = match condition {
            "*" => String::new(),
            condition => format!("WHERE {condition} "),
        };
        let path = self.path();
        let query = format!(
            "SELECT {path} AS assigned, COUNT() AS doors FROM devices {within}GROUP BY {path}"
        );
        let rows: Vec<Value> = session.hub.query(&query).await?;
        let values = rows.iter().filter_map(|row| row.get("assigned"));
        let values = values.filter(|value| !value.is_null() && !value.is_object());
        let mut values: Vec<String> = values.map(plain).collect();
        values.sort_by(|a, b| compare_values(a, b));
        values.dedup();
        Ok(values)
    }

    fn unassigned(&self, value: &str, assigned: &[String], within: &str) -> Failure {
        let (is_in, are_in, kind) = match self.is_tag {
            true => ("has", "have", "tag "),
            false => ("is assigned to", "are assigned to", ""),
        };
        let name = &self.name;
        let hint = match suggest::closest(value, assigned.iter().map(String::as_str)) {
            Some(closest) => format!("did you mean `{closest}`?"),
            None if assigned.is_empty() => format!("no door {is_in} any {kind}{name}{within}"),
            None => format!("doors {are_in} {}", first_names(assigned, MAX_LISTED)),
        };
        next(Failure::new(format!(
            "no door {is_in} {kind}{name} `{value}`{within}; {hint}"
        )))
    }
}

impl Target {
    /// Whether an empty selection is allowed (`--allow-none`).
    pub(crate) fn allows_none(&self) -> bool {
        self.places.allow_none
    }

    /// Refuses a building, floor or tag that no door has, and a combination that matches no door.
    /// `found` is the number of doors in the whole selection.
    ///
    /// # Errors
    ///
    /// Suggests the closest value that doors have.
    pub(crate) async fn refuse_empty_places(
        &self,
        found: usize,
        session: &Session,
    ) -> anyhow::Result<()> {
        let filter = &self.places;
        if filter.allow_none || filter.places.is_empty() {
            return Ok(());
        }
        for place in &filter.places {
            // The doors found prove a single value; several are checked one by one.
            if found > 0 && place.values.len() == 1 {
                continue;
            }
            let assigned = place.assigned("*", session).await?;
            let mut values = place.values.iter();
            if let Some(value) = values.find(|value| !is_assigned(value, &assigned)) {
                return Err(place.unassigned(value, &assigned, "").into());
            }
        }
        if found > 0 {
            return Ok(());
        }
        if let (Some(building), Some(floor)) = (filter.named("building"), filter.named("floor")) {
            let assigned = floor.assigned(&building.condition(), session).await?;
            let mut values = floor.values.iter();
            if let ([building], false) = (
                &building.values[..],
                values.any(|floor| is_assigned(floor, &assigned)),
            ) {
                let within = format!(" of building `{building}`");
                return Err(floor
                    .unassigned(&floor.values[0], &assigned, &within)
                    .into());
            }
        }
        Err(next(Failure::new("no door matches all given filters")).into())
    }
}

/// Compares as the condition does: a number matches as text, too.
fn is_assigned(value: &str, assigned: &[String]) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    assigned
        .iter()
        .any(|known| known == value || (number(value).is_some() && number(known) == number(value)))
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
            let place = |is_tag, name: &str| Place {
                is_tag,
                name: name.to_owned(),
                values: Vec::new(),
            };
            let error = place(false, "building").unassigned(value, &assigned, "");
            assert!(error.to_string().ends_with(&expected), "{error}");
            let expected = expected
                .replace("is assigned to any building", "has any tag a.b")
                .replace("are assigned to", "have");
            let error = place(true, "a.b")
                .unassigned(value, &assigned, "")
                .to_string();
            assert_eq!(error, format!("no door has tag a.b {expected}"));
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

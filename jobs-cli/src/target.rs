//! Which doors: names, places and conditions become one condition of the query language.

use iothub_protocol::DeviceId;
use iothub_protocol::query;
use serde_json::Value;

use crate::cli::target::TargetArgs;
use crate::failure::Failure;
use crate::session::Session;

/// The longest condition that a hub takes.
const MAX_CONDITION: usize = 8_192;

/// Which doors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The body of a WHERE clause; `*` for all.
    pub(crate) condition: String,
    /// The doors that were named, which should exist.
    pub(crate) names: Vec<DeviceId>,
}

impl Target {
    /// The doors that the flags choose; `None` when no flag does.
    pub(crate) fn from_args(args: &TargetArgs) -> anyhow::Result<Option<Self>> {
        let mut names = Vec::new();
        for door in &args.doors {
            names.push(
                door.parse()
                    .map_err(|error| Failure::new(format!("DOOR {door:?}: {error}")))?,
            );
        }
        let mut parts = Vec::new();
        if !names.is_empty() {
            parts.push(any_of_these(&names));
        }
        for (property, values) in [("building", &args.building), ("floor", &args.floor)] {
            if !values.is_empty() {
                parts.push(place(property, values));
            }
        }
        if let Some(condition) = &args.condition {
            check(condition)?;
            parts.push(condition.trim().to_owned());
        }
        let condition = match &parts[..] {
            [] if args.all => "*".to_owned(),
            [] => return Ok(None),
            [only] => only.clone(),
            parts => parts
                .iter()
                .map(|part| format!("({part})"))
                .collect::<Vec<_>>()
                .join(" AND "),
        };
        if condition.len() > MAX_CONDITION {
            return Err(Failure::new(format!(
                "the condition for these doors has {} characters; a hub takes at most {MAX_CONDITION}",
                condition.len()
            ))
            .next("tag the doors first (doorctl twin set DOOR --tag group=x), then: --where \"tags.group = 'x'\"")
            .into());
        }
        Ok(Some(Self { condition, names }))
    }

    /// Like [`Target::from_args`], but choosing nothing is an error.
    pub(crate) fn required(args: &TargetArgs) -> anyhow::Result<Self> {
        let chosen = Self::from_args(args)?;
        chosen.ok_or_else(|| {
            Failure::new(
                "no doors are chosen; expected door names, --building, --floor, --where or --all",
            )
            .next("doorctl devices list")
            .into()
        })
    }

    /// How many there are.
    pub(crate) async fn count(&self, session: &Session) -> anyhow::Result<usize> {
        let query = self
            .query()
            .replacen("SELECT *", "SELECT COUNT() AS doors", 1);
        let rows: Vec<Value> = session.hub.query(&query).await?;
        let count = rows.first().and_then(|row| row.get("doors")?.as_u64());
        count
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| {
                Failure::new("the hub does not count doors: the answer has no `doors`").into()
            })
    }

    /// A query for these doors' twins.
    pub(crate) fn query(&self) -> String {
        match self.condition.as_str() {
            "*" => "SELECT * FROM devices".to_owned(),
            condition => format!("SELECT * FROM devices WHERE {condition}"),
        }
    }
}

/// `deviceId IN [..]`.
pub(crate) fn any_of_these(names: &[DeviceId]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quote(name.as_str())).collect();
    format!("deviceId IN [{}]", quoted.join(", "))
}

/// A text as a literal of the query language.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// What was assigned, whether or not the door has heard of it; a number may have been written as text.
fn place(property: &str, values: &[String]) -> String {
    let path = format!("properties.desired.{property}");
    let mut either = Vec::new();
    for value in values {
        if let Ok(number) = serde_json::from_str::<serde_json::Number>(value) {
            either.push(format!("{path} = {number}"));
        }
        either.push(format!("{path} = {}", quote(value)));
    }
    either.join(" OR ")
}

/// The mistake is shown here, under the text, whatever hub it would go to.
fn check(condition: &str) -> anyhow::Result<()> {
    if let Err(error) = query::parse_condition(condition) {
        let mut message = format!("--where: {error}\n{}", error.caret(condition));
        message.truncate(message.trim_end().len());
        return Err(Failure::new(message)
            .next("a condition is the part after WHERE, such as: properties.desired.floor = 3 AND tags.wing = 'east'")
            .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(args: &TargetArgs) -> String {
        Target::required(args).unwrap().condition
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn names_places_and_conditions_become_one_condition() {
        let names = TargetArgs {
            doors: texts(&["lobby-east", "o'hare"]),
            ..TargetArgs::default()
        };
        assert_eq!(condition(&names), r"deviceId IN ['lobby-east', 'o\'hare']");
        let floor = TargetArgs {
            floor: texts(&["3"]),
            ..TargetArgs::default()
        };
        assert_eq!(
            condition(&floor),
            "properties.desired.floor = 3 OR properties.desired.floor = '3'"
        );
        let all = TargetArgs {
            building: texts(&["north"]),
            floor: texts(&["3", "mezzanine"]),
            condition: Some("tags.wing = 'east'".to_owned()),
            ..TargetArgs::default()
        };
        assert_eq!(
            condition(&all),
            "(properties.desired.building = 'north') AND (properties.desired.floor = 3 OR properties.desired.floor = '3' \
             OR properties.desired.floor = 'mezzanine') AND (tags.wing = 'east')"
        );
    }

    #[test]
    fn what_is_built_here_can_be_parsed() {
        for value in ["3", "-1", "4.5", "03", "o'hare", "back\\slash"] {
            let args = TargetArgs {
                floor: texts(&[value]),
                doors: texts(&["a$b"]),
                ..TargetArgs::default()
            };
            let condition = condition(&args);
            assert!(query::parse_condition(&condition).is_ok(), "{condition}");
        }
    }

    #[test]
    fn every_door_has_to_be_asked_for() {
        assert!(Target::required(&TargetArgs::default()).is_err());
        let all = TargetArgs {
            all: true,
            ..TargetArgs::default()
        };
        assert_eq!(condition(&all), "*");
    }

    #[test]
    fn a_mistake_is_shown_where_it_is() {
        let args = TargetArgs {
            condition: Some("tags.wing == 'east'".to_owned()),
            ..TargetArgs::default()
        };
        let error = Target::required(&args).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert!(lines[0].starts_with("--where: "), "{error}");
        assert!(error.contains("tags.wing == 'east'"), "{error}");
        let caret = lines.iter().find_map(|line| line.find('^')).unwrap();
        let shown = lines
            .iter()
            .find_map(|line| line.find("== 'east'"))
            .unwrap();
        assert!((shown..=shown + 1).contains(&caret), "{error}");
    }

    #[test]
    fn a_list_that_no_hub_takes_is_refused_with_a_way_out() {
        let args = TargetArgs {
            doors: (0..1_000).map(|n| format!("door-{n:04}")).collect(),
            ..TargetArgs::default()
        };
        assert!(
            Target::required(&args)
                .unwrap_err()
                .to_string()
                .contains("at most 8192")
        );
    }
}

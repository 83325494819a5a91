//! Which doors: names, places and conditions become one condition of the query language.

use doorctl::ClientError;
use iothub_protocol::DeviceId;
use iothub_protocol::query;
use iothub_protocol::twin::Twin;
use serde_json::Value;

use crate::cli::target::TargetArgs;
use crate::failure::Failure;
use crate::session::Session;

/// The longest query, or condition of a job, that a hub takes.
const MAX_QUERY: usize = 8_192;

/// The longest query for doors, without its condition.
const COUNT: &str = "SELECT COUNT() AS doors FROM devices WHERE ";

/// The longest condition for doors: a hub is also asked for the doors, by a query that is no longer than a job's condition may be.
pub(crate) const MAX_CONDITION: usize = MAX_QUERY - COUNT.len();

/// Which doors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The body of a WHERE clause; `*` for all.
    pub(crate) condition: String,
    /// The doors that were named, which should exist.
    pub(crate) names: Vec<DeviceId>,
    /// Conditions that a hub takes, which choose the same doors together, each door by one of them: `condition` itself, unless it is too long.
    parts: Vec<String>,
}

impl Target {
    /// The doors that the flags choose, by one condition; `None` when no flag does.
    pub(crate) fn from_args(args: &TargetArgs) -> anyhow::Result<Option<Self>> {
        let target = Self::in_parts(args)?;
        match &target {
            Some(target) if target.parts.len() > 1 => {
                Err(too_long(target.condition.chars().count()).into())
            }
            _ => Ok(target),
        }
    }

    /// Like [`Target::from_args`], for those who can do with more than one condition.
    fn in_parts(args: &TargetArgs) -> anyhow::Result<Option<Self>> {
        let mut names: Vec<DeviceId> = Vec::new();
        for door in &args.doors {
            let name = door
                .parse()
                .map_err(|error| Failure::new(format!("DOOR {door:?}: {error}")))?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut others = Vec::new();
        for (property, values) in [("building", &args.building), ("floor", &args.floor)] {
            if !values.is_empty() {
                others.push(place(property, values));
            }
        }
        if let Some(condition) = &args.condition {
            check(condition)?;
            others.push(condition.trim().to_owned());
        }
        if names.is_empty() && others.is_empty() {
            let all = || Self::of("*".to_owned(), names);
            return Ok(args.all.then(all));
        }
        let named = (!names.is_empty()).then(|| any_of_these(&names));
        let condition = all_of(named.as_ref().into_iter().chain(&others));
        if condition.len() <= MAX_CONDITION {
            return Ok(Some(Self::of(condition, names)));
        }
        match parts(&names, &others) {
            Some(parts) => Ok(Some(Self {
                condition,
                names,
                parts,
            })),
            None => Err(too_long(condition.chars().count()).into()),
        }
    }

    fn of(condition: String, names: Vec<DeviceId>) -> Self {
        Self {
            parts: vec![condition.clone()],
            condition,
            names,
        }
    }

    /// Like [`Target::from_args`], but choosing nothing is an error.
    pub(crate) fn required(args: &TargetArgs) -> anyhow::Result<Self> {
        Self::from_args(args)?.ok_or_else(|| nothing_chosen().into())
    }

    /// Like [`Target::required`], for those who can do with more than one condition: [`Target::parts`].
    pub(crate) fn required_in_parts(args: &TargetArgs) -> anyhow::Result<Self> {
        Self::in_parts(args)?.ok_or_else(|| nothing_chosen().into())
    }

    /// Conditions that choose these doors together, each door by one of them.
    pub(crate) fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The doors' twins.
    pub(crate) async fn twins(&self, session: &Session) -> Result<Vec<Twin>, ClientError> {
        let mut twins = Vec::new();
        for condition in &self.parts {
            twins.extend(session.hub.query::<Twin>(&query_for(condition)).await?);
        }
        Ok(twins)
    }

    /// How many there are.
    pub(crate) async fn count(&self, session: &Session) -> anyhow::Result<usize> {
        let mut sum = 0;
        for condition in &self.parts {
            let query = count_for(condition);
            let rows: Vec<Value> = session.hub.query(&query).await?;
            let count = rows.first().and_then(|row| row.get("doors")?.as_u64());
            sum += count
                .and_then(|count| usize::try_from(count).ok())
                .ok_or_else(|| {
                    Failure::new("the hub does not count doors: the answer has no `doors`")
                })?;
        }
        Ok(sum)
    }

    /// A query for these doors' twins.
    pub(crate) fn query(&self) -> String {
        query_for(&self.condition)
    }
}

fn query_for(condition: &str) -> String {
    match condition {
        "*" => "SELECT * FROM devices".to_owned(),
        condition => format!("SELECT * FROM devices WHERE {condition}"),
    }
}

fn count_for(condition: &str) -> String {
    match condition {
        "*" => "SELECT COUNT() AS doors FROM devices".to_owned(),
        condition => format!("{COUNT}{condition}"),
    }
}

fn nothing_chosen() -> Failure {
    Failure::new("no doors are chosen; expected door names, --building, --floor, --where or --all")
        .next("doorctl devices list")
}

fn too_long(characters: usize) -> Failure {
    Failure::new(format!(
        "the condition for these doors has {characters} characters; a hub takes at most {MAX_CONDITION}, for what is asked around it counts too"
    ))
    .next("tag the doors first (doorctl devices tag DOOR group=x), then: --where \"tags.group = 'x'\"")
}

/// Conditions that all have to hold, as one.
fn all_of<'a>(conditions: impl Iterator<Item = &'a String> + Clone) -> String {
    let mut alone = conditions.clone();
    if let (Some(only), None) = (alone.next(), alone.next()) {
        return only.clone();
    }
    let each: Vec<String> = conditions.map(|part| format!("({part})")).collect();
    each.join(" AND ")
}

/// Conditions that a hub takes and that choose these doors together, each door by one of them; `others` have to hold too. `None` when these alone
/// are too long.
pub(crate) fn parts(names: &[DeviceId], others: &[String]) -> Option<Vec<String>> {
    let condition = |names: &[DeviceId]| {
        let named = any_of_these(names);
        all_of(std::iter::once(&named).chain(others))
    };
    // What every part has, and then a quoted name and a comma for each door.
    let frame = condition(&[]).len();
    let mut parts = Vec::new();
    let mut begun = 0;
    let mut length = frame;
    for (index, name) in names.iter().enumerate() {
        let more = quote(name.as_str()).len() + ", ".len();
        if frame + more > MAX_CONDITION {
            return None;
        }
        if length + more > MAX_CONDITION {
            parts.push(condition(&names[begun..index]));
            begun = index;
            length = frame;
        }
        length += more;
    }
    match begun < names.len() {
        true => parts.push(condition(&names[begun..])),
        false => return None,
    }
    Some(parts)
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

    fn many() -> TargetArgs {
        TargetArgs {
            doors: (0..1_000).map(|n| format!("door-{n:04}")).collect(),
            floor: texts(&["3"]),
            ..TargetArgs::default()
        }
    }

    #[test]
    fn a_list_that_no_hub_takes_is_refused_with_a_way_out() {
        let error = Target::required(&many()).unwrap_err().to_string();
        assert!(error.contains("at most 8149,"), "{error}");
    }

    #[test]
    fn whatever_is_asked_about_a_list_is_short_enough() {
        for doors in 600..640 {
            let args = TargetArgs {
                doors: (0..doors).map(|n| format!("door-{n:04}")).collect(),
                ..TargetArgs::default()
            };
            let target = Target::required_in_parts(&args).unwrap();
            let single = Target::required(&args).ok();
            assert_eq!(single.is_some(), target.parts().len() == 1, "{doors} doors");
            for part in target.parts() {
                for query in [
                    query_for(part),
                    count_for(part),
                    format!("SELECT deviceId FROM devices WHERE {part}"),
                ] {
                    let parsed = query::parse(&query);
                    assert!(parsed.is_ok(), "{doors} doors: {:?}", parsed.err());
                }
            }
        }
        let written = TargetArgs {
            condition: Some(format!("tags.a = '{}'", "x".repeat(8_150))),
            ..TargetArgs::default()
        };
        assert!(Target::required(&written).is_err());
    }

    #[test]
    fn a_long_list_is_split_so_that_each_door_is_in_one_part() {
        let mut args = many();
        args.doors.push("door-0007".to_owned());
        let target = Target::required_in_parts(&args).unwrap();
        assert_eq!((target.parts().len(), target.names.len()), (2, 1_000));
        for part in target.parts() {
            let query = count_for(part);
            assert!(query::parse(&query).is_ok(), "{} characters", query.len());
            assert!(part.ends_with(
                ") AND (properties.desired.floor = 3 OR properties.desired.floor = '3')"
            ));
        }
        for name in &target.names {
            let quoted = quote(name.as_str());
            let within = target.parts().iter().filter(|part| part.contains(&quoted));
            assert_eq!(within.count(), 1, "{name}");
        }
        let few = TargetArgs {
            doors: texts(&["a", "b", "a"]),
            ..TargetArgs::default()
        };
        let few = Target::required_in_parts(&few).unwrap();
        assert_eq!(few.parts(), ["deviceId IN ['a', 'b']"]);
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        let args = TargetArgs {
            condition: Some(format!("tags.a = '{}'", "x".repeat(MAX_CONDITION))),
            ..many()
        };
        assert!(Target::required_in_parts(&args).is_err());
        let wide = TargetArgs {
            floor: (0..400).map(|n| n.to_string()).collect(),
            doors: texts(&["a"]),
            ..TargetArgs::default()
        };
        assert!(Target::required_in_parts(&wide).is_err());
    }
}

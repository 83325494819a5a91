//! Door selection: names, places and conditions become one condition of the query language, or
//! several if there are too many names for one.

mod place;

use std::collections::VecDeque;

use door_core::contract::Alarm;
use iothub_client::{ClientError, Pages};
use iothub_protocol::DeviceId;
use iothub_protocol::query;
use iothub_protocol::twin::Twin;
use serde_json::Value;

use crate::cli::target::TargetArgs;
use crate::door::ListedTwin;
use crate::failure::Failure;
use crate::session::Session;
use place::PlaceFilter;

/// Longest query, or condition of a job, that a hub accepts.
const MAX_QUERY: usize = 8_192;

/// The longest query around a condition.
const COUNT: &str = "SELECT COUNT() AS doors FROM devices WHERE ";

/// Longest condition: it has to fit into a query for the doors as well as into a job, and both have
/// the same limit.
pub(crate) const MAX_CONDITION: usize = MAX_QUERY - COUNT.len();

/// The doors that the flags select.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Content of a WHERE clause; `*` for all doors. It may be too long for a hub.
    pub(crate) condition: String,
    /// The doors given by name, which should exist.
    pub(crate) names: Vec<DeviceId>,
    /// Conditions that fit into a query and together select the same doors, each door once:
    /// `condition` itself, unless it is too long.
    parts: Vec<String>,
    /// What is required of the named doors, or of all: joined with AND.
    others: Vec<String>,
    places: PlaceFilter,
}

/// The doors that a [`Target`] matches now.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) count: usize,
    /// The door, if there is exactly one.
    pub(crate) only: Option<DeviceId>,
    /// The twins, if one page has all.
    twins: Option<Vec<Twin>>,
}

impl Selection {
    fn of(twins: Vec<Twin>) -> Self {
        Self {
            count: twins.len(),
            only: match &twins[..] {
                [only] => Some(only.device_id.clone()),
                _ => None,
            },
            twins: Some(twins),
        }
    }

    /// The number of doors for which this holds, if all twins were read.
    pub(crate) fn count_of(&self, holds: impl Fn(&Twin) -> bool) -> Option<usize> {
        let twins = self.twins.as_ref()?;
        Some(twins.iter().filter(|twin| holds(twin)).count())
    }
}

impl Target {
    /// `None` when no flag selects doors.
    pub(crate) fn from_args(args: &TargetArgs) -> anyhow::Result<Option<Self>> {
        let mut names: Vec<DeviceId> = Vec::new();
        for door in &args.doors {
            let name = door
                .parse()
                .map_err(|error| Failure::new(format!("DOOR {door:?}: {error}")))?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let places = PlaceFilter::from_args(args);
        let mut others = places.conditions();
        if let Some(condition) = &args.condition {
            check_condition(condition)?;
            others.push(condition.trim().to_owned());
        }
        others.extend(args.others.iter().cloned());
        if names.is_empty() && others.is_empty() && !args.all {
            return Ok(None);
        }
        Self::build(names, others, places).map(Some)
    }

    /// The doors that also match `condition`.
    pub(crate) fn and(&self, condition: String) -> anyhow::Result<Self> {
        let mut others = self.others.clone();
        others.push(condition);
        Self::build(self.names.clone(), others, self.places.clone())
    }

    fn build(
        names: Vec<DeviceId>,
        others: Vec<String>,
        places: PlaceFilter,
    ) -> anyhow::Result<Self> {
        let named = (!names.is_empty()).then(|| names_condition(&names));
        let condition = match names.is_empty() && others.is_empty() {
            true => "*".to_owned(),
            false => join_conditions(named.as_ref().into_iter().chain(&others)),
        };
        let parts = match condition.len() <= MAX_CONDITION {
            true => vec![condition.clone()],
            false => {
                split_names(&names, &others).ok_or_else(|| too_long(condition.chars().count()))?
            }
        };
        Ok(Self {
            condition,
            names,
            parts,
            others,
            places,
        })
    }

    /// Like [`Target::from_args`], but an empty selection is an error.
    pub(crate) fn required(args: &TargetArgs) -> anyhow::Result<Self> {
        Self::from_args(args)?.ok_or_else(|| {
            Failure::new(
                "no doors selected; expected door names, --building, --floor, --tag, --where or \
                 --all",
            )
            .next("doorctl devices list")
            .into()
        })
    }

    /// Whether the doors are selected by name only.
    pub(crate) fn is_names_only(&self) -> bool {
        !self.names.is_empty() && self.condition == names_condition(&self.names)
    }

    /// Conditions that together select these doors, each door once.
    pub(crate) fn parts(&self) -> &[String] {
        &self.parts
    }

    /// One query for the twins per part.
    fn queries(&self) -> Vec<String> {
        self.parts.iter().map(|part| query_for(part)).collect()
    }

    /// Reads the twins of the doors.
    pub(crate) async fn twins(&self, session: &Session) -> Result<Vec<Twin>, ClientError> {
        let mut twins = Vec::new();
        for query in self.queries() {
            session.warn_of_keyword(&query).await?;
            twins.extend(session.hub.query::<Twin>(&query).await?);
        }
        Ok(twins)
    }

    /// Counts the doors: a single page is read, more is counted by the hub.
    pub(crate) async fn select(&self, session: &Session) -> anyhow::Result<Selection> {
        if let Some(condition) = self.parts.first() {
            session.warn_of_keyword(condition).await?;
        }
        if let [condition] = &self.parts[..] {
            let query = query_for(condition);
            let first = session.hub.query_pages::<Twin>(&query)?.next().await?;
            if let Some(page) = first.filter(|page| page.is_last) {
                return Ok(Selection::of(page.items));
            }
        }
        let mut count = 0;
        for condition in &self.parts {
            count += count_doors(condition, session).await?;
        }
        Ok(Selection {
            count,
            only: None,
            twins: None,
        })
    }
}

/// Twins of doors, page by page in the hub's order. Their reported metadata has only `door`.
pub(crate) struct TwinPages {
    /// Queries that were not sent yet.
    queries: VecDeque<String>,
    /// The unread pages of the query that was sent last.
    pages: Option<Pages<ListedTwin>>,
}

impl TwinPages {
    /// `None` reads all doors.
    pub(crate) fn of(target: Option<&Target>) -> Self {
        let all = || vec![query_for("*")];
        Self {
            queries: target.map_or_else(all, Target::queries).into(),
            pages: None,
        }
    }

    /// The next page; `None` after the last.
    pub(crate) async fn next(
        &mut self,
        session: &Session,
    ) -> Result<Option<Vec<Twin>>, ClientError> {
        loop {
            if let Some(pages) = &mut self.pages {
                if let Some(page) = pages.next().await? {
                    if page.is_last {
                        self.pages = None;
                    }
                    return Ok(Some(page.items.into_iter().map(Twin::from).collect()));
                }
            }
            let Some(query) = self.queries.pop_front() else {
                return Ok(None);
            };
            session.warn_of_keyword(&query).await?;
            self.pages = Some(session.hub.query_pages(&query)?);
        }
    }

    /// Whether the last page was read.
    pub(crate) fn is_over(&self) -> bool {
        self.queries.is_empty() && self.pages.is_none()
    }
}

/// Number of doors that match a condition, counted by the hub.
pub(crate) async fn count_doors(condition: &str, session: &Session) -> anyhow::Result<usize> {
    let rows: Vec<Value> = session.hub.query(&count_for(condition)).await?;
    let count = rows.first().and_then(|row| row.get("doors")?.as_u64());
    count
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| Failure::new("the hub's answer to a count query has no `doors`").into())
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

fn too_long(characters: usize) -> Failure {
    Failure::new(format!(
        "the condition for these doors has {characters} characters; a hub accepts at most \
         {MAX_CONDITION}, because the rest of the query counts too"
    ))
    .next(
        "tag the doors first (doorctl devices tag DOOR batch=x), then: \
         --where \"tags.batch = 'x'\"",
    )
}

/// Joins conditions with AND.
fn join_conditions<'a>(conditions: impl Iterator<Item = &'a String> + Clone) -> String {
    let mut alone = conditions.clone();
    if let (Some(only), None) = (alone.next(), alone.next()) {
        return only.clone();
    }
    let each: Vec<String> = conditions.map(|part| format!("({part})")).collect();
    each.join(" AND ")
}

/// Splits a list of names into conditions that fit into a query, each door in one of them; `others`
/// are added to each. `None` if these alone are too long.
pub(crate) fn split_names(names: &[DeviceId], others: &[String]) -> Option<Vec<String>> {
    let condition = |names: &[DeviceId]| {
        let named = names_condition(names);
        join_conditions(std::iter::once(&named).chain(others))
    };
    // Each part has the frame, plus a quoted name and a comma for each door.
    let frame = condition(&[]).len();
    let mut parts = Vec::new();
    let mut start = 0;
    let mut length = frame;
    for (index, name) in names.iter().enumerate() {
        let more = quote(name.as_str()).len() + ", ".len();
        if frame + more > MAX_CONDITION {
            return None;
        }
        if length + more > MAX_CONDITION {
            parts.push(condition(&names[start..index]));
            start = index;
            length = frame;
        }
        length += more;
    }
    match start < names.len() {
        true => parts.push(condition(&names[start..])),
        false => return None,
    }
    Some(parts)
}

/// `deviceId IN [..]`.
pub(crate) fn names_condition(names: &[DeviceId]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quote(name.as_str())).collect();
    format!("deviceId IN [{}]", quoted.join(", "))
}

/// A string literal of the query language.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A path with one of these values; a number or truth value may be stored as text.
fn equals_any(path: &str, values: &[String]) -> String {
    let mut either = Vec::new();
    for value in values {
        let plain = match value.as_str() {
            "true" | "false" => Some(value.clone()),
            _ => serde_json::from_str::<serde_json::Number>(value)
                .ok()
                .map(|number| number.to_string()),
        };
        either.extend(plain.map(|plain| format!("{path} = {plain}")));
        either.push(format!("{path} = {}", quote(value)));
    }
    either.join(" OR ")
}

/// The path of a tag; a name that is a keyword or has other characters is in brackets.
fn tag_path(name: &str) -> String {
    let mut path = "tags".to_owned();
    for part in name.split('.') {
        let is_plain = part.starts_with(|first: char| first.is_ascii_alphabetic())
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && query::bare_keyword(&format!("tags.{part}")).is_none();
        path += &match is_plain {
            true => format!(".{part}"),
            false => format!(".[[{part}]]"),
        };
    }
    path
}

/// Matches doors whose last report has an alarm.
pub(crate) fn alarm_condition() -> String {
    let raised = Alarm::ALL.map(Alarm::as_str);
    let raised = raised.map(|alarm| format!("IS_DEFINED(properties.reported.door.alarms.{alarm})"));
    raised.join(" OR ")
}

/// Checks the syntax here, so that the error has a caret with every hub.
fn check_condition(condition: &str) -> anyhow::Result<()> {
    if let Err(error) = query::parse_condition(condition) {
        let mut message = format!("--where: {error}\n{}", error.caret(condition));
        message.truncate(message.trim_end().len());
        return Err(Failure::new(message)
            .next(
                "a condition is the part after WHERE, such as: properties.desired.floor = 3 \
                 AND tags.wing = 'east'",
            )
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
    fn names_places_and_conditions_are_joined_with_and() {
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
            "(properties.desired.building = 'north') AND (properties.desired.floor = 3 OR \
             properties.desired.floor = '3' OR \
             properties.desired.floor = 'mezzanine') AND (tags.wing = 'east')"
        );
    }

    #[test]
    fn a_tag_is_a_condition_of_its_own_and_the_same_tag_twice_means_either() {
        for (tags, expected) in [
            (&[("wing", "east")][..], "tags.wing = 'east'"),
            (&[("level", "2")], "tags.level = 2 OR tags.level = '2'"),
            (&[("vip", "true")], "tags.vip = true OR tags.vip = 'true'"),
            (&[("group", "public")], "tags.[[group]] = 'public'"),
            (&[("access.group", "a=b")], "tags.access.[[group]] = 'a=b'"),
            (&[("my-tag", "o'hare")], r"tags.[[my-tag]] = 'o\'hare'"),
            (
                &[("wing", "east"), ("group", "x"), ("wing", "west")],
                "(tags.wing = 'east' OR tags.wing = 'west') AND (tags.[[group]] = 'x')",
            ),
        ] {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let args = TargetArgs {
                tags: tags.iter().map(owned).collect(),
                ..TargetArgs::default()
            };
            let condition = condition(&args);
            assert_eq!(condition, expected);
            assert!(query::parse_condition(&condition).is_ok(), "{condition}");
        }
    }

    #[test]
    fn built_conditions_parse() {
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
    fn selecting_every_door_needs_all() {
        assert!(Target::required(&TargetArgs::default()).is_err());
        let all = TargetArgs {
            all: true,
            ..TargetArgs::default()
        };
        assert_eq!(condition(&all), "*");
    }

    #[test]
    fn a_syntax_error_is_marked_with_a_caret() {
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
    fn queries_for_a_list_of_names_stay_within_the_limit() {
        for doors in 600..640 {
            let args = TargetArgs {
                doors: (0..doors).map(|n| format!("door-{n:04}")).collect(),
                ..TargetArgs::default()
            };
            let target = Target::required(&args).unwrap();
            let fits = target.condition.len() <= MAX_CONDITION;
            assert_eq!(fits, target.parts().len() == 1, "{doors} doors");
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
    fn a_long_list_is_split_and_each_door_is_in_one_part() {
        let mut args = many();
        args.doors.push("door-0007".to_owned());
        let target = Target::required(&args).unwrap();
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
        let few = Target::required(&few).unwrap();
        assert_eq!(few.parts(), ["deviceId IN ['a', 'b']"]);
    }

    #[test]
    fn a_condition_that_cannot_be_split_is_an_error() {
        let args = TargetArgs {
            condition: Some(format!("tags.a = '{}'", "x".repeat(MAX_CONDITION))),
            ..many()
        };
        let error = Target::required(&args).unwrap_err().to_string();
        assert!(error.contains("at most 8149,"), "{error}");
        let wide = TargetArgs {
            floor: (0..400).map(|n| n.to_string()).collect(),
            doors: texts(&["a"]),
            ..TargetArgs::default()
        };
        assert!(Target::required(&wide).is_err());
    }
}

//! Evaluates a whole query.
//!
//! Without aggregates and `GROUP BY`, a row is an object for each document that matches, in the
//! documents' order; undefined members are omitted. Otherwise a row is an object for each group,
//! ordered by the group's properties (undefined, null, false, true, numbers, texts); without `GROUP
//! BY` all documents are one group. Objects and arrays are undefined in a `GROUP BY`, as in a
//! comparison, and numbers are doubles there: 1 and 1.0 are one group.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::aggregate::{Accumulator, OrderKey};
use super::ast::{Aggregate, Path, Projection, ProjectionItem, ProjectionValue, Query};
use super::eval::{lookup, matches};

impl Query {
    /// Whether a row of the answer is a group of documents instead of one document.
    #[must_use]
    pub fn is_grouped(&self) -> bool {
        !self.group_by.is_empty() || self.items().iter().any(ProjectionItem::is_aggregate)
    }

    /// The items of the projection; none for `*`.
    #[must_use]
    pub fn items(&self) -> &[ProjectionItem] {
        match &self.projection {
            Projection::All => &[],
            Projection::Items(items) => items,
        }
    }
}

impl ProjectionItem {
    /// Whether its value is an aggregate.
    #[must_use]
    pub const fn is_aggregate(&self) -> bool {
        matches!(self.value, ProjectionValue::Aggregate(_))
    }
}

/// The names of a row's members: the alias, or the last name of the path. Aggregates without an
/// alias are named `$1`, `$2` and so on, as in Cosmos DB.
#[must_use]
pub fn column_names(items: &[ProjectionItem]) -> Vec<String> {
    let mut unnamed = 0;
    items
        .iter()
        .map(|item| match (&item.alias, &item.value) {
            (Some(alias), _) => alias.clone(),
            (None, ProjectionValue::Path(path)) => {
                path.segments().last().cloned().unwrap_or_default()
            }
            (None, ProjectionValue::Aggregate(_)) => {
                unnamed += 1;
                format!("${unnamed}")
            }
        })
        .collect()
}

/// The row of one document: its members at the paths of `items`, named by `names`.
#[must_use]
pub fn project(items: &[ProjectionItem], names: &[String], document: &Value) -> Map<String, Value> {
    let members = items.iter().zip(names).filter_map(|(item, name)| {
        let ProjectionValue::Path(path) = &item.value else {
            return None;
        };
        Some((name.clone(), lookup(path, document)?.clone()))
    });
    members.collect()
}

/// All rows of `query` over `documents`: the reference for implementations in a store.
#[must_use]
pub fn answer(query: &Query, documents: &[Value]) -> Vec<Value> {
    let found = documents.iter().filter(|document| {
        let condition = query.condition.as_ref();
        condition.is_none_or(|condition| matches(condition, document))
    });
    let mut rows: Vec<Value> = match &query.projection {
        Projection::All => found.cloned().collect(),
        Projection::Items(items) => {
            let names = column_names(items);
            if query.is_grouped() {
                grouped(query, items, &names, found)
            } else {
                found
                    .map(|document| project(items, &names, document).into())
                    .collect()
            }
        }
    };
    let top = query.top.and_then(|top| usize::try_from(top).ok());
    rows.truncate(top.unwrap_or(usize::MAX));
    rows
}

fn grouped<'a>(
    query: &Query,
    items: &[ProjectionItem],
    names: &[String],
    documents: impl Iterator<Item = &'a Value>,
) -> Vec<Value> {
    let aggregates = || items.iter().filter_map(aggregate);
    let start = || aggregates().map(Accumulator::new).collect::<Vec<_>>();
    let mut groups = BTreeMap::new();
    if query.group_by.is_empty() {
        groups.insert(Vec::new(), start());
    }
    for document in documents {
        let key = query.group_by.iter().map(|path| key(path, document));
        let totals = groups.entry(key.collect()).or_insert_with(start);
        for (total, aggregate) in totals.iter_mut().zip(aggregates()) {
            total.add(aggregate.path().and_then(|path| lookup(path, document)));
        }
    }
    let row = |(key, totals): (Vec<OrderKey>, Vec<Accumulator>)| {
        let mut totals = totals.into_iter();
        let members = items.iter().zip(names).filter_map(|(item, name)| {
            let value = match &item.value {
                ProjectionValue::Path(path) => {
                    let index = query.group_by.iter().position(|by| by == path)?;
                    key[index].clone().value()
                }
                ProjectionValue::Aggregate(_) => totals.next()?.finish(),
            };
            Some((name.clone(), value?))
        });
        Value::Object(members.collect())
    };
    groups.into_iter().map(row).collect()
}

const fn aggregate(item: &ProjectionItem) -> Option<&Aggregate> {
    match &item.value {
        ProjectionValue::Aggregate(aggregate) => Some(aggregate),
        ProjectionValue::Path(_) => None,
    }
}

fn key(path: &Path, document: &Value) -> OrderKey {
    lookup(path, document)
        .and_then(OrderKey::of)
        .unwrap_or(OrderKey::Undefined)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::query::parse;

    fn fleet() -> Vec<Value> {
        vec![
            json!({ "deviceId": "a", "status": "enabled", "tags": { "floor": 1, "x": { "y": null } } }),
            json!({ "deviceId": "b", "status": "disabled", "tags": { "floor": 1.0 } }),
            json!({ "deviceId": "c", "status": "enabled", "tags": { "floor": "1", "load": 4 } }),
            json!({ "deviceId": "d", "status": "enabled", "tags": { "floor": [1], "load": 1.5 } }),
        ]
    }

    fn check(text: &str, rows: &Value) {
        let query = parse(text).unwrap();
        assert_eq!(Value::Array(answer(&query, &fleet())), *rows, "{text}");
    }

    #[test]
    fn rows_hold_what_there_is_by_alias_or_last_name() {
        check(
            "SELECT deviceId, tags.x.y, tags.floor AS f FROM devices WHERE status = 'enabled'",
            &json!([{ "deviceId": "a", "y": null, "f": 1 }, { "deviceId": "c", "f": "1" }, { "deviceId": "d", "f": [1] }]),
        );
        check("SELECT TOP 1 tags.nothing FROM devices", &json!([{}]));
    }

    #[test]
    fn groups_are_of_values_that_are_equal_and_in_their_order() {
        check(
            "SELECT tags.floor, COUNT() AS n, SUM(tags.load), MAX(deviceId) FROM devices GROUP BY \
             tags.floor",
            &json!([
                { "n": 1, "$1": 1.5, "$2": "d" },
                { "floor": 1, "n": 2, "$1": 0, "$2": "b" },
                { "floor": "1", "n": 1, "$1": 4, "$2": "c" },
            ]),
        );
        check(
            "SELECT TOP 1 COUNT() AS n FROM devices GROUP BY status, tags.load",
            &json!([{ "n": 1 }]),
        );
        check(
            "SELECT status FROM devices GROUP BY status",
            &json!([{ "status": "disabled" }, { "status": "enabled" }]),
        );
    }

    #[test]
    fn all_documents_are_one_group_even_if_there_are_none() {
        check(
            "SELECT COUNT() AS n, MIN(deviceId) AS first, AVG(tags.load) AS mean FROM devices",
            &json!([{ "n": 4, "first": "a", "mean": 2.75 }]),
        );
        check(
            "SELECT COUNT() AS n, MIN(deviceId) AS first FROM devices WHERE deviceId = 'x'",
            &json!([{ "n": 0 }]),
        );
        check(
            "SELECT COUNT() AS n FROM devices WHERE deviceId = 'x' GROUP BY status",
            &json!([]),
        );
    }
}

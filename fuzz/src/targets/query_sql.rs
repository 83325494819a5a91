//! Queries: the result from SQL equals that of the plain evaluator.

use door_hub::fuzzing::Twins;
use iothub_protocol::query::{Query, Source, answer, parse};
use serde_json::{Value, json};

use crate::Seeds;

/// Rows per page: few, so that a result takes several pages.
const PAGE: u32 = 2;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(query) = parse(text) else {
        return;
    };
    // Other sources have other kinds of documents.
    if query.source == Source::Devices {
        DATABASE.with(|database| database.check(&query));
    }
}

thread_local! {
    static DATABASE: Database = Database::new();
}

struct Database {
    twins: Twins,
    /// The same twins as documents.
    documents: Vec<Value>,
}

impl Database {
    fn new() -> Self {
        let values = values();
        let sections: Vec<_> = values.iter().map(|twin| twin.each_ref()).collect();
        let twins = Twins::new(&sections).expect("a database in memory");
        let all = parse("SELECT * FROM devices").expect("a query");
        let documents = twins.rows(&all, 100).expect("what was written reads");
        assert_eq!(documents.len(), values.len());
        Self { twins, documents }
    }

    fn check(&self, query: &Query) {
        match self.twins.rows(query, PAGE) {
            Ok(found) => assert_eq!(found, answer(query, &self.documents), "{query}"),
            Err(error) => panic!("{query}: {error:?}"),
        }
    }
}

/// Every kind of value, equal and unequal, present and absent.
fn values() -> Vec<[Value; 3]> {
    vec![
        [json!({}), json!({}), json!({})],
        [
            json!({ "building": "43", "floor": 3, "a": null }),
            json!({ "a": { "b": true, "c": "x" } }),
            json!({ "n": -1.5, "t": "x" }),
        ],
        [
            json!({ "building": "43", "floor": 3.0, "a": [1, "2"] }),
            json!({ "a": { "b": false, "c": "X" } }),
            json!({ "n": 4_503_599_627_370_495_i64, "t": "it's" }),
        ],
        [
            json!({ "building": 43, "floor": "3", "a": {} }),
            json!({ "a": 1 }),
            json!({ "n": 1e300, "t": "" }),
        ],
        [
            json!({ "building": "b\u{0}c", "floor": -0.0, "a": false }),
            json!({ "odd name": { "b.c": 1 }, "a": { "b": null } }),
            json!({ "n": -1e300, "t": "\u{e9}" }),
        ],
    ]
}

pub(crate) fn seeds() -> Seeds {
    let mut seeds = super::query::seeds();
    seeds.extend(crate::texts([
        "SELECT tags.building AS b, COUNT() AS n, SUM(properties.reported.n) AS s FROM devices \
         GROUP BY tags.building",
        "SELECT MIN(tags.floor) AS a, MAX(tags.floor) AS b, AVG(properties.reported.n) AS c FROM \
         devices",
        "SELECT deviceId, properties.desired.a FROM devices WHERE properties.desired.a.b = true OR \
         tags.floor + 1 > 3",
        "SELECT TOP 2 * FROM devices WHERE tags.a != null AND NOT \
         startswith(properties.reported.t, 'x')",
        "SELECT * FROM devices WHERE tags.building IN ['43', 43] AND tags.floor % 2 = 1",
    ]).into_iter().map(|(name, seed)| (format!("sql-{name}"), seed)));
    seeds
}

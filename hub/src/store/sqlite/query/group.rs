//! Compiles groups and aggregates to SQL with the semantics of [`iothub_protocol::query::answer`].
//!
//! An inner statement selects the needed values of each twin as rank (type) and value, so that
//! SQLite does not sort whole twins; the outer one groups by a key that sorts like the values. The
//! next page begins after the key of the last group of a page.

use iothub_protocol::query::{
    Accumulator, Aggregate, Path, ProjectionItem, ProjectionValue, Query, column_names,
};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, Row, params_from_iter};
use serde_json::{Map, Value};

use super::super::StoreError;
use super::super::damage::RowRead;
use super::compile::Compiled;
use super::functions::json_value;
use super::{
    GroupPosition, PAGE_BYTES, Page, compile_condition, find_each, operand, row_bytes, value,
};

/// A compiled statement over groups.
struct GroupStatement {
    sql: String,
    parameters: Vec<SqlValue>,
    columns: Vec<Column>,
}

/// The column of an item of the result, by index.
enum Column {
    /// The rank; the next column is the value.
    Key(usize),
    Count(usize),
    /// An aggregate as JSON, or NULL.
    Total(usize),
}

/// Up to `limit` groups of twins after `after`, in the order of their keys.
pub(super) fn groups(
    connection: &Connection,
    query: &Query,
    after: GroupPosition,
    limit: u32,
) -> Result<Page<Map<String, Value>, GroupPosition>, StoreError> {
    let whole = read(connection, query, after.clone(), limit, None);
    if !whole.as_ref().is_err_and(StoreError::is_row_error) {
        return whole;
    }
    // Some row is damaged: repeat the query over the readable rows.
    let mut inner = InnerColumns::default();
    let aggregated = query.items().iter().filter_map(|item| match &item.value {
        ProjectionValue::Path(path) => Some(path),
        ProjectionValue::Aggregate(aggregate) => path_of(aggregate),
    });
    for path in query.group_by.iter().chain(aggregated) {
        inner.take(path);
    }
    let condition = compile_condition(query.condition.as_ref());
    let mut good = Vec::new();
    find_each(
        connection,
        &inner.columns.join(", "),
        &condition,
        |id, found| {
            if matches!(found, RowRead::Row(_)) {
                good.push(id);
            }
            Ok(())
        },
    )?;
    let good = serde_json::to_string(&good).map_err(|error| StoreError::corrupt("ids", error))?;
    read(connection, query, after, limit, Some(good))
}

/// Reads groups of all twins, or of those in `good`, a JSON array of row ids.
fn read(
    connection: &Connection,
    query: &Query,
    after: GroupPosition,
    limit: u32,
    good: Option<String>,
) -> Result<Page<Map<String, Value>, GroupPosition>, StoreError> {
    let names = column_names(query.items());
    let GroupStatement {
        sql,
        parameters,
        columns,
    } = compile(query, after, limit, good);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(parameters))?;
    let mut page = Page {
        rows: Vec::new(),
        next: None,
    };
    let mut bytes = 0;
    let mut last = GroupPosition::default();
    while let Some(row) = rows.next()? {
        if page.rows.len() == limit as usize || bytes >= PAGE_BYTES {
            page.next = Some(last);
            break;
        }
        bytes += row_bytes(row)?;
        let members = names.iter().zip(&columns).filter_map(|(name, column)| {
            let value = column.read(row).transpose()?;
            Some(value.map(|value| (name.clone(), value)))
        });
        page.rows.push(members.collect::<Result<_, StoreError>>()?);
        last = GroupPosition(row.get(0)?);
    }
    Ok(page)
}

impl Column {
    fn read(&self, row: &Row<'_>) -> Result<Option<Value>, StoreError> {
        match *self {
            Self::Key(at) => {
                let value = json_value(row.get(at)?, row.get_ref(at + 1)?);
                let value = value?.filter(|value| !value.is_array());
                // Normalised as the minimum of this one value: 1 and 1.0 are shown alike.
                let mut shown = Accumulator::minimum();
                shown.add(value.as_ref());
                Ok(shown.finish())
            }
            Self::Count(at) => Ok(Some(row.get::<_, i64>(at)?.into())),
            Self::Total(at) => row
                .get::<_, Option<String>>(at)?
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(|error| StoreError::corrupt("total of a query", error)),
        }
    }
}

fn compile(
    query: &Query,
    after: GroupPosition,
    limit: u32,
    good: Option<String>,
) -> GroupStatement {
    let Compiled {
        sql: condition,
        mut parameters,
    } = compile_condition(query.condition.as_ref());
    let mut inner = InnerColumns::default();
    let keys: Vec<usize> = query.group_by.iter().map(|path| inner.take(path)).collect();
    // Without GROUP BY there is no key, but one row and one page.
    let key = if keys.is_empty() { "x''" } else { "key" };
    let mut outer = OuterColumns {
        columns: vec![key.to_owned()],
    };
    let columns = query
        .items()
        .iter()
        .map(|item| outer.take(item, query, &mut inner))
        .collect();
    let from = match good {
        None => "twin JOIN device ON device.id = twin.id".to_owned(),
        Some(good) => {
            parameters.push(good.into());
            let number = parameters.len();
            format!(
                "json_each(?{number}) AS good CROSS JOIN twin ON twin.id = good.value CROSS JOIN \
                 device ON device.id = twin.id"
            )
        }
    };
    let arguments: Vec<String> = keys.iter().map(|key| format!("r{key}, v{key}")).collect();
    let (inner, outer) = (inner.columns.join(", "), outer.columns.join(", "));
    let (arguments, next) = (arguments.join(", "), parameters.len() + 1);
    // LIMIT keeps SQLite from flattening the subqueries, which would evaluate each expression again
    // wherever it is used.
    let rows = format!("SELECT {inner} FROM {from} WHERE {condition} LIMIT -1");
    let sql = if keys.is_empty() {
        // The last parameter is always used, so that SQLite counts all of them; a condition may
        // leave some unused.
        parameters.push(1.into());
        format!("SELECT {outer} FROM ({rows}) LIMIT ?{next}")
    } else {
        parameters.extend([after.0.into(), i64::from(limit.saturating_add(1)).into()]);
        format!(
            "SELECT {outer} FROM (SELECT group_key({arguments}) AS key, * FROM ({rows}) LIMIT -1) \
             WHERE key > ?{next} GROUP BY key ORDER BY key LIMIT ?{}",
            next + 1
        )
    };
    GroupStatement {
        sql,
        parameters,
        columns,
    }
}

/// The columns of the inner statement: a rank `r0` and a value `v0` for each path, and so on.
struct InnerColumns {
    paths: Vec<Path>,
    columns: Vec<String>,
}

impl Default for InnerColumns {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            // At least one column is required.
            columns: vec!["1 AS one".to_owned()],
        }
    }
}

impl InnerColumns {
    /// The number of a path; adds its columns if it is new.
    fn take(&mut self, path: &Path) -> usize {
        if let Some(known) = self.paths.iter().position(|known| known == path) {
            return known;
        }
        let number = self.paths.len();
        let segments: Vec<&str> = path.segments().iter().map(String::as_str).collect();
        let typed = value::typed(operand::of_twin(&segments));
        let (rank, plain) = (typed.rank(), typed.plain());
        self.columns
            .push(format!("{rank} AS r{number}, {plain} AS v{number}"));
        self.paths.push(path.clone());
        number
    }
}

/// The path of an aggregate; `None` for a count.
const fn path_of(aggregate: &Aggregate) -> Option<&Path> {
    match aggregate {
        Aggregate::Count => None,
        Aggregate::Average(path)
        | Aggregate::Sum(path)
        | Aggregate::Minimum(path)
        | Aggregate::Maximum(path) => Some(path),
    }
}

/// The columns of the outer statement; the key is the first.
struct OuterColumns {
    columns: Vec<String>,
}

impl OuterColumns {
    fn take(&mut self, item: &ProjectionItem, query: &Query, inner: &mut InnerColumns) -> Column {
        let at = self.columns.len();
        let aggregate = match &item.value {
            ProjectionValue::Path(path) => {
                let number = inner.take(path);
                debug_assert!(query.group_by.contains(path), "the parser ensures it");
                self.columns.push(format!("min(r{number})"));
                self.columns.push(format!("min(v{number})"));
                return Column::Key(at);
            }
            ProjectionValue::Aggregate(aggregate) => aggregate,
        };
        let Some(path) = path_of(aggregate) else {
            self.columns.push("count(*)".to_owned());
            return Column::Count(at);
        };
        let function = match aggregate {
            Aggregate::Count => "count",
            Aggregate::Average(_) => "average_of",
            Aggregate::Sum(_) => "sum_of",
            Aggregate::Minimum(_) => "minimum_of",
            Aggregate::Maximum(_) => "maximum_of",
        };
        let number = inner.take(path);
        self.columns
            .push(format!("{function}(r{number}, v{number})"));
        Column::Total(at)
    }
}

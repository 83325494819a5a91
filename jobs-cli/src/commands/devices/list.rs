//! `doorctl devices list`: lists any number of doors, page by page.

mod column;

use std::cmp::Ordering;
use std::collections::HashSet;

use iothub_protocol::DeviceId;
use iothub_protocol::twin::Twin;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cli::devices::list::ListArgs;
use crate::cli::target::TargetArgs;
use crate::commands::many::refuse_unknown;
use crate::door::DoorRow;
use crate::printer::{Row as _, RowStream, TableRow, compare_values, plain};
use crate::session::{Session, unknown_door};
use crate::target::{Target, TwinPages, alarm_condition};

use column::Column;

/// The default sort column.
const DEFAULT_SORT: &str = "door";

pub(super) async fn list(args: &ListArgs, session: &Session) -> anyhow::Result<()> {
    let view = ListView::new(args)?;
    let now = session.hub.now();
    let target = Target::from_args(&with_filters(args))?;
    if let Some(target) = &target {
        // A filter may leave out a door that exists; only a look-up finds one that does not.
        if !target.names.is_empty() && !target.is_names_only() {
            refuse_unknown(target, session).await?;
        }
    }
    let mut pages = TwinPages::of(target.as_ref());
    let names = target.iter().flat_map(|target| &target.names);
    let mut missing: HashSet<&DeviceId> = names.collect();
    let printer = &session.printer;
    let mut stream = match &view.columns {
        None => RowStream::of::<DoorRow>(printer),
        Some(columns) => {
            let titles = columns.iter().map(|column| column.title().to_owned());
            RowStream::new(printer, titles.collect())
        }
    };
    // Sorting needs all doors first.
    let at_once = view.sort.is_none() && RowStream::is_streamed(printer.format());
    let mut waiting: Vec<(Value, TableRow)> = Vec::new();
    let (mut shown, mut more) = (0, false);
    while let Some(twins) = pages.next(session).await? {
        let mut rows = Vec::new();
        for twin in &twins {
            missing.remove(&twin.device_id);
            if view.sort.is_none() && args.limit.is_some_and(|limit| shown >= limit) {
                more = true;
                break;
            }
            rows.push(view.row(twin, now)?);
            shown += 1;
        }
        match at_once {
            true => stream.push(rows.into_iter().map(|(_, record)| record).collect())?,
            false => waiting.extend(rows),
        }
        let is_full = view.sort.is_none() && args.limit.is_some_and(|limit| shown >= limit);
        more |= is_full && !pages.is_over();
        if more {
            break;
        }
    }
    waiting.sort_by(|(a, _), (b, _)| compare(a, b, args.reverse));
    if let Some(limit) = args.limit {
        more |= waiting.len() > limit;
        waiting.truncate(limit);
    }
    let is_empty = shown == 0;
    if let (false, Some(target)) = (more, &target) {
        target.refuse_empty_places(shown, session).await?;
    }
    if !at_once {
        stream.push(waiting.into_iter().map(|(_, record)| record).collect())?;
    }
    if !more && target.as_ref().is_some_and(Target::is_names_only) {
        let mut missing: Vec<&DeviceId> = missing.into_iter().collect();
        missing.sort();
        for name in missing {
            printer.warn(unknown_door(name.as_str(), &[]).to_string());
        }
    }
    match (more, args.limit) {
        (true, Some(limit)) => printer.say(format!("{limit} shown; there are more doors")),
        _ if is_empty && target.is_some() => printer.say("no door matches"),
        _ if is_empty => printer.say("no door: doorctl devices add NAME"),
        _ => {}
    }
    Ok(stream.finish()?)
}

/// The selection of doors with the conditions of the filters.
fn with_filters(args: &ListArgs) -> TargetArgs {
    let mut target = args.target.clone();
    let conditions = &mut target.others;
    if args.offline {
        conditions.push("connectionState = 'Disconnected'".to_owned());
    }
    if args.alarm {
        conditions.push(alarm_condition());
    }
    if args.unsecured {
        // An unknown state and a missing report are a reason to look at the door, too.
        let secured = "properties.reported.door.secured";
        conditions.push(format!(
            "NOT is_defined({secured}) OR {secured} != 'secured'"
        ));
    }
    target
}

/// The columns and the order of the output.
struct ListView {
    columns: Option<Vec<Column>>,
    sort: Option<Column>,
    by: Column,
}

impl ListView {
    fn new(args: &ListArgs) -> anyhow::Result<Self> {
        let columns = args.columns.as_ref().map(|columns| {
            let columns = columns.iter().map(|text| Column::parse("--columns", text));
            columns.collect::<Result<Vec<_>, _>>()
        });
        let sort = args
            .sort
            .as_deref()
            .map(|text| Column::parse("--sort", text));
        let sort = sort.transpose()?;
        let by = match (&sort, args.reverse) {
            (Some(column), _) => column.clone(),
            (None, _) => Column::parse("--sort", DEFAULT_SORT)?,
        };
        Ok(Self {
            columns: columns.transpose()?,
            // `--reverse` alone sorts by the default column.
            sort: sort.or_else(|| args.reverse.then(|| by.clone())),
            by,
        })
    }

    /// The sort key of a door, and its output.
    fn row(&self, twin: &Twin, now: Timestamp) -> anyhow::Result<(Value, TableRow)> {
        let row = DoorRow::new(twin, now);
        let by = self.by.value(twin, &row)?;
        let Some(columns) = &self.columns else {
            let record = TableRow {
                cells: row.cells(),
                value: serde_json::to_value(&row)?,
            };
            return Ok((by, record));
        };
        let mut value = Map::new();
        let mut cells = Vec::new();
        for column in columns {
            let field = column.value(twin, &row)?;
            cells.push(column.cell(&field, &row));
            value.insert(column.title().to_owned(), field);
        }
        let value = Value::Object(value);
        Ok((by, TableRow { cells, value }))
    }
}

/// Orders numbers by value, also in text form, and puts them before texts; empty values come last
/// in either direction.
fn compare(a: &Value, b: &Value, reverse: bool) -> Ordering {
    let (a, b) = (plain(a), plain(b));
    let order = compare_values(&a, &b);
    match reverse && !a.is_empty() && !b.is_empty() {
        true => order.reverse(),
        false => order,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_sort_before_texts_and_empty_values_last() {
        let mut values = [
            json!("b"),
            json!(null),
            json!("10"),
            json!(9),
            json!(""),
            json!("a"),
        ];
        values.sort_by(|a, b| compare(a, b, false));
        assert_eq!(json!(values), json!([9, "10", "a", "b", null, ""]));
        values.sort_by(|a, b| compare(a, b, true));
        assert_eq!(json!(values), json!(["b", "a", "10", 9, null, ""]));
    }
}

//! What exists for a policy with bounds, in SQL. The condition is compiled from its tree; the
//! checks run in the transaction of what they guard.

use iothub_protocol::id::DeviceId;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::query::{Compiled, compile_scope};
use super::{StoreError, damage};
use crate::types::Scope;

/// SQL that is true if `link` leads to a device within `scope`: a condition on `device`, such as
/// `device.id = 7`. The parameters are numbered after the first `offset`.
pub(super) fn exists(scope: &Scope, link: &str, offset: usize) -> Compiled {
    let condition = compile_scope(scope.condition.as_ref(), offset);
    Compiled {
        sql: format!(
            "EXISTS (SELECT 1 FROM device JOIN twin ON twin.id = device.id WHERE {link} AND ({}))",
            condition.sql
        ),
        parameters: condition.parameters,
    }
}

/// Whether `device` exists within `scope`, if it exists at all. A device is outside if that cannot
/// be read.
pub(super) fn admits(
    connection: &Connection,
    scope: Option<&Scope>,
    device: &DeviceId,
) -> Result<bool, StoreError> {
    let Some(scope) = scope.filter(|scope| scope.condition.is_some()) else {
        return Ok(true);
    };
    let exists = exists(scope, "device.device_id = ?1", 1);
    let id = Value::from(device.as_str().to_owned());
    let parameters = [id].into_iter().chain(exists.parameters);
    let admitted = connection
        .prepare(&format!("SELECT {}", exists.sql))
        .and_then(|mut statement| {
            statement.query_row(params_from_iter(parameters), |row| row.get(0))
        });
    let name = || device.as_str().to_owned();
    let admitted = damage::skip_damaged("a twin", name, admitted.map_err(StoreError::from))?;
    Ok(admitted.unwrap_or(false))
}

//! The shared access policies. They are few and kept in memory; other processes than the hub may
//! change them.

use std::path::Path;

use iothub_protocol::id::PolicyName;
use iothub_protocol::policy::Bounds;
use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::device::stored_key;
use super::group::{self, GroupFile};
use super::{Store, StoreError, damage, job, schema};
use crate::identity::{Keys, Policy, Rights};

impl Store {
    /// All policies, after inserting `defaults` if there are none.
    pub(crate) async fn policy_list(
        &self,
        defaults: Vec<Policy>,
    ) -> Result<Vec<Policy>, StoreError> {
        self.write(defaults.len(), move |write| {
            // Not if rows exist that cannot be read: new policies would lock out everybody.
            if write
                .connection
                .prepare_cached("SELECT 1 FROM policy")?
                .exists([])?
            {
                return list(write.connection);
            }
            for policy in &defaults {
                put(write.connection, policy)?;
            }
            Ok(defaults)
        })
        .await
    }

    /// Applies `change` to the policies in one transaction; returns its output and the policies.
    pub(crate) async fn policy_change<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        change: impl FnOnce(&mut Vec<Policy>) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, Vec<Policy>), E> {
        self.write(1, move |write| self::change(write.connection, change))
            .await
    }
}

/// The policies of a data folder, whether or not a hub is running on it.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    connection: Connection,
    group: GroupFile,
}

impl PolicyFile {
    /// Opens an existing database; neither creates nor migrates it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        // Closing a database that has lost data could delete what is left of its log.
        group::check_for_loss(path, &[])?;
        let connection = schema::open_existing(path)?;
        let group = GroupFile::open_existing(path);
        Ok(Self { connection, group })
    }

    pub(crate) fn list(&self) -> Result<Vec<Policy>, StoreError> {
        list(&self.connection)
    }

    /// Removes a policy that cannot be read. `false` if there is none of that name, or it can be
    /// read.
    pub(crate) fn remove_damaged(&mut self, name: &PolicyName) -> Result<bool, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        if list(&transaction)?
            .iter()
            .any(|policy| policy.name == *name)
        {
            return Ok(false);
        }
        let removed = delete(&transaction, name)?;
        let number = group::increment_number(&transaction)?;
        transaction.commit()?;
        self.group.record(number);
        Ok(removed > 0)
    }

    /// Applies `change` to the policies in one transaction; on disk when this returns.
    pub(crate) fn change<T, E: From<StoreError>>(
        &mut self,
        change: impl FnOnce(&mut Vec<Policy>) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StoreError::from)?;
        let (output, _) = self::change(&transaction, change)?;
        let number = group::increment_number(&transaction)?;
        transaction.commit().map_err(StoreError::from)?;
        self.group.record(number);
        Ok(output)
    }
}

/// Applies `change` to the policies within a transaction; returns its output and the policies.
fn change<T, E: From<StoreError>>(
    connection: &Connection,
    change: impl FnOnce(&mut Vec<Policy>) -> Result<T, E>,
) -> Result<(T, Vec<Policy>), E> {
    let before = list(connection)?;
    let mut after = before.clone();
    let output = change(&mut after)?;
    for gone in before
        .iter()
        .filter(|policy| !after.iter().any(|kept| kept.name == policy.name))
    {
        delete(connection, &gone.name)?;
    }
    for policy in after.iter().filter(|policy| !before.contains(policy)) {
        put(connection, policy)?;
    }
    Ok((output, after))
}

/// Removes a policy, and its jobs from the name. Returns the number of removed policies.
fn delete(connection: &Connection, name: &PolicyName) -> Result<usize, StoreError> {
    job::detach(connection, name.as_str())?;
    Ok(connection.execute("DELETE FROM policy WHERE name = ?1", [name.as_str()])?)
}

/// The columns that [`record`] reads.
const COLUMNS: &str = "name, rights, primary_key, secondary_key, bounds";

pub(super) fn list(connection: &Connection) -> Result<Vec<Policy>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM policy ORDER BY name");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut policies = Vec::new();
    while let Some(row) = rows.next()? {
        let name = || damage::text(row, "name");
        policies.extend(damage::skip_damaged("a policy", name, record(row))?);
    }
    Ok(policies)
}

/// The names of the policies that cannot be read.
pub(super) fn damaged(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM policy"))?;
    let mut rows = statement.query([])?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        if record(row).is_err() {
            names.push(damage::text(row, "name"));
        }
    }
    Ok(names)
}

fn record(row: &Row<'_>) -> Result<Policy, StoreError> {
    let name: PolicyName = row
        .get::<_, String>("name")?
        .parse()
        .map_err(|error| StoreError::corrupt("policy name", error))?;
    let keys = Keys {
        primary: stored_key(&row.get::<_, Vec<u8>>("primary_key")?)?,
        secondary: stored_key(&row.get::<_, Vec<u8>>("secondary_key")?)?,
    };
    let rights = Rights::from_bits(row.get("rights")?);
    let bounds: Option<String> = row.get("bounds")?;
    let bounds = bounds.as_deref().map(stored_bounds).transpose()?;
    if bounds.is_some() && !Rights::BOUNDED.contains(rights) {
        return Err(StoreError::corrupt("policy", UnboundedRight));
    }
    Ok(Policy {
        name,
        keys,
        rights,
        bounds,
    })
}

/// Bounds that cannot be read are damage, and never the absence of bounds.
pub(super) fn stored_bounds(text: &str) -> Result<Bounds, StoreError> {
    let bounds: Bounds =
        serde_json::from_str(text).map_err(|error| StoreError::corrupt("bounds", error))?;
    let checked = bounds.check();
    checked.map_err(|error| StoreError::corrupt("bounds", error))?;
    Ok(bounds)
}

pub(super) fn bounds_text(bounds: Option<&Bounds>) -> Result<Option<String>, StoreError> {
    let text = bounds.map(serde_json::to_string).transpose();
    text.map_err(|error| StoreError::corrupt("bounds", error))
}

#[derive(Debug, thiserror::Error)]
#[error("it has bounds and a right without bounds")]
struct UnboundedRight;

fn put(connection: &Connection, policy: &Policy) -> Result<(), StoreError> {
    connection.execute(
        "INSERT OR REPLACE INTO policy (name, rights, primary_key, secondary_key, bounds) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            policy.name.as_ref(),
            policy.rights.bits(),
            policy.keys.primary.as_bytes(),
            policy.keys.secondary.as_bytes(),
            bounds_text(policy.bounds.as_ref())?,
        ],
    )?;
    Ok(())
}

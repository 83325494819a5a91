//! The shared access policies. They are few and kept in memory; other processes than the hub may
//! change them.

use std::path::Path;

use iothub_protocol::id::PolicyName;
use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::device::stored_key;
use super::group::{self, GroupFile};
use super::{Store, StoreError, damage, schema};
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
        let removed = transaction.execute("DELETE FROM policy WHERE name = ?1", [name.as_ref()])?;
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
        let before = list(&transaction)?;
        let mut after = before.clone();
        let output = change(&mut after)?;
        for gone in before
            .iter()
            .filter(|policy| !after.iter().any(|kept| kept.name == policy.name))
        {
            transaction
                .execute("DELETE FROM policy WHERE name = ?1", [gone.name.as_ref()])
                .map_err(StoreError::from)?;
        }
        for policy in after.iter().filter(|policy| !before.contains(policy)) {
            put(&transaction, policy)?;
        }
        let number = group::increment_number(&transaction)?;
        transaction.commit().map_err(StoreError::from)?;
        self.group.record(number);
        Ok(output)
    }
}

fn list(connection: &Connection) -> Result<Vec<Policy>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT name, rights, primary_key, secondary_key FROM policy ORDER BY name",
    )?;
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
    let mut statement =
        connection.prepare("SELECT name, rights, primary_key, secondary_key FROM policy")?;
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
    Ok(Policy {
        name,
        keys,
        rights: Rights::from_bits(row.get("rights")?),
    })
}

fn put(connection: &Connection, policy: &Policy) -> Result<(), StoreError> {
    connection.execute(
        "INSERT OR REPLACE INTO policy (name, rights, primary_key, secondary_key) VALUES (?1, ?2, \
         ?3, ?4)",
        params![
            policy.name.as_ref(),
            policy.rights.bits(),
            policy.keys.primary.as_bytes(),
            policy.keys.secondary.as_bytes()
        ],
    )?;
    Ok(())
}

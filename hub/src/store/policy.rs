//! The shared access policies. They are few, read once at the start and then held in memory.

use iothub_protocol::id::PolicyName;
use rusqlite::params;

use super::device::stored_key;
use super::{Store, StoreError};
use crate::identity::{Keys, Policy, Rights};

impl Store {
    /// All policies, after adding those of `defaults` that have never been there.
    pub(crate) async fn policy_list(
        &self,
        defaults: Vec<Policy>,
    ) -> Result<Vec<Policy>, StoreError> {
        self.write(defaults.len(), move |write| {
            let empty: bool =
                write.connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM policy)", [], |row| row.get(0))?;
            for policy in defaults.iter().filter(|_| empty) {
                write.connection.execute(
                    "INSERT INTO policy (name, rights, primary_key, secondary_key) VALUES (?1, ?2, ?3, ?4)",
                    params![
                        policy.name.as_ref(),
                        policy.rights.bits(),
                        policy.keys.primary.as_bytes(),
                        policy.keys.secondary.as_bytes()
                    ],
                )?;
            }
            let mut statement = write.connection.prepare("SELECT name, rights, primary_key, secondary_key FROM policy")?;
            let mut rows = statement.query([])?;
            let mut policies = Vec::new();
            while let Some(row) = rows.next()? {
                let name: PolicyName = row
                    .get::<_, String>("name")?
                    .parse()
                    .map_err(|error| StoreError::corrupt("policy name", error))?;
                let keys = Keys {
                    primary: stored_key(&row.get::<_, Vec<u8>>("primary_key")?)?,
                    secondary: stored_key(&row.get::<_, Vec<u8>>("secondary_key")?)?,
                };
                policies.push(Policy { name, keys, rights: Rights::from_bits(row.get("rights")?) });
            }
            Ok(policies)
        })
        .await
    }
}

//! Sessions of the web page that survive a restart of the hub.

use iothub_protocol::id::PolicyName;
use rusqlite::{Row, params};

use super::{Store, StoreError, damage};

/// A session; its secrets are stored as SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPageSession {
    pub(crate) cookie: [u8; 32],
    pub(crate) token: [u8; 32],
    pub(crate) policy: PolicyName,
    /// The key with which it was begun.
    pub(crate) key: [u8; 32],
    /// Its end, in seconds since 1970.
    pub(crate) expires: i64,
}

impl Store {
    /// The sessions that end after `now`, in seconds since 1970; the others are deleted.
    pub(crate) async fn page_sessions(
        &self,
        now: i64,
    ) -> Result<Vec<StoredPageSession>, StoreError> {
        self.write(1, move |write| {
            let delete = "DELETE FROM page_session WHERE expires <= ?1";
            write.connection.execute(delete, [now])?;
            let mut statement = write
                .connection
                .prepare("SELECT cookie, token, policy, key, expires FROM page_session")?;
            let mut rows = statement.query([])?;
            let mut sessions = Vec::new();
            while let Some(row) = rows.next()? {
                let name = || damage::text(row, "policy");
                sessions.extend(damage::skip_damaged("a session", name, record(row))?);
            }
            Ok(sessions)
        })
        .await
    }

    pub(crate) async fn page_session_insert(
        &self,
        session: StoredPageSession,
    ) -> Result<(), StoreError> {
        self.write(1, move |write| {
            write.connection.execute(
                "INSERT INTO page_session (cookie, token, policy, key, expires) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    session.cookie,
                    session.token,
                    session.policy.as_ref(),
                    session.key,
                    session.expires
                ],
            )?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn page_session_delete(&self, cookie: [u8; 32]) -> Result<(), StoreError> {
        self.write(1, move |write| {
            let delete = "DELETE FROM page_session WHERE cookie = ?1";
            write.connection.execute(delete, [cookie])?;
            Ok(())
        })
        .await
    }
}

fn record(row: &Row<'_>) -> Result<StoredPageSession, StoreError> {
    let policy = row.get::<_, String>("policy")?;
    Ok(StoredPageSession {
        cookie: row.get("cookie")?,
        token: row.get("token")?,
        policy: policy
            .parse()
            .map_err(|error| StoreError::corrupt("policy name", error))?,
        key: row.get("key")?,
        expires: row.get("expires")?,
    })
}

//! Sessions of the web page that survive a restart of the hub.

use rusqlite::{Row, params};

use super::{Store, StoreError, StoredPageSession, damage};

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

//! How far the events have been delivered to each webhook.

use rusqlite::{OptionalExtension as _, params};

use super::{Store, StoreError};

impl Store {
    /// The last event that the webhook needs no more; `None` for a new webhook.
    pub(crate) async fn webhook_cursor(&self, name: &str) -> Result<Option<i64>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| {
            let cursor = connection
                .prepare_cached("SELECT event FROM webhook WHERE name = ?1")?
                .query_row([name], |row| row.get(0))
                .optional();
            Ok(cursor?)
        })
        .await
    }

    pub(crate) async fn webhook_save(&self, name: &str, event: i64) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write(1, move |write| {
            write
                .connection
                .prepare_cached("INSERT OR REPLACE INTO webhook (name, event) VALUES (?1, ?2)")?
                .execute(params![name, event])?;
            Ok(())
        })
        .await
    }

    /// Deletes the cursors of all webhooks but `names`.
    pub(crate) async fn webhook_retain(&self, names: Vec<String>) -> Result<(), StoreError> {
        self.write(1, move |write| {
            let mut statement = write.connection.prepare("SELECT name FROM webhook")?;
            let stored = statement.query_map([], |row| row.get::<_, String>(0))?;
            let stored: Vec<String> = stored.collect::<Result<_, _>>()?;
            for gone in stored.iter().filter(|name| !names.contains(name)) {
                let delete = "DELETE FROM webhook WHERE name = ?1";
                write.connection.execute(delete, [gone])?;
            }
            Ok(())
        })
        .await
    }
}

//! Plans of floors: images on which the page shows doors.

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, params};

use super::{Store, StoreError};
use crate::types::{PlanPut, PlanRecord};

impl Store {
    pub(crate) async fn plans(&self) -> Result<Vec<PlanRecord>, StoreError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT id, type, length(image), etag FROM plan ORDER BY id")?;
            let plans = statement.query_map([], |row| {
                Ok(PlanRecord {
                    id: row.get(0)?,
                    media_type: row.get(1)?,
                    bytes: super::unsigned(row, "length(image)")?,
                    etag: row.get(3)?,
                })
            })?;
            Ok::<_, StoreError>(plans.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The media type, the etag and the image of a plan. A scan by its size: 2 MiB take 100 ms from
    /// a memory card of 20 MB/s, and logins must not wait for that.
    pub(crate) async fn plan_get(
        &self,
        id: String,
    ) -> Result<Option<(String, String, Bytes)>, StoreError> {
        self.scan(move |connection| {
            let plan = connection
                .prepare_cached("SELECT type, etag, image FROM plan WHERE id = ?1")?
                .query_row([id], |row| {
                    let image: Vec<u8> = row.get(2)?;
                    Ok((row.get(0)?, row.get(1)?, image.into()))
                })
                .optional();
            Ok::<_, StoreError>(plan?)
        })
        .await
    }

    /// Stores a plan, unless there are `max` others.
    pub(crate) async fn plan_put(
        &self,
        plan: PlanRecord,
        image: Bytes,
        max: u32,
    ) -> Result<PlanPut, StoreError> {
        self.write(1, move |write| {
            let connection = &write.connection;
            let id = &plan.id;
            let count = "SELECT count(*), count(*) FILTER (WHERE id = ?1) FROM plan";
            let (all, same): (u32, u32) =
                connection.query_row(count, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if same == 0 && all >= max {
                return Ok(PlanPut::TooMany);
            }
            connection.execute(
                "INSERT OR REPLACE INTO plan (id, type, etag, image) VALUES (?1, ?2, ?3, ?4)",
                params![id, plan.media_type, plan.etag, &image[..]],
            )?;
            Ok(match same {
                0 => PlanPut::Created,
                _ => PlanPut::Replaced,
            })
        })
        .await
    }

    /// `false` if there is no such plan.
    pub(crate) async fn plan_delete(&self, id: String) -> Result<bool, StoreError> {
        self.write(1, move |write| {
            let deleted = write
                .connection
                .execute("DELETE FROM plan WHERE id = ?1", [id])?;
            Ok::<_, StoreError>(deleted > 0)
        })
        .await
    }
}

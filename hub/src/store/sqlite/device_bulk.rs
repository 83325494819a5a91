//! Changes of many identities and twins in one transaction.

use iothub_protocol::id::DeviceId;

use super::writer::Write;
use super::{DeviceRecord, Store, StoreError, TwinChange, TwinRecord, device, twin};

/// Estimate of the rows that one item writes: an identity and its twin.
const ROWS: usize = 2;

/// Access to identities and twins for one item of a bulk operation.
pub(crate) struct BulkTransaction<'a, 'b>(&'a mut Write<'b>);

impl BulkTransaction<'_, '_> {
    pub(crate) fn get(&self, device: &DeviceId) -> Result<Option<DeviceRecord>, StoreError> {
        device::get(self.0.connection, device)
    }

    /// The identity, readable enough for its deletion even if it is damaged.
    pub(crate) fn get_to_delete(
        &self,
        device: &DeviceId,
    ) -> Result<Option<DeviceRecord>, StoreError> {
        device::get_to_delete(self.0.connection, device)
    }

    /// Adds an identity and its empty twin. `false` if the id is taken.
    pub(crate) fn insert(&mut self, record: &DeviceRecord) -> Result<bool, StoreError> {
        device::insert(self.0.connection, record)
    }

    /// Writes the identity, except for the connection state.
    pub(crate) fn update(&mut self, record: &DeviceRecord) -> Result<(), StoreError> {
        device::update(self.0.connection, record)
    }

    /// Removes the identity, its twin and its session.
    pub(crate) fn delete(&mut self, device: &DeviceId) -> Result<(), StoreError> {
        device::delete(self.0.connection, device)
    }

    /// Applies `change` to the twin; `None` if there is no such device.
    pub(crate) fn twin<E: From<StoreError>>(
        &mut self,
        device: &DeviceId,
        change: impl FnOnce(&mut TwinRecord) -> Result<TwinChange, E>,
    ) -> Result<Option<TwinRecord>, E> {
        let changed = twin::change(self.0, device, |record| Ok::<_, E>((change(record)?, ())))?;
        Ok(changed.map(|(record, ())| record))
    }
}

impl Store {
    /// Applies `change` to each of `items`, in order and in one transaction. A failed item rolls
    /// back only its own writes.
    pub(crate) async fn device_bulk<I, T, E>(
        &self,
        items: Vec<I>,
        mut change: impl FnMut(&mut BulkTransaction<'_, '_>, I) -> Result<T, E> + Send + 'static,
    ) -> Result<Vec<Result<T, E>>, E>
    where
        I: Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.write_bulk(items.len() * ROWS, move |write| {
            let mut outcomes = Vec::with_capacity(items.len());
            for item in items {
                let outcome = write.isolated(|write| change(&mut BulkTransaction(write), item));
                match outcome {
                    // SQLite rolled back the whole transaction: further items would run in a
                    // transaction of their own.
                    Err(error) if write.connection.is_autocommit() => return Err(error),
                    outcome => outcomes.push(outcome),
                }
            }
            Ok(outcomes)
        })
        .await
    }
}

//! SQLite's errors as errors of the store.

use rusqlite::ErrorCode::{
    CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
    OperationInterrupted, OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
};

use super::StoreError;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let is_permanent = match error.sqlite_error_code() {
            Some(OperationInterrupted) => return Self::Deadline,
            Some(
                CannotOpen
                | DatabaseBusy
                | DatabaseLocked
                | DiskFull
                | FileLockingProtocolFailed
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure,
            ) => false,
            _ => true,
        };
        Self::Sql {
            is_permanent,
            source: Box::new(error),
        }
    }
}

//! Why an operation of the store failed, without the types of a database's client.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use super::sqlite::FILE;

/// What the operator can do about a database that has lost data.
const ADVICE: &str = "Copy the data folder away first; then restore a backup \
    (`door-hub restore FILE --data DIR`), or start once with --accept-older to continue with this \
    database";

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("cannot open the database {}", .path.display())]
    Open {
        path: PathBuf,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("cannot create the database {}", .path.display())]
    Create {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The database lacks transactions that were committed to it.
    #[error(
        "the database {} has lost data: its last transaction is {found}, but {FILE} next to it \
         records {recorded_number}; its -wal file is damaged or missing, or it is an older copy. \
         {ADVICE}",
        .path.display()
    )]
    Older {
        path: PathBuf,
        /// The number of the database's last transaction.
        found: i64,
        /// The number of a later transaction.
        recorded_number: i64,
    },
    /// The database is missing, but it existed.
    #[error(
        "the database {} is missing or empty, but {related_file} exists next to it. {ADVICE}",
        .path.display()
    )]
    Gone {
        path: PathBuf,
        /// A file that only a hub with a database writes.
        related_file: &'static str,
    },
    /// The database exists, but its content is lost.
    #[error(
        "the database {} has no policies, but {related_file} exists next to it: its data is lost. \
         {ADVICE}",
        .path.display()
    )]
    Emptied {
        path: PathBuf,
        /// A file that only a hub with policies writes.
        related_file: &'static str,
    },
    /// A newer hub has migrated the database.
    #[error(
        "the database has schema {found}, but this door-hub supports only up to {known}: start \
         the newer door-hub that wrote it"
    )]
    NewerSchema {
        found: usize,
        /// The newest schema that this program supports.
        known: usize,
    },
    /// The database needs a migration, which only the start of a hub does.
    #[error(
        "the database has schema {found}, but this door-hub needs {known}: start this version of \
         the hub on it first"
    )]
    OlderSchema {
        found: usize,
        /// The schema of this program.
        known: usize,
    },
    #[error(
        "the database is marked as schema {found}, but its tables are not those of that schema \
         ({object}): something else has changed it; restore a backup"
    )]
    OtherSchema {
        found: usize,
        /// The first object that is missing or too new.
        object: String,
    },
    #[error("a database statement failed")]
    Sql {
        /// Whether a retry fails again: the cause is neither the disk, nor a lock, nor the
        /// connection, nor another operation.
        is_permanent: bool,
        source: Box<dyn Error + Send + Sync>,
    },
    /// The transaction did not reach the disk; none of its changes happened.
    #[error("the database did not commit")]
    Commit(#[source] Arc<dyn Error + Send + Sync>),
    /// A stored document cannot be parsed.
    #[error("the stored {what} cannot be read back")]
    Corrupt {
        what: &'static str,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("cannot start the database's thread")]
    Thread(#[source] std::io::Error),
    /// The read exceeded its deadline.
    #[error("the database read timed out")]
    Deadline,
    /// The queue of reads is full.
    #[error("too many database reads are queued")]
    Busy,
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the database has lost committed data.
    pub(crate) const fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Older { .. } | Self::Gone { .. } | Self::Emptied { .. }
        )
    }

    /// Whether a retry of the operation fails again: the cause is not the disk, a lock or another
    /// operation.
    pub(crate) const fn is_permanent(&self) -> bool {
        match self {
            Self::Sql { is_permanent, .. } => *is_permanent,
            Self::Commit(_) | Self::Deadline | Self::Busy => false,
            _ => true,
        }
    }

    pub(super) fn corrupt(what: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Corrupt {
            what,
            source: Box::new(source),
        }
    }
}

//! The hub's persistent state. This module is its surface: what a database keeps for the services,
//! without a word about which database it is. It knows the protocol types, but neither connections
//! nor HTTP. [`sqlite`] is the implementation; all of the SQL is below it.
//!
//! The methods of [`Store`] are in one file per table, with the noun first: `device_insert`,
//! `twin_update`. Business rules stay in the services: a method that changes a row takes a pure
//! function of the row.
//!
//! What every store keeps, and `conformance` tests through these methods alone:
//!
//! - **Durable before the reply.** What a method has answered survives a power cut; what a read
//!   returns has been committed.
//! - **Groups.** Operations that are queued together share a transaction. One that fails takes back
//!   only its own changes, and so does a failed item of [`Store::device_bulk`]. If the commit
//!   fails, none of the transaction happened and each caller gets [`StoreError::Commit`].
//! - **No lost update.** The function of a row gets its newest version, and nobody changes the
//!   row before the result is stored.
//! - **Desired changes in commit order.** [`AfterCommit`] gets those of each transaction after its
//!   commit and before the replies, transactions in the order of their commits.
//! - **Events with their cause.** The events of a change are in its transaction. Their ids rise in
//!   commit order, so that a reader which continues after the last id that it saw misses none.
//! - **A row is claimed once.** [`Store::device_job_claim`] has stored rows as `running` before it
//!   returns them, and gives one again only after [`DeviceResult::NotSent`]; a row ends once.
//! - **Order.** Devices, jobs and the rows of a job are listed in the order of their creation, and
//!   groups as in [`iothub_protocol::query::answer`]; strings compare by bytes. Rows that come
//!   or go between two pages make no other row appear twice or not at all.
//! - **Documents come back as they were given**: members in order, numbers and `\u0000` as written.
//! - **Scopes.** A row outside a [`Scope`](crate::types::Scope) does not exist, decided in the
//!   transaction of what it guards.
//!
//! What concerns a file exists for SQLite only: [`copy`], [`damaged`], [`faults`],
//! [`read_audit`], [`PolicyFile`], the loss of committed data ([`check_for_loss`]),
//! [`Store::look_for_file`] and [`Store::inspect`].

#[cfg(test)]
mod conformance;
mod device;
mod error;
mod event;
mod job;
mod page;
mod sqlite;

use std::time::Duration;

use iothub_protocol::id::PolicyName;
use jiff::Timestamp;

pub(crate) use device::{
    DesiredChange, DeviceRecord, DeviceStatistics, Sections, StoredAuthentication,
    StoredSubscription, TwinChange, TwinEvent, TwinRecord,
};
pub use error::StoreError;
pub(crate) use event::{EventRecord, TelemetryMessage};
pub(crate) use job::{
    ClaimRequest, ClaimedDevices, DeviceJobRecord, DeviceOutcome, DeviceResult, JobCancel,
    JobCounts, JobInsert, JobRecord, JobStart, NewJob, WaitingJob,
};
pub(crate) use page::{Continuation, GroupPosition, Page, RowPosition, TokenPayload};
#[cfg(feature = "fuzzing")]
pub(crate) use sqlite::scratch;
pub(crate) use sqlite::{
    BulkTransaction, PolicyFile, RecordedNumber, Store, check_for_loss, copy, damaged, faults,
    log_skipped, read_audit, record_restored, recorded_number,
};

/// The time of something that has never happened.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// A committed transaction.
#[derive(Debug)]
pub(crate) struct Committed {
    /// The desired changes in it, in order.
    pub(crate) changes: Vec<DesiredChange>,
    /// The number of operations in it.
    pub(crate) operations: usize,
    /// Its duration from BEGIN to COMMIT.
    pub(crate) took: Duration,
}

/// Called after each commit, before the callers get their replies; never by two threads at once.
pub(crate) type AfterCommit = Box<dyn FnMut(Committed) + Send>;

/// A session of the web page; its secrets are stored as SHA-256.
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

/// A time as stored: in the form of the documents, so that queries compare the same text.
pub(crate) fn time_text(time: Timestamp) -> String {
    iothub_protocol::time::format(time)
}

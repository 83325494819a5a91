//! What `door-hub` can be asked to do, one file per command.

mod audit;
mod backup;
mod check;
mod documents;
mod init;
mod log;
mod policy;
mod serve;
mod settings;

pub(crate) use audit::{AuditArguments, audit};
pub(crate) use backup::{BackupArguments, RestoreArguments, backup, restore};
pub(crate) use check::check;
pub(crate) use documents::documents;
pub(crate) use init::init;
pub(crate) use log::{Log, read_filter};
pub(crate) use policy::{PolicyArguments, policy};
pub(crate) use serve::serve;
pub(crate) use settings::{Settings, StartArguments};

/// The data folder of a command that needs one that is there.
fn data_folder(given: Option<std::path::PathBuf>) -> anyhow::Result<std::path::PathBuf> {
    given.ok_or_else(|| {
        anyhow::anyhow!("no data folder is named; expected --data DIR or DOOR_HUB_DATA")
    })
}

//! What `door-hub` can be asked to do, one file per command.

mod init;
mod log;
mod serve;
mod settings;

pub(crate) use init::init;
pub(crate) use log::{Log, read_filter};
pub(crate) use serve::serve;
pub(crate) use settings::Settings;

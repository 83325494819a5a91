//! Why a hub does not start.

use std::io;
use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::data::DataError;
use crate::pki::PkiError;
use crate::service::{OWNER, ServiceError};
use crate::store::StoreError;

/// Why a hub did not start. Nothing listens when it did not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// There is no certificate to serve with.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The certificate cannot be served.
    #[error("the server certificate cannot be served")]
    Tls(#[from] rustls::Error),
    /// The database cannot be used.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// The owner's policy has been removed from the database.
    #[error("the database has no policy `{OWNER}`, whose connection string the operator needs")]
    NoOwner,
    /// The jobs that an earlier hub left cannot be taken up.
    #[error("the jobs of the hub before cannot be taken up")]
    Jobs(#[from] ServiceError),
    /// A port is taken.
    #[error("port {} on {} is in use; {flag} names another", .address.port(), .address.ip())]
    PortInUse {
        /// The address wanted.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A port cannot be listened on.
    #[error("cannot listen on {address} ({flag})")]
    Listen {
        /// The address wanted.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

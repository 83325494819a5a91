//! Errors of a hub's start.

use std::io;
use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::data::DataError;
use crate::pki::PkiError;
use crate::service::{OWNER, ServiceError};
use crate::store::StoreError;
use crate::webhook::WebhookError;

/// Why a hub did not start. After such an error nothing listens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    #[error("cannot use the server certificate for TLS")]
    Tls(#[from] rustls::Error),
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    #[error("the database has no policy `{OWNER}`; the operator's connection string needs it")]
    NoOwner,
    #[error("cannot load the jobs of the previous run")]
    Jobs(#[from] ServiceError),
    #[error(
        "port {} on {} is already in use; choose another with {flag}",
        .address.port(),
        .address.ip()
    )]
    PortInUse {
        address: SocketAddr,
        flag: &'static str,
        source: io::Error,
    },
    #[error("cannot listen on {address} ({flag})")]
    Listen {
        address: SocketAddr,
        flag: &'static str,
        source: io::Error,
    },
}

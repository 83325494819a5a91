//! door-hub: a self-hosted hub that speaks Azure IoT Hub's wire.

mod auth;
pub mod config;
pub mod identity;
mod pki;
mod session;
mod store;
mod tls;

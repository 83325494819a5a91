//! door-hub: a self-hosted hub that speaks Azure IoT Hub's wire.

pub mod config;
pub mod identity;
mod pki;
mod store;

//! The gateway: MQTT 3.1.1 over TLS, one small task for each connected device.
//!
//! It must handle tens of thousands of idle doors, and a job that calls all of them at once. So an
//! idle connection has no buffer, no timer and no channel: its task waits for the socket, and the
//! job's own thread writes a call to the socket ([`link`]). Packets are decoded ([`codec`]),
//! checked by rules without IO ([`machine`]) and processed by the services.
//!
//! Why: docs/decisions/0013-own-connection-layer.md.

mod accept;
pub(crate) mod codec;
mod connection;
mod error_body;
pub(crate) mod frames;
mod link;
mod listener;
pub(crate) mod machine;
mod rate_limiter;

pub(crate) use listener::Gateway;

//! The gateway: MQTT 3.1.1 over TLS, one small task for each connected device.
//!
//! What it must be good at is tens of thousands of doors that say nothing, and a job that speaks to
//! all of them at once. So an idle connection keeps no buffer, no timer and no channel: its task
//! waits for the socket, and a request is written to the socket from the job's own thread
//! ([`link`]). What a device sends is decoded ([`codec`]), judged by rules that know no IO
//! ([`machine`]) and done by the services.

mod accept;
pub(crate) mod codec;
mod connection;
mod error_body;
pub(crate) mod frames;
mod link;
mod listener;
pub(crate) mod machine;
mod pace;

pub(crate) use listener::Gateway;

//! Azure IoT Hub's wire as types: what a hub, its devices and its operators say to each other.
//!
//! Hub, agent and command line all build on this crate, so that a name, a topic or a document has
//! one spelling. It has no IO, no clock and no runtime (`clippy.toml` says so), and it knows
//! nothing about doors. Text and bytes of strangers are parsed here, once, into types; every parser
//! is bounded and none panics.
//!
//! | module | what it owns |
//! |---|---|
//! | [`id`] | the names of devices, jobs, methods and policies |
//! | [`error`] | IoT Hub's error codes |
//! | [`connection_string`] | how a client is told where its hub is and who it is |
//! | [`sas`] | shared access signatures: made, read, verified |
//! | [`topic`] | MQTT topics: what both directions share, and subscriptions |
//! | [`uplink`], [`downlink`] | what a device says to its hub, and the hub to the device |
//! | [`method`] | direct methods: request and result |
//! | [`job`] | jobs: request, state, the record of each device |
//! | [`query`] | the query language: parser, printer, evaluator |
//! | [`time`] | instants as text |
//! | [`twin`] | device twins: the document, the rules by which it changes |

#![warn(missing_docs)]

pub mod connection_string;
pub mod downlink;
pub mod error;
pub mod id;
mod integer;
pub mod job;
pub mod method;
pub mod query;
pub mod sas;
pub mod time;
pub mod topic;
pub mod twin;
pub mod uplink;

pub use error::ErrorCode;
pub use id::{DeviceId, JobId, MethodName, PolicyName};

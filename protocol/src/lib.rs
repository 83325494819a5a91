//! The wire format of Azure IoT Hub as types, for hub, devices and operators.
//!
//! Hub, agent and command line all use this crate, so that each name, topic and document has one
//! spelling. It has no IO, no clock and no runtime (`clippy.toml` forbids them), and it knows
//! nothing about doors. Untrusted text and bytes are parsed here, once, into types; every parser is
//! bounded and none panics.
//!
//! | module | content |
//! |---|---|
//! | [`id`] | names of devices, jobs, methods and policies |
//! | [`audit`] | entries and filters of the audit log |
//! | [`bulk`] | bulk operations on identities |
//! | [`error`] | IoT Hub's error codes |
//! | [`event`] | kinds of events, and which to read |
//! | [`health`] | what door-hub reports about itself |
//! | [`identity`] | device identities and their credentials |
//! | [`connection_string`] | connection strings of devices and services |
//! | [`rest`] | version of the service API and names of headers |
//! | [`sas`] | shared access signatures: sign, parse, verify |
//! | [`topic`] | MQTT topics: parts that both directions share, and subscriptions |
//! | [`uplink`], [`downlink`] | topics from device to hub, and from hub to device |
//! | [`method`] | direct methods: request and result |
//! | [`job`] | jobs: request, response, the record of each device |
//! | [`policy`] | what a policy of door-hub may do |
//! | [`query`] | the query language: parser, printer, evaluator |
//! | [`text_file`] | text files that people hand to a program |
//! | [`time`] | timestamps as text |
//! | [`twin`] | device twins: the document and the rules of its changes |

#![warn(missing_docs)]

pub mod audit;
pub mod bulk;
pub mod connection_string;
pub mod downlink;
pub mod error;
pub mod event;
pub mod health;
pub mod id;
pub mod identity;
mod integer;
pub mod job;
pub mod method;
pub mod policy;
pub mod query;
pub mod rest;
pub mod sas;
pub mod text_file;
pub mod time;
pub mod topic;
pub mod twin;
pub mod uplink;

pub use error::ErrorCode;
pub use id::{DeviceId, JobId, MethodName, PolicyName};

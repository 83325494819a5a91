//! End-to-end tests of the hub through its clients' interfaces: HTTPS and MQTT over TLS on free
//! loopback ports, with a new data folder for each test.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap in a test names its line"
)]

mod audit;
mod azure_cli;
mod backup;
mod bad_input;
mod bounds;
mod bounds_calls;
mod bulk;
mod certificates;
mod device;
mod device_method;
mod device_twin;
mod event;
mod gateway;
mod hostile;
mod job;
mod job_stop;
mod login;
mod loss;
mod method;
mod metrics;
mod not_built;
mod out_file;
mod output;
mod page;
mod policy;
mod process;
mod program;
mod query;
mod query_rows;
mod restart;
mod session;
mod twin;
mod upgrade;
mod uplink;
mod webhook;
mod websocket;

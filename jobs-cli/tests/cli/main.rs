//! doorctl without a hub: help, errors, contexts. Snapshots of exit status, stdout and stderr.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod context;
mod devices;
mod doors;
mod enroll;
mod examples;
mod help;
mod mistakes;
mod output;
mod reference;
mod schedule;
mod support;

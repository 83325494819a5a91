//! doorctl against a real hub with real agents, in this process or in their own.
#![cfg(all(unix, feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod again;
mod alarms;
mod azure;
mod completion;
mod dashboard;
mod demo;
mod devices;
mod documents;
mod doors;
mod enroll;
mod first_steps;
mod fleet_files;
mod jobs;
mod long_lists;
mod pages;
mod plan;
mod policy;
mod record;
mod registry;
mod restart;
mod schedule;
mod selections;
mod staged;
mod support;
mod terminal;
mod three_days;
mod twins;
mod verbs;

//! Tests of the agent from outside: as a program, and with a real hub.

#![expect(
    clippy::unwrap_used,
    reason = "in a test the line that failed is the message"
)]

mod cli;
mod disk;
mod examples;
mod hub;
mod install;
mod journal;
mod killed;
mod network;
mod output;
mod reference;
mod restart;
mod selftest;
mod service;
mod sim;
mod site;
mod timed;
mod upgrade;
#[cfg(target_os = "linux")]
mod wear;

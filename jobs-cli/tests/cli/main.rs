//! What a person sees without any hub: help, mistakes, contexts. Exit status, stdout and stderr as
//! they are.
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
mod support;

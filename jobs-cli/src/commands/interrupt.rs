//! Ctrl-C between two steps: what was begun is brought to an end that can be told.

use std::future::{Future, ready};
use std::io;
use std::pin::Pin;

/// Whether somebody pressed Ctrl-C. From the first question on, it no longer ends the program by itself.
pub(super) struct Interrupt(Pin<Box<dyn Future<Output = io::Result<()>> + Send>>);

impl Interrupt {
    /// Nobody has, so far.
    pub(super) fn new() -> Self {
        Self(Box::pin(tokio::signal::ctrl_c()))
    }

    /// Whether somebody has since; to be asked until it is so, and not again.
    pub(super) async fn came(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = &mut self.0 => true,
            () = ready(()) => false,
        }
    }
}

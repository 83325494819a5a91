//! Tells each step as it is done, with the time that it took.

use tokio::time::Instant;

use crate::printer::Printer;

/// The steps so far.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    printer: &'a Printer,
    begun: Instant,
}

impl<'a> Steps<'a> {
    /// The first begins now.
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self {
            printer,
            begun: Instant::now(),
        }
    }

    /// One is done, and the next begins.
    pub(super) fn done(&mut self, step: &str, what: impl AsRef<str>) {
        let now = Instant::now();
        let took = now - std::mem::replace(&mut self.begun, now);
        let took = took.as_secs_f64();
        self.printer
            .say(format!("{took:6.1} s  {step:<10}  {}", what.as_ref()));
    }
}

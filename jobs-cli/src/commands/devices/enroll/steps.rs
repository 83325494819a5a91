//! Prints each step when it is done, with its duration.

use tokio::time::Instant;

use crate::printer::Printer;

#[derive(Debug)]
pub(super) struct Steps<'a> {
    printer: &'a Printer,
    begun: Instant,
}

impl<'a> Steps<'a> {
    /// Starts the clock of the first step.
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self {
            printer,
            begun: Instant::now(),
        }
    }

    /// Prints a finished step and starts the clock of the next.
    pub(super) fn done(&mut self, step: &str, what: impl AsRef<str>) {
        let now = Instant::now();
        let took = now - std::mem::replace(&mut self.begun, now);
        let took = took.as_secs_f64();
        self.printer
            .say(format!("{took:6.1} s  {step:<10}  {}", what.as_ref()));
    }
}

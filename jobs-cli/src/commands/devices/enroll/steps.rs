//! Prints each step when it is done, with its duration.

use tokio::time::Instant;

use crate::printer::Printer;

#[derive(Debug)]
pub(super) struct Steps<'a> {
    printer: &'a Printer,
    step_started: Instant,
}

impl<'a> Steps<'a> {
    /// Starts the clock of the first step.
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self {
            printer,
            step_started: Instant::now(),
        }
    }

    /// Prints a finished step and starts the clock of the next.
    pub(super) fn done(&mut self, step: &str, what: impl AsRef<str>) {
        let now = Instant::now();
        let duration = now - std::mem::replace(&mut self.step_started, now);
        let duration = duration.as_secs_f64();
        self.printer
            .say(format!("{duration:6.1} s  {step:<10}  {}", what.as_ref()));
    }
}

//! Outputs that cannot be driven: a line that the kernel refuses to set.

use super::{Action, Door, StepEffects};
use crate::time::Now;

impl Door {
    /// Handles the result of [`Action::Drive`], and of each time the shell sets the same level
    /// again: an error names output and reason. Until a movement can be driven, the alarm is
    /// `lockFault` and where the lock is counts as unknown.
    pub fn handle_driven(&mut self, now: &Now, driven: Result<(), String>) -> Vec<Action> {
        let inputs = self.strike_inputs(false);
        let is_driven = self
            .strike
            .handle_driven(now.boottime, &inputs, driven.is_ok());
        match driven {
            Err(problem) => self.output_fault = Some(problem),
            Ok(()) if is_driven => self.output_fault = None,
            Ok(()) => {}
        }
        self.finish(now, StepEffects::default())
    }
}

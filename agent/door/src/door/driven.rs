//! Outputs that cannot be driven: a line that the kernel refuses to set.

use super::{Action, Door, StepEffects};
use crate::strike::OutputFault;
use crate::time::Now;

impl Door {
    /// Handles the result of [`Action::Drive`], and of each time the shell sets the same level
    /// again. Until an output can be set, the alarm is `lockFault` and where the lock is counts as
    /// unknown.
    pub fn handle_driven(&mut self, now: &Now, driven: Result<(), OutputFault>) -> Vec<Action> {
        let inputs = self.strike_inputs(false);
        let is_driven = self.strike.handle_driven(now.boottime, &inputs, &driven);
        match driven {
            Err(fault) => self.output_fault = Some(fault.problem),
            Ok(()) if is_driven => self.output_fault = None,
            Ok(()) => {}
        }
        self.finish(now, StepEffects::default())
    }
}

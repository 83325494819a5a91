//! `selfTest`: checks that need no movement of the bolt. The disk is tested by saving the state;
//! the rest is known already.

use super::answer::STORE_TIME;
use super::{Door, NotSaved};
use crate::contract::{Alarm, Check, CheckResult, LockState, MethodReply, SelfTestReport};
use crate::sensing::{Reading, faults_text};
use crate::strike::Outputs;
use crate::time::{ClockQuality, Now};

impl Door {
    pub(super) fn self_test(&self, now: &Now, disk: Option<Result<(), NotSaved>>) -> MethodReply {
        let checks = SelfTestReport {
            inputs: self.check_inputs(),
            strike: self.check_strike(),
            storage: check_storage(disk),
            clock: self.check_clock(now),
        };
        let jammed = self.alarms.contains_key(&Alarm::Jammed);
        MethodReply::self_test(checks, jammed, self.report().status)
    }

    fn check_inputs(&self) -> Check {
        let readings = self.sensing.levels();
        let word = |reading: Reading| match reading {
            Some(true) => "active",
            Some(false) => "idle",
            None => "not readable",
        };
        let levels: Vec<_> = readings
            .iter()
            .map(|(name, reading)| format!("{name} {}", word(*reading)))
            .collect();
        let levels = levels.join(", ");
        if !self.sensing.has_read() {
            return Check::new(CheckResult::Failed, "no input has been read yet");
        }
        if readings.iter().any(|(_, reading)| reading.is_none()) {
            return Check::new(CheckResult::Failed, levels);
        }
        let faults = self.sensing.present_faults();
        if !faults.is_empty() {
            let detail = format!("{levels}: {}", faults_text(&faults));
            return Check::new(CheckResult::Failed, detail);
        }
        Check::new(CheckResult::Passed, levels)
    }

    fn check_strike(&self) -> Check {
        let state = match self.report().status.lock_state {
            LockState::Locked => "locked",
            LockState::Locking => "locking",
            LockState::Unlocked => "unlocked",
            LockState::Unlocking => "unlocking",
            LockState::Jammed => "jammed",
            LockState::Unknown => "its state is unknown",
        };
        let driven = match self.outputs() {
            Outputs::DeEnergised => "de-energised",
            _ => "energised",
        };
        let left = match self.strike.remaining_on_time() {
            None => "without limit".to_owned(),
            Some(left) => format!("for {:.1} s", left.as_secs_f64()),
        };
        let mut detail = format!("{state}, {driven}; coil or motor may be on {left}");
        if let Some(rest) = self.required_rest() {
            detail.push_str(&format!("; {rest}"));
        }
        if let Some(problem) = &self.output_fault {
            detail.push_str(&format!("; {problem}"));
        }
        let faulty = [Alarm::Jammed, Alarm::LockFault]
            .iter()
            .any(|alarm| self.alarms.contains_key(alarm));
        let result = if faulty {
            CheckResult::Failed
        } else {
            CheckResult::Passed
        };
        Check::new(result, detail)
    }

    fn check_clock(&self, now: &Now) -> Check {
        let wall = match now.wall {
            Some(wall) => format!("{wall}, "),
            None => String::new(),
        };
        let mut detail = format!("{wall}{}", now.quality.as_str());
        let disputed = self.agenda.clock().is_disputed();
        if disputed {
            detail.push_str("; it was stepped, or is before the last saved time: no timed release");
        }
        let result = match now.quality {
            ClockQuality::Synchronized if !disputed => CheckResult::Passed,
            _ => CheckResult::Warning,
        };
        Check::new(result, detail)
    }
}

fn check_storage(disk: Option<Result<(), NotSaved>>) -> Check {
    match disk {
        Some(Ok(())) => Check::new(CheckResult::Passed, "the state was written"),
        Some(Err(NotSaved)) => Check::new(CheckResult::Failed, "the state cannot be written"),
        None => {
            let detail = format!("the state was not written within {STORE_TIME:?}");
            Check::new(CheckResult::Failed, detail)
        }
    }
}

//! Where the strike rests without power, and therefore after a restart of the program.

use serde::{Deserialize, Serialize};

use super::{FailMode, StrikeConfig, StrikeKind};

/// Where the strike rests when it is de-energised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rest {
    /// Fail-secure: locked.
    Locked,
    /// Fail-safe: released.
    Released,
    /// A motor lock stays where it was driven.
    Stays,
}

impl StrikeConfig {
    /// Where this strike rests when it is de-energised.
    #[must_use]
    pub fn rest(&self) -> Rest {
        match (self.kind, self.fail_mode()) {
            (StrikeKind::MotorLock, _) => Rest::Stays,
            (_, FailMode::Safe) => Rest::Released,
            (_, FailMode::Secure) => Rest::Locked,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_coil_rests_by_its_fail_mode_and_a_motor_where_it_is() {
        for (strike, rest) in [
            (StrikeConfig::motor_lock(), Rest::Stays),
            (StrikeConfig::maglock(), Rest::Released),
            (
                StrikeConfig::pulse_strike(Duration::from_secs(5)),
                Rest::Locked,
            ),
            (StrikeConfig::solenoid_bolt(FailMode::Safe), Rest::Released),
            (StrikeConfig::solenoid_bolt(FailMode::Secure), Rest::Locked),
            (StrikeConfig::hold_strike(FailMode::Secure), Rest::Locked),
        ] {
            assert_eq!(strike.rest(), rest, "{strike:?}");
        }
    }
}

//! The result of `selfTest`.

use serde::{Deserialize, Serialize};

use super::words;

/// Checks of the hardware that need no movement of the bolt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SelfTestReport {
    /// Passed if every fitted input can be read and none is in fault.
    pub inputs: Check,
    /// State of the strike, its outputs, and how long coil or motor may still be energised.
    pub strike: Check,
    /// Passed if the state was written to disk.
    pub storage: Check,
    /// A warning if the wall clock is not trusted.
    pub clock: Check,
}

/// One check of a self-test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// The result.
    pub result: CheckResult,
    /// What was found, for a person.
    pub detail: String,
}

words! {
    /// Result of a check.
    pub enum CheckResult {
        /// All is well.
        Passed = "passed",
        /// It works with limitations.
        Warning = "warning",
        /// It does not work.
        Failed = "failed",
    }
}

impl Check {
    pub(crate) fn new(result: CheckResult, detail: impl Into<String>) -> Self {
        Self {
            result,
            detail: detail.into(),
        }
    }
}

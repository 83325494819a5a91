//! What `selfTest` answers.

use serde::{Deserialize, Serialize};

/// What can be told of the hardware without moving the bolt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SelfTestReport {
    /// Every fitted input is read, and none contradicts another.
    pub inputs: Check,
    /// Where the bolt is, what is energised, and how long coil or motor still may be.
    pub strike: Check,
    /// The state was written and is on disk.
    pub storage: Check,
    /// Whether the wall clock is trusted.
    pub clock: Check,
}

/// One part of a self-test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// How it went.
    pub result: CheckResult,
    /// What was seen, for a person.
    pub detail: String,
}

/// How a part of a self-test went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckResult {
    /// As it should be.
    Passed,
    /// It works, but not as well as it should.
    Warning,
    /// It does not work.
    Failed,
}

impl Check {
    pub(crate) fn new(result: CheckResult, detail: impl Into<String>) -> Self {
        Self {
            result,
            detail: detail.into(),
        }
    }
}

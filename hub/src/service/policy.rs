//! The policies that every hub has from the beginning.

use super::generate_key;
use crate::identity::{Keys, Policy, Rights};

/// The policy that may do everything; its connection string is written out for the operator.
pub(crate) const OWNER: &str = "iothubowner";

/// Azure's policies, which every hub has from the beginning.
const POLICIES: [(&str, Rights); 5] = [
    (OWNER, Rights::ALL),
    ("service", Rights::SERVICE_CONNECT),
    ("device", Rights::DEVICE_CONNECT),
    ("registryRead", Rights::REGISTRY_READ),
    ("registryReadWrite", Rights::REGISTRY_WRITE),
];

/// They, with new keys.
pub(crate) fn default_policies() -> Vec<Policy> {
    let make = |(name, rights): (&str, Rights)| {
        let keys = Keys {
            primary: generate_key(),
            secondary: generate_key(),
        };
        Policy {
            name: name.parse().expect("these names are good"),
            keys,
            rights,
        }
    };
    POLICIES.map(make).into()
}

//! Authentication and authorization: checks tokens and certificates against stored facts that its
//! callers look up; it never reads the store.

mod certificate;
mod device;
mod host_names;
pub(crate) mod sas;

use iothub_protocol::sas::CLOCK_SKEW;

pub(crate) use certificate::DeviceAuthorities;
pub(crate) use device::{DeviceLogin, Identity, LoginError, Trust, authenticate_device};
pub(crate) use host_names::HostNames;

/// Whether a token that expires at `expiry` (seconds since 1970) is valid; allows for a clock skew
/// of five minutes.
pub(crate) fn is_current(expiry: u64, now_unix_s: u64) -> bool {
    expiry.saturating_add(CLOCK_SKEW.as_secs()) > now_unix_s
}

#[cfg(test)]
mod tests;

//! Who is speaking, and whether they may. Judges tokens and certificates by stored facts that its
//! callers look up; it reads no store itself.

mod certificate;
mod device;
mod host_names;
pub(crate) mod sas;

use iothub_protocol::sas::CLOCK_SKEW;

pub(crate) use certificate::DeviceAuthorities;
pub(crate) use device::{DeviceLogin, Identity, LoginError, Trust, authenticate_device};
pub(crate) use host_names::HostNames;

/// Whether a token that ends at `expiry` (seconds since 1970) is still good: clocks may differ by
/// five minutes.
pub(crate) fn is_current(expiry: u64, now_unix_s: u64) -> bool {
    expiry.saturating_add(CLOCK_SKEW.as_secs()) > now_unix_s
}

#[cfg(test)]
mod tests;

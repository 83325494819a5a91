//! Calls that wait for their device to come online.

use std::collections::HashMap;
use std::time::Instant;

use iothub_protocol::id::DeviceId;

use super::{Call, MAX_WAITING, MAX_WAITING_PER_DEVICE, Pending};

/// By device; empty at most times.
#[derive(Default)]
pub(super) struct Waiting {
    by_device: HashMap<DeviceId, Vec<WaitingCall>>,
    count: usize,
}

pub(super) struct WaitingCall {
    pub(super) call: Call,
    pub(super) pending: Pending,
    pub(super) then: Then,
    deadline: Instant,
}

/// What happens when the device comes online.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The call leaves.
    Send,
    /// The observer is notified, and nothing leaves.
    Notify,
}

impl Waiting {
    /// Lets a call wait; gives it back when too many do.
    pub(super) fn push(
        &mut self,
        call: Call,
        pending: Pending,
        then: Then,
        now: Instant,
    ) -> Result<(), Pending> {
        let deadline = now + call.connect_timeout;
        if self.count >= MAX_WAITING {
            return Err(pending);
        }
        let calls = self.by_device.entry(call.device.clone()).or_default();
        if calls.len() >= MAX_WAITING_PER_DEVICE {
            return Err(pending);
        }
        calls.push(WaitingCall {
            call,
            pending,
            then,
            deadline,
        });
        self.count += 1;
        Ok(())
    }

    /// Every call of a device.
    pub(super) fn take(&mut self, device: &DeviceId) -> Vec<WaitingCall> {
        self.take_if(device, |_| true)
    }

    /// The calls of a device that it takes now.
    pub(super) fn take_if(
        &mut self,
        device: &DeviceId,
        takes: impl Fn(&Call) -> bool,
    ) -> Vec<WaitingCall> {
        let Some(calls) = self.by_device.remove(device) else {
            return Vec::new();
        };
        let (taken, left): (Vec<_>, Vec<_>) =
            calls.into_iter().partition(|waiting| takes(&waiting.call));
        if !left.is_empty() {
            self.by_device.insert(device.clone(), left);
        }
        self.count -= taken.len();
        taken
    }

    /// Calls whose device did not come in time, or whose caller has gone.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<WaitingCall> {
        let mut expired = Vec::new();
        self.by_device.retain(|_, calls| {
            expired.extend(calls.extract_if_expired(now));
            !calls.is_empty()
        });
        self.count -= expired.len();
        expired
    }

    /// Calls whose caller has gone.
    pub(super) fn take_unwanted(&mut self) -> Vec<WaitingCall> {
        let mut unwanted = Vec::new();
        self.by_device.retain(|_, calls| {
            let (wanted, others) = std::mem::take(calls)
                .into_iter()
                .partition(|waiting: &WaitingCall| waiting.pending.is_wanted());
            *calls = wanted;
            unwanted.extend::<Vec<_>>(others);
            !calls.is_empty()
        });
        self.count -= unwanted.len();
        unwanted
    }

    /// All of them.
    pub(super) fn take_all(&mut self) -> Vec<WaitingCall> {
        self.count = 0;
        self.by_device
            .drain()
            .flat_map(|(_, calls)| calls)
            .collect()
    }
}

trait ExtractExpired {
    fn extract_if_expired(&mut self, now: Instant) -> Vec<WaitingCall>;
}

impl ExtractExpired for Vec<WaitingCall> {
    fn extract_if_expired(&mut self, now: Instant) -> Vec<WaitingCall> {
        let (expired, left) = std::mem::take(self)
            .into_iter()
            .partition(|waiting| waiting.deadline <= now || !waiting.pending.is_wanted());
        *self = left;
        expired
    }
}

//! Calls that wait for their device to come online.

use std::collections::HashMap;
use std::time::Instant;

use iothub_protocol::id::DeviceId;

use super::{Call, MAX_WAITING, MAX_WAITING_PER_DEVICE, Pending};

/// The calls by device; usually empty.
#[derive(Default)]
pub(super) struct WaitingCalls {
    by_device: HashMap<DeviceId, Vec<WaitingCall>>,
    count: usize,
}

pub(super) struct WaitingCall {
    pub(super) call: Call,
    pub(super) pending: Pending,
    pub(super) when_online: WhenOnline,
    deadline: Instant,
}

/// What to do when the device comes online.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenOnline {
    /// Send the call.
    Send,
    /// Notify the observer, and send nothing.
    Notify,
}

impl WaitingCalls {
    /// Adds a call; returns it when too many wait.
    pub(super) fn push(
        &mut self,
        call: Call,
        pending: Pending,
        when_online: WhenOnline,
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
            when_online,
            deadline,
        });
        self.count += 1;
        Ok(())
    }

    /// Takes all calls of a device.
    pub(super) fn take(&mut self, device: &DeviceId) -> Vec<WaitingCall> {
        self.take_if(device, |_| true)
    }

    /// Takes the calls of a device for which `takes` is true.
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

    /// Takes the calls past their deadline, and those whose caller no longer waits.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<WaitingCall> {
        let mut expired = Vec::new();
        self.by_device.retain(|_, calls| {
            expired.extend(calls.extract_if_expired(now));
            !calls.is_empty()
        });
        self.count -= expired.len();
        expired
    }

    /// Takes the calls whose caller no longer waits.
    pub(super) fn take_abandoned(&mut self) -> Vec<WaitingCall> {
        let mut abandoned = Vec::new();
        self.by_device.retain(|_, calls| {
            let (wanted, others) = std::mem::take(calls)
                .into_iter()
                .partition(|waiting: &WaitingCall| waiting.pending.is_awaited());
            *calls = wanted;
            abandoned.extend::<Vec<_>>(others);
            !calls.is_empty()
        });
        self.count -= abandoned.len();
        abandoned
    }

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
            .partition(|waiting| waiting.deadline <= now || !waiting.pending.is_awaited());
        *self = left;
        expired
    }
}

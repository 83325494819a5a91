//! The connected devices, and the method calls that wait for them.
//!
//! The hub has one [`Registry`]. A job or an HTTP request gives it a [`Call`] and gets its outcome
//! exactly once. The call is encoded and written on the caller's own thread, so a job over ten
//! thousand devices wakes no task until the answers arrive. The registry knows neither sockets nor
//! packets: a connection is a [`Link`]. Every lock here is a std Mutex held for a few statements
//! and never across an await.

mod calls;
mod entry;
mod registry;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iothub_protocol::downlink::Downlink;
use iothub_protocol::id::{DeviceId, MethodName};

pub(crate) use entry::Entry;
pub use registry::Registry;

/// The most calls of one device that are in flight at once. A device answers a call in
/// milliseconds; this many mean that it does not answer.
const MAX_IN_FLIGHT: usize = 64;

/// The most calls that wait for one device to come online, and for all devices together.
const MAX_WAITING_PER_DEVICE: usize = 64;
const MAX_WAITING: usize = 100_000;

/// A direct method call for a device.
#[derive(Debug, Clone)]
pub struct Call {
    pub device: DeviceId,
    pub method: MethodName,
    /// The arguments as JSON text.
    pub payload: Bytes,
    /// How long the device may take to come online and subscribe to its methods; zero: it must be
    /// online now.
    pub connect_timeout: Duration,
    /// How long the device may take to answer after the request was sent.
    pub response_timeout: Duration,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    Answered {
        /// The device's status, any number.
        status: i32,
        /// The device's body, byte for byte, possibly empty.
        payload: Bytes,
    },
    /// The device was not online for methods in time.
    NotOnline {
        /// How long the call waited for it.
        waited: Duration,
    },
    /// The request was sent, but no answer arrived in time.
    ResponseTimedOut,
    /// The connection ended after the request was sent.
    Disconnected,
    /// The device connected again after the request was sent, and the new connection ended this
    /// one.
    TakenOver,
    /// Too many calls for this device are waiting already.
    TooManyInFlight,
    /// The device was deleted while the call waited for it: a new device with the same id does not
    /// get the call.
    Deleted,
    /// Its caller stopped waiting, or lost its authority, before the call was sent: the device has
    /// not seen it.
    Withdrawn,
}

/// Receives the outcomes of calls: an HTTP request that waits for one, a job that collects
/// thousands.
pub trait CallObserver: Send + Sync {
    /// The call with `token` ended. Called exactly once for each call, from any thread; must not
    /// block.
    fn done(&self, token: u32, outcome: CallOutcome);

    /// The device of a [`Registry::wait`] is online for the method; nothing was sent. Called
    /// instead of [`Self::done`].
    fn online(&self, _token: u32) {}

    /// Whether anybody still waits for the outcome. A call that is not sent yet is never sent once
    /// this is false: it ends as [`CallOutcome::Withdrawn`].
    fn is_waiting(&self) -> bool {
        true
    }
}

/// Why the hub ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The same device connected again; the new connection wins (400027).
    TakenOver,
    Disabled,
    Deleted,
    CredentialsChanged,
    TokenExpired,
    /// No packet for one and a half times the keep alive.
    KeepAlive,
    /// The device does not read what the hub sends.
    SlowConsumer,
    Shutdown,
}

impl std::fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TakenOver => "the same device connected again",
            Self::Disabled => "the device was disabled",
            Self::Deleted => "the device was deleted",
            Self::CredentialsChanged => "its keys or certificates were changed",
            Self::TokenExpired => "its token expired",
            Self::KeepAlive => "no packet arrived for one and a half times its keep alive",
            Self::SlowConsumer => "it does not read what is sent to it",
            Self::Shutdown => "the hub is shutting down",
        })
    }
}

/// The connection to one device: the gateway's, or a recorder in tests.
pub(crate) trait Link: Send + Sync {
    /// Sends at QoS 0, without waiting: to the socket, or to the link's bounded queue. A link whose
    /// queue is full closes itself.
    fn publish(&self, topic: &Downlink<'_>, payload: &[u8]);

    /// Ends the connection soon. Only the first reason counts.
    fn close(&self, reason: DisconnectReason);
}

/// The observer and token of a call, in any queue.
struct Pending {
    observer: Arc<dyn CallObserver>,
    token: u32,
}

impl Pending {
    fn is_awaited(&self) -> bool {
        self.observer.is_waiting()
    }

    fn done(self, outcome: CallOutcome) {
        self.observer.done(self.token, outcome);
    }

    fn online(self) {
        self.observer.online(self.token);
    }
}

#[cfg(test)]
mod tests;

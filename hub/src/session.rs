//! Who is connected, and the method calls that wait for them.
//!
//! One [`Registry`] for the hub. A job or an HTTP request hands it a [`Call`] and hears the outcome
//! exactly once; the request is encoded and written on the caller's own thread, so a job over ten
//! thousand devices wakes nobody until the answers come. The registry knows neither sockets
//! nor packets: a connection is a [`Link`]. Every lock here is a std Mutex held for a few
//! statements and never across an await.

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

/// Calls of one device that may wait for its answer at once. A device answers one in milliseconds;
/// this many mean that it does not.
const MAX_IN_FLIGHT: usize = 64;

/// Calls that may wait for one device to come online, and for all devices together.
const MAX_WAITING_PER_DEVICE: usize = 64;
const MAX_WAITING: usize = 100_000;

/// A direct method call on its way to a device.
#[derive(Debug, Clone)]
pub struct Call {
    /// To whom.
    pub device: DeviceId,
    /// Which method.
    pub method: MethodName,
    /// Its arguments as JSON text.
    pub payload: Bytes,
    /// How long the device may take to be online with its methods subscribed; zero: it must be
    /// now.
    pub connect_timeout: Duration,
    /// How long it may take to answer once the request has left.
    pub response_timeout: Duration,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    /// The device answered.
    Answered {
        /// Its status, any number.
        status: i32,
        /// Its body, byte for byte, maybe empty.
        payload: Bytes,
    },
    /// The device was not online for methods in time.
    NotOnline {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The request left, and no answer came in time.
    ResponseTimedOut,
    /// The connection ended after the request had left.
    Disconnected,
    /// The device connected again after the request had left, and the new connection ended this
    /// one.
    TakenOver,
    /// Too many calls wait for this device already.
    TooManyInFlight,
    /// The device was deleted while the call waited for it: another one made under its id does not
    /// get it.
    Deleted,
    /// Nobody waited for it any longer before it had left: the device has not seen it.
    Withdrawn,
}

/// Hears how calls ended: an HTTP request that waits for one, a job that collects thousands.
pub trait CallObserver: Send + Sync {
    /// The call that was made with `token` ended; called exactly once for each call, from any
    /// thread, and must not block.
    fn done(&self, token: u32, outcome: CallOutcome);

    /// The device that [`Registry::wait`] waited for is online for the method; nothing was sent.
    /// Called instead of [`Self::done`].
    fn online(&self, _token: u32) {}

    /// Whether anybody still waits for the outcome. A call that has not left when nobody does never
    /// leaves: it ends as [`CallOutcome::Withdrawn`].
    fn is_waiting(&self) -> bool {
        true
    }
}

/// Why the hub ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The same device connected again; the new connection wins (400027).
    TakenOver,
    /// The identity was disabled.
    Disabled,
    /// The identity was deleted.
    Deleted,
    /// The identity's keys were changed.
    CredentialsChanged,
    /// Its token expired.
    TokenExpired,
    /// Nothing came for one and a half times the keep alive.
    KeepAlive,
    /// It does not read what is sent to it.
    SlowConsumer,
    /// The hub is shutting down.
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
            Self::KeepAlive => "nothing was heard for one and a half times its keep alive",
            Self::SlowConsumer => "it does not read what is sent to it",
            Self::Shutdown => "the hub is shutting down",
        })
    }
}

/// The way to one connected device. The gateway's connection is one, a test's recorder another.
pub(crate) trait Link: Send + Sync {
    /// Sends at QoS 0, without waiting: to the socket, or to the link's bounded queue. A link that
    /// cannot take it closes itself.
    fn publish(&self, topic: &Downlink<'_>, payload: &[u8]);

    /// Ends the connection soon. Only the first reason counts.
    fn close(&self, reason: DisconnectReason);
}

/// A call that is to be answered, wherever it waits.
struct Pending {
    observer: Arc<dyn CallObserver>,
    token: u32,
}

impl Pending {
    fn is_wanted(&self) -> bool {
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

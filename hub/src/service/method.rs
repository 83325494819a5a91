//! Direct methods: one path to the door for the API and for jobs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::{DeviceId, MethodName};
use iothub_protocol::method::{MAX_PAYLOAD_BYTES, MethodRequest, MethodResult};
use serde_json::value::RawValue;
use tokio::sync::{oneshot, watch};

use super::ServiceError;
use crate::metrics::Metrics;
use crate::session::{Call, CallObserver, CallOutcome, Registry};
use crate::store::Store;
use crate::types::Scope;

/// Time that a call may take beyond its two timeouts before `invoke` gives up: the registry checks
/// its deadlines only periodically.
const SLACK: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct MethodService {
    store: Store,
    registry: Registry,
    metrics: Metrics,
    /// Direct calls in progress.
    direct: Arc<watch::Sender<usize>>,
}

/// A direct call in progress, until it is dropped.
pub(crate) struct DirectCall(Arc<watch::Sender<usize>>);

impl Drop for DirectCall {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}

/// A method with its arguments, ready to be sent to any number of devices.
#[derive(Debug, Clone)]
pub(crate) struct PreparedCall {
    method: MethodName,
    payload: Bytes,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl PreparedCall {
    /// Checks the timeouts, which the document's types cannot check.
    pub(crate) fn new(request: &MethodRequest) -> Result<Self, ServiceError> {
        request
            .check_timeouts()
            .map_err(|error| ServiceError::argument(error.to_string()))?;
        Self::from_stored(request)
    }

    /// A call that was accepted earlier: version 0.1 stored jobs with any pair of timeouts.
    pub(crate) fn from_stored(request: &MethodRequest) -> Result<Self, ServiceError> {
        // A missing payload is sent as `null`: Node's device client fails on an empty body.
        let payload = request.payload().map_or_else(
            || Bytes::from_static(b"null"),
            |raw| Bytes::copy_from_slice(raw.get().as_bytes()),
        );
        if payload.len() > MAX_PAYLOAD_BYTES {
            let message = format!(
                "the payload has {} bytes; expected at most {MAX_PAYLOAD_BYTES}",
                payload.len()
            );
            return Err(ServiceError::new(ErrorCode::MessageTooLarge, message));
        }
        Ok(Self {
            method: request.method_name().clone(),
            payload,
            connect_timeout: request.connect_timeout(),
            response_timeout: request.response_timeout(),
        })
    }

    pub(super) const fn method(&self) -> &MethodName {
        &self.method
    }

    pub(super) const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// The longest that the whole call can take.
    pub(crate) fn deadline(&self) -> Duration {
        self.connect_timeout + self.response_timeout + SLACK
    }

    /// The call to `device`, which waits at most `connect_timeout` for it to connect.
    pub(crate) fn to(&self, device: DeviceId, connect_timeout: Duration) -> Call {
        Call {
            device,
            method: self.method.clone(),
            payload: self.payload.clone(),
            connect_timeout: self.connect_timeout.min(connect_timeout),
            response_timeout: self.response_timeout,
        }
    }
}

impl MethodService {
    pub(super) fn new(store: Store, registry: Registry, metrics: Metrics) -> Self {
        Self {
            store,
            registry,
            metrics,
            direct: Arc::default(),
        }
    }

    /// Counts a direct call, with its records in the audit log: jobs let it pass.
    pub(crate) fn begin_direct_call(&self) -> DirectCall {
        self.direct.send_modify(|calls| *calls += 1);
        DirectCall(Arc::clone(&self.direct))
    }

    /// Waits, for at most `patience`, until no direct call is in progress.
    pub(super) async fn no_direct_calls(&self, patience: Duration) {
        let mut calls = self.direct.subscribe();
        let none = calls.wait_for(|calls| *calls == 0);
        // A call may wait minutes for its door.
        let _ = tokio::time::timeout(patience, none).await;
    }

    /// Calls `device`. A call that waits for it is withdrawn as soon as `is_authorised` is false.
    pub(crate) async fn invoke(
        &self,
        device: &DeviceId,
        call: &PreparedCall,
        scope: Option<Arc<Scope>>,
        is_authorised: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<MethodResult, ServiceError> {
        if self.store.device_get(device, scope).await?.is_none() {
            return Err(ServiceError::device_not_found(device.as_ref()));
        }
        let (observer, outcome) = OneCall::new(Box::new(is_authorised));
        let began = Instant::now();
        self.send(call.to(device.clone(), call.connect_timeout), observer, 0);
        let outcome = match tokio::time::timeout(call.deadline(), outcome).await {
            Ok(Ok(outcome)) => outcome,
            _ => CallOutcome::ResponseTimedOut,
        };
        self.count("api", &outcome);
        if matches!(outcome, CallOutcome::Answered { .. }) {
            self.metrics.method_answered(began.elapsed());
        }
        answer(outcome, call)
    }

    /// Sends a call without blocking; `observer` gets exactly one outcome.
    pub(crate) fn send(&self, call: Call, observer: Arc<dyn CallObserver>, token: u32) {
        self.registry.call(call, observer, token);
    }

    /// Waits for the call's device to connect, without sending anything.
    pub(super) fn wait(&self, call: Call, observer: Arc<dyn CallObserver>, token: u32) {
        self.registry.wait(call, observer, token);
    }

    /// Whether a call to `device` would be sent at once.
    pub(super) fn is_online_for(&self, device: &DeviceId, method: &MethodName) -> bool {
        self.registry.is_online_for(device, method)
    }

    pub(super) fn count(&self, by: &str, outcome: &CallOutcome) {
        let name = match outcome {
            CallOutcome::Answered { .. } => "answered",
            CallOutcome::NotOnline { .. } => "not_online",
            CallOutcome::ResponseTimedOut => "timed_out",
            CallOutcome::Disconnected => "disconnected",
            CallOutcome::TakenOver => "taken_over",
            CallOutcome::TooManyInFlight => "too_many",
            CallOutcome::Deleted => "deleted",
            CallOutcome::Withdrawn => "withdrawn",
        };
        self.metrics.method_ended(by, name);
    }

    /// Drops the calls that are not sent yet and whose observers no longer wait.
    pub(crate) fn withdraw(&self) {
        self.registry.withdraw();
    }
}

/// Maps the outcome of a call to the device's answer, or to the error that the caller receives and
/// a job's record keeps.
pub(crate) fn answer(
    outcome: CallOutcome,
    call: &PreparedCall,
) -> Result<MethodResult, ServiceError> {
    match outcome {
        CallOutcome::Answered { status, payload } => Ok(MethodResult {
            status,
            payload: raw_payload(&payload)?,
        }),
        // A job handles this itself.
        CallOutcome::Withdrawn => Err(ServiceError::new(
            ErrorCode::IotHubUnauthorizedAccess,
            "the policy of this call changed before the device connected; nothing was sent",
        )),
        CallOutcome::NotOnline { waited } => Err(timed_out(
            ErrorCode::DeviceNotOnline,
            "Timed out waiting for device to connect.",
            waited,
        )),
        CallOutcome::Deleted => Err(ServiceError::new(
            ErrorCode::DeviceNotFound,
            "the device was deleted before the call could be sent",
        )),
        CallOutcome::ResponseTimedOut => {
            let message = "Timed out waiting for the response from device.";
            Err(timed_out(
                ErrorCode::GatewayTimeout,
                message,
                call.response_timeout,
            ))
        }
        CallOutcome::Disconnected => {
            let message =
                "The device's connection ended before it answered; whether it acted is not known.";
            Err(ServiceError::new(
                ErrorCode::DeviceConnectionClosedRemotely,
                message,
            ))
        }
        CallOutcome::TakenOver => {
            let message =
                "The device connected again before it answered; whether it acted is not known.";
            Err(ServiceError::new(
                ErrorCode::ConnectionForcefullyClosedOnNewConnection,
                message,
            ))
        }
        CallOutcome::TooManyInFlight => {
            let message = "Too many calls of this device are waiting for their answers.";
            Err(ServiceError::new(
                ErrorCode::DeviceMaximumInflightMethodExceeded,
                message,
            ))
        }
    }
}

fn timed_out(code: ErrorCode, message: &str, timeout: Duration) -> ServiceError {
    ServiceError {
        timeout: Some(timeout),
        ..ServiceError::new(code, message)
    }
}

/// The device's payload for the caller: unchanged if it is JSON, `None` if it is empty.
fn raw_payload(payload: &Bytes) -> Result<Option<Box<RawValue>>, ServiceError> {
    if payload.is_empty() {
        return Ok(None);
    }
    if payload.len() > MAX_PAYLOAD_BYTES {
        let message = format!(
            "the device answered with {} bytes; expected at most {MAX_PAYLOAD_BYTES}",
            payload.len()
        );
        return Err(ServiceError::new(ErrorCode::MessageTooLarge, message));
    }
    serde_json::from_slice(payload).map(Some).map_err(|error| {
        ServiceError::new(
            ErrorCode::DeserializationError,
            format!("the device's answer is not JSON: {error}"),
        )
    })
}

/// Observes one call.
struct OneCall {
    sender: Mutex<Option<oneshot::Sender<CallOutcome>>>,
    is_authorised: Box<dyn Fn() -> bool + Send + Sync>,
}

impl OneCall {
    fn new(
        is_authorised: Box<dyn Fn() -> bool + Send + Sync>,
    ) -> (Arc<Self>, oneshot::Receiver<CallOutcome>) {
        let (sender, receiver) = oneshot::channel();
        let call = Self {
            sender: Mutex::new(Some(sender)),
            is_authorised,
        };
        (Arc::new(call), receiver)
    }
}

impl CallObserver for OneCall {
    fn done(&self, _token: u32, outcome: CallOutcome) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.take() {
            // The caller may have disconnected.
            let _ = sender.send(outcome);
        }
    }

    fn is_waiting(&self) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let is_awaited = sender.as_ref().is_some_and(|sender| !sender.is_closed());
        is_awaited && (self.is_authorised)()
    }
}

//! Direct methods: each request is answered by its own task, on the connection that delivered it.
//!
//! The controller interprets the method; an unknown one gets its 404. An answer whose connection
//! has ended is dropped: the hub has already failed the call, and request ids restart with each
//! connection.

use std::sync::Arc;
use std::time::Duration;

use door_core::contract::{Identity, Reboot};
use iothub_protocol::id::DeviceId;
use iothub_protocol::uplink::Uplink;
use log::{info, warn};
use rumqttc::{AsyncClient, QoS};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::controller::ControllerHandle;
use crate::fail_point;
use crate::identify::Identifier;
use crate::reboot::Rebooter;

/// Concurrent requests. Enough for an operator, a job and a few retries; the hub's own limit is the
/// same.
pub(super) const MAX_IN_FLIGHT: usize = 16;
/// Status for a request beyond [`MAX_IN_FLIGHT`].
const TOO_MANY_REQUESTS: i32 = 429;
/// How long an answer may wait for room in the connection's queue.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest method answer that the hub accepts.
const MAX_ANSWER_BYTES: usize = 128 * 1024;

/// Spawns and limits method calls.
#[derive(Debug, Clone)]
pub(super) struct Methods {
    controller: ControllerHandle,
    device: DeviceId,
    rebooter: Rebooter,
    identifier: Identifier,
    slots: Arc<Semaphore>,
    /// Count of answered methods, for the publisher.
    answered: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct MethodRequest {
    pub(super) method: String,
    pub(super) rid: String,
    pub(super) payload: Vec<u8>,
}

impl Methods {
    pub(super) fn new(
        controller: ControllerHandle,
        device: DeviceId,
        rebooter: Rebooter,
        identifier: Identifier,
        answered: watch::Sender<u64>,
    ) -> Self {
        Self {
            identifier,
            controller,
            device,
            rebooter,
            slots: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            answered,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.slots.available_permits() == MAX_IN_FLIGHT
    }

    /// Answers a request in its own task. Never blocks: the task that polls the connection calls
    /// it.
    pub(super) fn start(&self, request: MethodRequest, client: &AsyncClient) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            warn!(
                "{}: method {} refused: {MAX_IN_FLIGHT} calls are already pending",
                self.device, request.method
            );
            let body = format!(r#"{{"error":"tooManyRequests","limit":{MAX_IN_FLIGHT}}}"#);
            let topic = self.answer_topic(TOO_MANY_REQUESTS, &request.rid);
            // If the queue is full too, the caller times out.
            let _ = client.try_publish(topic, QoS::AtMostOnce, false, body);
            return;
        };
        let methods = self.clone();
        let client = client.clone();
        tokio::spawn(async move {
            methods.answer(&request, &client).await;
            drop(slot);
        });
    }

    async fn answer(&self, request: &MethodRequest, client: &AsyncClient) {
        fail_point::reach("method-arrived");
        let (reply, reboot) = if request.method == Reboot::METHOD {
            self.rebooter.handle_call(&request.payload).await
        } else if request.method == Identity::METHOD {
            (self.identifier.clone().answer(&request.payload), None)
        } else {
            let invoked = self.controller.invoke(&request.method, &request.payload);
            (invoked.await, None)
        };
        let mut body = reply.body_json();
        if body.len() > MAX_ANSWER_BYTES {
            warn!(
                "{}: the answer of {} exceeds {MAX_ANSWER_BYTES} bytes",
                self.device, request.method
            );
            body = format!(r#"{{"error":"answerTooLarge","bytes":{}}}"#, body.len()).into();
        }
        info!(
            "{}: method {} answered {}",
            self.device, request.method, reply.status
        );
        let topic = self.answer_topic(i32::from(reply.status), &request.rid);
        let sending = client.publish(topic, QoS::AtMostOnce, false, body);
        if !matches!(timeout(SEND_TIMEOUT, sending).await, Ok(Ok(()))) {
            warn!(
                "{}: the answer of {} was lost: its connection ended",
                self.device, request.method
            );
        }
        fail_point::reach("answer-sent");
        self.answered
            .send_modify(|count| *count = count.wrapping_add(1));
        // Only after the answer: draining sends the queue before DISCONNECT.
        if let Some(accepted) = reboot {
            self.rebooter.start(accepted);
        }
    }

    fn answer_topic(&self, status: i32, rid: &str) -> String {
        Uplink::MethodResponse { status, rid }.topic(&self.device)
    }
}

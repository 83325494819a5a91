//! Direct methods: each request is answered by a small task of its own, on the connection that
//! asked.
//!
//! What a method means is the controller's business; a method it does not know gets its 404. An
//! answer whose connection has ended is dropped: the hub has told the caller so already, and
//! request ids start anew with a connection.

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
use crate::reboot::Machine;

/// Requests answered at the same time. An operator, a job and a few retries fit; the hub allows as
/// many.
pub(super) const MAX_IN_FLIGHT: usize = 16;
/// Status for a request beyond [`MAX_IN_FLIGHT`].
const TOO_MANY: i32 = 429;
/// How long an answer may wait for room in the connection's queue.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// Largest method answer that the hub takes.
const MAX_ANSWER_BYTES: usize = 128 * 1024;

/// Starts and counts method calls.
#[derive(Debug, Clone)]
pub(super) struct Methods {
    controller: ControllerHandle,
    device: DeviceId,
    machine: Machine,
    identifier: Identifier,
    slots: Arc<Semaphore>,
    /// Counts the answers, for the publisher.
    answered: watch::Sender<u64>,
}

/// One request from the hub.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) rid: String,
    pub(super) payload: Vec<u8>,
}

impl Methods {
    pub(super) fn new(
        controller: ControllerHandle,
        device: DeviceId,
        machine: Machine,
        identifier: Identifier,
        answered: watch::Sender<u64>,
    ) -> Self {
        Self {
            identifier,
            controller,
            device,
            machine,
            slots: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            answered,
        }
    }

    /// Whether no request is being answered.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.available_permits() == MAX_IN_FLIGHT
    }

    /// Answers a request in a task of its own. Never waits; called by the task that polls the
    /// connection.
    pub(super) fn start(&self, request: Request, client: &AsyncClient) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            warn!(
                "{}: method {} refused, {MAX_IN_FLIGHT} others are being answered",
                self.device, request.method
            );
            let body = format!(r#"{{"error":"tooManyRequests","limit":{MAX_IN_FLIGHT}}}"#);
            let topic = self.answer_topic(TOO_MANY, &request.rid);
            // When even the queue is full the caller's own deadline answers it.
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

    async fn answer(&self, request: &Request, client: &AsyncClient) {
        fail_point::reach("method-arrived");
        let (reply, reboot) = if request.method == Reboot::METHOD {
            self.machine.judge(&request.payload).await
        } else if request.method == Identity::METHOD {
            (self.identifier.clone().answer(&request.payload), None)
        } else {
            let invoked = self.controller.invoke(&request.method, &request.payload);
            (invoked.await, None)
        };
        let mut body = reply.body_json();
        if body.len() > MAX_ANSWER_BYTES {
            warn!(
                "{}: the answer of {} is too large",
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
        if !matches!(timeout(SEND_WITHIN, sending).await, Ok(Ok(()))) {
            warn!(
                "{}: the answer of {} was lost with its connection",
                self.device, request.method
            );
        }
        fail_point::reach("answer-sent");
        self.answered
            .send_modify(|count| *count = count.wrapping_add(1));
        // After the answer: draining sends what is in the queue before it says goodbye.
        if let Some(wanted) = reboot {
            self.machine.go(wanted);
        }
    }

    fn answer_topic(&self, status: i32, rid: &str) -> String {
        Uplink::MethodResponse { status, rid }.topic(&self.device)
    }
}

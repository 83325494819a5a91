//! A device client, built on rumqttc.

use iothub_protocol::sas::{self, SharedAccessKey};
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS, SubscribeReasonCode, Transport,
};

use crate::operator::{DEADLINE, Operator, in_an_hour};

/// Disconnected when dropped.
pub struct Device {
    client: AsyncClient,
    events: Option<EventLoop>,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Device {
    pub fn dial(hub: &Operator, id: &str, key: &SharedAccessKey) -> Self {
        let mut options = MqttOptions::new(id, "localhost", hub.mqtt_port);
        let token = sas::sign(&format!("localhost/devices/{id}"), key, in_an_hour(), None);
        options.set_credentials(format!("localhost/{id}/?api-version=2021-04-12"), token);
        options.set_transport(Transport::tls_with_config(hub.tls.clone().into()));
        options.set_clean_session(false);
        options.set_max_packet_size(320 * 1024, 320 * 1024);
        let (client, events) = AsyncClient::new(options, 16);
        Self {
            client,
            events: Some(events),
            running: None,
        }
    }

    /// Subscribes and waits for SUBACK.
    pub async fn subscribe(&mut self, filter: &str) {
        self.client
            .subscribe(filter, QoS::AtLeastOnce)
            .await
            .unwrap();
        let events = self.events.as_mut().unwrap();
        let subscribed = async {
            loop {
                if let Event::Incoming(Incoming::SubAck(ack)) = events.poll().await.unwrap() {
                    return ack.return_codes;
                }
            }
        };
        let granted = tokio::time::timeout(DEADLINE, subscribed).await.unwrap();
        assert!(
            matches!(granted[..], [SubscribeReasonCode::Success(_)]),
            "{filter}: {granted:?}"
        );
    }

    /// Waits until the hub rejects the connection.
    pub async fn refused(&mut self) {
        let events = self.events.as_mut().unwrap();
        let refused = async { while events.poll().await.is_ok() {} };
        tokio::time::timeout(DEADLINE, refused).await.unwrap();
    }

    /// The next PUBLISH: topic and payload.
    pub async fn received(&mut self) -> (String, Vec<u8>) {
        let events = self.events.as_mut().unwrap();
        let received = async {
            loop {
                if let Event::Incoming(Incoming::Publish(publish)) = events.poll().await.unwrap() {
                    return (publish.topic, publish.payload.to_vec());
                }
            }
        };
        tokio::time::timeout(DEADLINE, received).await.unwrap()
    }

    pub async fn publish(&self, topic: &str, body: &str) {
        self.client
            .publish(topic, QoS::AtLeastOnce, false, body)
            .await
            .unwrap();
    }

    /// Continues in the background; answers each method with the payload of its call.
    pub fn answer_methods(mut self, status: u16) -> Self {
        let mut events = self.events.take().unwrap();
        let client = self.client.clone();
        self.running = Some(tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Incoming::Publish(publish)) = event {
                    let rid = publish.topic.split("$rid=").nth(1).unwrap();
                    let topic = format!("$iothub/methods/res/{status}/?$rid={rid}");
                    client
                        .try_publish(topic, QoS::AtMostOnce, false, publish.payload)
                        .unwrap();
                }
            }
        }));
        self
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

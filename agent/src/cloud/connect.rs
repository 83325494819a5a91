//! Client and event loop of one connection: user name, credentials and limits.

use std::sync::Arc;
use std::time::Duration;

use iothub_protocol::connection_string::{DeviceConnectionString, DeviceCredential, HostName};
use iothub_protocol::rest::API_VERSION;
use iothub_protocol::sas;
use rumqttc::{AsyncClient, EventLoop, MqttOptions, TlsConfiguration, Transport};
use rustls::ClientConfig;

use crate::config::HubConfig;

/// Limit for TCP, TLS and CONNACK together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest packet either way: a twin (32 KiB desired, 32 KiB reported, with margin) or a message of
/// 256 KiB with its topic.
const MAX_PACKET_BYTES: usize = 320 * 1024;
/// Capacity of the request queue: subscriptions, a twin request, a patch, a window of events and
/// every method answer.
const REQUEST_QUEUE: usize = 64;

/// Creates client and event loop of a connection; polling the event loop sends the first byte.
pub(super) fn prepare(
    config: &HubConfig,
    tls: &Arc<ClientConfig>,
    now_unix_s: u64,
) -> (AsyncClient, EventLoop) {
    let connection = &config.connection;
    let mut options = MqttOptions::new(
        connection.device_id.as_str(),
        dialled_host(connection).host(),
        config.mqtt_port,
    );
    let (user, password) = credentials(config, now_unix_s);
    options
        .set_clean_session(true)
        .set_keep_alive(config.keep_alive)
        .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES)
        .set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(tls))))
        .set_credentials(user, password);
    let (client, mut event_loop) = AsyncClient::new(options, REQUEST_QUEUE);
    let network = &mut event_loop.network_options;
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    network.set_tcp_nodelay(true);
    (client, event_loop)
}

/// The host to dial: the gateway if there is one, else the hub.
pub(super) fn dialled_host(connection: &DeviceConnectionString) -> &HostName {
    connection
        .gateway_host_name
        .as_ref()
        .unwrap_or(&connection.host_name)
}

/// User name and password of CONNECT. Both name the hub, even if a gateway is dialled.
fn credentials(config: &HubConfig, now_unix_s: u64) -> (String, String) {
    let connection = &config.connection;
    let (hub, device) = (connection.host_name.host(), &connection.device_id);
    let user = format!(
        "{hub}/{device}/?api-version={API_VERSION}&DeviceClientType=door-agent%2F{}",
        env!("CARGO_PKG_VERSION")
    );
    let password = match &connection.credential {
        DeviceCredential::Key(key) => {
            let audience = format!("{hub}/devices/{device}");
            let expiry = now_unix_s + config.sas_lifetime.as_secs();
            sas::sign(&audience, key, expiry, None)
        }
        DeviceCredential::Token(token) => token.expose_secret().to_owned(),
        // The client certificate in TLS is the credential.
        DeviceCredential::X509 => String::new(),
    };
    (user, password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_names_the_hub_even_if_a_gateway_is_dialled() {
        let text = "HostName=hub.example.net;DeviceId=dev1;GatewayHostName=gateway.local;\
                    SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let config = HubConfig::new(text.parse().unwrap());
        let (user, password) = credentials(&config, 1_893_456_000 - 3600);
        assert!(
            user.starts_with("hub.example.net/dev1/?api-version=2021-04-12&"),
            "{user}"
        );
        // Vector: azure-iot-device 2.14.0 with the same key and expiry.
        assert_eq!(
            password,
            "SharedAccessSignature sr=hub.example.net%2Fdevices%2Fdev1&\
             sig=ncXfJXbeyTiRLDz9kvk1ElOCiWr2fUvGO9PPFIYKEFA%3D&se=1893456000"
        );
        assert_eq!(dialled_host(&config.connection).host(), "gateway.local");
    }
}

//! `/$iothub/websocket`: MQTT over a WebSocket (RFC 6455), for devices that can reach only port
//! 443. The request needs no token: the device authenticates in its CONNECT, as on the MQTT port.
//! This module handles the upgrade; the gateway serves the socket afterwards.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use iothub_protocol::error::ErrorCode;
use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::HttpError;
use super::write_deadline::WriteDeadline;

/// The subprotocol of the frames (MQTT 3.1.1 section 6).
const MQTT: &str = "mqtt";

/// The protocol version of RFC 6455.
const VERSION: &str = "13";

/// The socket of a device after the upgrade.
pub(crate) struct DeviceSocket {
    pub(crate) socket: TcpStream,
    pub(crate) tls: ServerConnection,
    /// Bytes that arrived after the request.
    pub(crate) early: Vec<u8>,
    pub(crate) peer: SocketAddr,
}

/// Serves the socket of a device.
pub(crate) type ServeDevice = Arc<dyn Fn(DeviceSocket) + Send + Sync>;

/// The address of the client of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

pub(super) fn router(serve: ServeDevice) -> Router {
    Router::new()
        .route("/$iothub/websocket", get(upgrade))
        .with_state(serve)
}

async fn upgrade(
    State(serve): State<ServeDevice>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
) -> Result<Response, HttpError> {
    let accept = accept_key(request.headers())?;
    let upgrading = hyper::upgrade::on(&mut request);
    // The task ends with the connection, and hyper ends that when the response cannot be sent.
    tokio::spawn(async move {
        match upgrading.await {
            Ok(upgraded) => {
                match upgraded.downcast::<TokioIo<WriteDeadline<TlsStream<TcpStream>>>>() {
                    Ok(parts) => {
                        let (socket, tls) = parts.io.into_inner().into_inner().into_inner();
                        let early = parts.read_buf.to_vec();
                        serve(DeviceSocket {
                            socket,
                            tls,
                            early,
                            peer,
                        });
                    }
                    Err(_) => {
                        tracing::error!(%peer, "unexpected socket type after a WebSocket upgrade");
                    }
                }
            }
            Err(error) => tracing::debug!(%peer, %error, "a WebSocket upgrade failed"),
        }
    });
    let headers = [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(MQTT)),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// Validates the request (RFC 6455 section 4.2.1); returns the `Sec-WebSocket-Accept` for its key.
/// Offered extensions are ignored, which declines them.
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, HttpError> {
    expect(headers, &CONNECTION, "upgrade")?;
    expect(headers, &UPGRADE, "websocket")?;
    expect(headers, &SEC_WEBSOCKET_VERSION, VERSION)?;
    expect(headers, &SEC_WEBSOCKET_PROTOCOL, MQTT)?;
    let key = headers
        .get(&SEC_WEBSOCKET_KEY)
        .ok_or_else(|| invalid_header(&SEC_WEBSOCKET_KEY, "16 bytes in base64"))?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    HeaderValue::from_str(&accept)
        .map_err(|_| invalid_header(&SEC_WEBSOCKET_KEY, "16 bytes in base64"))
}

/// Checks that the list in header `name` contains `token`, in any case.
fn expect(headers: &HeaderMap, name: &HeaderName, token: &str) -> Result<(), HttpError> {
    let listed = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|listed| listed.trim().eq_ignore_ascii_case(token));
    if listed {
        Ok(())
    } else {
        Err(invalid_header(name, token))
    }
}

fn invalid_header(name: &HeaderName, expected: &str) -> HttpError {
    HttpError::new(
        ErrorCode::ArgumentInvalid,
        format!("this path serves MQTT over WebSocket: invalid header {name}; expected {expected}"),
    )
}

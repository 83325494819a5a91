//! `/$iothub/websocket`: MQTT over a WebSocket (RFC 6455), for devices that may dial port 443
//! alone. The request needs no token: the device proves itself in its CONNECT, as on the other
//! port. Here the upgrade is agreed on; what follows on the socket is the gateway's.

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

/// The subprotocol that says what the frames carry (MQTT 3.1.1 section 6).
const MQTT: &str = "mqtt";

/// The version of the protocol that RFC 6455 is.
const VERSION: &str = "13";

/// The socket of a device, from the moment at which it speaks frames.
pub(crate) struct DeviceSocket {
    /// The socket itself.
    pub(crate) socket: TcpStream,
    /// Its TLS.
    pub(crate) tls: ServerConnection,
    /// Bytes that came behind the request.
    pub(crate) early: Vec<u8>,
    /// Who dialled.
    pub(crate) peer: SocketAddr,
}

/// Who serves devices.
pub(crate) type ServeDevice = Arc<dyn Fn(DeviceSocket) + Send + Sync>;

/// The address of whoever made a request.
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
    let accept = agree(request.headers())?;
    let upgrading = hyper::upgrade::on(&mut request);
    // It ends with the connection, and hyper ends that when the answer cannot be sent.
    tokio::spawn(async move {
        match upgrading.await {
            Ok(upgraded) => match upgraded
                .downcast::<TokioIo<WriteDeadline<TlsStream<TcpStream>>>>()
            {
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
                Err(_) => tracing::error!(%peer, "a WebSocket on a socket that is not the hub's"),
            },
            Err(error) => tracing::debug!(%peer, %error, "a WebSocket ended before it began"),
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

/// Judges the request (RFC 6455 section 4.2.1); gives the answer to its key. Extensions it offers
/// are passed over, which declines them.
fn agree(headers: &HeaderMap) -> Result<HeaderValue, HttpError> {
    expect(headers, &CONNECTION, "upgrade")?;
    expect(headers, &UPGRADE, "websocket")?;
    expect(headers, &SEC_WEBSOCKET_VERSION, VERSION)?;
    expect(headers, &SEC_WEBSOCKET_PROTOCOL, MQTT)?;
    let key = headers
        .get(&SEC_WEBSOCKET_KEY)
        .ok_or_else(|| wrong(&SEC_WEBSOCKET_KEY, "16 bytes in base64"))?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    HeaderValue::from_str(&accept).map_err(|_| wrong(&SEC_WEBSOCKET_KEY, "16 bytes in base64"))
}

/// A header that is a list must have `token` in it, in any case.
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
        Err(wrong(name, token))
    }
}

fn wrong(name: &HeaderName, expected: &str) -> HttpError {
    HttpError::new(
        ErrorCode::ArgumentInvalid,
        format!("this is for MQTT over WebSocket: the header {name} must say {expected}"),
    )
}

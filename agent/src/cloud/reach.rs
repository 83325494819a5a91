//! Checks that the hub can be reached and trusted, without logging in: a login would disconnect a
//! running agent of the same device.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{ConnectionError, TlsError};
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;

use super::connect;
use super::problem::{ConnectProblem, HubTarget};
use crate::config::HubConfig;

/// Timeout of each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials the hub and completes the TLS handshake.
///
/// # Errors
/// What failed and what to check, as a sentence.
pub fn reach(config: &HubConfig, tls: Arc<ClientConfig>) -> Result<SocketAddr, String> {
    let connection = &config.connection;
    let target = HubTarget {
        host: connect::dialled_host(connection).host(),
        port: config.mqtt_port,
        device: connection.device_id.as_ref(),
    };
    complete_handshake(target, tls)
        .map_err(|ConnectProblem { what, check }| format!("{what}; check {check}"))
}

fn complete_handshake(
    target: HubTarget<'_>,
    tls: Arc<ClientConfig>,
) -> Result<SocketAddr, ConnectProblem> {
    let plain = |error| ConnectProblem::of(&ConnectionError::Io(error), target);
    let secure = |error| ConnectProblem::of(&ConnectionError::Tls(error), target);
    let name = ServerName::try_from(target.host.to_owned())
        .map_err(|error| plain(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let mut session =
        ClientConnection::new(tls, name).map_err(|error| secure(TlsError::TLS(error)))?;
    let (address, mut stream) = dial(target).map_err(plain)?;
    while session.is_handshaking() {
        session
            .complete_io(&mut stream)
            .map_err(|error| secure(TlsError::Io(error)))?;
    }
    session.send_close_notify();
    // The handshake is the result; a failed farewell does not matter.
    let _ = session.complete_io(&mut stream);
    Ok(address)
}

/// Connects to the first address that answers; otherwise the error of the last one.
fn dial(target: HubTarget<'_>) -> io::Result<(SocketAddr, TcpStream)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in (target.host, target.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STEP_TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(STEP_TIMEOUT))?;
                stream.set_write_timeout(Some(STEP_TIMEOUT))?;
                return Ok((address, stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

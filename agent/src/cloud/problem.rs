//! Connection errors as messages for people: what failed and what to check.

use std::io;

use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError};
use rustls::CertificateError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnectProblem {
    pub(super) what: String,
    pub(super) check: String,
}

/// The host, port and device of the failed attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct HubTarget<'a> {
    /// The dialled host name.
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) device: &'a str,
}

impl ConnectProblem {
    fn new(what: impl Into<String>, check: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            check: check.into(),
        }
    }

    /// Translates an error of rumqttc.
    pub(super) fn of(error: &ConnectionError, target: HubTarget<'_>) -> Self {
        let HubTarget { host, port, device } = target;
        match error {
            ConnectionError::ConnectionRefused(code) => refused(*code, target),
            ConnectionError::NetworkTimeout => Self::new(
                format!("{host}:{port} did not answer within 30 s"),
                "that a firewall lets this address and port through",
            ),
            ConnectionError::FlushTimeout => {
                Self::new(format!("{host} accepts no more data"), "the network")
            }
            ConnectionError::Tls(TlsError::Io(error)) => match tls_cause(error) {
                Some(cause) => certificate(cause, target),
                None => network(error, target),
            },
            ConnectionError::Tls(TlsError::TLS(cause)) => certificate(cause, target),
            ConnectionError::Tls(error) => Self::new(
                format!("TLS with {host}: {error}"),
                "HostName in the connection string",
            ),
            ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => {
                network(error, target)
            }
            ConnectionError::MqttState(StateError::ConnectionAborted) => Self::new(
                format!("{host} closed the connection"),
                format!(
                    "whether {device} was disabled, its key changed, or another agent connects \
                     as {device}"
                ),
            ),
            ConnectionError::MqttState(StateError::AwaitPingResp) => {
                Self::new(format!("{host} does not answer pings"), "the network")
            }
            other => Self::new(
                format!("{other}"),
                format!("that {host}:{port} is an IoT hub"),
            ),
        }
    }
}

/// Whether the peer has closed the connection, in order or not.
pub(super) fn is_closed(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::MqttState(StateError::ConnectionAborted) => true,
        ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        ),
        _ => false,
    }
}

/// The hub answers "not authorized" for a wrong key, an expired token, an unknown device and a
/// disabled device alike.
fn refused(code: ConnectReturnCode, target: HubTarget<'_>) -> ConnectProblem {
    let HubTarget { host, device, .. } = target;
    match code {
        ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword => {
            ConnectProblem::new(
                format!("{host} refused device {device}: not authorized"),
                format!(
                    "that {device} exists there and is enabled (`doorctl devices show {device}`), \
                 that the connection string has its present key, \
                 and that this machine's clock is right"
                ),
            )
        }
        ConnectReturnCode::ServiceUnavailable => ConnectProblem::new(
            format!("{host} accepts no more connections at the moment"),
            "the load of the hub if this persists; the agent retries",
        ),
        ConnectReturnCode::BadClientId => ConnectProblem::new(
            format!("{host} refused the device id {device}"),
            "DeviceId in the connection string",
        ),
        ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::Success => {
            ConnectProblem::new(
                format!("{host} does not speak MQTT 3.1.1"),
                "hub.mqtt_port and HostName",
            )
        }
    }
}

fn certificate(cause: &rustls::Error, target: HubTarget<'_>) -> ConnectProblem {
    let HubTarget { host, port, .. } = target;
    let what = format!("the certificate of {host}:{port} is invalid: {cause}");
    let check = match cause {
        // A CA with the same name but another key yields a bad signature.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "that hub.ca_file is the CA certificate of this hub",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "HostName in the connection string, and the names in the hub's certificate",
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "this machine's clock, then the hub's certificate",
        rustls::Error::InvalidCertificate(_) => "hub.ca_file and the hub's certificate",
        _ => {
            return ConnectProblem::new(
                format!("TLS with {host}:{port} failed: {cause}"),
                "that hub.mqtt_port is the port of MQTT over TLS",
            );
        }
    };
    ConnectProblem::new(what, check)
}

fn network(error: &io::Error, target: HubTarget<'_>) -> ConnectProblem {
    let HubTarget { host, port, .. } = target;
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectProblem::new(
            format!("nothing listens at {host}:{port}"),
            "that the hub runs, and hub.mqtt_port",
        ),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => ConnectProblem::new(
            format!("the connection to {host}:{port} was cut"),
            "the network",
        ),
        _ => ConnectProblem::new(
            format!("{host}:{port} cannot be reached: {error}"),
            "the network, and HostName in the connection string",
        ),
    }
}

fn tls_cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: HubTarget<'static> = HubTarget {
        host: "hub.example.net",
        port: 8883,
        device: "lobby-east",
    };

    #[test]
    fn not_authorized_names_what_to_check() {
        let error = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        let problem = ConnectProblem::of(&error, TARGET);
        assert_eq!(
            problem.what,
            "hub.example.net refused device lobby-east: not authorized"
        );
        for word in ["exists", "enabled", "key", "clock"] {
            assert!(problem.check.contains(word), "{}", problem.check);
        }
    }

    #[test]
    fn an_unknown_ca_points_to_the_ca_file() {
        let cause = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = io::Error::new(io::ErrorKind::InvalidData, cause);
        let problem = ConnectProblem::of(&ConnectionError::Tls(TlsError::Io(error)), TARGET);
        assert!(problem.check.contains("hub.ca_file"), "{problem:?}");
    }

    #[test]
    fn a_port_where_nothing_listens_is_named() {
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        let problem = ConnectProblem::of(&ConnectionError::Io(error), TARGET);
        assert_eq!(problem.what, "nothing listens at hub.example.net:8883");
    }
}

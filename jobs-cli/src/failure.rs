//! Errors as a person meets them: what happened, why, and what to do next.

use std::io;

use doorctl::{BuildError, ClientError};
use iothub_protocol::ErrorCode;

use crate::config::ConfigError;
use crate::exit_status::ExitStatus;
use crate::printer::{print_message, printable};

/// An error of a command itself, with the next thing to try and the status to end with.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    next: Option<String>,
    status: ExitStatus,
}

impl Failure {
    /// An error: status 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            next: None,
            status: ExitStatus::Error,
        }
    }

    /// What to try next.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// More of what happened.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    /// What to end with.
    pub(crate) fn status(mut self, status: ExitStatus) -> Self {
        self.status = status;
        self
    }
}

/// Tells an error on stderr, and what the process ends with.
pub(crate) fn report(error: &anyhow::Error) -> ExitStatus {
    if is_broken_pipe(error) {
        // Whoever read our output has seen enough.
        return ExitStatus::Success;
    }
    print_message(&format!("error: {}", sentence(error)));
    if let Some(next) = next_step(error) {
        print_message(&format!("  next: {next}"));
    }
    let own = error.downcast_ref::<Failure>();
    own.map_or(ExitStatus::Error, |failure| failure.status)
}

/// The chain of causes in one line, each said once.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut chain = error.chain();
    while let Some(cause) = chain.next() {
        let text = match cause.downcast_ref::<ClientError>() {
            // Of the hub, or of somebody on the way.
            Some(error) => printable(&error.to_string()),
            None => cause.to_string(),
        };
        if !parts.iter().any(|said| said.contains(&text)) {
            parts.push(text);
        }
        if matches!(cause.downcast_ref(), Some(ClientError::Unreachable { .. })) {
            // Between this and its root there are only layers.
            parts.extend(chain.last().map(ToString::to_string));
            break;
        }
    }
    parts.join(": ")
}

/// Whether whoever read our output has gone.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// What to try next.
pub(crate) fn next_step(error: &anyhow::Error) -> Option<String> {
    let advice = |text: &str| Some(text.to_owned());
    for cause in error.chain() {
        if let Some(Failure {
            next: Some(next), ..
        }) = cause.downcast_ref()
        {
            return Some(next.clone());
        }
        match cause.downcast_ref() {
            Some(ConfigError::NoContext | ConfigError::UnknownContext { .. }) => {
                return advice(
                    "doorctl context list, or: doorctl context add NAME --connection-string-file FILE --ca ca.pem (no hub yet? doorctl demo)",
                );
            }
            Some(ConfigError::ConnectionString(_)) => {
                return advice(
                    "of door-hub use the file service-connection-string in its data folder; of Azure a connection string under \"Shared access policies\"",
                );
            }
            _ => {}
        }
        if let Some(BuildError::NoRoots) = cause.downcast_ref() {
            return advice(
                "name the hub's CA: doorctl context add NAME --replace --connection-string-file FILE --ca ca.pem",
            );
        }
        if let Some(client) = cause.downcast_ref::<ClientError>() {
            return after_client_error(client, &sentence(error)).map(str::to_owned);
        }
    }
    None
}

fn after_client_error(error: &ClientError, text: &str) -> Option<&'static str> {
    match error {
        ClientError::Unreachable { .. } if text.contains("UnknownIssuer") => Some(
            "trust the hub's CA: doorctl context add NAME --replace --connection-string-file FILE --ca ca.pem",
        ),
        ClientError::Unreachable { .. } if text.contains("certificate") => Some(
            "is HostName in the connection string a name that the hub's certificate carries (door-hub --name, --san)?",
        ),
        ClientError::Unreachable { .. } => {
            Some("is the hub running, and are host and port right? doorctl context list")
        }
        ClientError::TimedOut { .. } => Some("try again, or allow more time: --timeout 2m"),
        _ => match (error.code(), error.status()) {
            (Some(ErrorCode::DeviceNotFound), _) => Some("doorctl devices list"),
            (Some(ErrorCode::DeviceAlreadyExists), _) => {
                Some("choose another name, or look at what is there: doorctl devices show NAME")
            }
            (Some(ErrorCode::JobNotFound), _) => Some("doorctl jobs list"),
            (Some(ErrorCode::JobAlreadyExists), _) => {
                Some("choose another --id, or leave it out to have one made")
            }
            (Some(ErrorCode::DeviceNotOnline), _) => Some(
                "wait for the door: --connect-timeout 2m, or see who is there: doorctl devices list",
            ),
            (Some(ErrorCode::ThrottlingMaxActiveJobCountExceeded), _) => {
                Some("another job is active, and this hub runs no more at once: doorctl jobs list")
            }
            (Some(ErrorCode::PreconditionFailed), _) => {
                Some("it was changed meanwhile; read it again: doorctl twin show NAME")
            }
            (_, Some(401 | 403)) => Some(
                "is this the right policy and key, and this machine's clock right? doorctl context add NAME --replace --connection-string-file FILE",
            ),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use doorctl::ErrorResponse;

    use super::*;

    #[test]
    fn an_error_text_of_the_hub_is_one_printable_line() {
        let response = ErrorResponse {
            status: 400,
            code: None,
            name: None,
            message: "tags.x is \"\u{1b}[2J\nerror: none\"".to_owned(),
            tracking_id: None,
            retry_after: None,
        };
        let error = anyhow::Error::from(ClientError::from(response)).context("cannot tag east");
        assert_eq!(
            sentence(&error),
            "cannot tag east: the hub answers 400: tags.x is \"\\u{1b}[2J\\nerror: none\""
        );
    }
}

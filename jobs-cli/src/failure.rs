//! Errors for a person: what happened, why, and what to do next.

use std::io;

use iothub_client::{BuildError, ClientError};
use iothub_protocol::ErrorCode;

use crate::config::ConfigError;
use crate::exit_status::ExitStatus;
use crate::printer::{print_message, printable};

/// An error of a command, with the next step and the exit status.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    next: Option<String>,
    status: ExitStatus,
}

impl Failure {
    /// An error with exit status 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            next: None,
            status: ExitStatus::Error,
        }
    }

    /// Sets the next step.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Appends a detail to the message.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    pub(crate) fn status(mut self, status: ExitStatus) -> Self {
        self.status = status;
        self
    }
}

/// Prints an error on stderr and returns the exit status.
pub(crate) fn report(error: &anyhow::Error) -> ExitStatus {
    if is_broken_pipe(error) {
        // The reader of stdout has closed it, and needs no more.
        return ExitStatus::Success;
    }
    print_message(&format!("error: {}", sentence(error)));
    if let Some(next) = next_step(error) {
        print_message(&format!("  next: {next}"));
    }
    let own = error.downcast_ref::<Failure>();
    own.map_or(ExitStatus::Error, |failure| failure.status)
}

/// The chain of causes in one line, without repetitions.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut chain = error.chain();
    while let Some(cause) = chain.next() {
        let text = match cause.downcast_ref::<ClientError>() {
            // The text may come from the hub or a proxy.
            Some(error) => printable(&error.to_string()),
            None => cause.to_string(),
        };
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        if matches!(cause.downcast_ref(), Some(ClientError::Unreachable { .. })) {
            // The causes between this one and the root only repeat it.
            parts.extend(chain.last().map(ToString::to_string));
            break;
        }
    }
    parts.join(": ")
}

/// Whether the reader of stdout has closed it.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// The next step after an error.
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
                    "doorctl context list, or: doorctl context add NAME --connection-string-file \
                     FILE --ca ca.pem (no hub yet? doorctl demo)",
                );
            }
            Some(ConfigError::ConnectionString(_)) => {
                return advice(
                    "door-hub: use the file service-connection-string in its data folder; Azure: \
                     use a connection string under \"Shared access policies\"",
                );
            }
            _ => {}
        }
        if let Some(BuildError::NoRoots) = cause.downcast_ref() {
            return advice(
                "name the hub's CA: doorctl context add NAME --replace --connection-string-file \
                 FILE --ca ca.pem",
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
            "trust the hub's CA: doorctl context add NAME --replace --connection-string-file FILE \
             --ca ca.pem",
        ),
        ClientError::Unreachable { .. } if text.contains("certificate") => Some(
            "is HostName in the connection string a name in the hub's certificate \
             (door-hub --name, --san)?",
        ),
        ClientError::Unreachable { .. } => {
            Some("is the hub running, and are host and port right? doorctl context list")
        }
        ClientError::TimedOut { .. } => Some("try again, or allow more time: --timeout 2m"),
        _ => match (error.code(), error.status()) {
            (Some(ErrorCode::DeviceNotFound), _) => Some("doorctl devices list"),
            (Some(ErrorCode::DeviceAlreadyExists), _) => {
                Some("choose another name, or see the existing door: doorctl devices show NAME")
            }
            (Some(ErrorCode::JobNotFound), _) => Some("doorctl jobs list"),
            (Some(ErrorCode::JobAlreadyExists), _) => {
                Some("choose another --id, or omit it to generate one")
            }
            (Some(ErrorCode::DeviceNotOnline), _) => Some(
                "wait for the door: --connect-timeout 2m, or see which doors are connected: \
                 doorctl devices list",
            ),
            (Some(ErrorCode::ThrottlingMaxActiveJobCountExceeded), _) => {
                Some("another job is active, and this hub allows no more: doorctl jobs list")
            }
            (Some(ErrorCode::PreconditionFailed), _) => {
                Some("it was changed in the meantime; read it again: doorctl twin show NAME")
            }
            (_, Some(401 | 403)) => Some(
                "are policy and key right, and is this machine's clock right? doorctl context add \
                 NAME --replace --connection-string-file FILE",
            ),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use iothub_client::ErrorResponse;

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

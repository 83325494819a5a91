//! Errors for a person: what happened, why, and what to do next.

use std::io;

use iothub_client::{BuildError, CertificateProblem, ClientError, WIDER_BOUNDS};
use iothub_protocol::ErrorCode;
use jiff::Timestamp;

use crate::config::ConfigError;
use crate::exit_status::ExitStatus;
use crate::printer::{print_message, printable, without_os_number};

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
    status_of(error)
}

/// The exit status of an error: that of its failure, or [`ExitStatus::Refused`] if the policy lacks
/// a right.
pub(crate) fn status_of(error: &anyhow::Error) -> ExitStatus {
    match error.downcast_ref::<Failure>() {
        Some(failure) => failure.status,
        None if needed_rights(error).is_some() => ExitStatus::Refused,
        None => ExitStatus::Error,
    }
}

/// The rights that a refused request needs, if the policy lacks one of them.
pub(crate) fn needed_rights(error: &anyhow::Error) -> Option<&'static str> {
    let client = error.chain().find_map(|cause| cause.downcast_ref());
    client.and_then(ClientError::needed_rights)
}

/// How to get a policy with these rights, or with [`WIDER_BOUNDS`].
pub(crate) fn how_to_get_rights(rights: &str) -> String {
    if rights == WIDER_BOUNDS {
        return "what this policy may do: doorctl whoami; an administrator changes it: doorctl \
                policy change NAME --role ROLE"
            .to_owned();
    }
    format!(
        "a policy with {} is needed; on the server: door-hub policy add NAME --rights {rights} \
         --out FILE (Azure: \"Shared access policies\"), then here: doorctl context add NAME \
         --connection-string-file FILE --ca ca.pem; what this policy may do: doorctl whoami",
        rights.replace(',', " and ")
    )
}

/// The chain of causes in one line, without repetitions.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut chain = error.chain();
    while let Some(cause) = chain.next() {
        let text = match cause.downcast_ref::<ClientError>() {
            // The text may come from the hub or a proxy.
            Some(error) => printable(&error.to_string()),
            None => without_os_number(&cause.to_string()),
        };
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        if matches!(cause.downcast_ref(), Some(ClientError::Unreachable { .. })) {
            // The causes between this one and the root only repeat it.
            parts.extend(
                chain
                    .last()
                    .map(|root| without_os_number(&root.to_string())),
            );
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
        let io: Option<&io::Error> = cause.downcast_ref();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            return advice("choose another file, or remove that one: it is not overwritten");
        }
        if let Some(BuildError::NoRoots) = cause.downcast_ref() {
            return advice(
                "name the hub's CA: doorctl context add NAME --replace --connection-string-file \
                 FILE --ca ca.pem",
            );
        }
        if let Some(rights) = cause.downcast_ref().and_then(ClientError::needed_rights) {
            return Some(how_to_get_rights(rights));
        }
        if let Some(client) = cause.downcast_ref::<ClientError>() {
            return match client.certificate_problem() {
                Some(problem) => after_certificate_problem(&problem),
                None => after_client_error(client).map(str::to_owned),
            };
        }
    }
    None
}

fn after_certificate_problem(problem: &CertificateProblem) -> Option<String> {
    let clock = |valid: &str, seconds: &u64| {
        let at = i64::try_from(*seconds)
            .ok()
            .and_then(|at| Timestamp::from_second(at).ok());
        let at = at.map_or_else(|| "unknown".to_owned(), |at| at.to_string());
        format!(
            "the hub's certificate is valid {valid} {at}, and this machine's clock shows {:.0}: \
             if the clock is wrong, set it; else give the hub a new certificate (door-hub renews \
             its own)",
            Timestamp::now()
        )
    };
    Some(match problem {
        CertificateProblem::Expired { not_after } => clock("until", not_after),
        CertificateProblem::NotValidYet { not_before } => clock("from", not_before),
        CertificateProblem::UnknownAuthority => {
            "the context does not trust the CA of this hub: fetch ca.pem from the hub's data \
             folder, then: doorctl context add NAME --replace --connection-string-file FILE --ca \
             ca.pem"
                .to_owned()
        }
        CertificateProblem::OtherNames(names) => {
            let names = match names.as_slice() {
                [] => "no names".to_owned(),
                names => format!("the names {}", printable(&names.join(", "))),
            };
            format!(
                "the hub's certificate has {names}: write one of them as HostName in the \
                 connection string, or add the name on the server (door-hub --san NAME)"
            )
        }
        CertificateProblem::IsAuthority => {
            "the hub's certificate is one of an authority (CA:TRUE); create it with CA:FALSE, or \
             let door-hub create one (without certificate_file)"
                .to_owned()
        }
        CertificateProblem::NotForServers => {
            "the hub's certificate is not for servers; create it with the extended key usage \
             serverAuth, or let door-hub create one (without certificate_file)"
                .to_owned()
        }
        _ => return None,
    })
}

fn after_client_error(error: &ClientError) -> Option<&'static str> {
    match error {
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

    fn refusal(needed_rights: Option<&'static str>, message: &str) -> anyhow::Error {
        let response = ErrorResponse {
            status: 400,
            code: None,
            name: None,
            message: message.to_owned(),
            tracking_id: None,
            retry_after: None,
            needed_rights,
        };
        anyhow::Error::from(ClientError::from(response)).context("cannot tag east")
    }

    #[test]
    fn an_error_text_of_the_hub_is_one_printable_line() {
        let error = refusal(None, "tags.x is \"\u{1b}[2J\nerror: none\"");
        assert_eq!(
            sentence(&error),
            "cannot tag east: the hub answers 400: tags.x is \"\\u{1b}[2J\\nerror: none\""
        );
    }

    #[test]
    fn a_missing_right_has_its_own_status_and_next_step() {
        let error = refusal(Some("RegistryRead,ServiceConnect"), "no");
        assert_eq!(status_of(&error), ExitStatus::Refused);
        let next = next_step(&error).unwrap();
        assert!(
            next.starts_with("a policy with RegistryRead and ServiceConnect is needed"),
            "{next}"
        );
        let error = refusal(None, "no");
        assert_eq!(
            (status_of(&error), next_step(&error)),
            (ExitStatus::Error, None)
        );
    }

    #[test]
    fn a_file_that_exists_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        crate::private_file::create(&path, "one").unwrap();
        let private = crate::private_file::create(&path, "two").unwrap_err();
        let public = io::Error::from(io::ErrorKind::AlreadyExists);
        for error in [anyhow::Error::from(private), anyhow::Error::from(public)] {
            let next = next_step(&error.context("--out")).unwrap();
            assert!(next.starts_with("choose another file"), "{next}");
        }
    }
}

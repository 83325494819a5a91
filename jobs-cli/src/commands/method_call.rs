//! Method calls from the arguments of the command line, and their timeouts.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use door_core::contract::Command;
use door_core::contract::duration::to_text;
use iothub_protocol::MethodName;
use iothub_protocol::method::{
    CONNECT_TIMEOUT_S, DEFAULT_RESPONSE_TIMEOUT, MethodRequest, RESPONSE_TIMEOUT_S,
};
use iothub_protocol::text_file::decode;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::outcome::door_command;
use crate::printer::Printer;

/// Builds a method call from checked arguments.
pub(crate) fn call(
    method: &str,
    payload: Option<Box<RawValue>>,
    connect_timeout: Duration,
    response_timeout: Option<Duration>,
) -> anyhow::Result<MethodRequest> {
    let name: MethodName = method
        .parse()
        .map_err(|error| Failure::new(format!("METHOD {method:?}: {error}")))?;
    let response_timeout = checked_response_timeout(connect_timeout, response_timeout)?;
    let call = MethodRequest::new(name)
        .with_connect_timeout(connect_timeout)?
        .with_response_timeout(response_timeout)?;
    Ok(match payload {
        Some(payload) => call.with_payload(payload),
        None => call,
    })
}

/// Builds the call of a command.
pub(crate) fn door_call(
    command: &Command,
    connect_timeout: Duration,
    response_timeout: Option<Duration>,
) -> anyhow::Result<MethodRequest> {
    let (method, payload) = command.to_call();
    call(method, payload, connect_timeout, response_timeout)
}

/// As [`warn_without_end`], for a call with a payload as the user gave it.
pub(crate) fn warn_of_call(call: &MethodRequest, printer: &Printer) {
    if let Some(command) = door_command(call) {
        warn_without_end(&command, printer);
    }
}

/// Warns of an unlock without an end: an unattended door stays unlocked until somebody notices.
pub(crate) fn warn_without_end(command: &Command, printer: &Printer) {
    if unlocks_without_end(command) {
        printer.warn(
            "this unlock has no end: doors stay unlocked until doorctl relinquish; to set an end: \
             --for or --until, or unlockTime, until or pulse in a payload",
        );
    }
}

fn unlocks_without_end(command: &Command) -> bool {
    let Command::Unlock(unlock) = command else {
        return false;
    };
    unlock.unlock_time.is_none() && unlock.until.is_none() && unlock.pulse.is_none()
}

/// The response timeout to send for these flags. A hub refuses one below the connect timeout
/// (400004), because it limits the whole call: without the flag it is the greater of its default
/// and the connect timeout.
pub(crate) fn checked_response_timeout(
    connect: Duration,
    response: Option<Duration>,
) -> anyhow::Result<Duration> {
    let effective = response.unwrap_or(DEFAULT_RESPONSE_TIMEOUT.max(connect));
    for (flag, value, limits) in [
        ("--connect-timeout", connect, &CONNECT_TIMEOUT_S),
        ("--response-timeout", effective, &RESPONSE_TIMEOUT_S),
    ] {
        if !limits.contains(&value.as_secs()) {
            let (least, most) = (*limits.start(), *limits.end());
            let value = to_text(value);
            return Err(
                Failure::new(format!("{flag} {value}: expected {least} s to {most} s")).into(),
            );
        }
    }
    if connect > effective {
        let (connect, response) = (to_text(connect), to_text(effective));
        return Err(Failure::new(format!(
            "--connect-timeout {connect} is longer than --response-timeout {response}: \
             a hub refuses that, because the response timeout limits the whole call"
        ))
        .next(format!(
            "--response-timeout {connect}, or leave --response-timeout out: it follows \
             --connect-timeout"
        ))
        .into());
    }
    Ok(effective)
}

/// `--payload`: JSON, or `@FILE` for a file with JSON.
pub(crate) fn payload(text: &str) -> anyhow::Result<Box<RawValue>> {
    let (source, text) = match text.strip_prefix('@') {
        Some(path) => {
            let read = fs::read(path).map_err(anyhow::Error::from);
            let text = read.and_then(|bytes| Ok(decode(bytes)?));
            let text = text.with_context(|| format!("--payload: cannot read {path}"))?;
            (format!("--payload {path}"), text)
        }
        None => ("--payload".to_owned(), text.to_owned()),
    };
    RawValue::from_string(text.trim().to_owned()).map_err(|error| {
        Failure::new(format!("{source} is not JSON: {error}"))
            .next(
                "quote it for your shell, as in --payload '{\"lockTime\":\"10m\"}', or use \
                 --payload @FILE",
            )
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags in seconds, then the sent timeout, or the start of the error.
    #[test]
    fn the_response_timeout_is_never_below_the_connect_timeout() {
        let longer = |connect: &str, response: &str| {
            Err(format!(
                "--connect-timeout {connect} is longer than --response-timeout {response}"
            ))
        };
        let outside = |flag: &str, range: &str| Err(format!("{flag}: expected {range}"));
        for (connect, response, expected) in [
            (0, None, Ok(30)),
            (10, None, Ok(30)),
            (30, None, Ok(30)),
            (31, None, Ok(31)),
            (120, None, Ok(120)),
            (300, None, Ok(300)),
            (0, Some(5), Ok(5)),
            (5, Some(5), Ok(5)),
            (120, Some(300), Ok(300)),
            (6, Some(5), longer("6s", "5s")),
            (120, Some(30), longer("2m", "30s")),
            (300, Some(299), longer("5m", "4m59s")),
            (301, None, outside("--connect-timeout 5m1s", "0 s to 300 s")),
            (301, Some(30), outside("--connect-timeout 5m1s", "0 s")),
            (0, Some(4), outside("--response-timeout 4s", "5 s to 300 s")),
            (120, Some(360), outside("--response-timeout 6m", "5 s")),
        ] {
            let (connect, response) = (
                Duration::from_secs(connect),
                response.map(Duration::from_secs),
            );
            let call = call("lockDoor", None, connect, response);
            let sent = call.map(|call| (call.connect_timeout(), call.response_timeout()));
            match (sent, expected) {
                (Ok(sent), Ok(seconds)) => {
                    assert_eq!(sent, (connect, Duration::from_secs(seconds)));
                }
                (Err(error), Err(start)) => {
                    assert!(error.to_string().starts_with(&start), "{error}");
                }
                (sent, expected) => panic!("{connect:?} {response:?}: {sent:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn an_unlock_without_an_end_is_detected() {
        for (method, payload, expected) in [
            ("unlockDoor", "", true),
            ("unlockDoor", r#"{"unlockTime":null,"commandId":"a"}"#, true),
            ("unlockDoor", r#""{}""#, true),
            ("unlockDoor", r#"{"unlockTime":"10m"}"#, false),
            ("unlockDoor", r#"{"until":"2026-11-23T22:10:00Z"}"#, false),
            ("unlockDoor", r#"{"pulse":"strike"}"#, false),
            ("lockDoor", "", false),
            ("relinquish", "{}", false),
        ] {
            let command = Command::parse(method, payload.as_bytes()).unwrap();
            assert_eq!(unlocks_without_end(&command), expected, "{command:?}");
        }
    }
}

//! `doorctl invoke`

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use iothub_protocol::MethodName;
use iothub_protocol::method::MethodRequest;
use serde_json::value::RawValue;

use crate::cli::twin::InvokeArgs;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::{Session, door, explain_door};

/// Calls the method and prints the answer.
pub(crate) async fn run(args: &InvokeArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let payload = args.payload.as_deref().map(payload).transpose()?;
    let call = call(
        &args.method,
        payload,
        args.connect_timeout,
        args.response_timeout,
    )?;
    let id = door(&args.door)?;
    let result = match session.hub.invoke(&id, &call).await {
        Ok(result) => result,
        Err(error) => return Err(explain_door(session, &id, error).await),
    };
    session.printer.document(&result)?;
    match result.status {
        200 => Ok(ExitStatus::Success),
        status => {
            session
                .printer
                .say(format!("{} answered with status {status}", args.door));
            Ok(ExitStatus::Incomplete)
        }
    }
}

/// A method call, its flags checked.
pub(crate) fn call(
    method: &str,
    payload: Option<Box<RawValue>>,
    connect_timeout: Duration,
    response_timeout: Duration,
) -> anyhow::Result<MethodRequest> {
    let name: MethodName = method
        .parse()
        .map_err(|error| Failure::new(format!("METHOD {method:?}: {error}")))?;
    let call = MethodRequest::new(name)
        .with_connect_timeout(connect_timeout)
        .context("--connect-timeout")?
        .with_response_timeout(response_timeout)
        .context("--response-timeout")?;
    Ok(match payload {
        Some(payload) => call.with_payload(payload),
        None => call,
    })
}

/// `--payload`: JSON, or `@FILE` that holds it.
pub(crate) fn payload(text: &str) -> anyhow::Result<Box<RawValue>> {
    let (source, text) = match text.strip_prefix('@') {
        Some(path) => {
            let read = fs::read_to_string(path)
                .with_context(|| format!("--payload: cannot read {path}"))?;
            (format!("--payload {path}"), read)
        }
        None => ("--payload".to_owned(), text.to_owned()),
    };
    RawValue::from_string(text.trim().to_owned()).map_err(|error| {
        Failure::new(format!("{source} is not JSON: {error}"))
            .next("quote it for your shell, as in --payload '{\"lockTime\":\"10m\"}', or use --payload @FILE")
            .into()
    })
}

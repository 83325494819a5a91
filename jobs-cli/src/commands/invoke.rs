//! `doorctl invoke`

use serde_json::Value;

use super::method_call::{call, payload, warn_of_call};
use super::reported;
use crate::cli::twin::InvokeArgs;
use crate::door::ReportedStatus;
use crate::exit_status::ExitStatus;
use crate::session::{Session, door};

/// Calls the method and prints the answer.
pub(crate) async fn run(args: &InvokeArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let payload = args.payload.as_deref().map(payload).transpose()?;
    let call = call(
        &args.method,
        payload,
        args.connect_timeout,
        args.response_timeout,
    )?;
    warn_of_call(&call, &session.printer);
    let id = door(&args.door)?;
    let result = session.hub.invoke(&id, &call).await;
    let result = session.of_door(&id, result).await?;
    let answer = result.payload.as_ref();
    let answer = answer.and_then(|payload| serde_json::from_str::<Value>(payload.get()).ok());
    if let Some(answer) = answer {
        reported::wait_for_states(vec![(id, ReportedStatus::read(&answer))], &session.hub).await;
    }
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

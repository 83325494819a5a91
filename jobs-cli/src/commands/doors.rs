//! The verbs that act on doors at once.

mod array;
mod direct;
mod lockdown;
mod order;
mod send;
mod status;
mod why;

use super::method_call::checked_response_timeout;
use crate::cli::doors::DoorsCommand;
use crate::exit_status::ExitStatus;
use crate::session::Session;

pub(crate) async fn run(command: DoorsCommand, session: &Session) -> anyhow::Result<ExitStatus> {
    let now = match &command {
        DoorsCommand::Status(_) | DoorsCommand::Why(_) => None,
        DoorsCommand::Lock(args) => Some(&args.now),
        DoorsCommand::Unlock(args) => Some(&args.now),
        DoorsCommand::Relinquish(args) => Some(&args.now),
        DoorsCommand::Mode(args) => Some(&args.now),
        DoorsCommand::Lockdown(args) => Some(&args.now),
        DoorsCommand::AllClear(args) => Some(&args.now),
    };
    if let Some(now) = now {
        // Checked before anything changes: a lockdown sets the mode first and calls afterwards.
        checked_response_timeout(now.connect_timeout, now.response_timeout)?;
    }
    match command {
        DoorsCommand::Status(args) => status::status(&args, session).await,
        DoorsCommand::Why(args) => why::why(&args, session).await,
        DoorsCommand::Lock(args) => order::lock(&args, session).await,
        DoorsCommand::Unlock(args) => order::unlock(&args, session).await,
        DoorsCommand::Relinquish(args) => order::relinquish(&args, session).await,
        DoorsCommand::Mode(args) => order::mode(&args, session).await,
        DoorsCommand::Lockdown(args) => lockdown::lockdown(&args, session).await,
        DoorsCommand::AllClear(args) => lockdown::all_clear(&args, session).await,
    }
}

//! The verbs that act on doors now.

mod array;
mod direct;
mod lockdown;
mod order;
mod send;
mod status;
mod why;

use crate::cli::doors::DoorsCommand;
use crate::exit_status::ExitStatus;
use crate::session::Session;

/// Does what was asked for.
pub(crate) async fn run(command: DoorsCommand, session: &Session) -> anyhow::Result<ExitStatus> {
    match command {
        DoorsCommand::Status(args) => status::status(&args, session).await,
        DoorsCommand::Why { door } => why::why(&door, session).await,
        DoorsCommand::Lock(args) => order::lock(&args, session).await,
        DoorsCommand::Unlock(args) => order::unlock(&args, session).await,
        DoorsCommand::Relinquish(args) => order::relinquish(&args, session).await,
        DoorsCommand::Mode(args) => order::mode(&args, session).await,
        DoorsCommand::Lockdown(args) => lockdown::lockdown(&args, session).await,
        DoorsCommand::AllClear(args) => lockdown::all_clear(&args, session).await,
    }
}

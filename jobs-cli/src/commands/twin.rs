//! `doorctl twin ...`

mod edit;

use super::{acknowledge, twin_patch};
use crate::cli::twin::{SetArgs, TwinCommand};
use crate::exit_status::ExitStatus;
use crate::session::{Session, door, explain_door};

pub(crate) async fn run(command: TwinCommand, session: &Session) -> anyhow::Result<ExitStatus> {
    match command {
        TwinCommand::Show { door: name } => {
            let id = door(&name)?;
            match session.hub.twin(&id).await {
                Ok(twin) => session.printer.document(&twin)?,
                Err(error) => return Err(explain_door(session, &id, error).await),
            }
        }
        TwinCommand::Set(args) => return set(&args, session).await,
        TwinCommand::Edit(args) => return edit::edit(&args, session).await,
    }
    Ok(ExitStatus::Success)
}

async fn set(args: &SetArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let patch = twin_patch::from_assignments(&args.desired, &args.tags)?;
    acknowledge::warn_of_misspelled_keys(patch.desired.values(), &session.printer);
    let id = door(&args.door)?;
    let twin = match session
        .hub
        .twin_patch(&id, &patch, args.etag.as_deref())
        .await
    {
        Ok(twin) => twin,
        Err(error) => return Err(explain_door(session, &id, error).await),
    };
    let version = twin.properties.desired.version;
    session.printer.say(format!(
        "{}: desired version {version}, etag {}",
        twin.device_id, twin.etag
    ));
    session.printer.document(&twin)?;
    acknowledge::wait_for_door(&twin, patch.desired.values(), args.deadline, session).await
}

//! `doorctl twin ...`

mod edit;

use super::{acknowledge, twin_patch};
use crate::cli::twin::{SetArgs, TwinCommand};
use crate::exit_status::ExitStatus;
use crate::session::{Session, door};

pub(crate) async fn run(command: TwinCommand, session: &Session) -> anyhow::Result<ExitStatus> {
    match command {
        TwinCommand::Show { door: name } => {
            let id = door(&name)?;
            let twin = session.of_door(&id, session.hub.twin(&id).await).await?;
            session.printer.document(&twin)?;
            Ok(ExitStatus::Success)
        }
        TwinCommand::Set(args) => set(&args, session).await,
        TwinCommand::Edit(args) => edit::edit(&args, session).await,
    }
}

async fn set(args: &SetArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let patch = twin_patch::from_assignments(&args.desired, &args.tags)?;
    acknowledge::warn_of_misspelled_keys(patch.desired.values(), &session.printer);
    let id = door(&args.door)?;
    let written = session.hub.twin_patch(&id, &patch, args.etag.as_deref());
    let twin = session.of_door(&id, written.await).await?;
    let version = twin.properties.desired.version;
    session.printer.say(format!(
        "{}: desired version {version}, etag {}",
        twin.device_id, twin.etag
    ));
    session.printer.document(&twin)?;
    acknowledge::wait_for_door(
        &twin,
        patch.desired.values(),
        args.acknowledged.deadline,
        session,
    )
    .await
}

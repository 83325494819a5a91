//! `doorctl twin ...`

mod edit;

use serde_json::Value;

use super::{acknowledge, twin_patch};
use crate::cli::twin::{SetArgs, TwinCommand};
use crate::exit_status::ExitStatus;
use crate::printer::{plain, printable};
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

/// `floor=3`, `tags.old removed`.
fn change(section: &str, key: &str, value: &Value) -> String {
    printable(&match value {
        Value::Null => format!("{section}{key} removed"),
        value => format!("{section}{key}={}", plain(value)),
    })
}

async fn set(args: &SetArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let patch = twin_patch::from_assignments(&args.desired, &args.tags)?;
    acknowledge::warn_of_misspelled_keys(patch.desired.values(), &session.printer);
    let id = door(&args.door)?;
    let written = session.hub.twin_patch(&id, &patch, args.etag.as_deref());
    let twin = session.of_door(&id, written.await).await?;
    let version = twin.properties.desired.version;
    let changed = args
        .desired
        .iter()
        .map(|(key, value)| change("", key, value));
    let tags = args
        .tags
        .iter()
        .map(|(key, value)| change("tags.", key, value));
    let changed: Vec<String> = changed.chain(tags).collect();
    let text = format!(
        "{}: {}; desired version {version}, etag {}\n",
        twin.device_id,
        changed.join(", "),
        twin.etag
    );
    session.printer.text_or(&text, &twin)?;
    acknowledge::wait_for_door(
        &twin,
        patch.desired.values(),
        args.acknowledged.deadline,
        session,
    )
    .await
}

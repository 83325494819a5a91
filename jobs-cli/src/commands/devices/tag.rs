//! `doorctl devices tag`.

use iothub_protocol::twin::limits::{check_growth, check_patch};
use iothub_protocol::twin::{Object, SectionKind, Twin, TwinPatch, merge};
use serde_json::Value;

use super::report::report;
use crate::cli::devices::change::TagArgs;
use crate::cli::target::TargetArgs;
use crate::cli::twin::{tag_assignment, tag_key};
use crate::commands::confirm::confirm;
use crate::commands::{many, twin_patch};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;

/// Sets and removes tags of each door; doors that have them already stay unchanged.
pub(super) async fn tag(args: TagArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let (target, tags) = split(args)?;
    let (target, confirmed) = target;
    let doors = many::select_exact(&target, session).await?;
    for door in &doors {
        fits(door, &tags)?;
    }
    confirm("change the tags of", doors.len(), confirmed)?;
    let work = doors.into_iter().map(|door| {
        let changed = after(&door.tags, &tags) != door.tags;
        let patch = changed.then(|| TwinPatch::tags(tags.clone()));
        (door.device_id, patch)
    });
    let done = many::for_each_counted(
        work.collect(),
        "tagging",
        session,
        |hub, door, patch| async move {
            Ok(match patch {
                Some(patch) => hub
                    .twin_patch(&door, &patch, None)
                    .await
                    .map(|_| "changed")?,
                None => "unchanged",
            })
        },
    )
    .await;
    report(done, session).await
}

type Doors = (TargetArgs, crate::cli::confirm::ConfirmArgs);

/// Separates doors and tags: words with `=` are tags.
fn split(args: TagArgs) -> anyhow::Result<(Doors, Object)> {
    let TagArgs {
        mut target,
        remove,
        confirm,
    } = args;
    let (words, doors) = target
        .doors
        .into_iter()
        .partition(|word: &String| word.contains('='));
    target.doors = doors;
    if let (true, Some(door)) = (target.all, target.doors.first()) {
        let message =
            format!("--all cannot be used with a door ({door}); expected one or the other");
        return Err(Failure::new(message).into());
    }
    let mut tags: Vec<(String, Value)> = Vec::new();
    let words: Vec<String> = words;
    for word in words {
        let tag =
            tag_assignment(&word).map_err(|error| Failure::new(format!("{word:?}: {error}")))?;
        tags.push(tag);
    }
    for given in remove {
        let key = tag_key(&given)
            .map_err(|error| Failure::new(format!("--remove {given:?}: {error}")))?;
        tags.push((key, Value::Null));
    }
    if tags.is_empty() {
        return Err(
            Failure::new("no tag given; expected KEY=VALUE or --remove KEY")
                .next("doorctl devices tag DOOR wing=east")
                .into(),
        );
    }
    let patch = twin_patch::from_assignments(&[], &tags)?;
    let tags = patch.tags.values().cloned().unwrap_or_default();
    check_patch(SectionKind::Tags, &tags).map_err(|error| Failure::new(error.to_string()))?;
    Ok(((target, confirm), tags))
}

/// Checks that the tags of a door stay within their limits.
fn fits(door: &Twin, tags: &Object) -> Result<(), Failure> {
    check_growth(SectionKind::Tags, &door.tags, &after(&door.tags, tags)).map_err(|error| {
        Failure::new(format!("{}: {error}; nothing was changed", door.device_id))
            .next("remove tags: doorctl devices tag DOOR --remove KEY")
    })
}

fn after(tags: &Object, patch: &Object) -> Object {
    let mut after = tags.clone();
    merge(&mut after, patch);
    after
}

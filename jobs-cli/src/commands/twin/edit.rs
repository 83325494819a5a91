//! `doorctl twin edit`: tags and desired properties in an editor. What was written there is never lost: when it cannot be sent, it stays in its
//! file.

mod draft;
mod editor;

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use iothub_protocol::ErrorCode;
use iothub_protocol::twin::{ConnectionState, Twin};

use crate::cli::twin::EditArgs;
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, sentence};
use crate::printer::{Format, Printer, talk};
use crate::session::{Session, door, explain_door};

use draft::{Change, Draft};
use editor::EditedFile;

/// Opens a twin in an editor, and writes what was changed.
pub(super) async fn edit(args: &EditArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !asks && !args.yes {
        return Err(Failure::new(
            "twin edit asks before it writes, and nobody is there to answer; nothing was changed",
        )
        .next("say --yes, or change single keys: doorctl twin set DOOR KEY=VALUE")
        .status(ExitStatus::Refused)
        .into());
    }
    let id = door(&args.door)?;
    let twin = match session.hub.twin(&id).await {
        Ok(twin) => twin,
        Err(error) => return Err(explain_door(session, &id, error).await),
    };
    let draft = Draft::of(&twin);
    let mut file = EditedFile::new(&id, &draft.text()?)?;
    let change = loop {
        file = file.edited().await?;
        let mistake = match draft.change(&file.read()?) {
            Ok(Some(change)) => break change,
            Ok(None) => {
                session.printer.say(format!("{id}: nothing was changed"));
                return Ok(ExitStatus::Success);
            }
            Err(mistake) => mistake,
        };
        if asks {
            talk(&format!("{mistake}. Edit it again? [Y/n]"));
            if editor::answer().await?.is_none_or(|answer| answer) {
                continue;
            }
        }
        return Err(Failure::new(format!(
            "{mistake}; nothing was changed; what you wrote is in {}",
            file.keep()?
        ))
        .next(format!("doorctl twin edit {id}"))
        .into());
    };
    let diff = match Printer::colours_talk() {
        true => coloured(change.diff.trim_end()),
        false => change.diff.trim_end().to_owned(),
    };
    if args.yes {
        session.printer.say(diff);
    } else {
        talk(&diff);
        talk(&format!("Write this to the twin of {id}? [y/N]"));
        if editor::answer().await? != Some(true) {
            return Err(Failure::new(format!(
                "nothing was changed; what you wrote is in {}",
                file.keep()?
            ))
            .next(format!("doorctl twin edit {id}, and say y"))
            .status(ExitStatus::Refused)
            .into());
        }
    }
    write(&twin, &change, file, session).await
}

/// What goes in red, what comes in green.
fn coloured(diff: &str) -> String {
    let line = |line: &str| match line.as_bytes().first() {
        Some(b'-') => format!("\u{1b}[31m{line}\u{1b}[0m"),
        Some(b'+') => format!("\u{1b}[32m{line}\u{1b}[0m"),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = diff.lines().map(line).collect();
    lines.join("\n")
}

/// Writes a change, only while the twin is as it was read.
async fn write(
    twin: &Twin,
    change: &Change,
    file: EditedFile,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let id = &twin.device_id;
    let written = session.hub.twin_patch(id, &change.patch, Some(&twin.etag));
    let written = match written.await {
        Ok(written) => written,
        Err(error) => {
            let kept = file.keep()?;
            if error.code() != Some(ErrorCode::PreconditionFailed) {
                let error = explain_door(session, id, error).await;
                let message = format!("{}; what you wrote is in {kept}", sentence(&error));
                return Err(Failure::new(message)
                    .next(format!("doorctl twin show {id}"))
                    .into());
            }
            return Err(Failure::new(format!(
                "somebody else changed the twin of {id} while you edited it; nothing was written; what you wrote is in {kept}"
            ))
            .next(format!("doorctl twin edit {id}, and take over what is in that file"))
            .into());
        }
    };
    let version = written.properties.desired.version;
    let printer = &session.printer;
    printer.say(format!(
        "{id}: desired version {version}, etag {}",
        written.etag
    ));
    if change.touches_desired && written.connection_state == ConnectionState::Disconnected {
        printer.say("the door is offline and reads this when it connects");
    }
    if printer.format() != Format::Table {
        printer
            .document(&written)
            .context("cannot print the twin")?;
    }
    Ok(ExitStatus::Success)
}

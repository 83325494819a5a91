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
use crate::printer::{Format, Printer, printable, talk, talk_styled};
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
    let diff = shown(change.diff.trim_end(), Printer::colours_talk());
    if args.yes {
        session.printer.say_styled(&diff);
    } else {
        talk_styled(&diff);
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

/// The diff for a terminal; in colours what goes is red, what comes green.
fn shown(diff: &str, in_colours: bool) -> String {
    let line = |line: &str| {
        let line = printable(line);
        match line.as_bytes().first() {
            Some(b'-') if in_colours => format!("\u{1b}[31m{line}\u{1b}[0m"),
            Some(b'+') if in_colours => format!("\u{1b}[32m{line}\u{1b}[0m"),
            _ => line,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_has_no_colours_but_its_own() {
        let diff = "-  \"a\": \"\u{9b}2J\"\n+  \"a\": \"\u{7f}\"\n   \u{202e}";
        assert_eq!(
            shown(diff, false),
            "-  \"a\": \"\\u{9b}2J\"\n+  \"a\": \"\\u{7f}\"\n   \\u{202e}"
        );
        assert_eq!(
            shown(diff, true),
            "\u{1b}[31m-  \"a\": \"\\u{9b}2J\"\u{1b}[0m\n\u{1b}[32m+  \"a\": \"\\u{7f}\"\u{1b}[0m\n   \\u{202e}"
        );
    }
}

//! `doorctl twin edit`: edits tags and desired properties in an editor. The edited text is never
//! lost: when it cannot be sent, its file is kept.

mod draft;
mod editor;

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use iothub_protocol::ErrorCode;
use iothub_protocol::twin::{Twin, TwinPatch};

use crate::cli::twin::EditArgs;
use crate::commands::acknowledge;
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, how_to_get_rights, needed_rights, sentence, status_of};
use crate::printer::{Format, Printer, print_message, print_styled_message, printable};
use crate::session::{Session, door, explain_door};

use draft::{TwinChange, TwinDraft};
use editor::EditedFile;

/// Opens a twin in an editor, and writes the changes.
pub(super) async fn edit(args: &EditArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    if !has_terminal() && !args.yes {
        return Err(Failure::new(
            "twin edit asks before it writes, and there is no terminal; nothing was changed",
        )
        .next("pass --yes, or change single keys: doorctl twin set DOOR KEY=VALUE")
        .status(ExitStatus::Refused)
        .into());
    }
    let id = door(&args.door)?;
    let twin = session.of_door(&id, session.hub.twin(&id).await).await?;
    let draft = TwinDraft::of(&twin);
    let file = EditedFile::new(&id, &draft.text()?)?;
    let written = match edit_and_write(&twin, &draft, &file, args, session).await {
        Ok(Some(written)) => written,
        Ok(None) => {
            session.printer.say(format!("{id}: nothing was changed"));
            return Ok(ExitStatus::Success);
        }
        Err(error) => return Err(file.keep_if_changed(error)),
    };
    print(&written, &session.printer)?;
    let patch = written.patch.desired.values();
    acknowledge::wait_for_door(&written.twin, patch, args.acknowledged.deadline, session).await
}

struct WrittenTwin {
    twin: Twin,
    patch: TwinPatch,
}

/// Runs the editor and writes the changes, if any. Its errors do not name the file.
async fn edit_and_write(
    twin: &Twin,
    draft: &TwinDraft,
    file: &EditedFile,
    args: &EditArgs,
    session: &Session,
) -> anyhow::Result<Option<WrittenTwin>> {
    let id = &twin.device_id;
    let change = loop {
        file.edit().await?;
        let mistake = match draft.change(&file.read()?) {
            Ok(Some(change)) => break change,
            Ok(None) => return Ok(None),
            Err(mistake) => mistake,
        };
        if has_terminal() {
            print_message(&format!("{mistake}. Edit it again? [Y/n]"));
            if editor::read_answer().await.is_none_or(|answer| answer) {
                continue;
            }
        }
        return Err(Failure::new(format!("{mistake}; nothing was changed"))
            .next(format!("doorctl twin edit {id}"))
            .into());
    };
    acknowledge::warn_of_misspelled_keys(change.patch.desired.values(), &session.printer);
    let diff = printable_diff(change.diff.trim_end(), Printer::stderr_has_colours());
    if args.yes {
        session.printer.say_styled(&diff);
    } else {
        print_styled_message(&diff);
        print_message(&format!("Write this to the twin of {id}? [y/N]"));
        if editor::read_answer().await != Some(true) {
            return Err(Failure::new("nothing was changed")
                .next(format!("doorctl twin edit {id}, and answer y"))
                .status(ExitStatus::Refused)
                .into());
        }
    }
    write(twin, &change, session).await.map(Some)
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// The diff for a terminal; in colours, removed lines are red and added lines green.
fn printable_diff(diff: &str, in_colours: bool) -> String {
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

/// Writes a change, unless the twin was changed since it was read.
async fn write(twin: &Twin, change: &TwinChange, session: &Session) -> anyhow::Result<WrittenTwin> {
    let id = &twin.device_id;
    let written = session.hub.twin_patch(id, &change.patch, Some(&twin.etag));
    match written.await {
        Ok(twin) => Ok(WrittenTwin {
            twin,
            patch: change.patch.clone(),
        }),
        Err(error) if error.code() == Some(ErrorCode::PreconditionFailed) => {
            Err(Failure::new(format!(
                "another client changed the twin of {id} while you edited it; nothing was written"
            ))
            .next(format!(
                "doorctl twin edit {id}, and copy your changes from that file"
            ))
            .into())
        }
        Err(error) => {
            let error = explain_door(session, id, error).await;
            let next = needed_rights(&error)
                .map_or_else(|| format!("doorctl twin show {id}"), how_to_get_rights);
            Err(Failure::new(sentence(&error))
                .next(next)
                .status(status_of(&error))
                .into())
        }
    }
}

fn print(written: &WrittenTwin, printer: &Printer) -> anyhow::Result<()> {
    let twin = &written.twin;
    let version = twin.properties.desired.version;
    printer.say(format!(
        "{}: desired version {version}, etag {}",
        twin.device_id, twin.etag
    ));
    if printer.format() != Format::Table {
        printer.document(twin).context("cannot print the twin")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_values_are_escaped_in_the_diff() {
        let diff = "-  \"a\": \"\u{9b}2J\"\n+  \"a\": \"\u{7f}\"\n   \u{202e}";
        assert_eq!(
            printable_diff(diff, false),
            "-  \"a\": \"\\u{9b}2J\"\n+  \"a\": \"\\u{7f}\"\n   \\u{202e}"
        );
        assert_eq!(
            printable_diff(diff, true),
            "\u{1b}[31m-  \"a\": \"\\u{9b}2J\"\u{1b}[0m\n\u{1b}[32m+  \"a\": \
             \"\\u{7f}\"\u{1b}[0m\n   \\u{202e}"
        );
    }
}

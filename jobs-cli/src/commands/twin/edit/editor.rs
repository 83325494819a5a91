//! The user's editor, the edited file, and questions on the terminal.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::path::Path;
use std::process::ExitStatus;

use anyhow::Context as _;
use iothub_protocol::DeviceId;
use tempfile::TempPath;
use tokio::process::Command;

use crate::failure::{Failure, sentence, status_of};

/// Default editors, in order of preference.
#[cfg(unix)]
const EDITORS: [&str; 4] = ["sensible-editor", "nano", "vim", "vi"];
#[cfg(not(unix))]
const EDITORS: [&str; 1] = ["notepad"];

/// A file of mode 0600, deleted on drop unless it is kept.
pub(super) struct EditedFile {
    path: TempPath,
    original: String,
}

impl EditedFile {
    /// Creates the file.
    pub(super) fn new(door: &DeviceId, text: &str) -> anyhow::Result<Self> {
        // Device names allow characters that file names do not.
        let plain = |character: char| match character.is_ascii_alphanumeric() {
            true => character,
            false => '-',
        };
        let name: String = door.as_str().chars().map(plain).collect();
        let mut file = tempfile::Builder::new()
            .prefix(&format!("doorctl-{name}-"))
            .suffix(".json")
            .tempfile()
            .context("cannot create a file to edit")?;
        file.write_all(text.as_bytes())
            .context("cannot write the file to edit")?;
        Ok(Self {
            path: file.into_temp_path(),
            original: text.to_owned(),
        })
    }

    /// Runs the editor on the file.
    pub(super) async fn edit(&self) -> anyhow::Result<()> {
        let editor = editor()?;
        // Ctrl-C is for the editor, and must not end this program meanwhile.
        let ignoring = tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
        let ended = run(&editor, &self.path).await;
        ignoring.abort();
        let message = match ended {
            Ok(ended) if ended.success() => return Ok(()),
            Ok(ended) => format!("the editor {editor:?} ended with {ended}"),
            Err(error) => format!("cannot start the editor {editor:?}: {error}"),
        };
        Err(Failure::new(format!("{message}; nothing was changed"))
            .next("choose another editor: VISUAL=nano doorctl twin edit DOOR")
            .into())
    }

    /// The current contents; an editor may write any bytes.
    pub(super) fn read(&self) -> anyhow::Result<Vec<u8>> {
        fs::read(&self.path).with_context(|| format!("cannot read {}", self.path.display()))
    }

    /// Handles an error after editing: keeps the file if it was changed, and adds its path to the
    /// error.
    pub(super) fn keep_if_changed(self, error: anyhow::Error) -> anyhow::Error {
        let is_unchanged = self
            .read()
            .is_ok_and(|bytes| bytes == self.original.as_bytes());
        if is_unchanged || !self.path.exists() {
            return error;
        }
        let name = self.path.display().to_string();
        let note = match self.path.keep() {
            Ok(_) => format!("your text is in {name}"),
            Err(error) => format!("your text cannot be kept in {name}: {error}"),
        };
        match error.downcast::<Failure>() {
            Ok(failure) => failure.and(&note).into(),
            Err(error) => Failure::new(format!("{}; {note}", sentence(&error)))
                .status(status_of(&error))
                .into(),
        }
    }
}

/// `$VISUAL`, `$EDITOR`, else the first default editor on this machine.
fn editor() -> anyhow::Result<String> {
    let chosen = |name| {
        let editor = env::var(name).ok();
        editor.filter(|editor| !editor.trim().is_empty())
    };
    if let Some(editor) = chosen("VISUAL").or_else(|| chosen("EDITOR")) {
        return Ok(editor);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&&str| {
        let mut folders = env::split_paths(&path);
        cfg!(not(unix)) || folders.any(|folder| folder.join(name).is_file())
    };
    match EDITORS.iter().find(is_there) {
        Some(editor) => Ok((*editor).to_owned()),
        None => Err(Failure::new("no editor found; nothing was changed")
            .next("choose one: VISUAL=nano doorctl twin edit DOOR")
            .into()),
    }
}

/// The configured editor may contain flags and quotes: a shell parses it.
#[cfg(unix)]
async fn run(editor: &str, file: &Path) -> io::Result<ExitStatus> {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{editor} \"$@\""))
        .arg(editor);
    command.arg(file).status().await
}

#[cfg(not(unix))]
async fn run(editor: &str, file: &Path) -> io::Result<ExitStatus> {
    let mut words = editor.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).arg(file).status().await
}

/// The answer to a question: yes, no, or `None` for Enter alone. Ctrl-C, the end of input and
/// unreadable input mean no.
pub(super) async fn read_answer() -> Option<bool> {
    // On its own thread: after the editor, Ctrl-C no longer ends this program by itself.
    let typed = tokio::task::spawn_blocking(|| {
        let mut typed = Vec::new();
        let read = io::stdin().lock().read_until(b'\n', &mut typed);
        read.map(|_| typed)
    });
    let typed = tokio::select! {
        typed = typed => typed.ok().and_then(Result::ok).unwrap_or_default(),
        _ = tokio::signal::ctrl_c() => return Some(false),
    };
    parse_answer(&typed)
}

fn parse_answer(typed: &[u8]) -> Option<bool> {
    let word = String::from_utf8_lossy(typed);
    match word.trim().to_ascii_lowercase().as_str() {
        "" if !typed.is_empty() => None,
        "y" | "yes" => Some(true),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_status::ExitStatus;
    use crate::failure::report;

    fn file(now: Option<&[u8]>) -> EditedFile {
        let file = EditedFile::new(&"lobby:east".parse().unwrap(), "{}\n").unwrap();
        match now {
            Some(now) => fs::write(&file.path, now).unwrap(),
            None => fs::remove_file(&file.path).unwrap(),
        }
        file
    }

    #[test]
    fn an_edited_file_is_kept_after_any_error_with_any_bytes() {
        for error in [
            Failure::new("no").status(ExitStatus::Refused).into(),
            anyhow::Error::from(io::Error::other("no")),
        ] {
            let status = report(&error);
            let file = file(Some(b"{\xff}"));
            let path = file.path.to_path_buf();
            let error = file.keep_if_changed(error);
            assert_eq!(
                error.to_string(),
                format!("no; your text is in {}", path.display())
            );
            assert_eq!(report(&error), status);
            assert_eq!(fs::read(&path).unwrap(), b"{\xff}");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn an_unchanged_or_missing_file_is_not_mentioned() {
        for now in [Some(&b"{}\n"[..]), None] {
            let file = file(now);
            let path = file.path.to_path_buf();
            assert_eq!(
                file.keep_if_changed(Failure::new("no").into()).to_string(),
                "no"
            );
            assert!(!path.exists());
        }
    }

    #[test]
    fn only_yes_or_y_means_yes() {
        for (typed, expected) in [
            (&b"y\n"[..], Some(true)),
            (b" YES \n", Some(true)),
            (b"\n", None),
            (b"", Some(false)),
            (b"n\n", Some(false)),
            (b"\xff\n", Some(false)),
        ] {
            assert_eq!(parse_answer(typed), expected, "{typed:?}");
        }
    }
}

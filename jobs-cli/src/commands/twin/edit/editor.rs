//! The person's editor, the file that it edits, and a question on the terminal.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitStatus;

use anyhow::Context as _;
use iothub_protocol::DeviceId;
use tempfile::TempPath;
use tokio::process::Command;

use crate::failure::Failure;

/// Editors to look for when nobody chose one, the most sensible first.
#[cfg(unix)]
const EDITORS: [&str; 4] = ["sensible-editor", "nano", "vim", "vi"];
#[cfg(not(unix))]
const EDITORS: [&str; 1] = ["notepad"];

/// A file of mode 0600, which goes unless it is kept.
pub(super) struct EditedFile {
    path: TempPath,
    original: String,
}

impl EditedFile {
    /// Makes it.
    pub(super) fn new(door: &DeviceId, text: &str) -> anyhow::Result<Self> {
        // Names of devices may have what names of files may not.
        let plain = |character: char| match character.is_ascii_alphanumeric() {
            true => character,
            false => '-',
        };
        let name: String = door.as_str().chars().map(plain).collect();
        let mut file = tempfile::Builder::new()
            .prefix(&format!("doorctl-{name}-"))
            .suffix(".json")
            .tempfile()
            .context("cannot make a file to edit")?;
        file.write_all(text.as_bytes())
            .context("cannot write the file to edit")?;
        Ok(Self {
            path: file.into_temp_path(),
            original: text.to_owned(),
        })
    }

    /// Lets the person edit it. When the editor fails after all, what was written stays.
    pub(super) async fn edited(self) -> anyhow::Result<Self> {
        let editor = editor()?;
        // Ctrl-C in an editor is the editor's: it is not to end this program meanwhile.
        let ignoring = tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
        let ended = run(&editor, &self.path).await;
        ignoring.abort();
        let ended = ended.with_context(|| format!("cannot start the editor {editor:?}"))?;
        if ended.success() {
            return Ok(self);
        }
        let mut message = format!("the editor {editor:?} ended with {ended}; nothing was changed");
        if self.read().is_ok_and(|text| text != self.original) {
            message += &format!("; what you wrote is in {}", self.keep()?);
        }
        Err(Failure::new(message)
            .next("choose another: VISUAL=nano doorctl twin edit DOOR")
            .into())
    }

    /// What is in it now.
    pub(super) fn read(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.path)
            .with_context(|| format!("cannot read {}", self.path.display()))
    }

    /// Leaves it where it is; gives its name.
    pub(super) fn keep(self) -> anyhow::Result<String> {
        let name = self.path.display().to_string();
        let kept = self.path.keep();
        kept.map(|path| path.display().to_string())
            .with_context(|| format!("cannot keep {name}"))
    }
}

/// `$VISUAL`, `$EDITOR`, else the first that this machine has.
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
        None => Err(Failure::new("no editor is found; nothing was changed")
            .next("name one: VISUAL=nano doorctl twin edit DOOR")
            .into()),
    }
}

/// What a person chose may have flags, and quotes: it is read as the shell reads it.
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

/// The answer to a question: yes, no, or nothing but Enter. Ctrl-C and the end of input say no.
pub(super) async fn answer() -> anyhow::Result<Option<bool>> {
    // On a thread of its own: what the editor needed keeps Ctrl-C from ending this program by itself.
    let typed = tokio::task::spawn_blocking(|| {
        let mut typed = String::new();
        io::stdin().read_line(&mut typed).map(|_| typed)
    });
    let typed = tokio::select! {
        typed = typed => typed?.context("cannot read the answer")?,
        _ = tokio::signal::ctrl_c() => return Ok(Some(false)),
    };
    Ok(match typed.trim().to_ascii_lowercase().as_str() {
        "" if !typed.is_empty() => None,
        "y" | "yes" => Some(true),
        _ => Some(false),
    })
}

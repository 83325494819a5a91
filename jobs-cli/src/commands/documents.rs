//! `doorctl documents`: man pages, completions and the reference page, generated from the commands
//! themselves: for the packages and for `docs/reference/doorctl.md`.

mod reference;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::completion;
use crate::exit_status::ExitStatus;

/// Writes a man page for each verb and a completion for each shell that the packages know into
/// `folder`, which is there.
pub(crate) fn run(folder: &Path) -> anyhow::Result<ExitStatus> {
    let written = || format!("cannot write into {}", folder.display());
    for (shell, file) in [
        ("bash", "doorctl.bash"),
        ("fish", "doorctl.fish"),
        ("zsh", "_doorctl"),
    ] {
        fs::write(folder.join(file), completion::script(shell)?).with_context(written)?;
    }
    fs::write(folder.join("doorctl.md"), reference::page(Cli::command())).with_context(written)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(written)?;
    Ok(ExitStatus::Success)
}

//! `door-hub documents`: man pages and shell completions, generated from the command line's
//! definition for the packages.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::{Generator as _, Shell};

use crate::Cli;

/// Writes a man page for each command and a completion for each supported shell to `folder`, which
/// must exist.
pub(crate) fn documents(folder: &Path) -> anyhow::Result<()> {
    let written = || format!("cannot write into {}", folder.display());
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "door-hub", &mut script);
        fs::write(folder.join(shell.file_name("door-hub")), script).with_context(written)?;
    }
    clap_mangen::generate_to(Cli::command(), folder).with_context(written)
}

//! `door-agent documents`: man pages and completions generated from the command definitions, for
//! the packages.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_complete::{Generator as _, Shell};

/// Writes a man page for each subcommand and a completion for each packaged shell into `folder`,
/// which must exist.
pub(crate) fn write(mut command: Command, folder: &Path) -> anyhow::Result<()> {
    let written = || format!("cannot write into {}", folder.display());
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "door-agent", &mut script);
        fs::write(folder.join(shell.file_name("door-agent")), script).with_context(written)?;
    }
    clap_mangen::generate_to(command, folder).with_context(written)
}

//! `door-hub backup` and `door-hub restore`.

use std::path::PathBuf;

use clap::Args;
use door_hub::backup;

use super::print_result;

/// Flags of `backup`.
#[derive(Args)]
pub(crate) struct BackupArguments {
    /// The archive to create.
    file: PathBuf,
    /// The data folder; its hub may be running.
    #[arg(long, value_name = "DIR", env = "DOOR_HUB_DATA")]
    data: PathBuf,
    /// The settings file, if it is not hub.toml in the data folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overwrite an existing archive.
    #[arg(long)]
    force: bool,
}

/// Flags of `restore`.
#[derive(Args)]
pub(crate) struct RestoreArguments {
    /// The archive.
    file: PathBuf,
    /// The data folder to create; it must be missing or empty.
    #[arg(long, value_name = "DIR", env = "DOOR_HUB_DATA")]
    data: PathBuf,
}

pub(crate) fn backup(arguments: &BackupArguments) -> anyhow::Result<()> {
    let BackupArguments {
        file,
        data,
        config,
        force,
    } = arguments;
    let created = backup::backup(data, config.as_deref(), file, *force)?;
    print_result(format_args!(
        "{} holds {} (keep it secret: it holds keys)",
        file.display(),
        created.files.join(", ")
    ));
    for path in created.skipped {
        print_result(format_args!(
            "  not in it: {}, which is outside the data folder",
            path.display()
        ));
    }
    Ok(())
}

pub(crate) fn restore(arguments: &RestoreArguments) -> anyhow::Result<()> {
    let RestoreArguments { file, data } = arguments;
    let names = backup::restore(file, data)?;
    print_result(format_args!(
        "{} is restored: {}",
        data.display(),
        names.join(", ")
    ));
    Ok(())
}

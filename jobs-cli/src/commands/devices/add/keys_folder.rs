//! A folder with the connection strings of new doors, readable by its owner only.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use iothub_protocol::bulk::BulkItem;
use iothub_protocol::connection_string::HostName;

use crate::commands::devices::keys;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::private_file;

/// The folder, and the files created in it.
pub(super) struct KeysFolder {
    path: PathBuf,
    host: HostName,
    created_folder: bool,
    created: Vec<PathBuf>,
}

impl KeysFolder {
    /// Checks that the folder can take the files, without changing it. `host` is without a port.
    pub(super) fn check(path: &Path, items: &[BulkItem], host: HostName) -> anyhow::Result<Self> {
        let folder = Self {
            path: path.to_owned(),
            host,
            created_folder: false,
            created: Vec::new(),
        };
        if !path.exists() {
            return Ok(folder);
        }
        let refused = |why: &str| {
            Failure::new(format!(
                "--keys-folder {}: {why}; nothing was changed",
                path.display()
            ))
        };
        if !path.is_dir() {
            return Err(refused("not a folder").into());
        }
        if let Some(mode) = open_mode(path)? {
            return Err(refused(&format!(
                "accessible by others (mode {mode:04o}), expected mode 0700"
            ))
            .next(format!("chmod 700 {}", path.display()))
            .into());
        }
        let existing = items
            .iter()
            .map(|item| folder.file(item))
            .find(|file| file.exists());
        match existing {
            Some(file) => {
                let file = file.display();
                Err(refused(&format!("{file} exists and is not overwritten")).into())
            }
            None => Ok(folder),
        }
    }

    fn file(&self, item: &BulkItem) -> PathBuf {
        self.path.join(format!("{}.connection-string", item.id))
    }

    /// Writes the files; after an error or when `is_interrupted` returns true, none of them is
    /// left.
    pub(super) fn write(
        &mut self,
        items: &[BulkItem],
        is_interrupted: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let written = self.write_all(items, is_interrupted);
        if written.is_err() {
            self.remove_created();
        }
        written
    }

    fn write_all(
        &mut self,
        items: &[BulkItem],
        is_interrupted: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        if !self.path.exists() {
            let mut builder = fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            let created = builder.create(&self.path);
            created.with_context(|| format!("--keys-folder {}", self.path.display()))?;
            self.created_folder = true;
        }
        for item in items {
            if is_interrupted() {
                return Err(Failure::new("interrupted; nothing was changed")
                    .status(ExitStatus::Interrupted)
                    .into());
            }
            let key = keys::primary_key(item).context("a new door has keys")?;
            let text = keys::connection_string(&self.host, &item.id, key)?;
            let file = self.file(item);
            private_file::create(&file, &format!("{text}\n"))?;
            self.created.push(file);
        }
        Ok(())
    }

    /// Removes what was created here.
    pub(super) fn remove_created(&self) {
        for file in &self.created {
            // `check` and `create` made sure that this file is new.
            drop(fs::remove_file(file));
        }
        if self.created_folder {
            drop(fs::remove_dir(&self.path));
        }
    }
}

impl fmt::Display for KeysFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// The permission bits, when they give others access.
#[cfg(unix)]
fn open_mode(path: &Path) -> anyhow::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata =
        fs::metadata(path).with_context(|| format!("--keys-folder {}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

#[cfg(not(unix))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "permissions are checked on Unix only"
)]
fn open_mode(_: &Path) -> anyhow::Result<Option<u32>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use iothub_protocol::bulk::ImportMode;

    use super::*;

    fn items() -> Vec<BulkItem> {
        let item = |name: &str| {
            let mut item = BulkItem::new(name.parse().unwrap(), ImportMode::Create);
            item.authentication = Some(keys::random_pair().unwrap());
            item
        };
        ["a", "b", "c"].map(item).into()
    }

    #[test]
    fn an_interruption_between_two_files_leaves_none() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("keys");
        let items = items();
        let folder = || KeysFolder::check(&path, &items, "hub".parse().unwrap()).unwrap();
        let calls = Cell::new(0);
        let is_interrupted = || {
            calls.set(calls.get() + 1);
            calls.get() == 3
        };
        let error = folder().write(&items, is_interrupted).unwrap_err();
        assert_eq!(error.to_string(), "interrupted; nothing was changed");
        assert!(!path.exists());
        folder().write(&items, || false).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 3);
    }
}

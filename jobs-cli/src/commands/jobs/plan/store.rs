//! Stores shown plans on this machine, so that `apply` can name what changed since.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::digest::PlanContent;
use crate::config;

/// Older plans are deleted.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Stores a plan. Errors are ignored: `apply` works without it, by the digest alone.
pub(super) fn save(content: &PlanContent, digest: &str) {
    let Some(folder) = folder() else { return };
    if fs::create_dir_all(&folder).is_err() {
        return;
    }
    remove_old(&folder);
    if let Ok(text) = serde_json::to_vec(content) {
        drop(fs::write(file(&folder, digest), text));
    }
}

/// The stored plan whose digest starts with `start`, when there is exactly one.
pub(super) fn find(start: &str) -> Option<PlanContent> {
    let names = fs::read_dir(folder()?).ok()?;
    let mut matching = names
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    let (found, other) = (matching.next()?, matching.next());
    match other {
        Some(_) => None,
        None => serde_json::from_slice(&fs::read(found.path()).ok()?).ok(),
    }
}

fn folder() -> Option<PathBuf> {
    Some(config::state_folder()?.join("plans"))
}

fn file(folder: &Path, digest: &str) -> PathBuf {
    folder.join(format!("{digest}.json"))
}

fn remove_old(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let written = entry.metadata().and_then(|data| data.modified());
        let age = written.map(|written| SystemTime::now().duration_since(written));
        if matches!(age, Ok(Ok(age)) if age > MAX_AGE) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

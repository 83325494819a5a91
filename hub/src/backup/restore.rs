//! Restores a data folder from an archive.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{BackupError, StagingDirectory, archive};
use crate::DATABASE;
use crate::config::{ConfigFile, FILE_NAME};
use crate::data::sync_parent;
use crate::pki;
use crate::store;

/// Creates the data folder `folder` from the backup `file`, and returns the names of the files in
/// it. Everything is unpacked and checked in a staging folder, then renamed into place in one step;
/// on an error `folder` is unchanged.
pub fn restore(file: &Path, folder: &Path) -> Result<Vec<String>, BackupError> {
    // `.` has no file name from which to derive the staging folder's name.
    let folder = &fs::canonicalize(folder)
        .or_else(|_| std::path::absolute(folder))
        .map_err(BackupError::file("read", folder))?;
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(false) => {}
        Ok(true) => {
            return Err(BackupError::NotEmpty {
                path: folder.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(BackupError::file("read", folder)(error)),
    }
    let staging = StagingDirectory::next_to(folder)?;
    let names = archive::unpack(file, &staging.path)?;
    if let Some(reason) = find_fault(&staging.path, &names)? {
        return Err(BackupError::Unusable {
            path: file.to_owned(),
            reason,
        });
    }
    for name in names.iter().filter(|name| name.ends_with(".pem")) {
        let path = staging.path.join(name);
        // Certificates are public.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
            .map_err(BackupError::file("write", &path))?;
    }
    store::record_restored(&staging.path.join(DATABASE))?;
    fs::rename(&staging.path, folder).map_err(BackupError::file("create", folder))?;
    sync_parent(folder).map_err(BackupError::file("write", folder))?;
    Ok(names)
}

/// Returns the first defect that would keep a hub from starting on `folder`.
fn find_fault(folder: &Path, names: &[String]) -> Result<Option<String>, BackupError> {
    let has = |name: &str| names.iter().any(|present| present == name);
    if !has(DATABASE) {
        return Ok(Some(format!("it has no {DATABASE}")));
    }
    if let Some(fault) = store::faults(&folder.join(DATABASE))?.first() {
        return Ok(Some(format!("its database is damaged: {fault}")));
    }
    for (certificate, key) in [("ca.pem", "ca.key"), ("server.pem", "server.key")] {
        if has(certificate) != has(key) {
            return Ok(Some(format!("it has only one of {certificate} and {key}")));
        }
        if has(certificate) {
            let pair = pki::ProvidedCertificate {
                certificate_file: folder.join(certificate),
                key_file: folder.join(key),
            };
            if let Err(error) = pair.load() {
                return Ok(Some(format!("its {certificate} and {key}: {error}")));
            }
        }
    }
    if has(FILE_NAME) {
        if let Err(error) = ConfigFile::read(&folder.join(FILE_NAME)) {
            return Ok(Some(error.to_string()));
        }
    }
    Ok(None)
}

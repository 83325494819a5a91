//! A claim on a pin that other processes see: an flock per BCM pin in a directory that all agents of the machine share.
//!
//! rppal's own claim ends at the process. The files are never unlinked: a lock on an unlinked file excludes nobody.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use fs4::{FileExt, TryLockError};

use super::BoardError;

/// Made by tmpfiles.d, for the group gpio.
pub(super) const DIRECTORY: &str = "/run/door-agent";

/// Held for as long as it lives; the kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct PinClaim {
    _file: File,
}

impl PinClaim {
    pub(super) fn take(
        directory: &Path,
        pin: u8,
        role: &'static str,
        door: &str,
    ) -> Result<Self, BoardError> {
        let path = directory.join(format!("bcm{pin}.lock"));
        let failed = |source| BoardError::Claim {
            pin,
            role,
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        share(&file);
        match FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is only helps the reader: a file that does not say is no other error.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    holder => holder.to_owned(),
                };
                return Err(BoardError::PinHeld { pin, role, holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let text = format!(
            "door-agent {door} (process {}, {role})\n",
            std::process::id()
        );
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(text.as_bytes()))
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Lets the directory's group lock the file too, whoever came first: `door-agent check` by root must not shut the service out.
fn share(file: &File) {
    use std::os::unix::fs::PermissionsExt;
    // Only its owner may; when it is somebody else's, they have done so.
    let _ = file.set_permissions(Permissions::from_mode(0o660));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_has_one_holder_and_the_error_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let take = |role, door| PinClaim::take(directory.path(), 17, role, door);
        let first = take("throw", "lobby-east").unwrap();
        let error = take("coil", "lobby-west").unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot use BCM 17 as coil: door-agent lobby-east (process {}, throw) has it",
                std::process::id()
            )
        );
        drop(first);
        take("coil", "lobby-west").unwrap();
        let mode = std::fs::metadata(directory.path().join("bcm17.lock")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
        assert_eq!(mode & 0o777, 0o660, "the group shares the lock");
        let missing = PinClaim::take(&directory.path().join("none"), 4, "rex", "d").unwrap_err();
        assert!(missing.to_string().contains("bcm4.lock"), "{missing}");
    }
}

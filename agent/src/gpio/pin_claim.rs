//! A claim on a pin that other processes see: an flock per BCM pin in a directory that all agents
//! of the machine share.
//!
//! rppal's own claim ends at the process. The files are never unlinked: a lock on an unlinked file
//! excludes nobody. The first line of a file says who has the pin; the second, of a pin that is
//! driven, at which level it is energised. That line outlasts a process that is killed.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs4::{FileExt, TryLockError};

use super::BoardError;
use super::config::ActiveLevel;

/// Made by tmpfiles.d, for the group gpio.
pub(super) const DIRECTORY: &str = "/run/door-agent";

/// What a de-energised pin's claim is for.
pub(super) const LAST_RESORT: &str = "de-energise";

/// Held for as long as it lives; the kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct PinClaim {
    file: File,
    pin: u8,
    role: &'static str,
    path: PathBuf,
}

/// A pin that a process drove and has not let go in good order, taken.
#[derive(Debug)]
pub(super) struct LeftBehind {
    pub(super) pin: u8,
    pub(super) active: ActiveLevel,
    claim: PinClaim,
}

impl PinClaim {
    /// Takes a pin for `door` and writes down who has it. That a killed process drove it goes on
    /// standing there until [`PinClaim::forget`].
    pub(super) fn take(
        directory: &Path,
        pin: u8,
        role: &'static str,
        door: &str,
    ) -> Result<Self, BoardError> {
        let mut claim = Self::lock(directory, pin, role)?;
        let before = driven(&claim.read()?);
        let holder = format!(
            "door-agent {door} (process {}, {role})\n",
            std::process::id()
        );
        claim.write(&with_level(holder, before))?;
        Ok(claim)
    }

    /// Takes a pin, and leaves what stands in its file.
    fn lock(directory: &Path, pin: u8, role: &'static str) -> Result<Self, BoardError> {
        let path = lock_file(directory, pin);
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
                let mut text = String::new();
                // Who it is only helps the reader: a file that does not say is no other error.
                let _ = file.read_to_string(&mut text);
                let holder = match text.lines().next().map(str::trim) {
                    None | Some("") => "another process".to_owned(),
                    Some(holder) => holder.to_owned(),
                };
                return Err(BoardError::PinHeld { pin, role, holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(Self {
            file,
            pin,
            role,
            path,
        })
    }

    /// Its BCM number.
    pub(super) fn pin(&self) -> u8 {
        self.pin
    }

    /// Writes down that the pin is driven from now on, for whoever finds it when this process was
    /// killed.
    pub(super) fn drives(&mut self, active: ActiveLevel) -> Result<(), BoardError> {
        let text = self.read()?;
        let holder = text.lines().next().unwrap_or_default();
        self.write(&with_level(format!("{holder}\n"), Some(active)))
    }

    /// Writes down that the pin has been let go: nobody has to care for it.
    pub(super) fn forget(&mut self) -> Result<(), BoardError> {
        self.write("")
    }

    fn read(&mut self) -> Result<String, BoardError> {
        let mut text = String::new();
        let read = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_string(&mut text));
        read.map_err(|source| self.failed(source))?;
        Ok(text)
    }

    fn write(&mut self, text: &str) -> Result<(), BoardError> {
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .and_then(|_| self.file.write_all(text.as_bytes()));
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> BoardError {
        BoardError::Claim {
            pin: self.pin,
            role: self.role,
            path: self.path.clone(),
            source,
        }
    }
}

impl LeftBehind {
    /// Takes `pin` when it is one, and nobody has it; one that somebody has is in good hands.
    pub(super) fn take(directory: &Path, pin: u8) -> Option<Self> {
        // Looked at before it is taken: an agent that starts now is not to find its pins held.
        let text = std::fs::read_to_string(lock_file(directory, pin)).ok()?;
        driven(&text)?;
        let mut claim = PinClaim::lock(directory, pin, LAST_RESORT).ok()?;
        let active = driven(&claim.read().ok()?)?;
        Some(Self { pin, active, claim })
    }

    /// After it was de-energised.
    pub(super) fn forget(mut self) -> Result<(), BoardError> {
        self.claim.forget()
    }
}

fn lock_file(directory: &Path, pin: u8) -> PathBuf {
    directory.join(format!("bcm{pin}.lock"))
}

/// The level that energises the pin, as its file has it.
fn driven(text: &str) -> Option<ActiveLevel> {
    let line = text.lines().nth(1)?;
    let levels = [ActiveLevel::High, ActiveLevel::Low];
    levels
        .into_iter()
        .find(|&active| energised_by(active) == line)
}

/// What stands in a file: who has the pin, and at which level it is energised when it is driven.
fn with_level(holder: String, level: Option<ActiveLevel>) -> String {
    match level {
        Some(level) => format!("{holder}{}\n", energised_by(level)),
        None => holder,
    }
}

/// The line of a pin that is driven.
fn energised_by(active: ActiveLevel) -> &'static str {
    match active {
        ActiveLevel::High => "energised by high",
        ActiveLevel::Low => "energised by low",
    }
}

/// Lets the directory's group lock the file too, whoever came first: `door-agent check` by root
/// must not shut the service out.
fn share(file: &File) {
    use std::os::unix::fs::PermissionsExt;
    // Only its owner may; when it is somebody else's, they have done so.
    let _ = file.set_permissions(Permissions::from_mode(0o660));
}

#[cfg(test)]
mod tests {
    use super::super::config::HEADER;
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

    #[test]
    fn what_a_killed_process_drove_is_found_until_it_is_de_energised() {
        let directory = tempfile::tempdir().unwrap();
        let found = || -> Vec<(u8, ActiveLevel)> {
            let left = HEADER.filter_map(|pin| LeftBehind::take(directory.path(), pin));
            left.map(|left| (left.pin, left.active)).collect()
        };
        let take = |pin, role| PinClaim::take(directory.path(), pin, role, "lobby-east").unwrap();
        let mut throw = take(17, "throw");
        throw.drives(ActiveLevel::High).unwrap();
        let mut retract = take(27, "retract");
        retract.drives(ActiveLevel::Low).unwrap();
        let rex = take(24, "rex");
        assert_eq!(found(), [], "its process has them");
        let error = PinClaim::take(directory.path(), 17, "coil", "d").unwrap_err();
        assert!(error.to_string().ends_with(", throw) has it"), "{error}");

        // What the kernel does when a process is killed.
        drop((throw, rex));
        assert_eq!(found(), [(17, ActiveLevel::High)]);
        drop(retract);
        let both = [(17, ActiveLevel::High), (27, ActiveLevel::Low)];
        assert_eq!(found(), both);
        // Somebody who only looks at the pin changes nothing.
        drop(take(17, "rex"));
        assert_eq!(found(), both);
        for (pin, _) in both {
            let left = LeftBehind::take(directory.path(), pin).unwrap();
            left.forget().unwrap();
        }
        assert_eq!(found(), []);

        // Let go in good order.
        let mut coil = take(17, "coil");
        coil.drives(ActiveLevel::High).unwrap();
        coil.forget().unwrap();
        drop(coil);
        assert_eq!(found(), []);
        std::fs::write(
            directory.path().join("bcm4.lock"),
            "x\nenergised by chance\n",
        )
        .unwrap();
        assert_eq!(found(), []);
        assert!(LeftBehind::take(&directory.path().join("none"), 17).is_none());
    }
}

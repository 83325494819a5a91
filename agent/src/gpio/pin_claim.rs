//! A claim on a pin that other processes respect: an flock per BCM pin in a directory shared by all
//! agents of the machine.
//!
//! rppal's own claim is per process. The files are never unlinked: a lock on an unlinked file
//! excludes nobody. The first line of a file names the holder of the pin; the second line, if the
//! pin is driven, the level that energises it. It survives a SIGKILL of the process.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs4::{FileExt, TryLockError};

use super::BoardError;
use super::config::ActiveLevel;

/// Created by tmpfiles.d, for the group gpio.
pub(super) const DIRECTORY: &str = "/run/door-agent";

/// Role of a claim made to de-energise a pin.
pub(super) const LAST_RESORT: &str = "de-energise";

/// Held until dropped; the kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct PinClaim {
    file: File,
    pin: u8,
    role: &'static str,
    path: PathBuf,
}

/// A claimed pin that a killed process drove.
#[derive(Debug)]
pub(super) struct AbandonedPin {
    pub(super) pin: u8,
    pub(super) active: ActiveLevel,
    claim: PinClaim,
}

impl PinClaim {
    /// Claims a pin for `door` and records the holder. The record that a killed process drove it
    /// stays until [`PinClaim::forget`].
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
        claim.write(&claim_text(holder, before))?;
        Ok(claim)
    }

    /// Locks a pin without changing its file.
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
        make_group_writable(&file);
        match FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The holder is only information: a failed read is not an error.
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

    pub(super) fn pin(&self) -> u8 {
        self.pin
    }

    /// Records that the pin is driven from now on, in case this process is killed.
    pub(super) fn drives(&mut self, active: ActiveLevel) -> Result<(), BoardError> {
        let text = self.read()?;
        let holder = text.lines().next().unwrap_or_default();
        self.write(&claim_text(format!("{holder}\n"), Some(active)))
    }

    /// Records that the pin is released and needs no de-energising.
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

impl AbandonedPin {
    /// Claims `pin` if a killed process drove it and nobody holds it now.
    pub(super) fn take(directory: &Path, pin: u8) -> Option<Self> {
        // Read before locking: an agent that starts now must not find its pins held.
        let text = std::fs::read_to_string(lock_file(directory, pin)).ok()?;
        driven(&text)?;
        let mut claim = PinClaim::lock(directory, pin, LAST_RESORT).ok()?;
        let active = driven(&claim.read().ok()?)?;
        Some(Self { pin, active, claim })
    }

    /// Call after de-energising it.
    pub(super) fn forget(mut self) -> Result<(), BoardError> {
        self.claim.forget()
    }
}

fn lock_file(directory: &Path, pin: u8) -> PathBuf {
    directory.join(format!("bcm{pin}.lock"))
}

/// The level that energises the pin, from its file.
fn driven(text: &str) -> Option<ActiveLevel> {
    let line = text.lines().nth(1)?;
    let levels = [ActiveLevel::High, ActiveLevel::Low];
    levels
        .into_iter()
        .find(|&active| energised_line(active) == line)
}

/// Content of a file: the holder, and the level that energises the pin if it is driven.
fn claim_text(holder: String, level: Option<ActiveLevel>) -> String {
    match level {
        Some(level) => format!("{holder}{}\n", energised_line(level)),
        None => holder,
    }
}

/// The second line of the file of a driven pin.
fn energised_line(active: ActiveLevel) -> &'static str {
    match active {
        ActiveLevel::High => "energised by high",
        ActiveLevel::Low => "energised by low",
    }
}

/// Lets the directory's group lock the file too, so that a file created by root, for example
/// by `door-agent check`, does not lock out the service.
fn make_group_writable(file: &File) {
    use std::os::unix::fs::PermissionsExt;
    // Only the owner may; another owner has done so already.
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
                "cannot use BCM 17 as coil: held by door-agent lobby-east (process {}, throw)",
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
    fn pins_driven_by_a_killed_process_are_found_until_de_energised() {
        let directory = tempfile::tempdir().unwrap();
        let found = || -> Vec<(u8, ActiveLevel)> {
            let abandoned = HEADER.filter_map(|pin| AbandonedPin::take(directory.path(), pin));
            abandoned
                .map(|abandoned| (abandoned.pin, abandoned.active))
                .collect()
        };
        let take = |pin, role| PinClaim::take(directory.path(), pin, role, "lobby-east").unwrap();
        let mut throw = take(17, "throw");
        throw.drives(ActiveLevel::High).unwrap();
        let mut retract = take(27, "retract");
        retract.drives(ActiveLevel::Low).unwrap();
        let rex = take(24, "rex");
        assert_eq!(found(), [], "their process holds them");
        let error = PinClaim::take(directory.path(), 17, "coil", "d").unwrap_err();
        assert!(error.to_string().ends_with(", throw)"), "{error}");

        // As the kernel does when a process is killed.
        drop((throw, rex));
        assert_eq!(found(), [(17, ActiveLevel::High)]);
        drop(retract);
        let both = [(17, ActiveLevel::High), (27, ActiveLevel::Low)];
        assert_eq!(found(), both);
        // A claim without driving changes nothing.
        drop(take(17, "rex"));
        assert_eq!(found(), both);
        for (pin, _) in both {
            let abandoned = AbandonedPin::take(directory.path(), pin).unwrap();
            abandoned.forget().unwrap();
        }
        assert_eq!(found(), []);

        // Released properly.
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
        assert!(AbandonedPin::take(&directory.path().join("none"), 17).is_none());
    }
}

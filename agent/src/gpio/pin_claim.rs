//! A claim on a pin that other processes respect: an flock per pin in a directory shared by all
//! agents of the machine.
//!
//! rppal's own claim is per process, and the kernel's on a line ends with the process. The files
//! are never unlinked: a lock on an unlinked file excludes nobody. The first line of a file names
//! the holder of the pin; the second line, if the pin is driven, the level that energises it; the
//! third, if it is driven as a line of a chip, that line. They survive a SIGKILL of the process.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs4::{FileExt, TryLockError};
use log::warn;

use super::config::{ActiveLevel, HEADER};
use super::{BoardError, PinId};

/// Created by tmpfiles.d, for the group gpio.
pub(super) const DIRECTORY: &str = "/run/door-agent";

/// Role of a claim made to de-energise a pin.
pub(super) const LAST_RESORT: &str = "de-energise";

impl PinId {
    /// Name of its file: one for each pin, whichever board uses it.
    fn file_name(&self) -> String {
        match self {
            Self::Bcm(number) => format!("bcm{number}.lock"),
            Self::Line {
                offset,
                is_header: true,
                ..
            } if *offset <= u32::from(*HEADER.end()) => format!("bcm{offset}.lock"),
            Self::Line { chip, offset, .. } => format!("{chip}-{offset}.lock"),
        }
    }

    /// Whether it is the same pin, by whichever board.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.file_name() == other.file_name()
    }
}

/// Held until dropped; the kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct PinClaim {
    file: File,
    pin: PinId,
    role: &'static str,
    path: PathBuf,
}

/// A claimed pin that a killed process drove.
#[derive(Debug)]
pub(super) struct AbandonedPin {
    pub(super) pin: PinId,
    pub(super) active: ActiveLevel,
    claim: PinClaim,
}

impl PinClaim {
    /// Claims a pin for `door` and records the holder. The record that a killed process drove it
    /// stays until [`PinClaim::forget`].
    pub(super) fn take(
        directory: &Path,
        pin: PinId,
        role: &'static str,
        door: &str,
    ) -> Result<Self, BoardError> {
        let path = directory.join(pin.file_name());
        let mut claim = Self::lock(path, pin, role)?;
        let text = claim.read()?;
        let record = text.split_once('\n').map_or("", |(_, record)| record);
        let process = std::process::id();
        claim.write(&format!(
            "door-agent {door} (process {process}, {role})\n{record}"
        ))?;
        Ok(claim)
    }

    /// Locks a pin without changing its file.
    fn lock(path: PathBuf, pin: PinId, role: &'static str) -> Result<Self, BoardError> {
        let failed = |source| BoardError::Claim {
            pin: pin.clone(),
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

    pub(super) fn role(&self) -> &'static str {
        self.role
    }

    /// Records that the pin is driven, and opens it. If that fails, this process has not driven it,
    /// and what was recorded before stands again.
    pub(super) fn driving<T>(
        &mut self,
        active: ActiveLevel,
        open: impl FnOnce() -> Result<T, BoardError>,
    ) -> Result<T, BoardError> {
        let before = self.read()?;
        self.drives(active)?;
        open().inspect_err(|_| {
            // The error of the pin itself is the one to report.
            if let Err(error) = self.write(&before) {
                warn!("{error}");
            }
        })
    }

    /// Records that the pin is driven from now on, in case this process is killed.
    fn drives(&mut self, active: ActiveLevel) -> Result<(), BoardError> {
        let text = self.read()?;
        let holder = text.lines().next().unwrap_or_default();
        let line = match &self.pin {
            PinId::Bcm(_) => String::new(),
            line @ PinId::Line { .. } => format!("{line}\n"),
        };
        self.write(&format!("{holder}\n{}\n{line}", energised_line(active)))
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
            pin: self.pin.clone(),
            role: self.role,
            path: self.path.clone(),
            source,
        }
    }
}

impl AbandonedPin {
    /// The files of all pins, in the order of their names; none if the directory cannot be read.
    pub(super) fn candidates(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let mut paths: Vec<_> = paths
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "lock")
            })
            .collect();
        paths.sort();
        paths
    }

    /// Claims the pin of a file if a killed process drove it and nobody holds it now.
    pub(super) fn take(path: &Path) -> Option<Self> {
        // Read before locking: an agent that starts now must not find its pins held.
        let (pin, _) = driven(path, &std::fs::read_to_string(path).ok()?)?;
        let mut claim = PinClaim::lock(path.to_path_buf(), pin, LAST_RESORT).ok()?;
        let (pin, active) = driven(path, &claim.read().ok()?)?;
        Some(Self { pin, active, claim })
    }

    /// Call after de-energising it.
    pub(super) fn forget(mut self) -> Result<(), BoardError> {
        self.claim.forget()
    }
}

/// The driven pin of a file, and the level that energises it.
fn driven(path: &Path, text: &str) -> Option<(PinId, ActiveLevel)> {
    let mut lines = text.lines().skip(1);
    let line = lines.next()?;
    let active = [ActiveLevel::High, ActiveLevel::Low]
        .into_iter()
        .find(|&active| energised_line(active) == line)?;
    let bcm = path.file_stem()?.to_str()?.strip_prefix("bcm");
    let pin = match lines.next() {
        Some(line) => {
            let (offset, chip) = line.strip_prefix("line ")?.split_once(" of ")?;
            PinId::Line {
                chip: chip.to_owned(),
                offset: offset.parse().ok()?,
                is_header: bcm.is_some(),
            }
        }
        None => PinId::Bcm(bcm?.parse().ok()?),
    };
    Some((pin, active))
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
    use super::*;

    fn line(chip: &str, offset: u32, is_header: bool) -> PinId {
        PinId::Line {
            chip: chip.to_owned(),
            offset,
            is_header,
        }
    }

    #[test]
    fn a_pin_has_one_holder_and_the_error_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let take = |pin, role, door| PinClaim::take(directory.path(), pin, role, door);
        let first = take(PinId::Bcm(17), "throw", "lobby-east").unwrap();
        // By whichever board: on the header an offset is a BCM number.
        for pin in [PinId::Bcm(17), line("gpiochip0", 17, true)] {
            let error = take(pin.clone(), "coil", "lobby-west").unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot use {pin} as coil: held by door-agent lobby-east (process {}, throw)",
                    std::process::id()
                )
            );
        }
        let others = [
            line("gpiochip0", 28, true),
            line("gpiochip1", 17, false),
            line("gpiochip2", 17, false),
        ];
        let others = others.map(|pin| take(pin, "coil", "lobby-west").unwrap());
        drop((first, others));
        take(PinId::Bcm(17), "coil", "lobby-west").unwrap();
        let mode = std::fs::metadata(directory.path().join("bcm17.lock")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
        assert_eq!(mode & 0o777, 0o660, "the group shares the lock");
        let missing = directory.path().join("none");
        let missing = PinClaim::take(&missing, PinId::Bcm(4), "rex", "d").unwrap_err();
        assert!(missing.to_string().contains("bcm4.lock"), "{missing}");
    }

    #[test]
    fn pins_driven_by_a_killed_process_are_found_until_de_energised() {
        let directory = tempfile::tempdir().unwrap();
        let found = || -> Vec<(PinId, ActiveLevel)> {
            let candidates = AbandonedPin::candidates(directory.path());
            let abandoned = candidates
                .iter()
                .filter_map(|path| AbandonedPin::take(path));
            abandoned
                .map(|abandoned| (abandoned.pin.clone(), abandoned.active))
                .collect()
        };
        let take = |pin: &PinId, role| {
            PinClaim::take(directory.path(), pin.clone(), role, "lobby-east").unwrap()
        };
        let [low, coil] = [PinId::Bcm(27), line("gpiochip2", 3, false)];
        for high in [PinId::Bcm(17), line("gpiochip0", 17, true)] {
            let mut throw = take(&high, "throw");
            throw.drives(ActiveLevel::High).unwrap();
            let mut retract = take(&low, "retract");
            retract.drives(ActiveLevel::Low).unwrap();
            let mut chip = take(&coil, "coil");
            chip.drives(ActiveLevel::High).unwrap();
            let rex = take(&PinId::Bcm(24), "rex");
            assert_eq!(found(), [], "their process holds them");
            let error = PinClaim::take(directory.path(), high.clone(), "coil", "d").unwrap_err();
            assert!(error.to_string().ends_with(", throw)"), "{error}");

            // As the kernel does when a process is killed.
            drop((throw, rex));
            assert_eq!(found(), [(high.clone(), ActiveLevel::High)]);
            drop((retract, chip));
            let all = [
                (high.clone(), ActiveLevel::High),
                (low.clone(), ActiveLevel::Low),
                (coil.clone(), ActiveLevel::High),
            ];
            assert_eq!(found(), all);
            // A claim without driving changes nothing.
            drop(take(&high, "rex"));
            assert_eq!(found(), all);
            for path in AbandonedPin::candidates(directory.path()) {
                if let Some(abandoned) = AbandonedPin::take(&path) {
                    abandoned.forget().unwrap();
                }
            }
            assert_eq!(found(), []);
        }

        // A pin that could not be opened was not driven; an earlier record stays.
        let failed = || Err::<(), _>(BoardError::Peripheral("a test".to_owned()));
        let mut coil = take(&PinId::Bcm(17), "coil");
        assert!(coil.driving(ActiveLevel::High, failed).is_err());
        drop(coil);
        assert_eq!(found(), []);
        let mut coil = take(&PinId::Bcm(17), "coil");
        coil.driving(ActiveLevel::Low, || Ok(())).unwrap();
        drop(coil);
        let mut coil = take(&PinId::Bcm(17), "coil");
        assert!(coil.driving(ActiveLevel::High, failed).is_err());
        drop(coil);
        assert_eq!(found(), [(PinId::Bcm(17), ActiveLevel::Low)]);

        // Released properly.
        let mut coil = take(&PinId::Bcm(17), "coil");
        coil.drives(ActiveLevel::High).unwrap();
        coil.forget().unwrap();
        drop(coil);
        assert_eq!(found(), []);
        for (file, text) in [
            ("bcm4.lock", "x\nenergised by chance\n"),
            ("bcm4.lock", "x\nenergised by high\nline of gpiochip0\n"),
            ("gpiochip2-4.lock", "x\nenergised by high\n"),
        ] {
            std::fs::write(directory.path().join(file), text).unwrap();
            assert_eq!(found(), [], "{file}: {text}");
        }
        assert!(AbandonedPin::candidates(&directory.path().join("none")).is_empty());
    }
}

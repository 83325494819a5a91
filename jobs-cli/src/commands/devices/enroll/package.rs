//! The door-agent package: finds the file, and reads version and architecture from its name
//! (`door-agent_0.1.0-1_arm64.deb`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;

use crate::failure::Failure;

/// Searched folders: where packages are built, then the current one.
const FOLDERS: [&str; 2] = ["target/packages", "."];

/// How to get a package.
pub(super) const HOW_TO_BUILD: &str = concat!(
    "build one with deploy/packages.sh door-agent:ARCHITECTURE (into target/packages), ",
    "or pass --package FILE",
);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) path: PathBuf,
    /// The version in the file name.
    pub(super) version: Option<String>,
    /// The architecture in the file name.
    pub(super) architecture: Option<String>,
}

impl Package {
    fn at(path: &Path) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut parts = name.split('_');
        let (is_agent, version, architecture) = (
            parts.next() == Some("door-agent"),
            parts.next(),
            parts.next(),
        );
        let field = |part: Option<&str>| {
            part.filter(|_| is_agent)
                .map(|part| part.replace("%3a", ":"))
        };
        Self {
            path: path.to_owned(),
            version: field(version),
            architecture: field(architecture),
        }
    }

    /// The package for this architecture: the given file, or the newest in the given folder, else
    /// the newest in the default folders.
    pub(super) fn find(given: Option<&Path>, architecture: &str) -> anyhow::Result<Option<Self>> {
        let folders: Vec<&Path> = match given {
            Some(path) if path.is_dir() => vec![path],
            Some(path) => {
                let package = Self::at(path);
                return match &package.architecture {
                    Some(other) if other != architecture => Err(Failure::new(format!(
                        "--package {} is for {other}, and the Pi is {architecture}",
                        path.display()
                    ))
                    .next(format!(
                        "build one for it with deploy/packages.sh door-agent:{architecture} (into \
                         target/packages)"
                    ))
                    .into()),
                    _ => Ok(Some(package)),
                };
            }
            None => FOLDERS.iter().map(Path::new).collect(),
        };
        for folder in folders {
            let newest = newest(folder, architecture)
                .with_context(|| format!("cannot search {} for packages", folder.display()));
            match newest {
                Ok(Some(path)) => return Ok(Some(Self::at(&path))),
                Ok(None) => {}
                // Default folders need not exist.
                Err(error) if given.is_some() => return Err(error),
                Err(_) => {}
            }
        }
        match given {
            Some(folder) => Err(Failure::new(format!(
                "--package {}: no door-agent_VERSION_{architecture}.deb in this folder",
                folder.display()
            ))
            .next(format!(
                "build one with deploy/packages.sh door-agent:{architecture} (into target/packages)"
            ))
            .into()),
            None => Ok(None),
        }
    }

    pub(super) fn read(&self) -> anyhow::Result<Vec<u8>> {
        fs::read(&self.path).with_context(|| format!("cannot read package {}", self.path.display()))
    }
}

fn newest(folder: &Path, architecture: &str) -> std::io::Result<Option<PathBuf>> {
    let mut found: Option<(SystemTime, PathBuf)> = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let is_agent = path.extension().is_some_and(|extension| extension == "deb")
            && Package::at(&path).architecture.as_deref() == Some(architecture);
        if !is_agent {
            continue;
        }
        let modified = entry.metadata()?.modified()?;
        if found.as_ref().is_none_or(|(newest, _)| modified > *newest) {
            found = Some((modified, path));
        }
    }
    Ok(found.map(|(_, path)| path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_architecture_are_read_from_the_file_name() {
        let package = Package::at(Path::new("target/packages/door-agent_0.1.0-1_arm64.deb"));
        assert_eq!(package.version.as_deref(), Some("0.1.0-1"));
        assert_eq!(package.architecture.as_deref(), Some("arm64"));
        let renamed = Package::at(Path::new("agent.deb"));
        assert_eq!((renamed.version, renamed.architecture), (None, None));
    }

    #[test]
    fn only_a_package_of_the_right_architecture_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "door-agent_0.1.0-1_arm64.deb",
            "door-agent_0.1.0-1_armhf.deb",
            "door-hub_0.1.0-1_amd64.deb",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = Package::find(Some(folder.path()), "armhf")
            .unwrap()
            .unwrap();
        assert!(found.path.ends_with("door-agent_0.1.0-1_armhf.deb"));
        let none = Package::find(Some(folder.path()), "amd64")
            .unwrap_err()
            .to_string();
        assert!(none.contains("no door-agent_VERSION_amd64.deb"), "{none}");
        let other = Package::find(Some(&found.path), "arm64")
            .unwrap_err()
            .to_string();
        assert!(
            other.contains("is for armhf, and the Pi is arm64"),
            "{other}"
        );
    }
}

//! Source of the connection string: a file that only its owner can read, or a systemd credential.
//! It is never logged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use iothub_protocol::connection_string::{ConnectionString, DeviceConnectionString};
use iothub_protocol::text_file::decode_value;

use super::error::ConfigError;
use crate::files::read_text;

/// Name of the systemd credential (`LoadCredential=`).
const CREDENTIAL: &str = "connection-string";
/// Content that the unit sets (`SetCredential=`) when there is no file.
const ABSENT: &str = "absent";

/// Purpose of the file, for read errors.
pub(super) const WHAT: &str = "the connection string";

/// Reads the connection string from the systemd credential if there is one, else from `file`, which
/// the configuration names. So one configuration works both by hand and under systemd, where only
/// root can read the file.
pub(super) fn read(
    config_path: &Path,
    file: Option<&Path>,
    credentials_directory: Option<&Path>,
) -> Result<DeviceConnectionString, ConfigError> {
    let credential = credentials_directory.map(|directory| directory.join(CREDENTIAL));
    let is_absent = |path: &Path| read_text(path, decode_value).is_ok_and(|text| text == ABSENT);
    let credential = credential.filter(|path| !is_absent(path));
    match (file, credential) {
        // No mode check: systemd grants the service access by an ACL, which appears in the mode
        // bits.
        (_, Some(credential)) if credential.exists() => parse(&credential),
        (Some(file), _) => {
            check_private(file)?;
            parse(file)
        }
        (None, _) => Err(ConfigError::NoConnectionString {
            path: config_path.to_path_buf(),
        }),
    }
}

fn parse(path: &Path) -> Result<DeviceConnectionString, ConfigError> {
    let text = read_text(path, decode_value).map_err(|source| cannot_read(path, source))?;
    let refused = |problem: String| ConfigError::ConnectionString {
        path: path.to_path_buf(),
        problem,
    };
    match text.parse::<ConnectionString>() {
        Ok(ConnectionString::Device(device)) => Ok(device),
        Ok(ConnectionString::Service(service)) => Err(refused(format!(
            "a service connection string (SharedAccessKeyName={}), expected a device's: \
             HostName=...;DeviceId=...;SharedAccessKey=...",
            service.policy
        ))),
        Err(error) => Err(refused(format!("not a connection string: {error}"))),
    }
}

/// Refuses a secret's file that other users may read.
#[cfg(unix)]
pub(super) fn check_private(path: &Path) -> Result<(), ConfigError> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = fs::metadata(path).map_err(|source| cannot_read(path, source))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(ConfigError::TooOpen {
            path: path.to_path_buf(),
            mode,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn check_private(_: &Path) -> Result<(), ConfigError> {
    Ok(())
}

fn cannot_read(path: &Path, source: io::Error) -> ConfigError {
    ConfigError::Read {
        what: WHAT,
        path: PathBuf::from(path),
        source,
    }
}

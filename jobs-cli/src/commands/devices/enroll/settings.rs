//! The settings of a door: as its installer wrote them, with only `[hub]` adapted.

use std::path::Path;

use toml_edit::{DocumentMut, Item, Table, TableLike, value};

use crate::commands::devices::MQTT_PORT;
use crate::failure::Failure;

/// How the door reaches its hub.
#[derive(Debug, Clone)]
pub(super) struct HubAccess {
    /// Whether there is a CA to trust in addition to the system's.
    pub(super) has_ca: bool,
    /// MQTT over TLS.
    pub(super) mqtt_port: u16,
}

/// How to write settings.
pub(super) const HOW_TO_WRITE: &str = concat!(
    "write the door's wiring like deploy/examples/lobby-east.toml, which explains every key; ",
    "check it with `door-agent check --config FILE`; then pass --config FILE",
);

/// The settings of door `name`, made from `text`; fails when they cannot be a door's.
pub(super) fn for_door(
    text: &str,
    source: &str,
    name: &str,
    hub: &HubAccess,
) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        // The Display of this error includes the line.
        Failure::new(format!("{source}: {}", error.to_string().trim_end())).next(HOW_TO_WRITE)
    })?;
    for section in ["strike", "board"] {
        if document
            .get(section)
            .is_none_or(|item| !item.is_table_like())
        {
            return Err(Failure::new(format!(
                "{source} has no section [{section}], expected the door's wiring"
            ))
            .next(HOW_TO_WRITE)
            .into());
        }
    }
    let section = document
        .entry("hub")
        .or_insert_with(|| Item::Table(Table::new()));
    let section = section.as_table_like_mut().ok_or_else(|| {
        Failure::new(format!("{source}: `hub` is not a section, expected [hub]")).next(HOW_TO_WRITE)
    })?;
    set(
        section,
        "connection_string_file",
        format!("{name}.connection-string").as_str(),
    );
    match hub.has_ca {
        true => set(section, "ca_file", format!("{name}.ca.pem").as_str()),
        false => drop(section.remove("ca_file")),
    }
    match hub.mqtt_port {
        // The agent's default needs no line.
        MQTT_PORT if !section.contains_key("mqtt_port") => {}
        port => set(section, "mqtt_port", i64::from(port)),
    }
    Ok(document.to_string())
}

/// Sets a key; a line that has the value already keeps its formatting.
fn set<T: Into<toml_edit::Value>>(section: &mut dyn TableLike, key: &str, wanted: T) {
    let wanted = wanted.into();
    let bare = |value: &toml_edit::Value| value.clone().decorated("", "").to_string();
    match section.get_mut(key).and_then(Item::as_value_mut) {
        Some(present) if bare(present) == bare(&wanted) => {}
        Some(present) => {
            let decor = present.decor().clone();
            *present = wanted;
            *present.decor_mut() = decor;
        }
        None => drop(section.insert(key, value(wanted))),
    }
}

/// Name of the given file in errors.
pub(super) fn config_name(path: &Path) -> String {
    format!("--config {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "\
# The door by the bins.
[strike]
kind = \"maglock\" # 12 V

[hub]
mqtt_port = 1 # old
sas_lifetime = \"2h\"
[board]
kind = \"raspberry-pi\"
";

    fn hub(has_ca: bool, mqtt_port: u16) -> HubAccess {
        HubAccess { has_ca, mqtt_port }
    }

    #[test]
    fn only_hub_keys_change_and_comments_stay() {
        let set = for_door(WRITTEN, "x", "bins", &hub(true, 8883)).unwrap();
        assert_eq!(
            set,
            "\
# The door by the bins.
[strike]
kind = \"maglock\" # 12 V

[hub]
mqtt_port = 8883 # old
sas_lifetime = \"2h\"
connection_string_file = \"bins.connection-string\"
ca_file = \"bins.ca.pem\"
[board]
kind = \"raspberry-pi\"
"
        );
        assert_eq!(
            for_door(&set, "x", "bins", &hub(true, 8883)).unwrap(),
            set,
            "once is enough"
        );
        let public = for_door(&set, "x", "bins", &hub(false, 8883)).unwrap();
        assert!(!public.contains("ca_file"), "{public}");
    }

    #[test]
    fn the_example_settings_can_be_enrolled() {
        let example = include_str!("../../../../../deploy/examples/lobby-east.toml");
        let set = for_door(example, "x", "lobby-east", &hub(true, 18883)).unwrap();
        let (before, after): (Vec<&str>, Vec<&str>) =
            (example.lines().collect(), set.lines().collect());
        let added: Vec<&&str> = after.iter().filter(|line| !before.contains(line)).collect();
        assert_eq!(
            added,
            [&"ca_file = \"lobby-east.ca.pem\"", &"mqtt_port = 18883"]
        );
    }

    #[test]
    fn invalid_settings_are_refused_with_their_place() {
        for (text, part) in [
            ("[strike]\nkind = \n", "line 2"),
            ("[strike]\n", "no section [board]"),
            ("hub = 3\n[strike]\n[board]\n", "expected [hub]"),
        ] {
            let error = for_door(text, "--config a.toml", "a", &hub(true, 8883))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(part) && error.contains("--config a.toml"),
                "{error}"
            );
        }
    }
}

//! `doorctl config view`: the settings in effect, without keys.

use std::env;
use std::fmt;

use serde::Serialize;

use crate::cli::Global;
use crate::cli::confirm::DEFAULT_CONFIRM_ABOVE;
use crate::config::{self, CONFIG_VARIABLE, Contexts};
use crate::exit_status::ExitStatus;
use crate::printer::{Printer, Row};

/// Variables of the environment that change what doorctl does, without those shown elsewhere.
const VARIABLES: [&str; 10] = [
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "COLUMNS",
    "NO_COLOR",
    "VISUAL",
    "EDITOR",
];

pub(super) fn run(global: &Global, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let path = config::path()?;
    let contexts = Contexts::read(&path)?;
    let source = |variable: &str, otherwise: &'static str| match env::var_os(variable) {
        Some(value) if !value.is_empty() => variable.to_owned(),
        _ => otherwise.to_owned(),
    };
    let mut rows = vec![
        SettingRow::new("file", &path.display(), source(CONFIG_VARIABLE, "default")),
        SettingRow::new("contexts", &contexts.by_name.len(), "file"),
    ];
    if global.context.is_some() || contexts.current.is_some() {
        let (name, context) = contexts.select(global.context.as_deref())?;
        let chosen = match (&global.context, env::var("DOORCTL_CONTEXT")) {
            (Some(name), Ok(variable)) if *name == variable => "DOORCTL_CONTEXT",
            (Some(_), _) => "--context",
            (None, _) => "file",
        };
        let connection = context.connection()?;
        let ca = match &context.ca {
            Some(ca) => format!("{} of its own", ca.matches("BEGIN CERTIFICATE").count()),
            None => "the system's".to_owned(),
        };
        rows.extend([
            SettingRow::new("context", &name, chosen),
            SettingRow::new("hub", &connection.host_name, "context"),
            SettingRow::new("policy", &connection.policy, "context"),
            SettingRow::new("key", &"(secret)", "context"),
            SettingRow::new("ca", &ca, "context"),
        ]);
        let (zone, from) = (context.time_zone()?, context.zone.as_ref());
        let zone = match (from, zone.iana_name()) {
            (Some(zone), _) => zone.clone(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "unknown".to_owned(),
        };
        let from = from.map_or_else(|| source("TZ", "this machine"), |_| "context".to_owned());
        rows.push(SettingRow::new("zone", &zone, from));
    }
    let above = env::var("DOORCTL_CONFIRM_ABOVE");
    let above = above.unwrap_or_else(|_| DEFAULT_CONFIRM_ABOVE.to_string());
    let from = source("DOORCTL_CONFIRM_ABOVE", "default");
    rows.push(SettingRow::new("confirm-above", &above, from));
    let timeout = format!("{} s", global.timeout.as_secs_f64());
    rows.push(SettingRow::new("timeout", &timeout, "--timeout"));
    for variable in VARIABLES {
        if let Some(value) = env::var(variable).ok().filter(|value| !value.is_empty()) {
            let value = without_password(&value);
            rows.push(SettingRow::new(variable, &value, "environment"));
        }
    }
    printer.rows(&rows)?;
    Ok(ExitStatus::Success)
}

/// A proxy's address may contain a password: `http://user:password@host`.
fn without_password(value: &str) -> String {
    match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://(secret)@{host}"),
        (None, Some((_, host))) => format!("(secret)@{host}"),
        _ => value.to_owned(),
    }
}

#[derive(Debug, Serialize)]
struct SettingRow {
    setting: String,
    value: String,
    source: String,
}

impl SettingRow {
    fn new(setting: &str, value: &dyn fmt::Display, source: impl Into<String>) -> Self {
        Self {
            setting: setting.to_owned(),
            value: value.to_string(),
            source: source.into(),
        }
    }
}

impl Row for SettingRow {
    fn titles() -> Vec<&'static str> {
        vec!["setting", "value", "source"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_proxy_is_not_shown() {
        for (value, expected) in [
            ("http://proxy:3128", "http://proxy:3128"),
            (
                "http://user:secret@proxy:3128",
                "http://(secret)@proxy:3128",
            ),
            ("user:p@ss@proxy", "(secret)@proxy"),
            ("1", "1"),
        ] {
            assert_eq!(without_password(value), expected);
        }
    }
}

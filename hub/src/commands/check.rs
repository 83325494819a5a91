//! `door-hub check`.

use door_hub::check::{self, Severity};

use super::{Settings, print, read_filter};

/// Checks settings and data folder and prints a line for each finding. Fails if there is a fault:
/// a finding that keeps the hub from starting or clients from using it.
pub(crate) fn check(settings: &Settings) -> anyhow::Result<()> {
    let file = settings.file()?;
    read_filter(file.log.as_deref())?;
    let findings = check::check(&file.resolve(settings.data.clone())?);
    let mut lines = String::new();
    for finding in &findings {
        let mark = match finding.severity {
            Severity::Good => "ok     ",
            Severity::Warning => "warning",
            Severity::Fault => "fault  ",
        };
        lines += &format!("{mark}  {}\n", finding.text);
    }
    let printed = print(lines);
    let faults = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Fault)
        .count();
    anyhow::ensure!(faults == 0, "{faults} fault(s) found");
    printed
}

//! `--dry-run`: prints the steps and their commands without contacting the Pi or the registry.

use std::fmt::Write as _;

use serde::Serialize;

use super::Enrolment;
use super::script::Script;
use super::ssh::Ssh;
use crate::commands::shell::quoted;

/// A step that would be run.
#[derive(Debug, Serialize)]
struct PlannedStep {
    step: String,
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
}

/// Prints the steps.
pub(super) fn print(enrolment: &Enrolment<'_>) -> anyhow::Result<()> {
    let plan = plan(enrolment);
    let mut text = String::new();
    for (number, planned) in (1..).zip(&plan) {
        writeln!(text, "{number}. {}\n   $ {}", planned.step, planned.command)?;
        for line in planned.script.iter().flat_map(|script| script.lines()) {
            writeln!(text, "{}", format!("     {line}").trim_end())?;
        }
    }
    let printer = &enrolment.session.printer;
    printer.text_or(&text, &plan)?;
    printer.say("nothing was changed, here, at the hub or on the Pi");
    Ok(())
}

fn plan(enrolment: &Enrolment<'_>) -> Vec<PlannedStep> {
    let (args, name) = (enrolment.args, enrolment.name());
    let remote = |script: &Script, step: &str, input: Option<String>| PlannedStep {
        step: step.to_owned(),
        command: ssh_line(enrolment, script, input.as_deref()),
        script: Some(script.text().to_owned()),
    };
    let mut add = format!("doorctl devices add {name}");
    let mut set = format!("doorctl twin set {name}");
    for (flag, value) in [("building", &args.building), ("floor", &args.floor)] {
        let Some(value) = value else { continue };
        add += &format!(" --{flag} {}", quoted(value));
        set += &format!(" {}", quoted(&format!("{flag}={value}")));
    }
    let mut plan = vec![remote(
        &Script::inspect(name),
        "inspect the Pi: machine, root, installed files",
        None,
    )];
    if enrolment.settings.is_none() {
        plan.push(remote(
            &Script::read(name),
            "read the settings of the Pi, because no --config was given",
            None,
        ));
    }
    plan.push(PlannedStep {
        step: "register the door, unless the hub has it already".to_owned(),
        command: add,
        script: None,
    });
    if args.building.is_some() || args.floor.is_some() {
        plan.push(PlannedStep {
            step: "assign building and floor, when the door exists and they differ".to_owned(),
            command: set,
            script: None,
        });
    }
    let package = match &args.package {
        Some(path) if !path.is_dir() => path.display().to_string(),
        Some(folder) => format!("{}/door-agent_VERSION_ARCHITECTURE.deb", folder.display()),
        None => "target/packages/door-agent_VERSION_ARCHITECTURE.deb".to_owned(),
    };
    plan.push(remote(
        &Script::install(),
        "install the package, unless that version is installed",
        Some(quoted(&package)),
    ));
    let settings = match &args.config {
        Some(path) => format!("{} with [hub] adapted", path.display()),
        None => "its settings with [hub] adapted".to_owned(),
    };
    let ca = if enrolment.access.has_ca {
        ", the CA of the context"
    } else {
        ""
    };
    plan.push(remote(
        &Script::set_up(name, args.force),
        &format!(
            "send {settings}, the connection string of {name} for {}{ca}; check them, put what \
             changed into place, start the door, or restart it if that does not move its lock",
            enrolment.hub_host
        ),
        Some("(standard input)".to_owned()),
    ));
    plan.push(PlannedStep {
        step: format!(
            "wait for its report, at most {} s, and print its state",
            args.deadline.as_secs()
        ),
        command: format!("doorctl devices list {name}"),
        script: None,
    });
    plan
}

/// The ssh command line, with `$script` in place of the script.
fn ssh_line(enrolment: &Enrolment<'_>, script: &Script, input: Option<&str>) -> String {
    let mut line = "ssh".to_owned();
    for option in Ssh::own_options(enrolment.args) {
        line += &format!(" {}", quoted(&option.to_string_lossy()));
    }
    let host = &enrolment.args.host;
    let sudo = !host.starts_with("root@");
    line += &format!(" -- {} {}", quoted(host), script.shown(sudo));
    if let Some(input) = input {
        line += &format!(" < {input}");
    }
    line
}

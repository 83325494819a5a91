//! The commands in the help texts are enough to get from nothing to a scheduled lock of a fleet.

use doorfleet_testing::CommandOutput;

use super::support::Lab;

/// The commands below a heading of a help; text after three spaces is an explanation.
fn commands(help: &str, heading: &str) -> Vec<String> {
    let behind = help.split(&format!("{heading}\n")).nth(1).unwrap();
    let lines = behind.lines().take_while(|line| !line.is_empty());
    let commands = lines.filter_map(|line| line.trim().strip_prefix("doorctl "));
    commands
        .map(|command| command.split("   ").next().unwrap().trim().to_owned())
        .collect()
}

/// Runs a command of the help, with paths and times replaced.
#[track_caller]
fn typed(lab: &Lab, command: &str) -> CommandOutput {
    let command = command
        .replace("site.connection-string", "hub/service-connection-string")
        .replace("--ca ca.pem", "--ca hub/ca.pem")
        .replace("22:00", "+2s");
    lab.run(command)
}

#[test]
fn the_first_steps_of_the_help_lead_to_a_scheduled_lock() {
    let lab = Lab::new();
    // Start without the context of the lab.
    std::fs::remove_file(lab.folder().join("doorctl.toml")).unwrap();
    let output = lab.run("devices list").expect(1);
    output.says(&["doorctl context add NAME --connection-string-file FILE --ca ca.pem"]);

    let help = lab.run("--help").expect(0).stdout;
    let steps = commands(&help, "First steps:");
    assert!(steps.iter().any(|step| step == "demo"), "{steps:?}");
    let mut doors = Vec::new();
    let mut done = Vec::new();
    for step in steps.iter().filter(|step| *step != "demo") {
        let output = typed(&lab, step);
        assert_eq!(output.status, 0, "doorctl {step}: {output:?}");
        if step.starts_with("devices add") {
            // Now the doors are installed.
            for name in ["lobby-east", "lobby-west"] {
                doors.push(lab.start(name));
                lab.reports(name, "lockState", "unlocked");
            }
        }
        if step.starts_with("jobs watch") {
            let output = output.says(&["2 secured"]);
            assert!(output.stdout.contains("lobby-west  locked"), "{output:?}");
            for name in ["lobby-east", "lobby-west"] {
                lab.reports(name, "secured", "secured");
            }
        }
        done.push(step.as_str());
    }
    for verb in [
        "context add",
        "devices add",
        "jobs plan",
        "jobs lock",
        "jobs watch",
        "status",
        "why",
        "events",
    ] {
        assert!(
            done.iter().any(|step| step.starts_with(verb)),
            "{verb} is no first step"
        );
    }
    let jobs = lab.json("jobs list");
    assert_eq!(jobs[0]["status"], "completed");
}

#[test]
fn the_output_of_a_plan_and_a_job_names_the_next_command() {
    let lab = Lab::new();
    let _east = lab.door("lobby-east", "--building 43 --floor 3");
    // The example of `jobs plan`, then only commands that the output named.
    let help = lab.run("jobs plan --help").expect(0).stdout;
    let example = commands(&help, "Examples:")
        .remove(0)
        .replace("22:00", "+1h");
    let planned = lab.run(&example).expect(0);
    let next = planned
        .stderr
        .split("to apply it, with the same arguments: doorctl ")
        .nth(1)
        .unwrap();
    let next = next.lines().next().unwrap();
    let action = example.strip_prefix("jobs plan").unwrap();
    let made = lab.run(format!("{next}{action}")).expect(0);
    let watch = made.stderr.split("follow it: doorctl ").nth(1).unwrap();
    let watch = watch.trim();
    let job = watch.strip_prefix("jobs watch ").unwrap();
    let shown = lab.run(format!("jobs show {job}")).expect(0);
    shown.says(&["starts "]);
    lab.run(format!("jobs cancel {job}")).expect(0);
    lab.run(watch).expect(2).says(&["cancelled"]);
}

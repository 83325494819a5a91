//! More names than fit into one condition.

use serde_json::json;

use super::support::Lab;

#[test]
fn a_list_too_long_for_one_job_becomes_several_jobs() {
    let lab = Lab::new();
    let names = Lab::many_names();
    let all = names.join(" ");
    lab.run(format!("devices add {all}")).expect(0);
    let run = |start: &str, end: &str| lab.run(format!("{start} {all} {end}"));

    let changed = run(
        "jobs tags --set group=night",
        "--yes --watch --id tagged -o json",
    )
    .expect(0)
    .says(&[
        "300 names do not fit into one condition: they are split over 3 jobs",
        "job tagged-2 is ",
        "300 doors match now",
        "job tagged-3 completed",
        "all of them: 300 changed",
    ])
    .json();
    assert_eq!(changed["tally"]["reached"], 300);
    assert_eq!(changed["jobs"].as_array().unwrap().len(), 3);
    let counted =
        lab.json(r#"query "SELECT COUNT() AS doors FROM devices WHERE tags.group = 'night'""#);
    assert_eq!(counted, json!([{"doors": 300}]));

    let work = "--at +2h --for 10m --id night";
    let planned = run("jobs plan lock", &format!("{work} -o json"))
        .expect(0)
        .says(&["this would lock 300 doors, 300 of them offline; no job was created"])
        .json();
    let digest = planned["digest"].as_str().unwrap();
    let apply = format!("jobs apply --plan {digest} lock");
    run(&apply, work)
        .expect(4)
        .says(&["300 doors, more than 20, and there is no terminal to confirm it"]);
    let yes = format!("{work} --yes");
    let made = run(&apply, &yes)
        .expect(0)
        .says(&["follow it: doorctl jobs watch night-2"]);
    assert_eq!(made.stdout, "night-1\nnight-2\nnight-3\n");
    // Each door is called by exactly one job.
    let listed = lab.json("jobs list");
    let listed = listed.as_array().unwrap().iter();
    let made = listed.filter(|job| job["jobId"].as_str() == Some("night"));
    let parts: Vec<usize> = made
        .map(|job| job["jobs"].as_array().unwrap().len())
        .collect();
    assert_eq!(parts, [3]);
    let shown = lab.json("jobs show night");
    assert_eq!(shown["jobs"].as_array().unwrap().len(), 3);

    // The same names again: the first existing job stops the command.
    run("jobs lock", &yes)
        .expect(1)
        .says(&["the hub has a job called night-1 already; nothing was changed"]);
    let misspelt = all.replace(&names[7], "nobody");
    lab.run(format!("jobs lock {misspelt} --yes"))
        .expect(1)
        .says(&["the hub has no door `nobody`"]);
}

#[test]
fn immediate_and_reading_verbs_take_any_number_of_names() {
    let lab = Lab::new();
    let _lobby = lab.door("lobby", "--building 43");
    let names = Lab::many_names();
    let all = names.join(" ");
    lab.run(format!("devices add {all}")).expect(0);
    let run = |start: &str, end: &str| lab.run(format!("{start} {all} lobby {end}"));

    let listed = run("devices list", "-o json").expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 301);
    let listed = run("devices list --limit 150", "-o json")
        .expect(0)
        .says(&["150 shown; there are more doors"])
        .json();
    assert_eq!(listed.as_array().unwrap().len(), 150);
    let survey = run("status", "-o json").expect(2).json();
    assert_eq!(survey["total"]["doors"], 301);

    run("lock", "")
        .expect(4)
        .says(&["301 doors, more than 20, and there is no terminal to confirm it"]);
    let locked = run("lock", "--yes --connect-timeout 0 -o json")
        .expect(2)
        .says(&[
            "301 names do not fit into one condition: they are split over 3 jobs",
            " call 301 doors",
        ])
        .json();
    assert_eq!(locked["tally"]["reached"], 1);
    assert_eq!(locked["tally"]["failed"], 300);
    assert_eq!(locked["jobs"].as_array().unwrap().len(), 3);
    run("lockdown", "--connect-timeout 0 -o json --deadline 60s")
        .expect(2)
        .says(&[
            "offline; each locks down when it reconnects: 0--",
            "and 280 more",
            " call 301 doors",
            "1 secured, 300 failed",
        ]);

    let misspelt = all.replace(&names[7], "nobody");
    lab.run(format!("lock {misspelt} lobby --yes"))
        .expect(1)
        .says(&["the hub has no door `nobody`"]);
}

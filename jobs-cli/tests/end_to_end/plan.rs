//! `jobs plan`, `apply`, `tags` and `export` against a real hub with real doors.

use std::fs;

use door_agent::gpio::simulated::SimCommand;
use serde_json::{Value, json};

use super::support::Lab;

#[test]
fn a_plan_is_applied_only_while_the_doors_are_the_same() {
    let lab = Lab::new();
    let _closed = lab.door("closed", "--floor 3");
    let open = lab.door("open", "--floor 3");
    lab.run("devices add absent --floor 3").expect(0);
    open.at(SimCommand::Open);
    lab.reports("open", "doorState", "open");
    lab.run("jobs unlock closed --at +1h --for 2h --id early")
        .expect(0);
    lab.run("jobs unlock open --at +6h --id late").expect(0);

    let run = |start: &str, end: &str| {
        lab.run(format!(
            "{start} lock --floor 3 --at +2h --for 10m --id tonight {end}"
        ))
    };
    let planned = run("jobs plan", "").expect(0).says(&[
        "warning: job early (unlockDoor) also uses 1 of these doors, from ",
        "this would lock 3 doors, 1 of them offline; no job was created",
        "to apply it, with the same arguments: doorctl jobs apply --plan ",
    ]);
    insta::assert_snapshot!(planned.stdout, @r"
    DOOR    CONNECTION  LOCK STATE  DOOR STATE  SECURED    PROOF  EFFECT                                     CONFLICTS
    absent  offline                                               fails unless it comes online within 2 min
    closed  connected   unlocked    closed      unsecured  bond   staged: locks                              early
    open    connected   unlocked    open        unsecured  bond   staged: locks when it is closed
    ");
    let plan = run("jobs plan", "-o json").expect(0).json();
    assert_eq!(plan["conflicts"][0]["doors"], json!(["closed"]));
    let digest = plan["digest"].as_str().unwrap();
    assert!(planned.stderr.contains(&format!("--plan {digest}\n")));

    // Another job, time or set of doors does not match the plan.
    let apply = format!("jobs apply --plan {digest}");
    lab.run(format!(
        "{apply} lock --floor 3 --at +2h --for 11m --id tonight"
    ))
    .expect(4)
    .says(&[
        " is outdated: ",
        "payload changed from ",
        "\"lockTime\":\"11m\"",
    ]);
    lab.run("devices add new --floor 3").expect(0);
    lab.run("twin set absent floor=4").expect(3);
    let refused = run(&apply, "").expect(4).says(&[
        "joined: new; left: absent; no job was created",
        "next: plan again with the same arguments",
    ]);
    assert_eq!(refused.stdout, "");
    lab.run("jobs show tonight").expect(1);

    lab.run("twin set absent floor=3").expect(3);
    lab.run("twin set new floor=4").expect(3);
    run(&apply, "").expect(0).says(&[
        "warning: job early",
        "job tonight: 3 doors match now; 2 staged, 1 called at the start",
    ]);
    lab.run("jobs apply --plan 12 lock --all")
        .expect(1)
        .says(&["invalid --plan \"12\": expected 8 to 64"]);
}

#[test]
fn a_job_for_many_doors_needs_confirmation() {
    let lab = Lab::new();
    lab.run("devices add a b").expect(0);
    let refused = lab
        .run("jobs lock --all --at +1h --confirm-above 1")
        .expect(4);
    insta::assert_snapshot!(refused.stderr, @r"
    error: this would lock 2 doors, more than 1, and there is no terminal to confirm it; nothing was changed
      next: type the number of doors when asked, or pass --yes; --confirm-above DOORS moves the limit
    ");
    assert_eq!(lab.json("jobs list"), json!([]));
    lab.run("jobs lock --all --at +1h --confirm-above 1 --yes")
        .expect(0);
}

#[test]
fn a_tag_job_is_exported_with_the_outcome_of_each_door() {
    let lab = Lab::new();
    lab.run("devices add a b --tag old=1").expect(0);
    let planned = lab
        .run("jobs plan tags --set wing=east --remove old --all")
        .expect(0)
        .says(&["this would change the tags of 2 doors"]);
    assert!(
        planned
            .stdout
            .contains("tags.wing none to east, tags.old 1 to none"),
        "{planned:?}"
    );
    lab.run(
        "jobs tags --set wing=east --set access.group=staff --remove old a b --id tagged \
             --watch",
    )
    .expect(0)
    .says(&["2 changed"]);
    let tagged = lab.json("twin show a");
    assert_eq!(
        tagged["tags"],
        json!({"wing": "east", "access": {"group": "staff"}})
    );

    let exported = lab.run("jobs export tagged").expect(0).stdout;
    let lines: Vec<&str> = exported.lines().collect();
    assert_eq!(
        lines[0],
        "job,door,lockState,doorState,secured,proof,outcome,status,methodStatus,started,ended"
    );
    assert!(
        lines[1].starts_with("tagged,a,,,,,changed,completed,,20"),
        "{exported}"
    );
    assert_eq!(lines.len(), 3);
    lab.run("jobs export tagged --out tagged.json")
        .expect(0)
        .says(&["tagged.json: wrote 2 rows of job tagged"]);
    let text = fs::read_to_string(lab.folder().join("tagged.json")).unwrap();
    let rows: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&rows[1]["door"], &rows[1]["progress"]),
        (&json!("b"), &json!("reached"))
    );
    lab.run("jobs export tagged --out tagged.json")
        .expect(1)
        .says(&["--out: cannot create tagged.json: File exists"]);
    lab.run("jobs export taged")
        .expect(1)
        .says(&["did you mean `tagged`?"]);
}

/// Start, `--until`, exit status, part of the output, and the duration that is sent.
#[test]
fn until_is_a_time_after_the_start() {
    let lab = Lab::new();
    lab.run("devices add east").expect(0);
    let night = "2099-03-01 22:00 UTC";
    #[rustfmt::skip]
    let rows = [
        (night, "06:00", 0, "until Mon 2099-03-02 06:00:00 UTC", "8h"),
        (night, "+30m", 0, "until Sun 2099-03-01 22:30:00 UTC", "30m"),
        (night, "2099-03-08T22:00:00Z", 0, "until Sun 2099-03-08 22:00:00 UTC", "7d"),
        (night, "2099-03-08T22:00:01Z", 1, "it is more than 7 days after the start", ""),
        (night, "2099-03-01T22:00:00Z", 1, "expected a time after the start", ""),
        (night, "2099-03-01T21:00:00Z", 1, "is too early; expected a time after the start", ""),
        (night, "now", 1, "expected a time after the start", ""),
        (night, "soon", 1, "--until \"soon\": not a time", ""),
        ("now", "+1h", 0, "until ", "1h"),
    ];
    for (n, (at, until, status, says, length)) in rows.into_iter().enumerate() {
        for (verb, member) in [("lock", "lockTime"), ("unlock", "unlockTime")] {
            let id = format!("{verb}-{n}");
            let output = lab.run(format!(
                "jobs {verb} --id {id} east --at '{at}' --until '{until}'"
            ));
            assert_eq!(output.status, status, "{at} {until}: {output:?}");
            assert!(output.stderr.contains(says), "{at} {until}: {output:?}");
            assert!(
                !output.stderr.contains("this unlock has no end"),
                "{output:?}"
            );
            if status == 0 {
                let shown = lab.json(format!("jobs show {id}"));
                let payload = &shown["job"]["cloudToDeviceMethod"]["payload"];
                assert_eq!(payload[member], length, "{at} {until}");
                assert!(payload["until"].is_string(), "{payload}");
            }
        }
    }
    // A named end gives the same plan a moment later.
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(5);
    let plan = format!("jobs plan unlock east --until {until}");
    let digest = || lab.json(&plan)["digest"].clone();
    let first = digest();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(digest(), first);
    let warned = lab.run("jobs unlock east --at +1h");
    warned.expect(0).says(&["warning: this unlock has no end"]);
}

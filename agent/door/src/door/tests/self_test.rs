//! Rules of `selfTest`: it reports, and nothing moves.

use super::rig::Step::{Call, Clock, DiskFails, Jam, SlowDisk, Unplug};
use super::rig::{LOCK, Rig, Step, bolt, config, limited, magnet, motor};
use crate::Want::{Locked, Released};
use crate::config::{DoorConfig, FailMode, Fitted, StrikeConfig};
use crate::contract::{CheckResult, MethodReply, ReplyError};

fn run(config: DoorConfig, steps: &[(u64, Step)]) -> (MethodReply, Rig) {
    let mut rig = config.run(steps);
    let drives = rig.drives.len();
    rig.run_for(6000);
    assert_eq!(rig.drives.len(), drives, "it moves nothing");
    assert_eq!(rig.door.unanswered(), 0);
    (rig.last_reply().clone(), rig)
}

fn test() -> Step {
    Call("selfTest", "")
}

/// Results of inputs, strike, storage and clock.
fn results(reply: &MethodReply) -> [CheckResult; 4] {
    let checks = reply.body.checks.as_ref().unwrap();
    [
        &checks.inputs,
        &checks.strike,
        &checks.storage,
        &checks.clock,
    ]
    .map(|check| check.result)
}

#[test]
fn a_healthy_door_passes_and_the_details_show_the_readings() {
    use CheckResult::{Passed, Warning};
    let (reply, rig) = run(motor(Locked), &[(5000, test())]);
    assert_eq!(
        (reply.status, results(&reply)),
        (200, [Passed, Passed, Passed, Warning])
    );
    let checks = reply.body.checks.unwrap();
    assert!(checks.inputs.detail.contains("door active"), "{checks:?}");
    assert!(
        checks.strike.detail.starts_with("locked, de-energised; "),
        "{checks:?}"
    );
    assert!(
        rig.log.iter().any(|line| line == "5000 persist"),
        "{:?}",
        rig.log
    );

    let clock = Clock("2026-11-23T22:00:00Z");
    let (reply, _) = run(motor(Locked), &[(4000, clock), (5000, test())]);
    assert_eq!(results(&reply), [Passed; 4]);
}

#[test]
fn a_failed_check_is_named_in_the_error() {
    use CheckResult::{Failed, Passed};

    type Case<'a> = (&'a [(u64, Step)], usize, &'a str);
    let cases: [Case<'_>; 4] = [
        (&[(5000, Unplug), (6000, test())], 0, "SensorFault"),
        (
            &[
                (3000, Jam(true)),
                (4000, LOCK),
                // Between two attempts.
                (20_000, test()),
            ],
            1,
            "Jammed",
        ),
        (
            &[(5000, SlowDisk(true)), (5000, test()), (6000, DiskFails)],
            2,
            "NotStored",
        ),
        // No result from the disk.
        (&[(5000, SlowDisk(true)), (5000, test())], 2, "NotStored"),
    ];
    for (steps, part, error) in cases {
        let (reply, rig) = run(motor(Released), steps);
        let mut expected = [Passed; 3];
        expected[part] = Failed;
        assert_eq!(results(&reply)[..3], expected, "{:?}", rig.log);
        assert_eq!(reply.status, 500);
        assert_eq!(
            reply
                .body
                .error
                .map(|error| format!("{error:?}"))
                .as_deref(),
            Some(error)
        );
    }
}

#[test]
fn too_many_tests_at_once_answer_the_oldest_first() {
    let mut steps = vec![(5000, SlowDisk(true))];
    steps.extend((0..9).map(|_| (5000, test())));
    let rig = motor(Locked).run(&steps);
    assert_eq!(rig.answer_lines, ["5000 #1 500 NotStored Locked Secured"]);
    assert_eq!(rig.door.unanswered(), 8);
}

#[test]
fn the_strike_detail_says_how_long_coil_or_motor_may_still_be_on() {
    let limited = limited(StrikeConfig::solenoid_bolt(FailMode::Safe), 20, 40);
    for (door, steps, detail) in [
        (
            magnet(),
            vec![],
            "locked, energised; coil or motor may be on without limit",
        ),
        (
            bolt(FailMode::Secure),
            vec![],
            "unlocked, energised; coil or motor may be on without limit",
        ),
        (
            motor(Locked),
            vec![],
            "locked, de-energised; coil or motor may be on for 16.6 s",
        ),
        (
            config(Released, limited, Fitted::ALL),
            vec![],
            "unlocked, de-energised; coil or motor may be on for 12.5 s",
        ),
        (
            config(Released, limited, Fitted::ALL),
            vec![(3000, LOCK)],
            "locked, energised; coil or motor may be on for 9.5 s",
        ),
    ] {
        let steps = [steps, vec![(5000, test())]].concat();
        let (reply, _) = run(door, &steps);
        let checks = reply.body.checks.unwrap();
        assert_eq!(checks.strike.detail, detail, "{steps:?}");
    }
}

#[test]
fn a_coil_that_must_rest_fails_as_lock_fault() {
    let limited = limited(StrikeConfig::solenoid_bolt(FailMode::Safe), 20, 40);
    let steps = [(1000, LOCK), (12_000, test())];
    let rig = config(Released, limited, Fitted::ALL).run(&steps);
    let reply = rig.last_reply();
    assert_eq!(reply.body.error, Some(ReplyError::LockFault));
}

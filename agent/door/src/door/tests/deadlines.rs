//! Every wait has a deadline: `poll_timeout` gives the next time at which the door acts by itself.

use std::time::Duration;

use super::rig::{Rig, Step, bolt, config, magnet, motor};
use crate::Want::{Locked, Released};
use crate::config::{DoorConfig, FailMode, Fitted, StrikeConfig};
use crate::time::at;

#[test]
fn every_wait_has_a_deadline() {
    let lock = |payload| Step::Call("lockDoor", payload);
    let unlock = |payload| Step::Call("unlockDoor", payload);
    let limited = |strike| StrikeConfig {
        max_on: Some(Duration::from_secs(20)),
        cool_down: Some(Duration::from_secs(40)),
        ..strike
    };
    let safe = limited(StrikeConfig::solenoid_bolt(FailMode::Safe));
    let safe = config(Released, safe, Fitted::ALL);
    let tired = StrikeConfig {
        max_on: Some(Duration::from_secs(6)),
        cool_down: Some(Duration::from_secs(600)),
        ..StrikeConfig::motor_lock()
    };
    let tired = config(Locked, tired, Fitted::ALL);
    let no_bond = Fitted {
        bond: false,
        ..Fitted::ALL
    };
    let no_bond = config(Locked, StrikeConfig::motor_lock(), no_bond);
    let jam = (4000, Step::Jam(true));
    // (the wait, the door, the steps, when it continues)
    type Row<'a> = (&'a str, DoorConfig, &'a [(u64, Step)], u64);
    let rows: [Row<'_>; 21] = [
        (
            "the door to settle",
            motor(Locked),
            &[(100, Step::Nothing)],
            250,
        ),
        (
            "the end of the drive",
            motor(Locked),
            &[(300, Step::Nothing)],
            2250,
        ),
        ("the proof", no_bond, &[(2300, Step::Nothing)], 3250),
        (
            "the proof of a coil",
            bolt(FailMode::Safe),
            &[(4000, Step::Jam(true)), (4000, lock("{}"))],
            7000,
        ),
        (
            "a retry at the door",
            motor(Locked),
            &[jam, (5000, Step::Fire(true)), (8500, Step::Nothing)],
            10_000,
        ),
        (
            "a retry",
            motor(Released),
            &[jam, (5000, lock("{}")), (8500, Step::Nothing)],
            13_000,
        ),
        (
            "a later retry",
            motor(Released),
            &[jam, (5000, lock("{}")), (68_000, Step::Nothing)],
            127_000,
        ),
        (
            "the limit of a coil",
            safe,
            &[(1000, lock("{}")), (5000, Step::Nothing)],
            11_500,
        ),
        (
            "the rest of a coil",
            safe,
            &[(1000, lock("{}")), (12_000, Step::Nothing)],
            17_500,
        ),
        (
            "the rest of a motor",
            tired,
            &[
                (600_000, Step::Rex(true)),
                (600_100, Step::Rex(false)),
                (606_000, Step::Nothing),
            ],
            802_000,
        ),
        (
            "the end of a hold",
            motor(Released),
            &[(5000, lock(r#"{"lockTime":"30s"}"#)), (9000, Step::Nothing)],
            35_000,
        ),
        (
            "the end of a grant",
            magnet(),
            &[
                (5000, unlock(r#"{"unlockTime":"30s"}"#)),
                (9000, Step::Nothing),
            ],
            35_000,
        ),
        (
            "the next save of a hold",
            motor(Released),
            &[(5000, lock(r#"{"lockTime":"10m"}"#)), (9000, Step::Nothing)],
            65_000,
        ),
        (
            "an exit button",
            magnet(),
            &[(5000, Step::Rex(true)), (5200, Step::Rex(false))],
            10_200,
        ),
        (
            "a door that stands open",
            magnet(),
            &[(5000, Step::Open), (20_000, Step::Nothing)],
            50_000,
        ),
        (
            "one that is held",
            magnet(),
            &[(5000, Step::Open), (51_000, Step::Nothing)],
            65_000,
        ),
        (
            "a bolt that is out in an open door",
            motor(Locked),
            &[(10_000, Step::Open)],
            11_000,
        ),
        (
            "a door that follows its bolt",
            motor(Locked),
            &[(10_000, Step::Handle), (12_000, Step::Nothing)],
            18_000,
        ),
        (
            "the disk",
            motor(Locked),
            &[
                (5000, Step::SlowDisk(true)),
                (5000, Step::Call("selfTest", "")),
            ],
            10_000,
        ),
        (
            "an unlock for the disk",
            motor(Locked),
            &[(5000, Step::SlowDisk(true)), (5000, unlock("{}"))],
            10_000,
        ),
        (
            "a disk that failed",
            magnet(),
            &[
                (5000, Step::SlowDisk(true)),
                (5000, Step::Fire(true)),
                (6000, Step::DiskFails),
                (8000, Step::Nothing),
            ],
            11_000,
        ),
    ];
    for (waits_for, door, steps, expected) in rows {
        let mut rig = Rig::run(door, steps);
        rig.run_until(rig.now.boottime);
        let due = rig.door.poll_timeout();
        let due = due.map(|due| due.since(at(100)).as_millis());
        assert_eq!(due, Some(u128::from(expected)), "{waits_for}");
    }
}

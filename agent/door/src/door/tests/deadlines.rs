//! Every wait has a deadline: `poll_timeout` gives the next time at which the door acts by itself.

use super::rig::Step::{Call, DiskFails, Fire, Handle, Jam, Nothing, Open, Rex, SlowDisk};
use super::rig::{LOCK, NO_BOND, Step, UNLOCK, bolt, config, limited, lock, magnet, motor, unlock};
use crate::Want::{Locked, Released};
use crate::config::{DoorConfig, FailMode, Fitted, StrikeConfig};
use crate::time::at;

#[test]
fn every_wait_has_a_deadline() {
    let safe = limited(StrikeConfig::solenoid_bolt(FailMode::Safe), 20, 40);
    let safe = config(Released, safe, Fitted::ALL);
    let tired = limited(StrikeConfig::motor_lock(), 6, 600);
    let tired = config(Locked, tired, Fitted::ALL);
    let no_bond = config(Locked, StrikeConfig::motor_lock(), NO_BOND);
    let jam = (4000, Jam(true));
    // (the wait, the door, the steps, when it continues)
    type Row<'a> = (&'a str, DoorConfig, &'a [(u64, Step)], u64);
    let rows: [Row<'_>; 21] = [
        ("the door to settle", motor(Locked), &[(100, Nothing)], 250),
        (
            "the end of the drive",
            motor(Locked),
            &[(300, Nothing)],
            2250,
        ),
        ("the proof", no_bond, &[(2300, Nothing)], 3250),
        (
            "the proof of a coil",
            bolt(FailMode::Safe),
            &[(4000, Jam(true)), (4000, LOCK)],
            7000,
        ),
        (
            "a retry at the door",
            motor(Locked),
            &[jam, (5000, Fire(true)), (8500, Nothing)],
            10_000,
        ),
        (
            "a retry",
            motor(Released),
            &[jam, (5000, LOCK), (8500, Nothing)],
            13_000,
        ),
        (
            "a later retry",
            motor(Released),
            &[jam, (5000, LOCK), (68_000, Nothing)],
            127_000,
        ),
        (
            "the limit of a coil",
            safe,
            &[(1000, LOCK), (5000, Nothing)],
            11_500,
        ),
        (
            "the rest of a coil",
            safe,
            &[(1000, LOCK), (12_000, Nothing)],
            17_500,
        ),
        (
            "the rest of a motor",
            tired,
            &[
                (600_000, Rex(true)),
                (600_100, Rex(false)),
                (606_000, Nothing),
            ],
            802_000,
        ),
        (
            "the end of a hold",
            motor(Released),
            &[(5000, lock(r#"{"lockTime":"30s"}"#)), (9000, Nothing)],
            35_000,
        ),
        (
            "the end of a grant",
            magnet(),
            &[(5000, unlock(r#"{"unlockTime":"30s"}"#)), (9000, Nothing)],
            35_000,
        ),
        (
            "the next save of a hold",
            motor(Released),
            &[(5000, lock(r#"{"lockTime":"10m"}"#)), (9000, Nothing)],
            65_000,
        ),
        (
            "an exit button",
            magnet(),
            &[(5000, Rex(true)), (5200, Rex(false))],
            10_200,
        ),
        (
            "a door that stands open",
            magnet(),
            &[(5000, Open), (20_000, Nothing)],
            50_000,
        ),
        (
            "one that is held",
            magnet(),
            &[(5000, Open), (51_000, Nothing)],
            65_000,
        ),
        (
            "a bolt that is out in an open door",
            motor(Locked),
            &[(10_000, Open)],
            11_000,
        ),
        (
            "a door that follows its bolt",
            motor(Locked),
            &[(10_000, Handle), (12_000, Nothing)],
            18_000,
        ),
        (
            "the disk",
            motor(Locked),
            &[(5000, SlowDisk(true)), (5000, Call("selfTest", ""))],
            10_000,
        ),
        (
            "an unlock for the disk",
            motor(Locked),
            &[(5000, SlowDisk(true)), (5000, UNLOCK)],
            10_000,
        ),
        (
            "a disk that failed",
            magnet(),
            &[
                (5000, SlowDisk(true)),
                (5000, Fire(true)),
                (6000, DiskFails),
                (8000, Nothing),
            ],
            11_000,
        ),
    ];
    for (waits_for, door, steps, expected) in rows {
        let mut rig = door.run(steps);
        rig.run_until(rig.now.boottime);
        let due = rig.door.poll_timeout();
        let due = due.map(|due| due.since(at(100)).as_millis());
        assert_eq!(due, Some(u128::from(expected)), "{waits_for}");
    }
}

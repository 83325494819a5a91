//! When a door is secured: locked, closed, and without a fault of either.

use std::collections::BTreeMap;

use crate::contract::{Alarm, DoorState, LockState, Raised, Secured};
use crate::door::secured;

#[test]
fn secured_needs_a_lock_a_closed_door_and_no_fault_of_either() {
    use DoorState::{Closed, Open, Unknown as DoorUnknown};
    use LockState::{Jammed, Locked, Locking, Unknown as LockUnknown, Unlocked, Unlocking};

    let rows = [
        (Locked, Closed, None, Secured::Secured),
        (Locked, Closed, Some(Alarm::Tamper), Secured::Secured),
        // An input in fault that is neither door nor bond.
        (Locked, Closed, Some(Alarm::SensorFault), Secured::Secured),
        (Locked, Closed, Some(Alarm::LockFault), Secured::Unsecured),
        (Locked, Closed, Some(Alarm::Jammed), Secured::Unsecured),
        (Locked, Closed, Some(Alarm::LockForced), Secured::Unsecured),
        (Locked, Open, None, Secured::Unsecured),
        (Locked, DoorUnknown, None, Secured::Unknown),
        (Locked, DoorUnknown, Some(Alarm::Jammed), Secured::Unknown),
        (LockUnknown, Closed, None, Secured::Unknown),
        (LockUnknown, Open, None, Secured::Unsecured),
        (Unlocked, Closed, None, Secured::Unsecured),
        (Unlocked, DoorUnknown, None, Secured::Unsecured),
        (Locking, Closed, None, Secured::Unsecured),
        (Unlocking, Closed, None, Secured::Unsecured),
        (Jammed, Closed, None, Secured::Unsecured),
    ];
    for (lock, door, alarm, expected) in rows {
        let alarms: BTreeMap<_, _> = alarm
            .map(|alarm| (alarm, Raised { since: None }))
            .into_iter()
            .collect();
        assert_eq!(
            secured(lock, door, false, &alarms),
            expected,
            "{lock:?} {door:?} {alarm:?}"
        );
    }
    for (lock, door, expected) in [
        (Locked, Closed, Secured::Unknown),
        (Locked, Open, Secured::Unsecured),
        (Unlocked, Closed, Secured::Unsecured),
    ] {
        let found = secured(lock, door, true, &BTreeMap::new());
        assert_eq!(found, expected, "{lock:?} {door:?}, door or bond in fault");
    }
}

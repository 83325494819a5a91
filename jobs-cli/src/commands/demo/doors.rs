//! The doors of the demo: their floors, and what happens to each.

use iothub_protocol::DeviceId;

use crate::cli::demo::{Fault, FaultKind};
use crate::failure::Failure;
use crate::suggest;

pub(super) const BUILDING: u64 = 43;

pub(super) const FLOORS: u64 = 4;

pub(super) const LOCKED_FLOOR: u64 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DemoDoor {
    pub(super) id: DeviceId,
    /// The floor that it will be assigned to.
    pub(super) floor: u64,
    pub(super) scenario: Scenario,
}

/// What happens to a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scenario {
    /// Nothing: it is on another floor.
    Bystander,
    Locks,
    /// Its cable is unplugged after it has reported.
    Offline,
    /// It is open at first, and closed later.
    Open,
    /// Its bolt does not move.
    Jams,
}

/// All doors of the demo.
#[derive(Debug)]
pub(super) struct DemoDoors {
    /// Sorted by name.
    pub(super) doors: Vec<DemoDoor>,
}

impl DemoDoors {
    /// `count` doors, spread over the floors. On the locked floor one goes offline, one is open,
    /// and those of `faults` have their fault.
    pub(super) fn new(count: u32, faults: &[Fault]) -> anyhow::Result<Self> {
        let mut doors = Vec::new();
        for number in 1..=u64::from(count) {
            let floor = 1 + (number - 1) % FLOORS;
            doors.push(DemoDoor {
                id: format!("door-{number:04}").parse()?,
                floor,
                scenario: match floor {
                    LOCKED_FLOOR => Scenario::Locks,
                    _ => Scenario::Bystander,
                },
            });
        }
        let mut demo = Self { doors };
        for fault in faults {
            let FaultKind::Jam = fault.kind;
            demo.find(&fault.door)?.scenario = Scenario::Jams;
        }
        for scenario in [Scenario::Offline, Scenario::Open] {
            let free = demo
                .doors
                .iter_mut()
                .find(|door| door.scenario == Scenario::Locks);
            free.ok_or_else(|| {
                Failure::new("--fault: too few doors of floor 3 are left to lock")
                    .next("more doors: --doors N")
            })?
            .scenario = scenario;
        }
        Ok(demo)
    }

    /// Finds a door of the locked floor.
    fn find(&mut self, name: &str) -> Result<&mut DemoDoor, Failure> {
        let candidates: Vec<String> = self
            .of_locked_floor()
            .map(|door| door.id.to_string())
            .collect();
        let known = candidates.iter().map(String::as_str);
        let suggestion = suggest::closest(name, known).or(candidates.first().map(String::as_str));
        let next = suggestion.map_or(String::new(), |suggestion| {
            format!("a door of floor {LOCKED_FLOOR}, such as --fault jam={suggestion}")
        });
        match self.doors.iter_mut().find(|door| door.id.as_str() == name) {
            Some(door) if door.floor == LOCKED_FLOOR => Ok(door),
            Some(door) => Err(Failure::new(format!(
                "--fault: {name} is on floor {}, and only floor {LOCKED_FLOOR} is locked",
                door.floor
            ))
            .next(next)),
            None => Err(Failure::new(format!("--fault: there is no {name}")).next(next)),
        }
    }

    pub(super) fn of_locked_floor(&self) -> impl Iterator<Item = &DemoDoor> {
        self.doors.iter().filter(|door| door.floor == LOCKED_FLOOR)
    }

    /// The first door with this part.
    pub(super) fn first(&self, scenario: Scenario) -> Option<&DemoDoor> {
        self.doors.iter().find(|door| door.scenario == scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jam(door: &str) -> Fault {
        Fault {
            kind: FaultKind::Jam,
            door: door.to_owned(),
        }
    }

    #[test]
    fn scenarios_go_to_free_doors_of_the_locked_floor() {
        let demo = DemoDoors::new(24, &[jam("door-0003")]).unwrap();
        let name = |scenario| demo.first(scenario).unwrap().id.to_string();
        assert_eq!(name(Scenario::Jams), "door-0003");
        assert_eq!(
            (name(Scenario::Offline), name(Scenario::Open)),
            ("door-0007".to_owned(), "door-0011".to_owned())
        );
        assert_eq!(demo.of_locked_floor().count(), 6);
        assert_eq!(
            demo.doors
                .iter()
                .filter(|door| door.scenario == Scenario::Bystander)
                .count(),
            18
        );
    }

    #[test]
    fn a_fault_outside_of_the_locked_floor_is_refused() {
        let error = DemoDoors::new(24, &[jam("door-0005")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("door-0005 is on floor 1"), "{error}");
        assert!(
            DemoDoors::new(24, &[jam("door-0099")])
                .unwrap_err()
                .to_string()
                .contains("no door-0099")
        );
    }
}

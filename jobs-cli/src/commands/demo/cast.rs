//! The doors of the demo: their floors, and what happens to each.

use iothub_protocol::DeviceId;

use crate::cli::demo::{Fault, FaultKind};
use crate::failure::Failure;
use crate::suggest;

pub(super) const BUILDING: u64 = 43;

pub(super) const FLOORS: u64 = 4;

pub(super) const LOCKED_FLOOR: u64 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: DeviceId,
    /// The floor that it will be assigned to.
    pub(super) floor: u64,
    pub(super) part: Part,
}

/// What happens to a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
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
pub(super) struct Cast {
    /// Sorted by name.
    pub(super) doors: Vec<Member>,
}

impl Cast {
    /// `count` doors, spread over the floors. On the locked floor one goes offline, one is open,
    /// and those of `faults` have their fault.
    pub(super) fn new(count: u32, faults: &[Fault]) -> anyhow::Result<Self> {
        let mut doors = Vec::new();
        for number in 1..=u64::from(count) {
            let floor = 1 + (number - 1) % FLOORS;
            doors.push(Member {
                id: format!("door-{number:04}").parse()?,
                floor,
                part: match floor {
                    LOCKED_FLOOR => Part::Locks,
                    _ => Part::Bystander,
                },
            });
        }
        let mut cast = Self { doors };
        for fault in faults {
            let FaultKind::Jam = fault.kind;
            cast.find(&fault.door)?.part = Part::Jams;
        }
        for part in [Part::Offline, Part::Open] {
            let free = cast.doors.iter_mut().find(|door| door.part == Part::Locks);
            free.ok_or_else(|| {
                Failure::new("--fault: too few doors of floor 3 are left to lock")
                    .next("more doors: --doors N")
            })?
            .part = part;
        }
        Ok(cast)
    }

    /// Finds a door of the locked floor.
    fn find(&mut self, name: &str) -> Result<&mut Member, Failure> {
        let candidates: Vec<String> = self
            .of_locked_floor()
            .map(|door| door.id.to_string())
            .collect();
        let known = candidates.iter().map(String::as_str);
        let meant = suggest::closest(name, known).or(candidates.first().map(String::as_str));
        let next = meant.map_or(String::new(), |meant| {
            format!("a door of floor {LOCKED_FLOOR}, such as --fault jam={meant}")
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

    pub(super) fn of_locked_floor(&self) -> impl Iterator<Item = &Member> {
        self.doors.iter().filter(|door| door.floor == LOCKED_FLOOR)
    }

    /// The first door with this part.
    pub(super) fn first(&self, part: Part) -> Option<&Member> {
        self.doors.iter().find(|door| door.part == part)
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
    fn parts_fall_to_doors_of_the_locked_floor_that_are_free() {
        let cast = Cast::new(24, &[jam("door-0003")]).unwrap();
        let name = |part| cast.first(part).unwrap().id.to_string();
        assert_eq!(name(Part::Jams), "door-0003");
        assert_eq!(
            (name(Part::Offline), name(Part::Open)),
            ("door-0007".to_owned(), "door-0011".to_owned())
        );
        assert_eq!(cast.of_locked_floor().count(), 6);
        assert_eq!(
            cast.doors
                .iter()
                .filter(|door| door.part == Part::Bystander)
                .count(),
            18
        );
    }

    #[test]
    fn a_fault_of_a_door_that_is_not_locked_is_refused() {
        let error = Cast::new(24, &[jam("door-0005")]).unwrap_err().to_string();
        assert!(error.contains("door-0005 is on floor 1"), "{error}");
        assert!(
            Cast::new(24, &[jam("door-0099")])
                .unwrap_err()
                .to_string()
                .contains("no door-0099")
        );
    }
}

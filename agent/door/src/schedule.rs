//! What a schedule wants of the door: a level, computed from entries, week and time at each look.
//!
//! Nothing here is a queue of commands: a level cannot act twice, and after an absence the door
//! wants what the present time asks for. What is unknown never loosens a lock.
//!
//! [`TimedEntry`] is a lock or release that was delivered ahead. [`Week`] is what people write in
//! TOML and doors get as canonical JSON. [`Calendar`] is a week in its zone: what slot 16 gets at a
//! moment, and when that changes; the rules of the zone come from [`zone`].

mod agenda;
mod assigned;
mod calendar;
mod clock;
mod conflict;
mod days;
#[cfg(test)]
mod reference;
mod span;
#[cfg(test)]
mod tests;
mod timed;
mod week;
mod zone;

pub(crate) use agenda::{Agenda, Moment, SAVE_INTERVAL, SavedAgenda};
pub use agenda::{Progress, TimedReport, TimedResult, TimedState};
pub use assigned::{NextChange, WeekReport};
pub use calendar::{Calendar, Level, Occurrence};
pub use days::{Clock, Dates, Days, MonthDay};
pub use timed::{EntryId, TimedEntry};
pub use week::{AssignedWeek, Exception, MAX_BYTES, Otherwise, Week, WeekError, Window, WindowId};
pub use zone::{zone, zoneinfo};

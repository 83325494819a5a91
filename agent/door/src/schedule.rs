//! The door's week: when a schedule locks and releases it.
//!
//! [`Week`] is what people write in TOML and doors get as canonical JSON. [`Calendar`] is a week in
//! its zone: what slot 16 gets at a moment, and when that changes. Both are pure; the rules of the
//! zone come from [`zone`].

mod calendar;
mod conflict;
mod days;
#[cfg(test)]
mod reference;
mod span;
#[cfg(test)]
mod tests;
mod week;
mod zone;

pub use calendar::{Calendar, Level, Occurrence};
pub use days::{Clock, Dates, Days, MonthDay};
pub use week::{AssignedWeek, Exception, MAX_BYTES, Otherwise, Week, WeekError, Window, WindowId};
pub use zone::{zone, zoneinfo};

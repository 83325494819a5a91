//! The hub's persistent state.

mod sqlite;

pub(crate) use sqlite::*;

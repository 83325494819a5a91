//! Rules of the door, each as (time, step) -> actions.

mod alarms;
mod clock;
mod commands;
mod deadlines;
mod desired;
mod exit_handle;
mod faults;
mod fire;
mod forced_lock;
mod grant;
mod ids;
mod modes;
mod passage;
mod proof;
mod properties;
mod record;
mod releases;
mod replies;
mod restart;
mod retries;
mod rig;
mod saved;
mod secured;
mod self_test;
mod strike;
mod strikes;

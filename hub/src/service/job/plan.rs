//! What a job does next, as pure functions of the time and what is stored. The runner asks again
//! after every step, so a hub that was killed goes on where the store says it was.
//!
//! A job starts by the wall's clock. How long it may take is measured by a clock that nobody sets,
//! from its start on; after a restart of the hub, from what the wall's says then.

use std::time::{Duration, Instant};

use iothub_protocol::job::JobStatus;
use jiff::{SignedDuration, Timestamp};

/// A job in the future says `queued` for at least this long, as Azure's do: clients look for it
/// right after they made the job.
const QUEUED_FOR: SignedDuration = SignedDuration::from_secs(1);

/// Calls of one job that are on their way, or wait for their devices, at once. Each holds a few
/// hundred bytes while it waits.
const IN_FLIGHT: u64 = 50_000;

/// Answers of one job that may wait for the store while it goes on sending; when there are more,
/// the store is behind and sending stops.
const HELD: u64 = 2_000;

/// The same, in bytes of their payloads.
pub(super) const HELD_BYTES: usize = 8 << 20;

/// Calls end with the job's time; what the registry says of them may come this much later.
const GRACE: Duration = Duration::from_secs(2);

/// What the plan depends on.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) status: JobStatus,
    pub(super) created: Timestamp,
    pub(super) start: Timestamp,
    pub(super) max_execution: Duration,
}

/// How far a running job has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Devices {
    /// Devices it has not begun with.
    pub(super) pending: u64,
    /// Devices whose connection is awaited; they are `pending` on disk.
    pub(super) waiting: u64,
    /// Devices that have connected after such a wait and are sent their call next.
    pub(super) online: u64,
    /// Devices that have been sent their call, and of which nothing is stored.
    pub(super) in_flight: u64,
    /// Devices whose outcome is known and not stored.
    pub(super) held: u64,
    /// How much they have said.
    pub(super) held_bytes: usize,
}

/// The next step of a job that has not started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing to do before this time.
    Wait(Timestamp),
    /// From `queued` to `scheduled`.
    Schedule,
    /// Find the devices and run.
    Start,
    /// The start was missed by so much that it must not be made up for.
    Miss,
    /// It runs, or is over.
    Nothing,
}

/// The next step of one that runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RunStep {
    /// Begin with those that have connected, and with up to so many others; their calls have this
    /// long.
    Send { at_most: u64, within: Duration },
    /// Store the answers.
    Store,
    /// Wait for answers until this time.
    Wait(Instant),
    /// Every device is done, or the time is up: what is not done has failed.
    Complete,
}

impl Job {
    /// When it starts: a start in the past means at once.
    pub(super) fn starts(&self) -> Timestamp {
        self.start.max(self.created)
    }

    /// When its time is up, if nobody sets the clock.
    fn ends(&self) -> Timestamp {
        self.starts()
            .saturating_add(
                SignedDuration::try_from(self.max_execution).unwrap_or(SignedDuration::MAX),
            )
            .unwrap_or(Timestamp::MAX)
    }

    /// When its time is up, if it begins to run (again) now. Never longer than it may run at all,
    /// whatever the wall's clock says.
    pub(super) fn deadline(&self, wall: Timestamp, steady: Instant) -> Instant {
        /// As good as never, and no overflow.
        const YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let left = Duration::try_from(self.ends().duration_since(wall)).unwrap_or_default();
        steady + left.min(self.max_execution).min(YEARS)
    }
}

/// What a job that has not started does at `now`.
pub(super) fn plan(now: Timestamp, job: &Job) -> Step {
    if !matches!(
        job.status,
        JobStatus::Queued | JobStatus::Scheduled | JobStatus::Enqueued
    ) {
        return Step::Nothing;
    }
    let starts = job.starts();
    if now >= job.ends() && now > starts {
        Step::Miss
    } else if now >= starts {
        Step::Start
    } else if job.status == JobStatus::Scheduled {
        Step::Wait(starts)
    } else {
        let queued_until = job
            .created
            .saturating_add(QUEUED_FOR)
            .unwrap_or(Timestamp::MAX);
        if now >= queued_until {
            Step::Schedule
        } else {
            Step::Wait(queued_until.min(starts))
        }
    }
}

/// What a job that runs and whose time is up at `ends` does at `now`.
pub(super) fn plan_run(now: Instant, ends: Instant, devices: Devices) -> RunStep {
    let left = ends.saturating_duration_since(now);
    let is_open = devices.held < HELD && devices.held_bytes < HELD_BYTES && !left.is_zero();
    let begun = devices.in_flight + devices.waiting + devices.online;
    let at_most = devices.pending.min(IN_FLIGHT.saturating_sub(begun));
    let last_answer = ends + GRACE;
    if is_open && at_most + devices.online > 0 {
        RunStep::Send {
            at_most,
            within: left,
        }
    } else if devices.held > 0 {
        RunStep::Store
    } else if devices.in_flight + devices.waiting > 0 && now < last_answer {
        RunStep::Wait(last_answer)
    } else {
        RunStep::Complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use JobStatus::{Cancelled, Queued, Running, Scheduled};

    /// A time in the minute of the test.
    fn at(second: f64) -> Timestamp {
        let base: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        base + SignedDuration::try_from_secs_f64(second).unwrap()
    }

    fn job(status: JobStatus, start: f64) -> Job {
        Job {
            status,
            created: at(0.0),
            start: at(start),
            max_execution: Duration::from_secs(20),
        }
    }

    fn waiting(pending: u64, in_flight: u64, held: u64) -> Devices {
        Devices {
            pending,
            in_flight,
            held,
            ..Devices::default()
        }
    }

    fn offline(pending: u64, waiting: u64, online: u64) -> Devices {
        Devices {
            pending,
            waiting,
            online,
            ..Devices::default()
        }
    }

    #[test]
    fn a_job_stays_queued_for_a_second_and_then_waits_for_its_start() {
        for (time, status, expected) in [
            (0.0, Queued, Step::Wait(at(1.0))),
            (0.9, Queued, Step::Wait(at(1.0))),
            (1.0, Queued, Step::Schedule),
            (1.0, Scheduled, Step::Wait(at(10.0))),
            (9.9, Scheduled, Step::Wait(at(10.0))),
            (10.0, Scheduled, Step::Start),
            (10.0, Queued, Step::Start),
            (29.9, Scheduled, Step::Start),
            (30.0, Scheduled, Step::Miss),
            (30.0, Cancelled, Step::Nothing),
        ] {
            assert_eq!(
                plan(at(time), &job(status, 10.0)),
                expected,
                "{status:?} at {time}"
            );
        }
    }

    #[test]
    fn a_start_within_a_second_is_not_delayed() {
        assert_eq!(plan(at(0.0), &job(Queued, 0.5)), Step::Wait(at(0.5)));
        assert_eq!(plan(at(0.5), &job(Queued, 0.5)), Step::Start);
    }

    #[test]
    fn a_job_with_a_start_in_the_past_starts_at_once_and_gets_its_full_time() {
        let job = job(Queued, -86_400.0);
        assert_eq!(plan(at(0.0), &job), Step::Start);
        assert_eq!(job.ends(), at(20.0));
    }

    #[test]
    fn a_job_with_no_execution_time_starts_only_at_its_exact_start() {
        let job = Job {
            max_execution: Duration::ZERO,
            ..job(Scheduled, 10.0)
        };
        assert_eq!(plan(at(10.0), &job), Step::Start);
        assert_eq!(plan(at(10.1), &job), Step::Miss);
    }

    #[test]
    fn a_running_job_sends_until_all_are_done_or_its_time_is_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let ends = at(20);
        let sends = |at_most, seconds| RunStep::Send {
            at_most,
            within: Duration::from_secs(seconds),
        };
        for (time, devices, expected) in [
            (0, waiting(3, 0, 0), sends(3, 20)),
            (15, waiting(3, 5, 0), sends(3, 5)),
            (2, waiting(0, 5, 0), RunStep::Wait(at(22))),
            (2, waiting(9, IN_FLIGHT, 0), RunStep::Wait(at(22))),
            (2, waiting(9, IN_FLIGHT - 2, 0), sends(2, 18)),
            (2, waiting(0, 0, 0), RunStep::Complete),
            (20, waiting(3, 0, 0), RunStep::Complete),
            (20, waiting(3, 5, 0), RunStep::Wait(at(22))),
            (22, waiting(3, 5, 0), RunStep::Complete),
            // Offline devices are awaited like answers, until the job's time is up.
            (2, offline(0, 4, 0), RunStep::Wait(at(22))),
            (2, offline(3, 4, 0), sends(3, 18)),
            (2, offline(0, 4, 2), sends(0, 18)),
            (2, offline(9, IN_FLIGHT - 2, 2), sends(0, 18)),
            (20, offline(0, 4, 2), RunStep::Wait(at(22))),
            (20, offline(0, 0, 2), RunStep::Complete),
            (22, offline(0, 4, 0), RunStep::Complete),
        ] {
            let step = plan_run(at(time), ends, devices);
            assert_eq!(step, expected, "{devices:?} at {time}");
        }
    }

    #[test]
    fn a_job_stops_sending_while_the_store_is_behind_and_stores_all_answers_before_it_completes() {
        let now = Instant::now();
        let ends = now + Duration::from_secs(20);
        let step = |now, held| plan_run(now, ends, waiting(9, 10_000, held));
        assert!(matches!(step(now, HELD - 1), RunStep::Send { .. }));
        assert_eq!(step(now, HELD), RunStep::Store);
        assert_eq!(step(now, 10_000), RunStep::Store);
        let much = Devices {
            held_bytes: HELD_BYTES,
            ..waiting(9, 10_000, 64)
        };
        assert_eq!(plan_run(now, ends, much), RunStep::Store);
        assert_eq!(step(ends, 1), RunStep::Store);
        assert_eq!(step(ends + GRACE, 1), RunStep::Store);
        assert_eq!(step(ends + GRACE, 0), RunStep::Complete);
    }

    #[test]
    fn the_wall_clock_sets_the_deadline_once_and_never_beyond_the_maximum_execution_time() {
        let steady = Instant::now();
        let seconds = |left: Instant| left.duration_since(steady).as_secs();
        let job = job(Running, 10.0);
        assert_eq!(seconds(job.deadline(at(10.0), steady)), 20);
        assert_eq!(seconds(job.deadline(at(25.0), steady)), 5, "again");
        assert_eq!(seconds(job.deadline(at(31.0), steady)), 0, "too late");
        assert_eq!(seconds(job.deadline(at(-86_400.0), steady)), 20, "set back");
        let endless = Job {
            max_execution: Duration::MAX,
            ..job
        };
        assert!(endless.deadline(at(10.0), steady) > steady);
    }
}

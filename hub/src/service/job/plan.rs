//! Decides a job's next step, as pure functions of the time and the stored state. The runner asks
//! again after every step, so a hub that was killed continues from the stored state.
//!
//! The wall clock starts a job. A monotonic clock measures its execution time from then on; after a
//! restart of the hub, the wall clock says how much of it is left.

use std::time::{Duration, Instant};

use iothub_protocol::job::JobStatus;
use jiff::{SignedDuration, Timestamp};

/// A job in the future stays `queued` for at least this long, as on Azure: clients poll for that
/// status right after they created the job.
const MIN_QUEUED_TIME: SignedDuration = SignedDuration::from_secs(1);

/// The most calls of one job that are in flight or wait for their devices. Each takes a few hundred
/// bytes.
const MAX_IN_FLIGHT: u64 = 50_000;

/// The most answers of one job that wait for the store while it continues to send; beyond this the
/// store is too slow and sending stops.
const MAX_HELD: u64 = 2_000;

/// The same limit in bytes of their payloads.
pub(super) const MAX_HELD_BYTES: usize = 8 << 20;

/// Calls end with the job's time; their outcomes may arrive this much later.
const GRACE: Duration = Duration::from_secs(2);

/// The state of a job that its plan depends on.
#[derive(Debug, Clone)]
pub(super) struct JobSchedule {
    pub(super) status: JobStatus,
    pub(super) created: Timestamp,
    pub(super) start: Timestamp,
    pub(super) max_execution: Duration,
}

/// The progress of a running job, in numbers of devices.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Not begun.
    pub(super) pending: u64,
    /// Waiting for the device to connect; `pending` on disk.
    pub(super) waiting: u64,
    /// Connected after such a wait; called next.
    pub(super) online: u64,
    /// Called, without a stored outcome.
    pub(super) in_flight: u64,
    /// The outcome is known but not stored.
    pub(super) held: u64,
    /// Payload bytes of the outcomes in `held`.
    pub(super) held_bytes: usize,
}

/// The next step of a job that has not started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StartStep {
    /// Nothing to do before this time.
    Wait(Timestamp),
    /// Change the status from `queued` to `scheduled`.
    Schedule,
    /// Select the devices and run.
    Start,
    /// The whole execution time has passed: fail the job instead of starting it late.
    Miss,
    /// It is running, or it has ended.
    Nothing,
}

/// The next step of a running job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RunStep {
    /// Call the devices that have connected, and up to `at_most` others; their calls must end
    /// `within`.
    Send { at_most: u64, within: Duration },
    /// Store the answers.
    Store,
    /// Wait for answers until then.
    Wait(Instant),
    /// Every device is done, or the time is over: the rest has failed.
    Complete,
}

impl JobSchedule {
    /// When it starts: a start in the past means at once.
    pub(super) fn start_time(&self) -> Timestamp {
        self.start.max(self.created)
    }

    /// When its time is over, if nobody sets the clock.
    fn end_time(&self) -> Timestamp {
        self.start_time()
            .saturating_add(
                SignedDuration::try_from(self.max_execution).unwrap_or(SignedDuration::MAX),
            )
            .unwrap_or(Timestamp::MAX)
    }

    /// When its time is over, if it starts or resumes now. At most the maximum execution time from
    /// now, even if the wall clock was set back.
    pub(super) fn deadline(&self, wall_time: Timestamp, now: Instant) -> Instant {
        /// Practically never, without overflow.
        const YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let left =
            Duration::try_from(self.end_time().duration_since(wall_time)).unwrap_or_default();
        now + left.min(self.max_execution).min(YEARS)
    }
}

/// The next step of a job that has not started.
pub(super) fn plan(now: Timestamp, job: &JobSchedule) -> StartStep {
    if !matches!(
        job.status,
        JobStatus::Queued | JobStatus::Scheduled | JobStatus::Enqueued
    ) {
        return StartStep::Nothing;
    }
    let start_time = job.start_time();
    if now >= job.end_time() && now > start_time {
        StartStep::Miss
    } else if now >= start_time {
        StartStep::Start
    } else if job.status == JobStatus::Scheduled {
        StartStep::Wait(start_time)
    } else {
        let queued_until = job
            .created
            .saturating_add(MIN_QUEUED_TIME)
            .unwrap_or(Timestamp::MAX);
        if now >= queued_until {
            StartStep::Schedule
        } else {
            StartStep::Wait(queued_until.min(start_time))
        }
    }
}

/// The next step of a running job whose time is over at `deadline`.
pub(super) fn plan_run(now: Instant, deadline: Instant, devices: Progress) -> RunStep {
    let left = deadline.saturating_duration_since(now);
    let is_open = devices.held < MAX_HELD && devices.held_bytes < MAX_HELD_BYTES && !left.is_zero();
    let begun = devices.in_flight + devices.waiting + devices.online;
    let at_most = devices.pending.min(MAX_IN_FLIGHT.saturating_sub(begun));
    let last_answer = deadline + GRACE;
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

    /// Seconds after the base time of these tests.
    fn at(second: f64) -> Timestamp {
        let base: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        base + SignedDuration::try_from_secs_f64(second).unwrap()
    }

    fn job(status: JobStatus, start: f64) -> JobSchedule {
        JobSchedule {
            status,
            created: at(0.0),
            start: at(start),
            max_execution: Duration::from_secs(20),
        }
    }

    fn waiting(pending: u64, in_flight: u64, held: u64) -> Progress {
        Progress {
            pending,
            in_flight,
            held,
            ..Progress::default()
        }
    }

    fn offline(pending: u64, waiting: u64, online: u64) -> Progress {
        Progress {
            pending,
            waiting,
            online,
            ..Progress::default()
        }
    }

    #[test]
    fn a_job_stays_queued_for_a_second_and_then_waits_for_its_start() {
        for (time, status, expected) in [
            (0.0, Queued, StartStep::Wait(at(1.0))),
            (0.9, Queued, StartStep::Wait(at(1.0))),
            (1.0, Queued, StartStep::Schedule),
            (1.0, Scheduled, StartStep::Wait(at(10.0))),
            (9.9, Scheduled, StartStep::Wait(at(10.0))),
            (10.0, Scheduled, StartStep::Start),
            (10.0, Queued, StartStep::Start),
            (29.9, Scheduled, StartStep::Start),
            (30.0, Scheduled, StartStep::Miss),
            (30.0, Cancelled, StartStep::Nothing),
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
        assert_eq!(plan(at(0.0), &job(Queued, 0.5)), StartStep::Wait(at(0.5)));
        assert_eq!(plan(at(0.5), &job(Queued, 0.5)), StartStep::Start);
    }

    #[test]
    fn a_job_with_a_start_in_the_past_starts_at_once_and_gets_its_full_time() {
        let job = job(Queued, -86_400.0);
        assert_eq!(plan(at(0.0), &job), StartStep::Start);
        assert_eq!(job.end_time(), at(20.0));
    }

    #[test]
    fn a_job_with_no_execution_time_starts_only_at_its_exact_start() {
        let job = JobSchedule {
            max_execution: Duration::ZERO,
            ..job(Scheduled, 10.0)
        };
        assert_eq!(plan(at(10.0), &job), StartStep::Start);
        assert_eq!(plan(at(10.1), &job), StartStep::Miss);
    }

    #[test]
    fn a_running_job_sends_until_all_are_done_or_its_time_is_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let deadline = at(20);
        let sends = |at_most, seconds| RunStep::Send {
            at_most,
            within: Duration::from_secs(seconds),
        };
        for (time, devices, expected) in [
            (0, waiting(3, 0, 0), sends(3, 20)),
            (15, waiting(3, 5, 0), sends(3, 5)),
            (2, waiting(0, 5, 0), RunStep::Wait(at(22))),
            (2, waiting(9, MAX_IN_FLIGHT, 0), RunStep::Wait(at(22))),
            (2, waiting(9, MAX_IN_FLIGHT - 2, 0), sends(2, 18)),
            (2, waiting(0, 0, 0), RunStep::Complete),
            (20, waiting(3, 0, 0), RunStep::Complete),
            (20, waiting(3, 5, 0), RunStep::Wait(at(22))),
            (22, waiting(3, 5, 0), RunStep::Complete),
            // Offline devices count like unanswered calls, until the job's time is over.
            (2, offline(0, 4, 0), RunStep::Wait(at(22))),
            (2, offline(3, 4, 0), sends(3, 18)),
            (2, offline(0, 4, 2), sends(0, 18)),
            (2, offline(9, MAX_IN_FLIGHT - 2, 2), sends(0, 18)),
            (20, offline(0, 4, 2), RunStep::Wait(at(22))),
            (20, offline(0, 0, 2), RunStep::Complete),
            (22, offline(0, 4, 0), RunStep::Complete),
        ] {
            let step = plan_run(at(time), deadline, devices);
            assert_eq!(step, expected, "{devices:?} at {time}");
        }
    }

    #[test]
    fn a_job_stops_sending_while_the_store_is_behind_and_stores_all_answers_before_it_completes() {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(20);
        let step = |now, held| plan_run(now, deadline, waiting(9, 10_000, held));
        assert!(matches!(step(now, MAX_HELD - 1), RunStep::Send { .. }));
        assert_eq!(step(now, MAX_HELD), RunStep::Store);
        assert_eq!(step(now, 10_000), RunStep::Store);
        let much = Progress {
            held_bytes: MAX_HELD_BYTES,
            ..waiting(9, 10_000, 64)
        };
        assert_eq!(plan_run(now, deadline, much), RunStep::Store);
        assert_eq!(step(deadline, 1), RunStep::Store);
        assert_eq!(step(deadline + GRACE, 1), RunStep::Store);
        assert_eq!(step(deadline + GRACE, 0), RunStep::Complete);
    }

    #[test]
    fn the_wall_clock_sets_the_deadline_once_and_never_beyond_the_maximum_execution_time() {
        let now = Instant::now();
        let seconds = |left: Instant| left.duration_since(now).as_secs();
        let job = job(Running, 10.0);
        assert_eq!(seconds(job.deadline(at(10.0), now)), 20);
        assert_eq!(seconds(job.deadline(at(25.0), now)), 5, "resumed");
        assert_eq!(seconds(job.deadline(at(31.0), now)), 0, "too late");
        assert_eq!(seconds(job.deadline(at(-86_400.0), now)), 20, "set back");
        let endless = JobSchedule {
            max_execution: Duration::MAX,
            ..job
        };
        assert!(endless.deadline(at(10.0), now) > now);
    }
}

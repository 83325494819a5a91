//! What a job does next, as a pure function of the time and what is stored. The runner asks it again after every step, so a hub that was
//! killed goes on where the store says it was.

use std::time::Duration;

use iothub_protocol::job::JobStatus;
use jiff::{SignedDuration, Timestamp};

/// A job in the future says `queued` for at least this long, as Azure's do: clients look for it right after they made the job.
const QUEUED_FOR: SignedDuration = SignedDuration::from_secs(1);

/// Calls of one job that are on their way at once. Each holds a few hundred bytes while it waits for its device.
pub(super) const IN_FLIGHT: u64 = 50_000;

/// Calls end with the job's time; what the registry says of them may come this much later.
const GRACE: SignedDuration = SignedDuration::from_secs(2);

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
    /// Devices that have been sent their call and have not answered.
    pub(super) in_flight: u64,
}

/// The next step.
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
    /// Begin with up to so many devices; their calls have this long.
    Send { at_most: u64, within: Duration },
    /// Every device is done, or the time is up: what is not done has failed. Until then answers are waited for.
    Complete,
    /// It is over.
    Nothing,
}

impl Job {
    /// When it starts: a start in the past means at once.
    pub(super) fn starts(&self) -> Timestamp {
        self.start.max(self.created)
    }

    /// When its time is up.
    pub(super) fn ends(&self) -> Timestamp {
        self.starts()
            .saturating_add(
                SignedDuration::try_from(self.max_execution).unwrap_or(SignedDuration::MAX),
            )
            .unwrap_or(Timestamp::MAX)
    }
}

/// What `job` does at `now`.
pub(super) fn plan(now: Timestamp, job: &Job, devices: Devices) -> Step {
    match job.status {
        JobStatus::Queued | JobStatus::Scheduled | JobStatus::Enqueued => plan_start(now, job),
        JobStatus::Running => plan_running(now, job, devices),
        _ => Step::Nothing,
    }
}

fn plan_start(now: Timestamp, job: &Job) -> Step {
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

fn plan_running(now: Timestamp, job: &Job, devices: Devices) -> Step {
    let left = Duration::try_from(job.ends().duration_since(now)).unwrap_or_default();
    let at_most = devices
        .pending
        .min(IN_FLIGHT.saturating_sub(devices.in_flight));
    let last_answer = job.ends().saturating_add(GRACE).unwrap_or(Timestamp::MAX);
    if at_most > 0 && !left.is_zero() {
        Step::Send {
            at_most,
            within: left,
        }
    } else if devices.in_flight > 0 && now < last_answer {
        Step::Wait(last_answer)
    } else {
        Step::Complete
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

    fn waiting(pending: u64, in_flight: u64) -> Devices {
        Devices { pending, in_flight }
    }

    #[test]
    fn a_job_waits_for_its_start_and_says_queued_for_a_second() {
        let none = Devices::default();
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
                plan(at(time), &job(status, 10.0), none),
                expected,
                "{status:?} at {time}"
            );
        }
    }

    #[test]
    fn a_start_sooner_than_a_second_does_not_wait_for_it() {
        assert_eq!(
            plan(at(0.0), &job(Queued, 0.5), Devices::default()),
            Step::Wait(at(0.5))
        );
        assert_eq!(
            plan(at(0.5), &job(Queued, 0.5), Devices::default()),
            Step::Start
        );
    }

    #[test]
    fn a_start_in_the_past_means_at_once_and_counts_from_then() {
        let job = job(Queued, -86_400.0);
        assert_eq!(plan(at(0.0), &job, Devices::default()), Step::Start);
        assert_eq!(job.ends(), at(20.0));
    }

    #[test]
    fn a_job_of_no_time_starts_at_its_very_moment_and_not_later() {
        let job = Job {
            max_execution: Duration::ZERO,
            ..job(Scheduled, 10.0)
        };
        assert_eq!(plan(at(10.0), &job, Devices::default()), Step::Start);
        assert_eq!(plan(at(10.1), &job, Devices::default()), Step::Miss);
    }

    #[test]
    fn a_running_job_sends_until_all_are_done_or_its_time_is_up() {
        let job = job(Running, 10.0);
        let sends = |at_most, seconds| Step::Send {
            at_most,
            within: Duration::from_secs(seconds),
        };
        for (time, devices, expected) in [
            (10.0, waiting(3, 0), sends(3, 20)),
            (25.0, waiting(3, 5), sends(3, 5)),
            (12.0, waiting(0, 5), Step::Wait(at(32.0))),
            (12.0, waiting(9, IN_FLIGHT), Step::Wait(at(32.0))),
            (12.0, waiting(9, IN_FLIGHT - 2), sends(2, 18)),
            (12.0, waiting(0, 0), Step::Complete),
            (30.0, waiting(3, 0), Step::Complete),
            (30.0, waiting(3, 5), Step::Wait(at(32.0))),
            (32.0, waiting(3, 5), Step::Complete),
        ] {
            assert_eq!(
                plan(at(time), &job, devices),
                expected,
                "{devices:?} at {time}"
            );
        }
    }
}

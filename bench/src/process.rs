//! Resource usage of a child process, read from /proc.

use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Child;

pub(crate) struct Process {
    name: &'static str,
    id: u32,
}

/// Resident bytes and processor time (user + system) so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) resident: u64,
    /// The part of `resident` without mapped files: heap and stacks.
    pub(crate) anonymous: u64,
    pub(crate) cpu: Duration,
}

impl Process {
    /// `child` must be running.
    pub(crate) fn of(name: &'static str, child: &Child) -> anyhow::Result<Self> {
        let id = child
            .id()
            .with_context(|| format!("{name} ended at once"))?;
        Ok(Self { name, id })
    }

    /// Voluntary context switches of its threads so far.
    pub(crate) fn wakes(&self) -> anyhow::Result<u64> {
        let mut wakes = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.id))? {
            let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            wakes += line
                .and_then(|count| count.trim().parse::<u64>().ok())
                .unwrap_or(0);
        }
        Ok(wakes)
    }

    /// Present usage; an error if the child has ended.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let id = self.id;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))
            .with_context(|| format!("{} ended early", self.name))?;
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.trim_end_matches("kB").trim().parse::<u64>().ok())
                .map(|kilobytes| kilobytes * 1024)
                .with_context(|| format!("no {key} of {}", self.name))
        };
        let (resident, anonymous) = (bytes("VmRSS:")?, bytes("RssAnon:")?);
        // /proc/PID/stat counts in ticks of 10 ms; schedstat of each thread counts nanoseconds on
        // the processor.
        let mut cpu = Duration::ZERO;
        for task in std::fs::read_dir(format!("/proc/{id}/task"))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            cpu += Duration::from_nanos(
                text.split_whitespace()
                    .next()
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(0),
            );
        }
        Ok(Usage {
            resident,
            anonymous,
            cpu,
        })
    }
}

//! What a child process has used, read from /proc.

use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Child;

/// The accounting of a child process.
pub(crate) struct Process {
    name: &'static str,
    id: u32,
}

/// Resident bytes and processor time (user + system) so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) resident: u64,
    pub(crate) cpu: Duration,
}

impl Process {
    /// That of `child`, which must be running.
    pub(crate) fn of(name: &'static str, child: &Child) -> anyhow::Result<Self> {
        let id = child
            .id()
            .with_context(|| format!("{name} ended at once"))?;
        Ok(Self { name, id })
    }

    /// Usage now; an error when the child has ended.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let id = self.id;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))
            .with_context(|| format!("{} ended before its time", self.name))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
            .with_context(|| format!("no VmRSS of {}", self.name))?
            * 1024;
        // /proc/PID/stat counts in ticks of 10 ms; schedstat of each thread counts nanoseconds on the processor.
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
        Ok(Usage { resident, cpu })
    }
}

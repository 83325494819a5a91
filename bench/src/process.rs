//! Child processes: their resource usage, read from /proc, and those that answer commands.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a worker may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(180);

pub(crate) struct Process {
    name: &'static str,
    id: u32,
}

/// Resident bytes, and processor time (user + system) and context switches so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) resident: u64,
    /// The part of `resident` without mapped files: heap and stacks.
    pub(crate) anonymous: u64,
    pub(crate) cpu: Duration,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

/// Length of a clock tick of /proc: USER_HZ is 100 on every architecture that the hub runs on.
const TICK: Duration = Duration::from_millis(10);

impl Process {
    /// `child` must be running.
    pub(crate) fn of(name: &'static str, child: &Child) -> anyhow::Result<Self> {
        let id = child
            .id()
            .with_context(|| format!("{name} ended at once"))?;
        Ok(Self { name, id })
    }

    /// Present usage; an error if the child has ended.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let id = self.id;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))
            .with_context(|| format!("{} ended early", self.name))?;
        let bytes = |key| anyhow::Ok(number(&status, key).context("no resident size")? * 1024);
        let (resident, anonymous) = (bytes("VmRSS:")?, bytes("RssAnon:")?);
        // schedstat has nanoseconds, of living threads only; stat has ticks, of ended ones too.
        // Neither is ever ahead of the true time.
        let mut cpu = Duration::ZERO;
        let [mut voluntary_switches, mut involuntary_switches] = [0; 2];
        for task in std::fs::read_dir(format!("/proc/{id}/task"))? {
            let task = task?.path();
            let read = |file| std::fs::read_to_string(task.join(file)).unwrap_or_default();
            cpu += Duration::from_nanos(number(&read("schedstat"), "").unwrap_or(0));
            let status = read("status");
            voluntary_switches += number(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            involuntary_switches += number(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let (_, stat) = stat.rsplit_once(')').context("a name in parentheses")?;
        let ticks = stat.split_whitespace().skip(11).take(2);
        let ticks = ticks.map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(Usage {
            resident,
            anonymous,
            cpu: cpu.max(TICK * ticks),
            voluntary_switches,
            involuntary_switches,
        })
    }
}

/// Processor time of all processes of the machine since its start.
pub(crate) fn machine_busy() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let fields = text.lines().next().context("no line")?.split_whitespace();
    let ticks: Vec<u32> = fields.skip(1).map(str::parse).collect::<Result<_, _>>()?;
    // user, nice, system; then idle, iowait; then irq, softirq
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|n| ticks.get(*n));
    Ok(TICK * busy.sum::<u32>())
}

/// The number after `key` at the start of a line.
fn number(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines();
    let rest = lines.find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A child process of this program, which answers each line on its standard input with a line of
/// JSON. It ends with its standard input, and is killed when it is dropped.
pub(crate) struct Worker {
    pub(crate) process: Process,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) child: Child,
}

impl Worker {
    pub(crate) fn start(name: &'static str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(name)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            process: Process::of(name, &child)?,
            stdin: child.stdin.take().context("no standard input")?,
            lines: BufReader::new(child.stdout.take().context("no standard output")?).lines(),
            child,
        })
    }

    /// Like [`Worker::start`], with `orders` as its first line.
    pub(crate) async fn start_with(
        name: &'static str,
        orders: &impl Serialize,
    ) -> anyhow::Result<Self> {
        let mut worker = Self::start(name, &[])?;
        worker.send(&serde_json::to_string(orders)?).await?;
        Ok(worker)
    }

    pub(crate) async fn send(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self.stdin.write_all(format!("{line}\n").as_bytes()).await?)
    }

    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let name = self.process.name;
        let line = tokio::time::timeout(ANSWER_DEADLINE, self.lines.next_line()).await;
        let line = line.with_context(|| format!("{name} gave no answer in time"))??;
        let line = line.with_context(|| format!("{name} ended early"))?;
        Ok(serde_json::from_str(&line)?)
    }

    pub(crate) async fn call<T: DeserializeOwned>(&mut self, line: &str) -> anyhow::Result<T> {
        self.send(line).await?;
        self.receive().await
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.stdin);
        let status = self.child.wait().await?;
        ensure!(
            status.success(),
            "{} ended with {status}",
            self.process.name
        );
        Ok(())
    }
}

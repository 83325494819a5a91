//! Programs whose output cannot be written or is not read.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Process;

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// A full disk.
    Full,
    /// A pipe whose reader has exited.
    Gone,
    /// A pipe whose reader does not read.
    Stalled,
    /// Like `Stalled`, and the pipe is full.
    Stuck,
    /// A descriptor that was closed before the program started.
    Closed,
    /// A pipe that the test reads.
    Read,
}

impl Sink {
    /// The descriptor; `open_pipes` keeps stalled pipes open.
    fn stdio(self, open_pipes: &mut Vec<UnixStream>) -> Stdio {
        match self {
            Self::Full => OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into(),
            Self::Gone | Self::Stalled | Self::Stuck => {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                if self == Self::Stuck {
                    theirs.set_nonblocking(true).unwrap();
                    while theirs.write(&[b'x'; 4096]).is_ok() {}
                    theirs.set_nonblocking(false).unwrap();
                }
                if self != Self::Gone {
                    open_pipes.push(ours);
                }
                OwnedFd::from(theirs).into()
            }
            Self::Closed => Stdio::null(),
            Self::Read => Stdio::piped(),
        }
    }
}

/// Starts a program with these sinks as stdout and stderr; `change` sets the rest. The returned
/// sockets keep stalled pipes open.
pub fn spawn_with_sinks(
    program: &Path,
    line: &str,
    (out, err): (Sink, Sink),
    change: impl FnOnce(&mut Command) -> &mut Command,
) -> (Process, Vec<UnixStream>) {
    let mut shell = format!("exec {} {line}", program.display());
    for (sink, descriptor) in [(out, " >&-"), (err, " 2>&-")] {
        if sink == Sink::Closed {
            shell += descriptor;
        }
    }
    let mut open_pipes = Vec::new();
    let mut command = Command::new("sh");
    command
        .args(["-c", &shell])
        .stdin(Stdio::null())
        .stdout(out.stdio(&mut open_pipes))
        .stderr(err.stdio(&mut open_pipes));
    (Process::spawn(change(&mut command)), open_pipes)
}

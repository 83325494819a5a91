//! The control socket of a simulated door: a line with an action in, a line of JSON out.
//! `door-agent sim` is its client.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{SimCommand, SimHandle};

/// Concurrent clients; further ones wait.
const MAX_CLIENTS: usize = 8;
/// Longer than any action.
const MAX_LINE: u64 = 64;
/// Timeout of reading and of writing a line.
const LINE_TIME: Duration = Duration::from_secs(5);

/// A bound control socket.
#[derive(Debug)]
pub struct SimSocket {
    listener: UnixListener,
    path: PathBuf,
    handle: SimHandle,
}

impl SimSocket {
    /// Binds the socket; one left behind by a killed agent is replaced. The permissions of the
    /// directory decide who may connect.
    ///
    /// # Errors
    /// When the path is too long for a socket, or cannot be bound.
    pub fn bind(path: &Path, handle: SimHandle) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            listener: UnixListener::bind(path)?,
            path: path.to_path_buf(),
            handle,
        })
    }

    /// Serves until cancelled, then removes the socket.
    pub async fn run(self, shutdown: CancellationToken) {
        let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
        let serve = async {
            loop {
                let Ok(slot) = Arc::clone(&clients).acquire_owned().await else {
                    return;
                };
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let handle = self.handle.clone();
                        tokio::spawn(async move {
                            if let Err(error) = answer(stream, &handle).await {
                                debug!("a client of the simulated door disconnected: {error}");
                            }
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        warn!("{}: {error}", self.path.display());
                        // Probably out of descriptors: wait until some are closed.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        shutdown.run_until_cancelled(serve).await;
        if let Err(error) = std::fs::remove_file(&self.path) {
            debug!("{}: {error}", self.path.display());
        }
    }
}

async fn answer(mut stream: tokio::net::UnixStream, handle: &SimHandle) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(MAX_LINE));
    timeout(LINE_TIME, reader.read_line(&mut line)).await??;
    let refusal = |error: String| json!({ "error": error });
    let mut reply = match line.parse::<SimCommand>() {
        Ok(command) => match handle.apply(command) {
            Ok(state) => json!(state),
            Err(error) => refusal(error.to_string()),
        },
        Err(error) => refusal(error.to_string()),
    }
    .to_string();
    reply.push('\n');
    timeout(LINE_TIME, writer.write_all(reply.as_bytes())).await?
}

/// Sends an action to the control socket of a running agent; returns its line of JSON, which has
/// the member `error` after a refusal.
///
/// # Errors
/// When no agent listens there, or it does not answer in time.
pub fn send(path: &Path, command: SimCommand) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(LINE_TIME))?;
    stream.set_write_timeout(Some(LINE_TIME))?;
    writeln!(stream, "{command}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use door_core::StrikeConfig;

    use super::super::super::config::BoardConfig;
    use super::*;
    use crate::gpio;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_action_is_performed_and_the_state_returned() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sim.sock");
        std::fs::write(&path, "left behind").unwrap();
        let strike = StrikeConfig::motor_lock();
        let board = gpio::open(&BoardConfig::simulated(), &strike, "lobby-east").unwrap();
        let socket = SimSocket::bind(&path, board.sim.clone().unwrap()).unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(socket.run(shutdown.clone()));

        let sent = path.clone();
        let send = move |command| {
            let path = sent.clone();
            tokio::task::spawn_blocking(move || super::send(&path, command).unwrap())
        };
        let shown = send(SimCommand::Open).await.unwrap();
        assert_eq!(
            shown,
            concat!(
                r#"{"door":"open","bolt":"back","outputs":"deEnergised","jammed":false,"#,
                r#""power":true,"active":[],"faults":{}}"#
            )
        );
        board.wake.poked().await;
        let mut wrong = UnixStream::connect(&path).unwrap();
        wrong.write_all(b"slam\n").unwrap();
        let mut line = String::new();
        tokio::task::spawn_blocking(move || {
            BufReader::new(wrong).read_line(&mut line).unwrap();
            assert!(
                line.starts_with(r#"{"error":"`slam`, expected one of open"#),
                "{line}"
            );
        })
        .await
        .unwrap();

        shutdown.cancel();
        task.await.unwrap();
        assert!(!path.exists());
    }
}

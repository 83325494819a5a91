//! The status socket: a running agent answers `door-agent status` on a Unix socket in its state
//! directory.
//!
//! One connection, one JSON text with a [`Status`], no request: a user with access to the directory
//! may read the state and nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{debug, warn};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// Name of the socket in the state directory.
const SOCKET: &str = "status.sock";
/// Directory of the socket if the state directory cannot hold it, as on a read-only disk or with a
/// path that is too long. Created by tmpfiles.d.
const FALLBACK: &str = "/run/door-agent";
/// Timeout of an exchange, on either side.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest document that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Answer of a running agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Text for people; each line ends with a line feed.
    pub text: String,
    /// The full state as JSON.
    pub document: Value,
}

/// The socket of a running agent; removed when dropped.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl StatusSocket {
    /// Binds the socket: in the state directory, or if that fails in the runtime directory shared
    /// by all agents. The state directory is locked by now, so an existing socket file belongs to a
    /// dead agent.
    ///
    /// # Errors
    /// When both fail; the error is that of the state directory.
    pub fn bind(state_directory: &Path) -> io::Result<Self> {
        Self::bind_in(socket_paths(state_directory, Path::new(FALLBACK)))
    }

    fn bind_in([first, second]: [PathBuf; 2]) -> io::Result<Self> {
        Self::bind_at(first).or_else(|error| Self::bind_at(second).map_err(|_| error))
    }

    fn bind_at(path: PathBuf) -> io::Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        Ok(Self { listener, path })
    }

    /// Answers one caller after another, forever.
    pub async fn serve(&self, status: impl Fn() -> Status) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!("status socket: {error}");
                    // Out of descriptors: wait until some are closed.
                    tokio::time::sleep(EXCHANGE_TIMEOUT).await;
                    continue;
                }
            };
            let text = serde_json::to_string(&status()).expect("a status has string keys only");
            if !matches!(
                timeout(EXCHANGE_TIMEOUT, write(stream, &text)).await,
                Ok(Ok(()))
            ) {
                debug!("a caller of the status socket disconnected");
            }
        }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        // If this fails, the next start removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Queries the agent whose state is in `state_directory`.
///
/// # Errors
/// When no agent of this version answers.
pub async fn ask(state_directory: &Path) -> io::Result<Status> {
    ask_in(socket_paths(state_directory, Path::new(FALLBACK))).await
}

async fn ask_in([first, second]: [PathBuf; 2]) -> io::Result<Status> {
    let exchange = async {
        let stream = match UnixStream::connect(first).await {
            Ok(stream) => stream,
            Err(error) => UnixStream::connect(second).await.map_err(|_| error)?,
        };
        let mut text = String::new();
        stream.take(MAX_BYTES).read_to_string(&mut text).await?;
        serde_json::from_str(&text).map_err(|_| {
            let text = "the running agent is of another version";
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    };
    timeout(EXCHANGE_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Possible socket paths of an agent. In the shared directory the name is a hash of the path of the
/// state directory.
fn socket_paths(state_directory: &Path, shared: &Path) -> [PathBuf; 2] {
    let whole = fs::canonicalize(state_directory);
    let whole = whole.unwrap_or_else(|_| state_directory.to_path_buf());
    let name = crc32fast::hash(whole.as_os_str().as_encoded_bytes());
    [
        state_directory.join(SOCKET),
        shared.join(format!("{name:08x}.{SOCKET}")),
    ]
}

async fn write(mut stream: UnixStream, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn the_socket_falls_back_to_the_shared_directory() {
        let home = tempfile::tempdir().unwrap();
        let shared = home.path().join("run");
        fs::create_dir(&shared).unwrap();
        // The path of a Unix socket has at most 108 bytes.
        let states = ["a", "b"].map(|name| home.path().join("d".repeat(120)).join(name));
        let sockets = states.each_ref().map(|state| {
            fs::create_dir_all(state).unwrap();
            StatusSocket::bind_in(socket_paths(state, &shared)).unwrap()
        });
        for (state, socket) in states.iter().zip(&sockets) {
            let status = Status {
                text: format!("{}\n", state.display()),
                document: json!({}),
            };
            tokio::select! {
                () = socket.serve(|| status.clone()) => unreachable!("it serves forever"),
                answer = ask_in(socket_paths(state, &shared)) => {
                    assert_eq!(answer.unwrap(), status);
                }
            }
        }
        drop(sockets);
        assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_caller_gets_the_document_and_drop_removes_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let socket = StatusSocket::bind(directory.path()).unwrap();
        let status = Status {
            text: "locked\n".to_owned(),
            document: json!({"lockState": "locked"}),
        };
        tokio::select! {
            () = socket.serve(|| status.clone()) => unreachable!("it serves forever"),
            answer = ask(directory.path()) => assert_eq!(answer.unwrap(), status),
        }
        drop(socket);
        assert!(ask(directory.path()).await.is_err());
        assert!(!directory.path().join(SOCKET).exists());
    }
}

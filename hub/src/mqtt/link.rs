//! One socket and its TLS, shared by the task that reads it and by whoever sends to the device.
//!
//! A sender encodes, encrypts and writes under the lock, on its own thread. What the socket does not take goes, encrypted, to a bounded queue that
//! the task empties; a device that lets it fill is disconnected. The lock is a std Mutex, held without any await.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use iothub_protocol::downlink::Downlink;
use rustls::ServerConnection;
use rustls_pki_types::CertificateDer;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::codec;
use crate::session::{DisconnectReason, Link};
use crate::tls;

/// Ciphertext that may wait for a device to read: a few of the largest messages.
const MAX_QUEUED: usize = 512 * 1024;

/// What is read from a socket at once: a TLS record.
const READ_SIZE: usize = 16 * 1024;

thread_local! {
    /// Where sockets are read into: one buffer for a thread, not one for a connection.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
    /// Where packets are encoded.
    static PACKET: RefCell<(String, Vec<u8>)> = const { RefCell::new((String::new(), Vec::new())) };
}

/// A packet buffer that grew beyond this is given back rather than kept by its thread.
const KEPT_PACKET: usize = 64 * 1024;

/// The connection to one device.
pub(super) struct SocketLink {
    socket: TcpStream,
    /// Wakes the task: something is queued, or the connection is to end.
    wake: Notify,
    state: Mutex<State>,
}

struct State {
    tls: Box<ServerConnection>,
    /// Bytes for the wire that the socket has not taken, from `sent` on.
    queue: Vec<u8>,
    sent: usize,
    closing: Option<DisconnectReason>,
    /// The socket failed; nothing can be sent any more.
    broken: bool,
}

/// What reading the socket came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// This many bytes came, before decryption.
    Bytes(usize),
    /// The socket has nothing now.
    Nothing,
    /// The device closed.
    End,
}

impl SocketLink {
    pub(super) fn new(socket: TcpStream, tls: ServerConnection) -> Self {
        let state = State {
            tls: Box::new(tls),
            queue: Vec::new(),
            sent: 0,
            closing: None,
            broken: false,
        };
        Self {
            socket,
            wake: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// Waits until there is something to do: the socket can be read (or written, when something is queued), or the connection is to end.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let interest = {
            let state = self.lock();
            if state.closing.is_some() || state.broken {
                return Ok(());
            }
            // Who does not read is not read either, so that answers cannot pile up.
            if state.queue.is_empty() {
                Interest::READABLE
            } else {
                Interest::WRITABLE
            }
        };
        tokio::select! {
            ready = self.socket.ready(interest) => ready.map(drop),
            () = self.wake.notified() => Ok(()),
        }
    }

    /// What the device showed of itself in the handshake.
    pub(super) fn peer_certificates(&self) -> Vec<CertificateDer<'static>> {
        tls::peer_certificates(&self.lock().tls)
    }

    /// Why the connection is to end, when it is.
    pub(super) fn closing(&self) -> Option<DisconnectReason> {
        self.lock().closing
    }

    /// Reads at most `limit` bytes from the socket and appends what they say to `plain`. A handshake's answers are sent on the way.
    pub(super) fn receive(&self, plain: &mut Vec<u8>, limit: usize) -> io::Result<Received> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let length = buffer.len().min(limit);
            let count = match self.socket.try_read(&mut buffer[..length]) {
                Ok(0) => return Ok(Received::End),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received::Nothing);
                }
                Err(error) => return Err(error),
            };
            let mut state = self.lock();
            state.decrypt(&buffer[..count], plain, &self.socket)?;
            Ok(Received::Bytes(count))
        })
    }

    /// Sends whole packets.
    pub(super) fn send(&self, packets: &[u8]) -> io::Result<()> {
        let queued = {
            let mut state = self.lock();
            state.send(&self.socket, packets)?;
            !state.queue.is_empty()
        };
        if queued {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Writes what is queued, as far as the socket takes it; whether that was all.
    pub(super) fn flush(&self) -> io::Result<bool> {
        let mut state = self.lock();
        state.drain(&self.socket)?;
        Ok(state.queue.is_empty())
    }

    /// Says goodbye on the TLS layer; nothing is sent afterwards.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.tls.send_close_notify();
        // The peer may be gone already.
        let _ = state.flush(&self.socket);
        state.broken = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // After a panic in the middle of a packet the stream is useless, and `broken` or TLS itself will say so.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link for SocketLink {
    fn publish(&self, topic: &Downlink<'_>, payload: &[u8]) {
        let sent = PACKET.with_borrow_mut(|(text, packet)| {
            text.clear();
            packet.clear();
            // Writing to a String does not fail.
            let _ = write!(text, "{topic}");
            codec::write_publish(packet, text, payload, None);
            let sent = self.send(packet);
            if packet.capacity() > KEPT_PACKET {
                *packet = Vec::new();
            }
            sent
        });
        if sent.is_err() {
            self.wake.notify_one();
        }
    }

    fn close(&self, reason: DisconnectReason) {
        self.lock().closing.get_or_insert(reason);
        self.wake.notify_one();
    }
}

impl State {
    /// Appends to `plain` what the bytes from the wire say; a handshake's answers, and the alert for bytes that are no TLS, go back at once.
    fn decrypt(
        &mut self,
        mut wire: &[u8],
        plain: &mut Vec<u8>,
        socket: &TcpStream,
    ) -> io::Result<()> {
        let tls = &mut self.tls;
        let mut outcome = Ok(());
        // After the peer's close_notify TLS takes no more bytes: whatever follows is not looked at.
        while !wire.is_empty() && outcome.is_ok() && tls.read_tls(&mut wire)? > 0 {
            outcome = tls
                .process_new_packets()
                .map_err(io::Error::other)
                .and_then(|progress| {
                    let start = plain.len();
                    plain.resize(start + progress.plaintext_bytes_to_read(), 0);
                    tls.reader().read_exact(&mut plain[start..])
                });
        }
        self.flush(socket).and(outcome)
    }

    fn send(&mut self, socket: &TcpStream, packets: &[u8]) -> io::Result<()> {
        if self.broken || self.closing.is_some() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.tls.writer().write_all(packets)?;
        self.flush(socket)?;
        if self.queue.len() - self.sent > MAX_QUEUED {
            self.closing = Some(DisconnectReason::SlowConsumer);
        }
        Ok(())
    }

    /// Moves all that TLS has encrypted to the socket or, behind what waits there, to the queue.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        let tls = &mut self.tls;
        while tls.wants_write() {
            let written = tls.write_tls(&mut Wire {
                socket,
                queue: &mut self.queue,
            });
            if let Err(error) = written {
                self.broken = true;
                return Err(error);
            }
        }
        Ok(())
    }

    fn drain(&mut self, socket: &TcpStream) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::NotConnected.into());
        }
        while self.sent < self.queue.len() {
            match socket.try_write(&self.queue[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    self.broken = true;
                    return Err(error);
                }
            }
        }
        self.queue = Vec::new();
        self.sent = 0;
        Ok(())
    }
}

/// The socket as far as it takes bytes at once, the queue behind it for the rest; never blocks, never short.
struct Wire<'a> {
    socket: &'a TcpStream,
    queue: &'a mut Vec<u8>,
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = if self.queue.is_empty() {
            match self.socket.try_write(bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            }
        } else {
            0
        };
        self.queue.extend_from_slice(&bytes[taken..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

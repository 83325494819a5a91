//! One socket and its TLS, shared by the task that reads it and by all senders to the device. MQTT
//! comes directly, or in the frames of a WebSocket: a thin layer between TLS and packets, so that a
//! device behind a firewall costs no more than any other.
//!
//! A sender encodes, encrypts and writes under the lock, on its own thread. Ciphertext that the
//! socket does not accept goes to a bounded queue that the task empties; a device that lets it fill
//! up is disconnected. The lock is a std Mutex, never held across an await.

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
use super::frames::{self, FrameReader};
use crate::session::{DisconnectReason, Link};
use crate::tls;

/// The most ciphertext that may wait for a device to read: a few of the largest messages.
const MAX_QUEUED: usize = 512 * 1024;

/// The most bytes of one read from a socket: a TLS record.
const READ_SIZE: usize = 16 * 1024;

thread_local! {
    /// The read buffer: one for each thread, not one for each connection.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
    /// The buffers for encoding a topic and a packet.
    static PACKET: RefCell<(String, Vec<u8>)> = const { RefCell::new((String::new(), Vec::new())) };
}

/// The close code of a connection that has fulfilled its purpose (RFC 6455 section 7.4.1).
const NORMAL_CLOSURE: u16 = 1000;

/// A packet buffer with more capacity than this is freed instead of kept by its thread.
const KEPT_PACKET: usize = 64 * 1024;

/// The connection to one device.
pub(super) struct SocketLink {
    socket: TcpStream,
    /// Wakes the task: something is queued, or the connection must end.
    wake: Notify,
    state: Mutex<State>,
}

struct State {
    tls: Box<ServerConnection>,
    /// Ciphertext that the socket has not accepted, from `sent` on.
    queue: Vec<u8>,
    sent: usize,
    closing: Option<DisconnectReason>,
    /// The socket failed; nothing can be sent any more.
    broken: bool,
    /// The peer has closed its side, in TLS or in the WebSocket.
    ended: bool,
    /// The layer between TLS and MQTT, for a WebSocket.
    frames: Option<Box<WebSocket>>,
}

/// The layer that a WebSocket adds.
struct WebSocket {
    frames: FrameReader,
    /// Bytes that arrived after the upgrade request.
    early: Vec<u8>,
}

/// The result of reading the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// This many bytes arrived, before decryption.
    Bytes(usize),
    /// The socket has no bytes now.
    Nothing,
    /// The device closed the connection.
    End,
}

impl SocketLink {
    /// A link over a new socket.
    pub(super) fn new(socket: TcpStream, tls: ServerConnection) -> Self {
        Self::with_frames(socket, tls, None)
    }

    /// A link over a socket after a WebSocket upgrade; `early` arrived after the request.
    pub(super) fn over_websocket(
        socket: TcpStream,
        mut tls: ServerConnection,
        mut early: Vec<u8>,
    ) -> Self {
        // Ends with WouldBlock, when all decrypted bytes are in `early`.
        let _ = tls.reader().read_to_end(&mut early);
        let frames = FrameReader::default();
        Self::with_frames(socket, tls, Some(Box::new(WebSocket { frames, early })))
    }

    fn with_frames(
        socket: TcpStream,
        mut tls: ServerConnection,
        frames: Option<Box<WebSocket>>,
    ) -> Self {
        // The link's own queue limits what waits, and the largest packet must fit.
        tls.set_buffer_limit(None);
        let state = State {
            tls: Box::new(tls),
            queue: Vec::new(),
            sent: 0,
            closing: None,
            broken: false,
            ended: false,
            frames,
        };
        Self {
            socket,
            wake: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// Waits until there is something to do: the socket is readable (or writable, when something is
    /// queued), or the connection must end.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let interest = {
            let state = self.lock();
            if state.closing.is_some() || state.broken || state.ended || state.has_early() {
                return Ok(());
            }
            // While the peer does not read, the hub does not read either: answers cannot pile up.
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

    /// The certificates that the device presented in the handshake.
    pub(super) fn peer_certificates(&self) -> Vec<CertificateDer<'static>> {
        tls::peer_certificates(&self.lock().tls)
    }

    /// The reason to end the connection, if there is one.
    pub(super) fn closing(&self) -> Option<DisconnectReason> {
        self.lock().closing
    }

    /// Reads at most `limit` bytes from the socket and appends the decrypted MQTT bytes to `plain`.
    /// Sends the answers of a handshake.
    pub(super) fn receive(&self, plain: &mut Vec<u8>, limit: usize) -> io::Result<Received> {
        {
            let mut state = self.lock();
            if state.has_early() {
                return state.read_early(plain, &self.socket);
            }
            if state.ended {
                return Ok(Received::End);
            }
        }
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

    /// Sends complete packets.
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

    /// Writes the queue, as far as the socket accepts it. Returns whether the queue is empty.
    pub(super) fn flush(&self) -> io::Result<bool> {
        let mut state = self.lock();
        state.drain(&self.socket)?;
        Ok(state.queue.is_empty())
    }

    /// Closes the WebSocket and TLS layers; nothing is sent afterwards.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.write_close_frame();
        state.tls.send_close_notify();
        // The peer may be gone already.
        let _ = state.flush(&self.socket);
        state.broken = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // After a panic in the middle of a packet the stream is useless, and `broken` or TLS itself
        // reports that.
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
    /// Appends to `plain` the MQTT bytes in `wire`; sends the answers of a handshake, and the alert
    /// for bytes that are not TLS, at once.
    fn decrypt(
        &mut self,
        mut wire: &[u8],
        plain: &mut Vec<u8>,
        socket: &TcpStream,
    ) -> io::Result<()> {
        let tls = &mut self.tls;
        let mut framed = Vec::new();
        let target = if self.frames.is_some() {
            &mut framed
        } else {
            &mut *plain
        };
        let mut outcome = Ok(());
        // After the peer's close_notify TLS takes no more bytes: the rest is ignored.
        while !wire.is_empty() && outcome.is_ok() && tls.read_tls(&mut wire)? > 0 {
            outcome = tls
                .process_new_packets()
                .map_err(io::Error::other)
                .and_then(|progress| {
                    self.ended |= progress.peer_has_closed();
                    let start = target.len();
                    target.resize(start + progress.plaintext_bytes_to_read(), 0);
                    tls.reader().read_exact(&mut target[start..])
                });
        }
        let outcome = outcome.and_then(|()| self.unframe(&framed, plain));
        self.flush(socket).and(outcome)
    }

    /// Appends to `plain` the payload of the frames in `framed`, and queues the answers to them.
    fn unframe(&mut self, framed: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        let Some(websocket) = &mut self.frames else {
            return Ok(());
        };
        let mut answers = Vec::new();
        let read = websocket.frames.read(framed, plain, &mut answers);
        let had_ended = self.ended;
        self.ended |= websocket.frames.closed();
        if !had_ended {
            if let Err(error) = read {
                frames::write_close(&mut answers, error.close_code());
                self.ended = true;
            }
            self.tls.writer().write_all(&answers)?;
        }
        read.map_err(io::Error::other)
    }

    fn has_early(&self) -> bool {
        self.frames
            .as_ref()
            .is_some_and(|websocket| !websocket.early.is_empty())
    }

    fn read_early(&mut self, plain: &mut Vec<u8>, socket: &TcpStream) -> io::Result<Received> {
        let early = self
            .frames
            .as_mut()
            .map(|websocket| std::mem::take(&mut websocket.early))
            .unwrap_or_default();
        let read = self.unframe(&early, plain);
        self.flush(socket).and(read)?;
        Ok(Received::Bytes(early.len()))
    }

    /// Writes a WebSocket's close frame, unless either side has sent its own.
    fn write_close_frame(&mut self) {
        if self.frames.is_some() && !self.ended && !self.broken {
            let mut frame = Vec::new();
            frames::write_close(&mut frame, NORMAL_CLOSURE);
            // TLS buffers what it cannot send yet, without a limit.
            let _ = self.tls.writer().write_all(&frame);
        }
    }

    fn send(&mut self, socket: &TcpStream, packets: &[u8]) -> io::Result<()> {
        if self.broken || self.closing.is_some() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if self.frames.is_some() {
            let mut header = Vec::new();
            frames::write_header(&mut header, packets.len());
            self.tls.writer().write_all(&header)?;
        }
        self.tls.writer().write_all(packets)?;
        self.flush(socket)?;
        if self.queue.len() - self.sent > MAX_QUEUED {
            self.closing = Some(DisconnectReason::SlowConsumer);
        }
        Ok(())
    }

    /// Moves all ciphertext to the socket or, if the queue is not empty, to its end.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        let tls = &mut self.tls;
        while tls.wants_write() {
            let written = tls.write_tls(&mut SocketOrQueue {
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

/// Writes to the socket as much as it accepts, and the rest to the queue; never blocks, and never
/// writes less than all bytes.
struct SocketOrQueue<'a> {
    socket: &'a TcpStream,
    queue: &'a mut Vec<u8>,
}

impl Write for SocketOrQueue<'_> {
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

//! One socket and its TLS, shared by the task that reads it and by whoever sends to the device.
//! MQTT comes in it as it is, or in the frames of a WebSocket: those are a thin layer between TLS
//! and packets, so that a device behind a firewall costs what any other does.
//!
//! A sender encodes, encrypts and writes under the lock, on its own thread. What the socket does
//! not take goes, encrypted, to a bounded queue that the task empties; a device that lets it fill
//! is disconnected. The lock is a std Mutex, held without any await.

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
use super::frames::{self, Frames};
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

/// The code of a close frame when the purpose of a connection is fulfilled (RFC 6455 section
/// 7.4.1).
const NORMAL_CLOSURE: u16 = 1000;

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
    /// The peer has said, on whichever layer, that nothing more comes.
    ended: bool,
    /// Between TLS and MQTT, for a WebSocket.
    frames: Option<Box<WebSocket>>,
}

/// The layer that a WebSocket adds.
struct WebSocket {
    frames: Frames,
    /// What came behind the request for the WebSocket already.
    early: Vec<u8>,
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
    /// A socket that has just been opened.
    pub(super) fn new(socket: TcpStream, tls: ServerConnection) -> Self {
        Self::with_frames(socket, tls, None)
    }

    /// A socket on which a WebSocket has been agreed on; `early` came behind the request for it.
    pub(super) fn over_websocket(
        socket: TcpStream,
        mut tls: ServerConnection,
        mut early: Vec<u8>,
    ) -> Self {
        // It ends in WouldBlock, with all there is in `early`.
        let _ = tls.reader().read_to_end(&mut early);
        let frames = Frames::default();
        Self::with_frames(socket, tls, Some(Box::new(WebSocket { frames, early })))
    }

    fn with_frames(
        socket: TcpStream,
        mut tls: ServerConnection,
        frames: Option<Box<WebSocket>>,
    ) -> Self {
        // The link's own queue bounds what waits, and the largest packet must fit.
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

    /// Waits until there is something to do: the socket can be read (or written, when something is
    /// queued), or the connection is to end.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let interest = {
            let state = self.lock();
            if state.closing.is_some() || state.broken || state.ended || state.has_early() {
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

    /// Reads at most `limit` bytes from the socket and appends what they say to `plain`. A
    /// handshake's answers are sent on the way.
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
        state.say_goodbye();
        state.tls.send_close_notify();
        // The peer may be gone already.
        let _ = state.flush(&self.socket);
        state.broken = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // After a panic in the middle of a packet the stream is useless, and `broken` or TLS itself
        // will say so.
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
    /// Appends to `plain` what the bytes from the wire say; a handshake's answers, and the alert
    /// for bytes that are no TLS, go back at once.
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
        // After the peer's close_notify TLS takes no more bytes: whatever follows is not looked at.
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

    /// Appends to `plain` what the frames in `framed` carry, and queues what answers them.
    fn unframe(&mut self, framed: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        let Some(websocket) = &mut self.frames else {
            return Ok(());
        };
        let mut answers = Vec::new();
        let read = websocket.frames.read(framed, plain, &mut answers);
        let goodbye = self.ended;
        self.ended |= websocket.frames.closed();
        if !goodbye {
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

    /// The close frame of a WebSocket, unless either side has sent its own.
    fn say_goodbye(&mut self) {
        if self.frames.is_some() && !self.ended && !self.broken {
            let mut frame = Vec::new();
            frames::write_close(&mut frame, NORMAL_CLOSURE);
            // TLS keeps what it cannot send yet, without a limit.
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

/// The socket as far as it takes bytes at once, the queue behind it for the rest; never blocks,
/// never short.
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

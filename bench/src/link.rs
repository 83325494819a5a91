//! One connection of the generator or the floor: a socket in an epoll set, with or without TLS. It
//! owns no read buffer; all connections of a process share one.

use std::io::{self, ErrorKind, Read as _, Write as _};

use mio::net::TcpStream;

use crate::mqtt::{self, Frame};

/// Larger than what a door ever receives at once, so that one read empties its socket.
const READ: usize = 64 * 1024;

pub(crate) struct Link {
    pub(crate) socket: TcpStream,
    tls: Option<rustls::Connection>,
    /// Without TLS: what the socket did not accept.
    unsent: Vec<u8>,
    /// The begin of an incomplete packet.
    partial: Vec<u8>,
}

/// Working memory of all links of a process.
pub(crate) struct Buffers {
    wire: Box<[u8]>,
    plain: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            wire: vec![0; READ].into_boxed_slice(),
            plain: Vec::new(),
            outgoing: Vec::new(),
        }
    }
}

impl Link {
    pub(crate) fn new(socket: TcpStream, tls: Option<rustls::Connection>) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            tls,
            unsent: Vec::new(),
            partial: Vec::new(),
        })
    }

    /// Whether TLS, if any, is established.
    pub(crate) fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Whether the socket has not accepted all that was sent.
    pub(crate) fn is_blocked(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.wants_write()) || !self.unsent.is_empty()
    }

    /// Reads what has arrived, and passes each packet to `on_frame` with a buffer for the answers,
    /// which leave in one record. `false` if the peer has closed.
    pub(crate) fn receive(
        &mut self,
        buffers: &mut Buffers,
        mut on_frame: impl FnMut(Frame<'_>, &mut Vec<u8>) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        buffers.plain.clear();
        loop {
            match self.socket.read(&mut buffers.wire) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.decrypt(&buffers.wire[..read], &mut buffers.plain)?;
                    if read < buffers.wire.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let mut bytes = &buffers.plain[..];
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
            bytes = &self.partial;
        }
        buffers.outgoing.clear();
        let mut at = 0;
        while let Some((frame, length)) = mqtt::split(&bytes[at..])? {
            on_frame(frame, &mut buffers.outgoing)?;
            at += length;
        }
        self.partial = bytes[at..].to_vec();
        self.send(&buffers.outgoing)?;
        Ok(true)
    }

    fn decrypt(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> anyhow::Result<()> {
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(wire);
            return Ok(());
        };
        while !wire.is_empty() {
            tls.read_tls(&mut wire)?;
            let length = tls.process_new_packets()?.plaintext_bytes_to_read();
            let at = plain.len();
            plain.resize(at + length, 0);
            tls.reader().read_exact(&mut plain[at..])?;
        }
        Ok(())
    }

    /// Sends `bytes` and what is left of earlier ones, as far as the socket accepts them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes)?,
            None => self.unsent.extend_from_slice(bytes),
        }
        while self.is_blocked() {
            let sent = match &mut self.tls {
                Some(tls) => tls.write_tls(&mut self.socket),
                None => self.socket.write(&self.unsent),
            };
            match sent {
                Ok(sent) if self.tls.is_none() => drop(self.unsent.drain(..sent)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().0;
        socket.set_nonblocking(true).unwrap();
        let link = Link::new(mio::net::TcpStream::from_std(socket), None).unwrap();
        (link, peer)
    }

    /// Receives until there have been `count` packets, and answers each with its first byte.
    fn receive(link: &mut Link, count: usize) -> Vec<u8> {
        let (mut buffers, mut firsts) = (Buffers::new(), Vec::new());
        while firsts.len() < count {
            let echo = |frame: Frame<'_>, out: &mut Vec<u8>| {
                firsts.push(frame.first);
                out.push(frame.first);
                Ok(())
            };
            assert!(link.receive(&mut buffers, echo).unwrap());
        }
        firsts
    }

    #[test]
    fn joins_a_packet_that_arrives_in_parts_and_answers_packets_together() {
        let (mut link, mut peer) = pair();
        peer.write_all(b"\x40\x02\x00").unwrap();
        while link.partial.len() < 3 {
            link.receive(&mut Buffers::new(), |_, _| panic!("no packet is complete"))
                .unwrap();
        }
        peer.write_all(b"\x01\xd0\x00").unwrap();
        assert_eq!(receive(&mut link, 2), [0x40, 0xd0]);
        assert!(link.partial.is_empty());
        let mut answers = [0; 2];
        peer.read_exact(&mut answers).unwrap();
        assert_eq!(answers, [0x40, 0xd0]);
    }

    #[test]
    fn keeps_what_the_socket_does_not_accept() {
        let (mut link, mut peer) = pair();
        let sent: Vec<u8> = (0..32 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
        link.send(&sent).unwrap();
        assert!(link.is_blocked());
        let reader = std::thread::spawn(move || {
            let mut received = vec![0; 32 << 20];
            peer.read_exact(&mut received).map(|()| received)
        });
        while link.is_blocked() {
            link.send(&[]).unwrap();
        }
        assert!(reader.join().unwrap().unwrap() == sent);
    }

    #[test]
    fn notices_that_the_peer_has_closed() {
        let (mut link, peer) = pair();
        drop(peer);
        while link.receive(&mut Buffers::new(), |_, _| Ok(())).unwrap() {}
    }
}

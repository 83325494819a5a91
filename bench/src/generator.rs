//! The load generator: all doors of a run on one thread, over one epoll set. It is a process of its
//! own, so that its processor time is not counted with a server's.
//!
//! It answers each command line of its parent with a line of JSON.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mio::event::Source as _;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;
use rustls::client::Resumption;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::fleet::{ANSWER, Device};
use crate::link::{Buffers, Link};
use crate::mosquitto::REQUEST;
use crate::mqtt::{self, Publish};
use crate::report::quantile;

/// Connects in flight. More of them would only queue on two cores.
const CONNECTING: usize = 64;
/// Requests that the publisher sends between two looks at the sockets.
const SLICE: usize = 64;
/// Doors connect from these addresses in turn, from 127.0.0.2 on: each has 28,000 ports.
const SOURCES: usize = 8;
/// Standard input in the epoll set.
const COMMANDS: Token = Token(usize::MAX);

/// Commands of the parent.
pub(crate) const CONNECT: &str = "connect";
pub(crate) const FAN_OUT: &str = "fan-out";

/// The first line on standard input. Keys must not be arguments.
#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) server: SocketAddr,
    /// The CA that the server's certificate comes from; none: no TLS.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) doors: Vec<Device>,
    /// Whether the generator also publishes the requests and collects the answers.
    pub(crate) broker: bool,
}

/// The time of a phase, and of a door in it: from the begin of its connect until it is subscribed,
/// or from the begin of the fan-out until it has sent its answer.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Timing {
    pub(crate) wall: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// TCP and TLS.
    Handshake,
    Connecting,
    Subscribing,
    Up,
}

struct Client {
    link: Link,
    device: Device,
    state: State,
    began: Instant,
}

struct Generator {
    poll: Poll,
    buffers: Buffers,
    server: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    /// The doors, then in front of a broker the publisher and the subscriber. The index is the
    /// token.
    clients: Vec<Client>,
    doors: usize,
    broker: bool,
    up: usize,
    /// Of the present phase.
    began: Instant,
    taken: Vec<Duration>,
    /// Answers that the subscriber has received.
    collected: usize,
    /// Doors that the publisher has sent a request to.
    requested: usize,
}

/// Runs until standard input ends.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut orders: Orders = serde_json::from_str(&command()?)?;
    let mut devices = std::mem::take(&mut orders.doors);
    let doors = devices.len();
    if orders.broker {
        devices.extend(["", "answer/+"].map(|filter| Device {
            client_id: format!("bench{}", filter.len()),
            login: None,
            filter: filter.to_owned(),
        }));
    }
    let mut generator = Generator::new(&orders, doors)?;
    let mut events = Events::with_capacity(1024);
    reply(&())?;
    ensure!(command()?.trim() == CONNECT, "expected `{CONNECT}`");
    generator.connect(devices, &mut events)?;
    reply(&generator.timing())?;

    let registry = generator.poll.registry();
    SourceFd(&0).register(registry, COMMANDS, Interest::READABLE)?;
    let mut answering = false;
    loop {
        if generator.turn(&mut events)? {
            match command()?.trim() {
                "" => return Ok(()),
                FAN_OUT => generator.begin_fan_out(),
                other => bail!("unknown command `{other}`"),
            }
            reply(&())?;
            answering = true;
        }
        if answering && generator.is_answered() {
            answering = false;
            reply(&generator.timing())?;
        }
    }
}

/// The next line of standard input; empty at its end. Only called where one is due: it blocks.
pub(crate) fn command() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line)
}

pub(crate) fn reply(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Trusts only the CA in the file `ca`, and never resumes a session: each door is another client.
fn client_config(ca: &std::path::Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut config = crate::hub::client_config(ca)?;
    Arc::make_mut(&mut config).resumption = Resumption::disabled();
    Ok(config)
}

impl Generator {
    fn new(orders: &Orders, doors: usize) -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            buffers: Buffers::new(),
            server: orders.server,
            tls: orders.ca.as_deref().map(client_config).transpose()?,
            clients: Vec::with_capacity(doors + 2),
            doors,
            broker: orders.broker,
            up: 0,
            began: Instant::now(),
            taken: Vec::with_capacity(doors),
            collected: 0,
            requested: doors,
        })
    }

    fn connect(&mut self, devices: Vec<Device>, events: &mut Events) -> anyhow::Result<()> {
        self.began = Instant::now();
        let all = devices.len();
        let mut devices = devices.into_iter();
        while self.up < all {
            while self.clients.len() - self.up < CONNECTING {
                let Some(device) = devices.next() else { break };
                let n = self.clients.len();
                let client = self.dial(n, device);
                self.clients
                    .push(client.with_context(|| format!("connect {n} of {all}"))?);
            }
            self.turn(events)?;
        }
        Ok(())
    }

    fn dial(&self, n: usize, device: Device) -> anyhow::Result<Client> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from(source(n)).into())?;
        match socket.connect(&self.server.into()) {
            // EINPROGRESS
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error.into()),
            _ => {}
        }
        let mut socket = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(n), interest)?;
        let tls = self.tls.clone().map(|config| {
            let name = rustls_pki_types::ServerName::try_from("localhost")?;
            anyhow::Ok(rustls::ClientConnection::new(config, name)?.into())
        });
        Ok(Client {
            link: Link::new(socket, tls.transpose()?)?,
            device,
            state: State::Handshake,
            began: Instant::now(),
        })
    }

    /// Waits for events and handles them; returns whether a command is to be read.
    fn turn(&mut self, events: &mut Events) -> anyhow::Result<bool> {
        let timeout = self.publish()?.then_some(Duration::ZERO);
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            polled => polled?,
        }
        let mut commanded = false;
        for event in &*events {
            if event.token() == COMMANDS {
                commanded = true;
                continue;
            }
            let n = event.token().0;
            self.handle(n, event.is_readable())
                .with_context(|| self.clients[n].device.client_id.clone())?;
        }
        Ok(commanded)
    }

    fn handle(&mut self, n: usize, readable: bool) -> anyhow::Result<()> {
        let Client {
            link,
            device,
            state,
            began,
        } = &mut self.clients[n];
        // A handshake or an earlier packet goes on when the socket is writable.
        link.send(&[])?;
        if readable {
            let (was, mut answered) = (*state, 0);
            let open = link.receive(&mut self.buffers, |frame, out| {
                match (frame.kind(), *state) {
                    (2, State::Connecting) => {
                        ensure!(frame.body.last() == Some(&0), "refused: {frame:?}");
                        *state = State::Up;
                        if !device.filter.is_empty() {
                            mqtt::write_subscribe(out, &device.filter);
                            *state = State::Subscribing;
                        }
                    }
                    (9, State::Subscribing) => {
                        ensure!(
                            frame.body.last() != Some(&0x80),
                            "no subscription: {frame:?}"
                        );
                        *state = State::Up;
                    }
                    (3, State::Up) if n < self.doors => {
                        answered += usize::from(answer(&frame.publish()?, out)?);
                    }
                    (3, State::Up) => self.collected += 1,
                    _ => bail!("unexpected packet {frame:?}"),
                }
                Ok(())
            })?;
            ensure!(open, "the server closed the connection");
            if was != State::Up && *state == State::Up {
                self.up += 1;
                self.taken.push(began.elapsed());
            }
            for _ in 0..answered {
                self.taken.push(self.began.elapsed());
            }
        }
        if *state == State::Handshake && link.is_open() {
            let mut connect = Vec::new();
            mqtt::write_connect(&mut connect, &device.client_id, device.login.as_ref());
            link.send(&connect)?;
            *state = State::Connecting;
        }
        Ok(())
    }

    fn begin_fan_out(&mut self) {
        self.taken.clear();
        self.collected = 0;
        self.requested = if self.broker { 0 } else { self.doors };
        self.began = Instant::now();
    }

    /// Publishes the next requests of a fan-out through a broker, if the socket accepts them;
    /// returns whether it may go on at once.
    fn publish(&mut self) -> anyhow::Result<bool> {
        if self.requested == self.doors || self.clients[self.doors].link.is_blocked() {
            return Ok(false);
        }
        let end = (self.requested + SLICE).min(self.doors);
        let mut requests = Vec::new();
        for door in &self.clients[self.requested..end] {
            let topic = door.device.filter.as_bytes();
            mqtt::write_publish(&mut requests, [topic, b""], REQUEST.as_bytes());
        }
        self.requested = end;
        self.clients[self.doors].link.send(&requests)?;
        Ok(true)
    }

    fn is_answered(&self) -> bool {
        self.taken.len() >= self.doors && (!self.broker || self.collected >= self.doors)
    }

    /// Of the phase that ends now.
    fn timing(&mut self) -> Timing {
        let wall = self.began.elapsed();
        self.taken.sort_unstable();
        let [p50, p99] = [0.5, 0.99].map(|share| quantile(&self.taken, share));
        Timing { wall, p50, p99 }
    }
}

/// Linux's number of "operation now in progress".
const IN_PROGRESS: i32 = 115;

/// The address that connection `n` comes from; the kernel chooses the port.
fn source(n: usize) -> SocketAddrV4 {
    let last = u8::try_from(2 + n % SOURCES).expect("few source addresses");
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0)
}

/// Writes the answer to a request, and before it the acknowledgement of QoS 1; `false` if the
/// publish is not a request.
fn answer(request: &Publish<'_>, out: &mut Vec<u8>) -> anyhow::Result<bool> {
    if let Some(id) = request.packet_id {
        mqtt::write_puback(out, id);
    }
    let topic = std::str::from_utf8(request.topic)?;
    let parts = match topic.strip_prefix("$iothub/methods/POST/") {
        Some(rest) => [
            "$iothub/methods/res/200/?$rid=",
            rest.split_once("/?$rid=").context("no rid")?.1,
        ],
        None => match topic.strip_prefix("request/") {
            Some(door) => ["answer/", door],
            None => return Ok(false),
        },
    };
    mqtt::write_publish(out, parts.map(str::as_bytes), ANSWER);
    Ok(true)
}

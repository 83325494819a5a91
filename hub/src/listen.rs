//! How sockets come in: bound, accepted, and held to limits until it is known whose they are.
//!
//! Whoever has not shown who they are is a stranger. A few strangers are served at once, a fixed share of them from one address; the others of that
//! address wait in turn, holding nothing but their socket, and those beyond are closed. So a fleet that comes back behind one router gets in, one
//! after another, and a peer that opens connections by the thousand stands in its own way alone.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that the kernel holds while the hub is busy: a fleet that comes back at once.
const BACKLOG: u32 = 4096;

/// How long to wait before accepting again when the process has run out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a stranger waits for its turn. Whoever is still there then finds the hub busier than it can say.
const TURN_DEADLINE: Duration = Duration::from_secs(10);

/// How many strangers there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Served at once.
    pub(crate) served: usize,
    /// Of them, from one address.
    pub(crate) served_of_one: usize,
    /// Served and waiting together.
    pub(crate) all: usize,
    /// Of them, from one address.
    pub(crate) all_of_one: usize,
}

/// The strangers of a listener. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Strangers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    served: Arc<Semaphore>,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    all: usize,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug)]
struct Address {
    present: usize,
    served: Arc<Semaphore>,
}

/// A stranger's place among the others, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    strangers: Strangers,
    address: IpAddr,
    /// What lets it be served; it first takes its address's turn, then one of all.
    turn: Option<[OwnedSemaphorePermit; 2]>,
}

/// Binds a listener with a backlog fit for a fleet. A hub that is started again may find its port held by connections of the one before.
///
/// # Errors
///
/// When the address cannot be bound.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The next connection that has a place among `strangers`. Those that have none are closed.
pub(crate) async fn accept(
    listener: &TcpListener,
    strangers: &Strangers,
) -> (TcpStream, SocketAddr, Place) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let Some(place) = strangers.place(peer.ip()) else {
                    tracing::debug!(%peer, "connection closed: too many others have not said who they are");
                    continue;
                };
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "cannot switch Nagle's algorithm off");
                }
                return (socket, peer, place);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Strangers {
    /// Nobody yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            limits,
            served: Arc::new(Semaphore::new(limits.served)),
            present: Mutex::default(),
        }))
    }

    /// A place for a stranger from `address`, if there is one.
    pub(crate) fn place(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let limits = &self.0.limits;
        let mut present = self.present();
        if present.all >= limits.all {
            return None;
        }
        let one = present.addresses.entry(address).or_insert_with(|| Address {
            present: 0,
            served: Arc::new(Semaphore::new(limits.served_of_one)),
        });
        // An address that is new has room.
        if one.present >= limits.all_of_one {
            return None;
        }
        one.present += 1;
        present.all += 1;
        drop(present);
        Some(Place {
            strangers: self.clone(),
            address,
            turn: None,
        })
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.0
            .present
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits for this stranger's turn to be served; `None` when it does not come in time.
    pub(crate) async fn turn(mut self) -> Option<Self> {
        let of_address = {
            let present = self.strangers.present();
            Arc::clone(&present.addresses.get(&self.address)?.served)
        };
        let of_all = Arc::clone(&self.strangers.0.served);
        let turn = tokio::time::timeout(TURN_DEADLINE, async {
            // The address's first: who waits for it takes no turn from other addresses.
            let address = of_address.acquire_owned().await.ok()?;
            Some([address, of_all.acquire_owned().await.ok()?])
        });
        self.turn = Some(turn.await.ok()??);
        Some(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut present = self.strangers.present();
        present.all -= 1;
        if let Some(one) = present.addresses.get_mut(&self.address) {
            one.present -= 1;
            if one.present == 0 {
                present.addresses.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: all that one subscriber of IPv6 is given counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            Ipv6Addr::from(octets).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        served: 3,
        served_of_one: 2,
        all: 6,
        all_of_one: 4,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_fills_its_own_share_and_no_other() {
        let strangers = Strangers::new(LIMITS);
        let loud: Vec<_> = (0..9)
            .filter_map(|_| strangers.place(ip("192.0.2.1")))
            .collect();
        assert_eq!(loud.len(), 4);
        let mut loud = loud.into_iter();
        let first = loud.next().unwrap().turn().await.unwrap();
        let second = loud.next().unwrap().turn().await.unwrap();
        // The third waits in vain as long as both stay, and its place is free again.
        assert!(loud.next().unwrap().turn().await.is_none());
        let quiet = strangers.place(ip("192.0.2.2")).unwrap();
        let quiet = quiet.turn().await.expect("another address has its turn");
        drop((first, second));
        assert!(loud.next().unwrap().turn().await.is_some());
        drop(quiet);
        assert_eq!(strangers.present().all, 0);
        assert!(strangers.present().addresses.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_in_order_as_others_are_known() {
        let strangers = Strangers::new(LIMITS);
        let places: Vec<_> = (0..4)
            .map(|_| strangers.place(ip("192.0.2.1")).unwrap())
            .collect();
        let mut turns = Vec::new();
        for place in places {
            turns.push(tokio::spawn(place.turn()));
            tokio::task::yield_now().await;
        }
        for turn in turns {
            // Dropping it, as when a device has been accepted, lets the next one in.
            assert!(turn.await.unwrap().is_some());
        }
    }

    #[test]
    fn all_addresses_together_are_bounded() {
        let strangers = Strangers::new(LIMITS);
        let places: Vec<_> = (0..20_u8)
            .filter_map(|n| strangers.place(IpAddr::from([192, 0, 2, n])))
            .collect();
        assert_eq!(places.len(), LIMITS.all);
        drop(places);
        assert!(strangers.place(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_address() {
        assert_eq!(network(ip("2001:db8::1:2:3:4")), ip("2001:db8::"));
        assert_eq!(network(ip("2001:db8::1")), network(ip("2001:db8::ffff:1")));
        assert_ne!(network(ip("2001:db8:0:1::1")), network(ip("2001:db8::1")));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }
}

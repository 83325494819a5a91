//! Accepts sockets and limits the connections that are not authenticated yet.
//!
//! Each such connection occupies a slot. A few slots are served at once, with a fixed share per
//! client address; further connections of an address queue with nothing but their socket, and
//! those beyond the queue are closed. So a fleet that reconnects behind one router gets in, one
//! after another, and a peer that opens thousands of connections blocks only itself.
//!
//! When all slots are taken, an idle connection is evicted for a newcomer: the oldest one of the
//! address that has the most. So many addresses together cannot block others either.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections that the kernel queues while the hub is busy, such as a fleet that reconnects.
const BACKLOG: u32 = 4096;

/// Delay before the next accept when the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection queues to be served before it is closed.
const QUEUE_DEADLINE: Duration = Duration::from_secs(10);

/// How often the first queued connection of an address checks whether it can evict an idle one.
const EVICTION_INTERVAL: Duration = Duration::from_millis(100);

/// With fewer file descriptors than this the limits of unauthenticated connections shrink.
pub const WANTED_DESCRIPTORS: u64 = 32_768;

/// The soft limit of file descriptors.
fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft limit of file descriptors to `wanted`, or to the hard limit if that is lower.
/// Returns the limit in force.
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    // `None` is unlimited.
    let [current, maximum] = [limit.current, limit.maximum].map(|limit| limit.unwrap_or(u64::MAX));
    let wanted = wanted.min(maximum);
    if current >= wanted {
        return Ok(current);
    }
    let current = Some(wanted);
    setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
    Ok(wanted)
}

/// Limits of connections that are not authenticated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// After this idle time a connection may be evicted for one that queues.
    pub(crate) idle_grace: Duration,
    /// Connections served at once.
    pub(crate) served: usize,
    /// Connections served at once for each address.
    pub(crate) served_per_address: usize,
    /// Connections served or queued.
    pub(crate) all: usize,
    /// Connections served or queued for each address.
    pub(crate) all_per_address: usize,
}

impl Limits {
    /// These limits in a process that may open `descriptors` files: the unauthenticated connections
    /// of one listener take a quarter of them at most.
    fn within(self, descriptors: u64) -> Self {
        let quarter = usize::try_from(descriptors / 4).unwrap_or(usize::MAX);
        let all = self.all.min(quarter.max(1));
        let share = |limit: usize| (limit.saturating_mul(all) / self.all).max(1);
        Self {
            idle_grace: self.idle_grace,
            served: share(self.served),
            served_per_address: share(self.served_per_address),
            all,
            all_per_address: share(self.all_per_address),
        }
    }
}

/// Limits the lines that unauthenticated clients can cause in the log.
#[derive(Debug)]
pub(crate) struct LineLimiter {
    per_minute: u32,
    state: Mutex<LinesOfMinute>,
}

#[derive(Debug)]
struct LinesOfMinute {
    since: Instant,
    logged: u32,
    left_out: u64,
}

impl LineLimiter {
    pub(crate) fn new(per_minute: u32) -> Self {
        let state = LinesOfMinute {
            since: Instant::now(),
            logged: 0,
            left_out: 0,
        };
        Self {
            per_minute,
            state: Mutex::new(state),
        }
    }

    /// Whether a line may be logged now, and if so how many were left out before it.
    pub(crate) fn permit(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.elapsed() >= Duration::from_secs(60) {
            state.since = Instant::now();
            state.logged = 0;
        }
        if state.logged >= self.per_minute {
            state.left_out += 1;
            return None;
        }
        state.logged += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

/// The slots of a listener. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSlots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    served: Arc<Semaphore>,
    table: Mutex<SlotTable>,
    accept_errors: LineLimiter,
}

#[derive(Debug, Default)]
struct SlotTable {
    all: usize,
    /// The number of the next slot.
    next: u64,
    addresses: HashMap<IpAddr, AddressSlots>,
}

#[derive(Debug)]
struct AddressSlots {
    /// By number: oldest first.
    slots: BTreeMap<u64, SlotEntry>,
    served: Arc<Semaphore>,
    /// Held by the connection that queues for the shared limit: one for each address.
    first: Arc<Semaphore>,
}

#[derive(Debug)]
struct SlotEntry {
    state: SlotState,
    eviction: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum SlotState {
    /// Queued.
    Waiting,
    /// Served; has sent nothing since then.
    Idle(Instant),
    /// A request is being handled, or the client is authenticated.
    Busy,
}

/// The slot of one connection; freed on drop.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    slots: ConnectionSlots,
    address: IpAddr,
    number: u64,
    eviction: CancellationToken,
    /// Permits to be served: the address's, then the shared one.
    permits: Option<[OwnedSemaphorePermit; 2]>,
}

/// Binds a listener with a backlog for a fleet. `SO_REUSEADDR`: after a restart the port may still
/// be held by connections of the previous process.
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

/// Accepts the next connection that gets a slot; connections without a slot are closed.
pub(crate) async fn accept(
    listener: &TcpListener,
    slots: &ConnectionSlots,
) -> (TcpStream, SocketAddr, ConnectionSlot) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let Some(slot) = slots.take(peer.ip()) else {
                    tracing::debug!(
                        %peer,
                        "connection closed: too many unauthenticated connections"
                    );
                    continue;
                };
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
                }
                return (socket, peer, slot);
            }
            Err(error) => {
                if let Some(left_out) = slots.0.accept_errors.permit() {
                    tracing::warn!(%error, left_out, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl ConnectionSlots {
    /// Slots within these limits and within the process's limit of file descriptors.
    pub(crate) fn new(limits: Limits) -> Self {
        Self::within(limits, descriptor_limit())
    }

    fn within(limits: Limits, descriptors: u64) -> Self {
        let limits = limits.within(descriptors);
        Self(Arc::new(Shared {
            limits,
            served: Arc::new(Semaphore::new(limits.served)),
            table: Mutex::default(),
            accept_errors: LineLimiter::new(1),
        }))
    }

    /// Takes a slot for a connection from `address`, if one is free or can be freed.
    pub(crate) fn take(&self, address: IpAddr) -> Option<ConnectionSlot> {
        let address = network(address);
        let limits = &self.0.limits;
        let mut table = self.table();
        let here = table.count(address, |_| true);
        if here >= limits.all_per_address {
            return None;
        }
        if table.all >= limits.all && !table.make_room(here) {
            return None;
        }
        let number = table.next;
        table.next += 1;
        table.all += 1;
        let one = table
            .addresses
            .entry(address)
            .or_insert_with(|| AddressSlots {
                slots: BTreeMap::new(),
                served: Arc::new(Semaphore::new(limits.served_per_address)),
                first: Arc::new(Semaphore::new(1)),
            });
        let eviction = CancellationToken::new();
        let entry = SlotEntry {
            state: SlotState::Waiting,
            eviction: eviction.clone(),
        };
        one.slots.insert(number, entry);
        drop(table);
        Some(ConnectionSlot {
            slots: self.clone(),
            address,
            number,
            eviction,
            permits: None,
        })
    }

    /// Acquires a permit of `semaphore`; calls `evict` regularly to evict an idle connection.
    async fn permit(
        &self,
        semaphore: Arc<Semaphore>,
        evict: impl Fn(&mut SlotTable),
    ) -> Option<OwnedSemaphorePermit> {
        let mut permit = std::pin::pin!(semaphore.acquire_owned());
        let mut pause = Duration::ZERO;
        loop {
            if let Ok(permit) = tokio::time::timeout(pause, permit.as_mut()).await {
                return permit.ok();
            }
            evict(&mut self.table());
            pause = EVICTION_INTERVAL;
        }
    }

    fn table(&self) -> MutexGuard<'_, SlotTable> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotTable {
    /// The number of slots of an address in the states that `is` accepts.
    fn count(&self, address: IpAddr, is: impl Fn(SlotState) -> bool) -> usize {
        let slots = self.addresses.get(&address);
        slots.map_or(0, |one| one.count(is))
    }

    /// Frees a slot for an address that has `here` slots: evicts from the address with the most
    /// slots its newest queued connection, or its oldest idle one. Returns false if no address has
    /// more than `here + 1`.
    fn make_room(&mut self, here: usize) -> bool {
        let most = self.addresses.iter().max_by_key(|(_, one)| one.slots.len());
        let Some((&address, one)) = most.filter(|(_, one)| one.slots.len() > here + 1) else {
            return false;
        };
        let waits = |(_, entry): &(&u64, &SlotEntry)| entry.state == SlotState::Waiting;
        let newest = one
            .slots
            .iter()
            .rev()
            .find(waits)
            .map(|(number, _)| *number);
        match newest.or(one.oldest_idle().map(|(number, _)| number)) {
            Some(number) => self.remove_slot(address, number),
            None => false,
        }
    }

    /// Evicts the oldest idle connection of an address for another one of the same address.
    fn evict_idle_in(&mut self, address: IpAddr, idle_grace: Duration) {
        let oldest = self
            .addresses
            .get(&address)
            .and_then(AddressSlots::oldest_idle);
        if let Some((number, _)) = oldest.filter(|(_, since)| since.elapsed() >= idle_grace) {
            self.remove_slot(address, number);
        }
    }

    /// Evicts the oldest idle connection of the address with the most idle ones for a connection of
    /// `address`: at once if `address` has fewer, otherwise after `idle_grace`.
    fn evict_idle_for(&mut self, address: IpAddr, idle_grace: Duration) {
        let here = self.count(address, SlotState::is_idle);
        let of = |(at, one): (&IpAddr, &AddressSlots)| {
            let (number, since) = one.oldest_idle()?;
            Some((one.count(SlotState::is_idle), Reverse(since), *at, number))
        };
        let most = self.addresses.iter().filter_map(of).max();
        if let Some((count, Reverse(since), at, number)) = most {
            if count > here + 1 || since.elapsed() >= idle_grace {
                self.remove_slot(at, number);
            }
        }
    }

    /// Removes a slot and cancels its connection; returns whether it existed.
    fn remove_slot(&mut self, address: IpAddr, number: u64) -> bool {
        let Some(one) = self.addresses.get_mut(&address) else {
            return false;
        };
        let Some(entry) = one.slots.remove(&number) else {
            return false;
        };
        entry.eviction.cancel();
        self.all -= 1;
        if one.slots.is_empty() {
            self.addresses.remove(&address);
        }
        true
    }
}

impl AddressSlots {
    fn count(&self, is: impl Fn(SlotState) -> bool) -> usize {
        let slots = self.slots.values();
        slots.filter(|entry| is(entry.state)).count()
    }

    fn oldest_idle(&self) -> Option<(u64, Instant)> {
        let idle = self
            .slots
            .iter()
            .filter_map(|(number, entry)| match entry.state {
                SlotState::Idle(since) => Some((*number, since)),
                SlotState::Waiting | SlotState::Busy => None,
            });
        idle.min_by_key(|(_, since)| *since)
    }
}

impl SlotState {
    fn is_idle(self) -> bool {
        matches!(self, Self::Idle(_))
    }
}

impl ConnectionSlot {
    /// Waits until this connection may be served; `None` if that takes too long.
    pub(crate) async fn wait_for_turn(mut self) -> Option<Self> {
        let (of_address, first) = {
            let table = self.slots.table();
            let one = table.addresses.get(&self.address)?;
            (Arc::clone(&one.served), Arc::clone(&one.first))
        };
        let (slots, address) = (&self.slots, self.address);
        let idle_grace = slots.0.limits.idle_grace;
        let turn = async {
            // Only one connection of each address competes with those of other addresses.
            let _first = first.acquire_owned().await.ok()?;
            let of_address = slots.permit(of_address, |table| {
                table.evict_idle_in(address, idle_grace);
            });
            let of_address = of_address.await?;
            let of_all = Arc::clone(&slots.0.served);
            let of_all = slots.permit(of_all, |table| {
                table.evict_idle_for(address, idle_grace);
            });
            Some([of_address, of_all.await?])
        };
        let turn = self.eviction.run_until_cancelled(turn);
        let turn = tokio::time::timeout(QUEUE_DEADLINE, turn).await;
        self.permits = Some(turn.ok()???);
        self.set_idle();
        Some(self)
    }

    /// Marks the connection as idle from now on.
    pub(crate) fn set_idle(&self) {
        self.set(SlotState::Idle(Instant::now()));
    }

    /// Marks the connection as active or authenticated: it cannot be evicted.
    pub(crate) fn set_busy(&self) {
        self.set(SlotState::Busy);
    }

    fn set(&self, state: SlotState) {
        let mut table = self.slots.table();
        let one = table.addresses.get_mut(&self.address);
        if let Some(entry) = one.and_then(|one| one.slots.get_mut(&self.number)) {
            entry.state = state;
        }
    }

    /// Resolves when the connection is evicted.
    pub(crate) async fn evicted(&self) {
        self.eviction.cancelled().await;
    }

    /// Resolves when the connection has been idle for `limit`.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            let state = {
                let table = self.slots.table();
                let one = table.addresses.get(&self.address);
                one.and_then(|one| Some(one.slots.get(&self.number)?.state))
            };
            match state {
                Some(SlotState::Idle(since)) if since.elapsed() >= limit => return,
                Some(SlotState::Idle(since)) => tokio::time::sleep_until(since + limit).await,
                Some(SlotState::Busy | SlotState::Waiting) => tokio::time::sleep(limit).await,
                None => return,
            }
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        // No effect if it was evicted.
        self.slots.table().remove_slot(self.address, self.number);
    }
}

/// The address that the limits count: the /64 network of an IPv6 address, as one subscriber has a
/// whole /64.
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
        idle_grace: Duration::from_secs(5),
        served: 3,
        served_per_address: 2,
        all: 6,
        all_per_address: 4,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_exhausts_only_its_own_share() {
        let slots = ConnectionSlots::new(LIMITS);
        let loud: Vec<_> = (0..9).filter_map(|_| slots.take(ip("192.0.2.1"))).collect();
        assert_eq!(loud.len(), 4);
        let mut loud = loud.into_iter();
        let first = loud.next().unwrap().wait_for_turn().await.unwrap();
        let second = loud.next().unwrap().wait_for_turn().await.unwrap();
        first.set_busy();
        second.set_busy();
        // The third times out while both are busy, and its slot is free again.
        assert!(loud.next().unwrap().wait_for_turn().await.is_none());
        let quiet = slots.take(ip("192.0.2.2")).unwrap();
        let quiet = quiet
            .wait_for_turn()
            .await
            .expect("another address is served meanwhile");
        drop((first, second));
        assert!(loud.next().unwrap().wait_for_turn().await.is_some());
        drop(quiet);
        assert_eq!(slots.table().all, 0);
        assert!(slots.table().addresses.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn queued_connections_are_served_in_order() {
        let slots = ConnectionSlots::new(LIMITS);
        let taken: Vec<_> = (0..4)
            .map(|_| slots.take(ip("192.0.2.1")).unwrap())
            .collect();
        let mut turns = Vec::new();
        for slot in taken {
            turns.push(tokio::spawn(slot.wait_for_turn()));
            tokio::task::yield_now().await;
        }
        for turn in turns {
            // Dropping it, as after a login, admits the next one.
            assert!(turn.await.unwrap().is_some());
        }
    }

    #[test]
    fn all_addresses_together_are_limited() {
        let slots = ConnectionSlots::new(LIMITS);
        let taken: Vec<_> = (0..20_u8)
            .filter_map(|n| slots.take(IpAddr::from([192, 0, 2, n])))
            .collect();
        assert_eq!(taken.len(), LIMITS.all);
        drop(taken);
        assert!(slots.take(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn a_newcomer_evicts_from_the_address_with_the_most_slots() {
        let slots = ConnectionSlots::new(LIMITS);
        let taken: Vec<_> = [1, 1, 1, 1, 2, 2]
            .map(|n| slots.take(IpAddr::from([192, 0, 2, n])).unwrap())
            .into();
        let newcomer = slots.take(ip("192.0.2.3"));
        assert!(newcomer.is_some());
        let left: Vec<bool> = taken
            .iter()
            .map(|slot| slot.eviction.is_cancelled())
            .collect();
        assert_eq!(
            left,
            [false, false, false, true, false, false],
            "its newest queued one is evicted"
        );
        assert!(
            slots.take(ip("192.0.2.1")).is_none(),
            "it has the most slots"
        );
        assert_eq!(slots.table().all, LIMITS.all);
        drop((taken, newcomer));
        assert_eq!(slots.table().all, 0);
    }

    /// Each row: the addresses that are served, which of them are busy, the newcomer's address,
    /// which one is evicted, and whether at once.
    #[tokio::test(start_paused = true)]
    async fn evicts_the_oldest_idle_connection_of_the_address_with_most() {
        for (from, busy, newcomer, leaves, at_once) in [
            // Its own address is full: evicts the oldest there, after the idle time.
            (&[1, 1][..], &[][..], 1, Some(0), false),
            (&[1, 1], &[0], 1, Some(1), false),
            (&[1, 1], &[0, 1], 1, None, false),
            // All slots are taken: evicts from the address with the most.
            (&[1, 2, 2], &[], 3, Some(1), true),
            (&[1, 2, 2], &[1], 3, Some(0), false),
            (&[1, 2, 4], &[], 3, Some(0), false),
            (&[1, 2, 4], &[0, 1, 2], 3, None, false),
        ] {
            let slots = ConnectionSlots::new(LIMITS);
            let mut served = Vec::new();
            for n in from {
                let slot = slots.take(IpAddr::from([192, 0, 2, *n])).unwrap();
                served.push(slot.wait_for_turn().await.unwrap());
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            for index in busy {
                served[*index].set_busy();
            }
            let began = Instant::now();
            let slot = slots.take(IpAddr::from([192, 0, 2, newcomer])).unwrap();
            let turn = tokio::spawn(slot.wait_for_turn());
            let mut served: Vec<_> = served.into_iter().map(Some).collect();
            let mut left = None;
            while began.elapsed() < QUEUE_DEADLINE + Duration::from_secs(1) && left.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let gone = |slot: &Option<ConnectionSlot>| {
                    slot.as_ref()
                        .is_some_and(|slot| slot.eviction.is_cancelled())
                };
                left = served.iter().position(gone);
            }
            let took = began.elapsed();
            if let Some(index) = left {
                served[index] = None;
            }
            let case = format!("{from:?} {busy:?} {newcomer}");
            assert_eq!(left, leaves, "{case}");
            assert_eq!(turn.await.unwrap().is_some(), leaves.is_some(), "{case}");
            if leaves.is_some() {
                assert_eq!(took < LIMITS.idle_grace, at_once, "{case}: {took:?}");
            }
        }
    }

    /// Each row: file descriptors of the process, and the connections of one address and of all
    /// that are accepted.
    #[test]
    fn the_shares_follow_the_limit_of_file_descriptors() {
        for (descriptors, here, all) in [(24, 4, 6), (16, 2, 4), (4, 1, 1), (0, 1, 1)] {
            let slots = ConnectionSlots::within(LIMITS, descriptors);
            let loud: Vec<_> = (0..9).filter_map(|_| slots.take(ip("192.0.2.1"))).collect();
            assert_eq!(loud.len(), here, "{descriptors}");
            let address = |n: u8| IpAddr::from([192, 0, 3, n]);
            let others: Vec<_> = (0..9).filter_map(|n| slots.take(address(n))).collect();
            assert_eq!(slots.table().all, all, "{descriptors}");
            drop((loud, others));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_lines_of_unauthenticated_clients_are_limited_and_counted() {
        let limiter = LineLimiter::new(2);
        let lines = || [(); 5].map(|()| limiter.permit());
        assert_eq!(lines(), [Some(0), Some(0), None, None, None]);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(lines(), [Some(3), Some(0), None, None, None]);
    }

    #[test]
    fn an_ipv6_64_network_counts_as_one_address() {
        assert_eq!(network(ip("2001:db8::1:2:3:4")), ip("2001:db8::"));
        assert_eq!(network(ip("2001:db8::1")), network(ip("2001:db8::ffff:1")));
        assert_ne!(network(ip("2001:db8:0:1::1")), network(ip("2001:db8::1")));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }
}

//! A network in software: machines in namespaces, lines to them, NAT before some, and a switch in the middle.
//!
//! A thread per machine reads its packets; one thread delivers what is due. Between them lies one state under a lock: the lines
//! ([`link`]), the routers ([`nat`]) and the packets on their way. A packet goes up its sender's line, out through its router, across
//! the middle, down the other's line and in through its router, each at its own time, so that holes are punched, or not, in the order
//! in which packets meet.

pub mod door;
pub mod link;
pub mod namespace;
pub mod nat;
pub mod packet;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    fs::File,
    io::{self, Read, Write},
    net::Ipv4Addr,
    os::fd::AsFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::{
    link::{Line, Link},
    namespace::Namespace,
    nat::Nat,
};

/// The longest packet that a TUN device gives with its default settings, and more.
const PACKET: usize = 65_536;
/// How often a thread looks whether the switch has ended, when nothing else wakes it; in milliseconds.
const LOOK_MS: u16 = 200;
/// Packets on their way in all. Beyond, they are dropped: at 1,500 bytes each this is 96 MB.
const ON_THEIR_WAY: usize = 65_536;

/// A machine's place at the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(usize);

/// See the module. Ends when dropped.
#[derive(Debug)]
pub struct Switch {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    due: Condvar,
    start: Instant,
}

#[derive(Debug, Default)]
struct State {
    machines: Vec<Machine>,
    by_address: HashMap<Ipv4Addr, usize>,
    apart: BTreeSet<(Port, Port)>,
    /// Bytes that two machines sent each other.
    between: HashMap<(Port, Port), u64>,
    on_their_way: BinaryHeap<Reverse<Parcel>>,
    sequence: u64,
    ended: bool,
}

#[derive(Debug)]
struct Machine {
    device: Arc<File>,
    up: Link,
    down: Link,
    nat: Option<Nat>,
}

/// Two machines, in whatever order they were named.
fn pair(one: Port, other: Port) -> (Port, Port) {
    (one.min(other), one.max(other))
}

/// A packet between two places, ordered by when it is due.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Parcel {
    due: Duration,
    sequence: u64,
    /// It still has the line of its receiver before it.
    in_the_middle: bool,
    to: usize,
    packet: Vec<u8>,
}

impl Switch {
    /// Without machines.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            due: Condvar::new(),
            start: Instant::now(),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("switch".to_owned())
            .spawn(move || of_thread.deliver())?;
        Ok(Self {
            shared,
            threads: vec![thread],
        })
    }

    /// One more machine at this address, with this line in both directions, behind this router if there is one.
    ///
    /// # Errors
    /// Where no namespace or device can be made.
    pub fn attach(
        &mut self,
        address: Ipv4Addr,
        line: Line,
        nat: Option<Nat>,
    ) -> io::Result<(Port, Namespace)> {
        let (namespace, device) = Namespace::new(address)?;
        let device = Arc::new(device);
        let port = {
            let mut state = self.shared.lock();
            let number = state.machines.len();
            let seed = 2 * number as u64 + 1;
            let outside = nat.as_ref().map_or(address, Nat::outside);
            state.by_address.insert(outside, number);
            state.machines.push(Machine {
                device: Arc::clone(&device),
                up: Link::new(line, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                down: Link::new(line, seed.wrapping_mul(0xbf58_476d_1ce4_e5b9)),
                nat,
            });
            Port(number)
        };
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name(format!("port {}", port.0))
            .spawn(move || shared.read(port, &device))?;
        self.threads.push(thread);
        Ok((port, namespace))
    }

    /// Another line, in both directions, for what is sent from now on.
    pub fn set_line(&self, port: Port, line: Line) {
        if let Some(machine) = self.shared.lock().machines.get_mut(port.0) {
            (machine.up.line, machine.down.line) = (line, line);
        }
    }

    /// Cuts a machine's line, or mends it.
    pub fn cut(&self, port: Port, cut: bool) {
        if let Some(machine) = self.shared.lock().machines.get_mut(port.0) {
            (machine.up.line.cut, machine.down.line.cut) = (cut, cut);
        }
    }

    /// Keeps two machines from each other, or lets them meet again; the others are not concerned.
    pub fn part(&self, one: Port, other: Port, apart: bool) {
        let mut state = self.shared.lock();
        if apart {
            state.apart.insert(pair(one, other));
        } else {
            state.apart.remove(&pair(one, other));
        }
    }

    /// A machine's router starts anew.
    pub fn rebind(&self, port: Port) {
        let mut state = self.shared.lock();
        if let Some(nat) = state
            .machines
            .get_mut(port.0)
            .and_then(|machine| machine.nat.as_mut())
        {
            nat.rebind();
        }
    }

    /// Bytes of IP packets that a machine sent and got so far.
    #[must_use]
    pub fn bytes(&self, port: Port) -> (u64, u64) {
        let state = self.shared.lock();
        state
            .machines
            .get(port.0)
            .map_or((0, 0), |machine| (machine.up.bytes, machine.down.bytes))
    }

    /// Bytes of IP packets that two machines sent each other so far.
    #[must_use]
    pub fn between(&self, one: Port, other: Port) -> u64 {
        let state = self.shared.lock();
        state.between.get(&pair(one, other)).copied().unwrap_or(0)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.due.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread of one machine.
    fn read(&self, port: Port, device: &File) {
        let mut buffer = vec![0; PACKET];
        loop {
            let mut waiting = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut waiting, PollTimeout::from(LOOK_MS));
            if self.lock().ended {
                return;
            }
            if !matches!(ready, Ok(1..)) {
                continue;
            }
            let mut device = device;
            let Ok(length) = device.read(&mut buffer) else {
                // The device is gone with its namespace.
                return;
            };
            let now = self.start.elapsed();
            self.lock().send(port, &mut buffer[..length], now);
            self.due.notify_one();
        }
    }

    /// The thread that delivers.
    fn deliver(&self) {
        let mut state = self.lock();
        while !state.ended {
            let now = self.start.elapsed();
            let wait = match state.on_their_way.peek() {
                Some(Reverse(parcel)) if parcel.due <= now => Duration::ZERO,
                Some(Reverse(parcel)) => parcel.due - now,
                None => Duration::from_millis(u64::from(LOOK_MS)),
            };
            if !wait.is_zero() {
                state = self
                    .due
                    .wait_timeout(state, wait)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            }
            let Some(Reverse(parcel)) = state.on_their_way.pop() else {
                continue;
            };
            if let Some((device, packet)) = state.advance(parcel, now) {
                drop(state);
                // A machine whose queue is full, or whose namespace is gone, does not get it.
                let _ = (&*device).write(&packet);
                state = self.lock();
            }
        }
    }
}

impl State {
    /// A packet leaves a machine.
    fn send(&mut self, from: Port, packet: &mut [u8], now: Duration) {
        let Some(mut flow) = packet::flow(packet) else {
            return;
        };
        let Some(machine) = self.machines.get_mut(from.0) else {
            return;
        };
        if let Some(nat) = &mut machine.nat {
            flow.from = nat.leaves(flow, now);
            packet::rewrite(packet, flow.from, flow.to);
        }
        let Some(due) = machine.up.push(packet.len(), now) else {
            return;
        };
        let Some(to) = self.by_address.get(flow.to.ip()).copied() else {
            return;
        };
        let pair = pair(from, Port(to));
        *self.between.entry(pair).or_default() += packet.len() as u64;
        if self.apart.contains(&pair) || self.on_their_way.len() >= ON_THEIR_WAY {
            return;
        }
        self.queue(due, true, to, packet.to_vec());
    }

    /// A packet is where it was on its way to; what is to be written to whose device, if it has arrived.
    fn advance(&mut self, parcel: Parcel, now: Duration) -> Option<(Arc<File>, Vec<u8>)> {
        let Parcel {
            in_the_middle,
            to,
            mut packet,
            ..
        } = parcel;
        let machine = self.machines.get_mut(to)?;
        if in_the_middle {
            let due = machine.down.push(packet.len(), now)?;
            self.queue(due, false, to, packet);
            return None;
        }
        if let Some(nat) = &mut machine.nat {
            let flow = packet::flow(&packet)?;
            let inside = nat.arrives(flow, now)?;
            packet::rewrite(&mut packet, flow.from, inside);
        }
        Some((Arc::clone(&machine.device), packet))
    }

    fn queue(&mut self, due: Duration, in_the_middle: bool, to: usize, packet: Vec<u8>) {
        self.sequence += 1;
        self.on_their_way.push(Reverse(Parcel {
            due,
            sequence: self.sequence,
            in_the_middle,
            to,
            packet,
        }));
    }
}

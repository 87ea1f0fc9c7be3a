//! From where first peers come. Six sources, each enough alone; each can be taken away.
//!
//! | source | what it gives | needs |
//! |---|---|---|
//! | [`Book`](Source::Book) | peers of earlier days | to have been online before |
//! | [`BuiltIn`](Source::BuiltIn) | a signed list that comes with the program | people who run such nodes |
//! | [`Dnsaddr`](Source::Dnsaddr) | TXT records of a name | people who run such a name |
//! | [`Invited`](Source::Invited) | what the user added | somebody who invites |
//! | [`Lan`](Source::Lan) | peers on the local network, by multicast DNS | such peers |
//! | [`Mainline`](Source::Mainline) | IP addresses and ports from BitTorrent's DHT | that it is reachable |
//!
//! What a source gives is a candidate, not a peer: who is there shows in the handshake, and whether it is one of ours when it
//! introduces itself. The list and the names ship empty until people run such nodes.

pub(crate) mod built_in;
pub(crate) mod dnsaddr;
pub(crate) mod mainline;

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

pub use self::{
    built_in::{BuiltIn, ListError, PeerList},
    dnsaddr::MAX_DNS_NAMES,
    mainline::Mainline,
};

/// Characters of a problem that a status repeats.
const PROBLEM: usize = 200;

/// Where first peers may come from, beside the user's own (`NetworkOptions::known_peers`) and the local network
/// (`NetworkOptions::mdns`).
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file of the address book. `None`: nothing is kept, and nothing is known at the start.
    pub book: Option<PathBuf>,
    /// The file of the offers known of others. `None`: they are not kept.
    pub offers: Option<PathBuf>,
    /// The list that comes with the program.
    pub built_in: Option<BuiltIn>,
    /// Names like `bootstrap.example.org`, whose TXT records at `_dnsaddr.bootstrap.example.org` are looked up.
    pub dnsaddr: Vec<String>,
    /// Asked for those names. `None`: the system's own resolver.
    pub dns_server: Option<SocketAddr>,
    /// BitTorrent's DHT.
    pub mainline: Mainline,
}

/// One of the six.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The address book on disk.
    Book,
    /// The signed list that comes with the program.
    BuiltIn,
    /// TXT records of a name.
    Dnsaddr,
    /// Peers that the user added.
    Invited,
    /// Multicast DNS.
    Lan,
    /// BitTorrent's DHT.
    Mainline,
}

impl Source {
    /// All six, in the order in which they are asked.
    pub const ALL: [Self; 6] = [
        Self::Invited,
        Self::Book,
        Self::Lan,
        Self::BuiltIn,
        Self::Dnsaddr,
        Self::Mainline,
    ];
}

/// What one source brought since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Which.
    pub source: Source,
    /// Whether it is there and switched on.
    pub enabled: bool,
    /// Candidates of it that were dialled.
    pub tried: u32,
    /// Of those, the ones that are peers of this network.
    pub found: u32,
    /// When one of those was met last, Unix milliseconds.
    pub last_ok_unix_ms: Option<u64>,
    /// What went wrong when it was asked last, in the system's words.
    pub problem: Option<String>,
}

/// What a source gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Who is said to be there; `None` where only the handshake tells.
    pub(crate) peer: Option<PeerId>,
    /// Without `/p2p/…`.
    pub(crate) address: Multiaddr,
}

/// What is kept of one source.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) enabled: bool,
    pub(crate) tried: u32,
    pub(crate) found: u32,
    pub(crate) last_ok_unix_ms: Option<u64>,
    pub(crate) problem: Option<String>,
    /// Being asked now.
    pub(crate) running: bool,
    /// When it may be asked next.
    pub(crate) next: Instant,
    asked: Option<Instant>,
    pause: Duration,
}

/// The first pause after a source was asked, and the longest: it doubles while the source brings nobody.
const PAUSE_FIRST: Duration = Duration::from_secs(15);
const PAUSE_LAST: Duration = Duration::from_secs(30 * 60);

/// The least time between two questions to one source while somebody waits: a dial that nobody answers takes longer.
const HURRY: Duration = Duration::from_secs(5);

impl Tally {
    pub(crate) fn new(enabled: bool, next: Instant) -> Self {
        Self {
            enabled,
            tried: 0,
            found: 0,
            last_ok_unix_ms: None,
            problem: None,
            running: false,
            next,
            asked: None,
            pause: PAUSE_FIRST,
        }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.enabled && !self.running && self.next <= now
    }

    /// As [`Tally::is_due`], for somebody who waits: only what was asked a moment ago is not asked again.
    pub(crate) fn is_due_in_a_hurry(&self, now: Instant) -> bool {
        let rested = self
            .asked
            .is_none_or(|at| now.saturating_duration_since(at) >= HURRY);
        self.enabled && !self.running && rested
    }

    /// It is being asked now.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.running = true;
        self.asked = Some(now);
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_LAST);
    }

    pub(crate) fn end(&mut self, problem: Option<String>) {
        self.running = false;
        self.problem = problem.map(|text| text.chars().take(PROBLEM).collect());
    }

    /// One of its candidates is a peer of ours.
    pub(crate) fn found(&mut self, unix_ms: u64) {
        self.found = self.found.saturating_add(1);
        self.last_ok_unix_ms = Some(unix_ms);
        self.pause = PAUSE_FIRST;
    }

    pub(crate) fn status(&self, source: Source) -> SourceStatus {
        SourceStatus {
            source,
            enabled: self.enabled,
            tried: self.tried,
            found: self.found,
            last_ok_unix_ms: self.last_ok_unix_ms,
            problem: self.problem.clone(),
        }
    }
}

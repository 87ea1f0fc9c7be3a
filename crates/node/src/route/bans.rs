//! Peers that failed lately: each failure closes the door for twice as long, and a quote opens it again.

use std::collections::BTreeMap;

use protocol::PeerId;

/// The first ban.
pub const FIRST_BAN_MS: u64 = 15_000;

/// The longest ban: a home connection that is down for half an hour is down for the evening.
pub const MAX_BAN_MS: u64 = 30 * 60 * 1000;

/// Peers that are remembered as failing. Beyond it the one whose ban ends first is let go.
pub const MAX_BANS: usize = 4096;

/// Doublings after which [`MAX_BAN_MS`] is reached.
const MAX_STRIKES: u32 = 8;

/// How a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is held against it.
    Free,
    /// Its ban is over; a quote shows whether it is back. Asked without one only when nobody else is there.
    HalfOpen,
    /// It is not asked until then, Unix milliseconds, unless all are banned.
    Banned {
        /// When the ban ends.
        until_ms: u64,
    },
}

#[derive(Debug, Clone, Copy)]
struct Ban {
    strikes: u32,
    until_ms: u64,
    /// A quote came since.
    answered: bool,
}

/// The peers that failed lately.
#[derive(Debug, Default)]
pub struct Bans(BTreeMap<PeerId, Ban>);

impl Bans {
    /// How this peer stands.
    #[must_use]
    pub fn standing(&self, peer: &PeerId, now_ms: u64) -> Standing {
        match self.0.get(peer) {
            Some(ban) if now_ms < ban.until_ms => Standing::Banned {
                until_ms: ban.until_ms,
            },
            // It was quiet for as long as the longest ban: it begins anew.
            Some(ban) if now_ms < ban.until_ms.saturating_add(MAX_BAN_MS) && !ban.answered => {
                Standing::HalfOpen
            }
            Some(_) | None => Standing::Free,
        }
    }

    /// It failed, by its own fault: 15 s, then twice as long each time.
    pub fn failed(&mut self, peer: &PeerId, now_ms: u64) {
        self.forget_old(now_ms);
        self.make_room(peer);
        let ban = self.0.entry(*peer).or_insert(Ban {
            strikes: 0,
            until_ms: 0,
            answered: false,
        });
        // Several jobs that broke at the same moment are one failure.
        if now_ms < ban.until_ms {
            return;
        }
        let length = (FIRST_BAN_MS << ban.strikes.min(MAX_STRIKES)).min(MAX_BAN_MS);
        *ban = Ban {
            strikes: ban.strikes.saturating_add(1),
            until_ms: now_ms.saturating_add(length),
            answered: false,
        };
    }

    /// It lied: the longest ban at once.
    pub fn lied(&mut self, peer: &PeerId, now_ms: u64) {
        self.forget_old(now_ms);
        self.make_room(peer);
        let ban = Ban {
            strikes: MAX_STRIKES,
            until_ms: now_ms.saturating_add(MAX_BAN_MS),
            answered: false,
        };
        self.0.insert(*peer, ban);
    }

    /// It gave a quote: after its ban it may be asked again. The count stays until a job went well.
    pub fn answered(&mut self, peer: &PeerId, now_ms: u64) {
        if let Some(ban) = self.0.get_mut(peer)
            && now_ms >= ban.until_ms
        {
            ban.answered = true;
        }
    }

    /// A job went well: all is forgotten.
    pub fn succeeded(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }

    fn forget_old(&mut self, now_ms: u64) {
        self.0
            .retain(|_, ban| now_ms < ban.until_ms.saturating_add(MAX_BAN_MS));
    }

    fn make_room(&mut self, peer: &PeerId) {
        if self.0.len() < MAX_BANS || self.0.contains_key(peer) {
            return;
        }
        let first = self.0.iter().min_by_key(|(_, ban)| ban.until_ms);
        if let Some(first) = first.map(|(peer, _)| *peer) {
            self.0.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::examples::{NOW, peer},
        *,
    };

    #[test]
    fn bans_double_from_15_seconds_to_half_an_hour() {
        let mut bans = Bans::default();
        let mut now = NOW;
        let mut lengths = Vec::new();
        for _ in 0..10 {
            bans.failed(&peer(1), now);
            let Standing::Banned { until_ms } = bans.standing(&peer(1), now) else {
                panic!("not banned");
            };
            lengths.push((until_ms - now) / 1000);
            now = until_ms;
        }
        assert_eq!(lengths, [15, 30, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
    }

    #[test]
    fn half_open_until_a_quote_and_free_after_a_good_job() {
        let mut bans = Bans::default();
        bans.failed(&peer(1), NOW);
        bans.answered(&peer(1), NOW + 1);
        assert!(matches!(
            bans.standing(&peer(1), NOW + 2),
            Standing::Banned { .. }
        ));
        let over = NOW + FIRST_BAN_MS;
        assert_eq!(bans.standing(&peer(1), over), Standing::HalfOpen);
        bans.answered(&peer(1), over);
        assert_eq!(bans.standing(&peer(1), over), Standing::Free);
        // The quote did not wipe the slate.
        bans.failed(&peer(1), over);
        assert_eq!(
            bans.standing(&peer(1), over),
            Standing::Banned {
                until_ms: over + 2 * FIRST_BAN_MS
            }
        );
        bans.succeeded(&peer(1));
        assert_eq!(bans.standing(&peer(1), over), Standing::Free);
    }

    #[test]
    fn failures_of_one_moment_are_one_and_a_quiet_peer_begins_anew() {
        let mut bans = Bans::default();
        for _ in 0..5 {
            bans.failed(&peer(1), NOW);
        }
        assert_eq!(
            bans.standing(&peer(1), NOW),
            Standing::Banned {
                until_ms: NOW + FIRST_BAN_MS
            }
        );
        let later = NOW + FIRST_BAN_MS + MAX_BAN_MS;
        assert_eq!(bans.standing(&peer(1), later), Standing::Free);
        bans.failed(&peer(1), later);
        assert_eq!(
            bans.standing(&peer(1), later),
            Standing::Banned {
                until_ms: later + FIRST_BAN_MS
            }
        );
    }

    #[test]
    fn bounded_and_a_liar_is_out_for_half_an_hour() {
        let mut bans = Bans::default();
        bans.lied(&peer(0), NOW);
        for n in 1..=MAX_BANS as u32 {
            bans.failed(&peer(n), NOW);
        }
        assert_eq!(bans.0.len(), MAX_BANS);
        assert_eq!(
            bans.standing(&peer(0), NOW),
            Standing::Banned {
                until_ms: NOW + MAX_BAN_MS
            }
        );
    }
}

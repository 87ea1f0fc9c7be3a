//! Quotes that were given and still bind: what they bind to, by their names.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::{
    ModelDigest, PeerId,
    quote::{Bound, QUOTE_ID},
};

/// Quotes in force at once. A quote lives for seconds, and who asks for them is held to a rate.
const MAX_QUOTED: usize = 4096;

/// What was promised to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Promised {
    peer: PeerId,
    model: ModelDigest,
    bound: Bound,
    until_ms: u64,
}

/// The quotes in force. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Quoted {
    by_id: Arc<Mutex<BTreeMap<[u8; QUOTE_ID], Promised>>>,
}

impl Quoted {
    /// Keeps a quote that is about to be given. `false` where too many are in force: it is not given then.
    pub(super) fn keep(
        &self,
        id: [u8; QUOTE_ID],
        (peer, model): (PeerId, ModelDigest),
        bound: Bound,
        (until_ms, now_ms): (u64, u64),
    ) -> bool {
        let mut by_id = self.by_id();
        if by_id.len() >= MAX_QUOTED {
            by_id.retain(|_, promised| promised.until_ms > now_ms);
        }
        if by_id.len() >= MAX_QUOTED {
            return false;
        }
        by_id.insert(
            id,
            Promised {
                peer,
                model,
                bound,
                until_ms,
            },
        );
        true
    }

    /// What binds a job of this peer, which names a quote. A quote serves one job.
    pub(super) fn take(
        &self,
        id: &[u8; QUOTE_ID],
        (peer, model): (PeerId, ModelDigest),
        now_ms: u64,
    ) -> Option<Bound> {
        let mut by_id = self.by_id();
        let promised = by_id.get(id).copied()?;
        let binds = promised.peer == peer && promised.model == model && promised.until_ms > now_ms;
        if !binds {
            return None;
        }
        by_id.remove(id);
        Some(promised.bound)
    }

    fn by_id(&self) -> MutexGuard<'_, BTreeMap<[u8; QUOTE_ID], Promised>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{
        Signer,
        price::{Price, Prices},
    };

    use super::*;

    fn of(seed: u8) -> PeerId {
        Signer::from_seed([seed; 32]).peer_id()
    }

    #[test]
    fn a_quote_binds_once_one_peer_for_one_model_in_its_time() {
        let quoted = Quoted::default();
        let model = ModelDigest::new([1; 32]);
        let prices = Prices {
            output: Price::new(7),
            ..Prices::FREE
        };
        let bound = Bound::from(prices);
        assert!(quoted.keep([9; QUOTE_ID], (of(1), model), bound, (100, 0)));
        let take =
            |id: u8, peer: u8, model, now| quoted.take(&[id; QUOTE_ID], (of(peer), model), now);
        assert_eq!(take(8, 1, model, 50), None, "another name");
        assert_eq!(take(9, 2, model, 50), None, "another peer");
        assert_eq!(
            take(9, 1, ModelDigest::new([2; 32]), 50),
            None,
            "another model"
        );
        assert_eq!(take(9, 1, model, 100), None, "too late");
        assert_eq!(take(9, 1, model, 50), Some(bound));
        assert_eq!(take(9, 1, model, 50), None, "a second time");
    }

    #[test]
    fn too_many_at_once_are_not_given_until_the_first_are_over() {
        let quoted = Quoted::default();
        let model = ModelDigest::new([1; 32]);
        let id = |n: usize| {
            let mut id = [0; QUOTE_ID];
            id[..8].copy_from_slice(&n.to_be_bytes());
            id
        };
        for n in 0..MAX_QUOTED {
            assert!(quoted.keep(id(n), (of(1), model), Prices::FREE.into(), (100, 0)));
        }
        assert!(!quoted.keep(
            id(MAX_QUOTED),
            (of(1), model),
            Prices::FREE.into(),
            (100, 50)
        ));
        assert!(quoted.keep(
            id(MAX_QUOTED),
            (of(1), model),
            Prices::FREE.into(),
            (200, 100)
        ));
    }
}

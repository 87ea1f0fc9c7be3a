//! From offers to rows: a pure function, so that what a flood of offers does to the list can be tried.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    ModelDigest, ModelRef, PeerId,
    offer::Offer,
    price::{Price, Prices},
};

use super::{
    foreign,
    view::{CommunityPrices, SpeedRange},
};

/// Rows that are listed. The network holds some hundred offers of others, each of whom may name sixteen files: more rows than this is
/// somebody who makes them up, and no list that a person reads.
pub(super) const MAX_ROWS: usize = 200;

/// Different words of peers for one file that are shown.
const MAX_QUANTS: usize = 4;

/// What is offered of one file.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) digest: ModelDigest,
    /// One offer per peer; those of connected peers first.
    pub(super) offers: Vec<Offer>,
    /// How many of them are of connected peers.
    pub(super) connected: usize,
}

/// The files that are offered and in no row, the most offered first, then those of connected peers; and how many there are besides.
pub(super) fn gather(
    offers: impl IntoIterator<Item = Offer>,
    connected: &BTreeSet<PeerId>,
    is_listed: impl Fn(&ModelDigest) -> bool,
) -> (Vec<Offered>, usize) {
    let mut newest: BTreeMap<(ModelDigest, PeerId), Offer> = BTreeMap::new();
    for offer in offers {
        if is_listed(&offer.model.digest) {
            continue;
        }
        // The swarm that asks and the one that serves may hold two of the same peer.
        let of = (offer.model.digest, offer.peer);
        let held = newest.get(&of).map_or(0, |held| held.seq);
        if held <= offer.seq {
            newest.insert(of, offer);
        }
    }
    let mut files: BTreeMap<ModelDigest, Vec<Offer>> = BTreeMap::new();
    for ((digest, _), offer) in newest {
        files.entry(digest).or_default().push(offer);
    }
    let mut rows: Vec<Offered> = files
        .into_iter()
        .map(|(digest, mut offers)| {
            offers.sort_by_key(|offer| !connected.contains(&offer.peer));
            let is_near = |offer: &&Offer| connected.contains(&offer.peer);
            Offered {
                digest,
                connected: offers.iter().filter(is_near).count(),
                offers,
            }
        })
        .collect();
    let rank = |row: &Offered| std::cmp::Reverse((row.offers.len(), row.connected));
    rows.sort_by_key(rank);
    let left_out = rows.len().saturating_sub(MAX_ROWS);
    rows.truncate(MAX_ROWS);
    (rows, left_out)
}

impl Offered {
    /// The heads that are named for this file, each with how many name it: the most named first.
    pub(super) fn heads(&self) -> Vec<(ModelRef, usize)> {
        let mut heads: Vec<(ModelRef, usize)> = Vec::new();
        for offer in &self.offers {
            match heads.iter_mut().find(|(head, _)| *head == offer.model) {
                Some((_, named)) => *named += 1,
                None => heads.push((offer.model, 1)),
            }
        }
        heads.sort_by_key(|(_, named)| std::cmp::Reverse(*named));
        heads
    }

    /// Who names this head, connected peers first.
    pub(super) fn peers_of(&self, head: &ModelRef) -> Vec<PeerId> {
        let of = self.offers.iter().filter(|offer| offer.model == *head);
        of.map(|offer| offer.peer).collect()
    }

    pub(super) fn context_max(&self) -> u32 {
        let contexts = self.offers.iter().map(|offer| offer.ctx_max);
        contexts.max().unwrap_or(0)
    }

    pub(super) fn prices(&self) -> CommunityPrices {
        let of = |price: fn(&Prices) -> Price| {
            let prices = self.offers.iter().map(|offer| price(&offer.prices));
            let text = |price: Option<Price>| {
                let units = price.map_or(0, |price| price.base_units_per_mtok());
                units.to_string()
            };
            (text(prices.clone().min()), text(prices.max()))
        };
        let (input_low, input_high) = of(|of| of.input);
        let (output_low, output_high) = of(|of| of.output);
        let free = self.offers.iter().filter(|offer| offer.prices.is_free());
        CommunityPrices {
            input_low,
            input_high,
            output_low,
            output_high,
            free: count(free.count()),
        }
    }

    /// What peers say of the quantisation.
    pub(super) fn quants(&self) -> Vec<String> {
        let said = self
            .offers
            .iter()
            .filter_map(|offer| foreign::line(&offer.quant));
        let different: BTreeSet<String> = said.collect();
        different.into_iter().take(MAX_QUANTS).collect()
    }

    /// What peers say of how fast they write. Nothing is what one says that has not measured it.
    pub(super) fn speed(&self) -> Option<SpeedRange> {
        let said = self.offers.iter().map(|offer| offer.decode_tps);
        let said = said.filter(|speed| *speed > 0);
        Some(SpeedRange {
            low: said.clone().min()?,
            high: said.max()?,
        })
    }
}

pub(super) fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::offer, *};

    fn near(peers: &[u8]) -> BTreeSet<PeerId> {
        let ids = peers
            .iter()
            .map(|peer| PeerId::from_public_key(&[*peer; 32]));
        ids.collect()
    }

    #[test]
    fn what_a_row_names_is_never_among_them() {
        let known = ModelDigest::new([1; 32]);
        let offers = [offer(1, [1; 32], 1), offer(1, [2; 32], 2)];
        let (rows, left_out) = gather(offers, &near(&[]), |digest| *digest == known);
        assert_eq!((rows.len(), left_out), (1, 0));
        assert_eq!(rows[0].digest, ModelDigest::new([2; 32]));
    }

    #[test]
    fn one_row_per_file_with_each_peer_once() {
        let mut newer = offer(1, [2; 32], 1);
        (newer.seq, newer.ctx_max) = (2, 4096);
        let offers = [newer, offer(1, [2; 32], 1), offer(3, [2; 32], 1)];
        let (rows, _) = gather(offers, &near(&[3]), |_| false);
        let [row] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert_eq!((row.offers.len(), row.connected), (2, 1));
        assert_eq!(row.offers[0].peer, PeerId::from_public_key(&[3; 32]));
        assert_eq!(row.context_max(), 4096);
        assert_eq!(row.speed(), Some(SpeedRange { low: 1, high: 3 }));
        assert_eq!(row.prices().free, 2);
    }

    #[test]
    fn peers_that_name_different_heads_for_one_file_are_told() {
        let offers = [
            offer(1, [2; 32], 9),
            offer(2, [2; 32], 1),
            offer(3, [2; 32], 1),
        ];
        let (rows, _) = gather(offers, &near(&[1]), |_| false);
        let heads = rows[0].heads();
        assert_eq!(heads.len(), 2);
        assert_eq!((heads[0].0.head_len, heads[0].1), (1001, 2));
        assert_eq!(rows[0].peers_of(&heads[0].0).len(), 2);
        assert_eq!(
            rows[0].peers_of(&heads[1].0),
            near(&[1]).into_iter().collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_flood_of_files_pushes_out_none_that_more_peers_offer() {
        let flood = (0..500u16).map(|number| {
            let mut file = [7; 32];
            file[..2].copy_from_slice(&number.to_be_bytes());
            offer(1, file, 1)
        });
        let honest = [
            offer(2, [200; 32], 2),
            offer(3, [200; 32], 2),
            offer(4, [255; 32], 2),
        ];
        let (rows, left_out) = gather(flood.chain(honest), &near(&[4]), |_| false);
        assert_eq!((rows.len(), left_out), (MAX_ROWS, 502 - MAX_ROWS));
        assert_eq!(rows[0].digest, ModelDigest::new([200; 32]));
        assert_eq!(rows[1].digest, ModelDigest::new([255; 32]), "a near one");
    }

    #[test]
    fn what_peers_say_is_bounded_and_cleaned() {
        let offers = (1..20).map(|peer| Offer {
            quant: format!("Q{peer}\u{202e}\n"),
            ..offer(peer, [2; 32], 1)
        });
        let (rows, _) = gather(offers, &near(&[]), |_| false);
        let quants = rows[0].quants();
        assert_eq!(quants.len(), MAX_QUANTS);
        assert!(quants.contains(&"Q1".to_owned()), "{quants:?}");
    }
}

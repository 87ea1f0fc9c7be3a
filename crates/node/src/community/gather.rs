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
use crate::ask::elect::Block;

/// Rows that are listed. Each of the two swarms holds up to 1,024 offers of others, who may name sixteen files each: more rows than this
/// is somebody who makes them up, and no list that a person reads.
pub(super) const MAX_ROWS: usize = 200;

/// Rows for which one block of addresses, or one peer of whom nobody says where it is, stands before all others had their turn.
const ROWS_EACH: usize = 4;

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

/// Who stands for a row.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Supporter {
    Block(Block),
    Peer(PeerId),
}

/// The files that are offered, the most offered first, then those of connected peers; and how many there are besides. Where there are too
/// many, those that connected peers offer are kept before others, and everybody's first few before anybody's many: names cost nothing.
pub(super) fn gather(
    offers: impl IntoIterator<Item = Offer>,
    connected: &BTreeSet<PeerId>,
    block: impl Fn(&Offer) -> Option<Block>,
) -> (Vec<Offered>, usize) {
    let mut newest: BTreeMap<(ModelDigest, PeerId), Offer> = BTreeMap::new();
    for offer in offers {
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
    let left_out = rows.len().saturating_sub(MAX_ROWS);
    if left_out > 0 {
        rows = keep(rows, block);
    }
    rows.sort_by_key(|row| std::cmp::Reverse((row.offers.len(), row.connected)));
    (rows, left_out)
}

/// As many rows as are listed.
fn keep(rows: Vec<Offered>, block: impl Fn(&Offer) -> Option<Block>) -> Vec<Offered> {
    let supporter = |offer: &Offer| match block(offer) {
        Some(block) => Supporter::Block(block),
        None => Supporter::Peer(offer.peer),
    };
    let with_supporters = |row: Offered| {
        let by: BTreeSet<Supporter> = row.offers.iter().map(supporter).collect();
        (row, by)
    };
    let mut rows: Vec<_> = rows.into_iter().map(with_supporters).collect();
    rows.sort_by_key(|(row, by)| std::cmp::Reverse((row.connected > 0, by.len(), row.connected)));
    let mut stands: BTreeMap<Supporter, usize> = BTreeMap::new();
    let (mut kept, mut later) = (Vec::new(), Vec::new());
    for (row, by) in rows {
        let has_turn = |by: &Supporter| stands.get(by).is_none_or(|rows| *rows < ROWS_EACH);
        match by.iter().any(has_turn) {
            true => kept.push(row),
            false => {
                later.push(row);
                continue;
            }
        }
        for by in by {
            *stands.entry(by).or_default() += 1;
        }
    }
    kept.extend(later);
    kept.truncate(MAX_ROWS);
    kept
}

impl Offered {
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
    use crate::route::Group;

    fn near(peers: &[u8]) -> BTreeSet<PeerId> {
        let ids = peers
            .iter()
            .map(|peer| PeerId::from_public_key(&[*peer; 32]));
        ids.collect()
    }

    #[test]
    fn one_row_per_file_with_each_peer_once() {
        let mut newer = offer(1, [2; 32], 1);
        (newer.seq, newer.ctx_max) = (2, 4096);
        let offers = [newer, offer(1, [2; 32], 1), offer(3, [2; 32], 1)];
        let (rows, _) = gather(offers, &near(&[3]), |_| None);
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
    fn who_names_a_head_is_found_by_it() {
        let offers = [offer(1, [2; 32], 9), offer(2, [2; 32], 1)];
        let heads = offers.clone().map(|offer| offer.model);
        let (rows, _) = gather(offers, &near(&[1]), |_| None);
        let ids = |peer| near(&[peer]).into_iter().collect::<Vec<_>>();
        assert_eq!(rows[0].peers_of(&heads[0]), ids(1));
        assert_eq!(rows[0].peers_of(&heads[1]), ids(2));
    }

    /// Files of which nobody else has any.
    fn made_up(peer: u8, files: u16, of: u8) -> Vec<Offer> {
        let file = |number: u16| {
            let mut file = [of; 32];
            file[..2].copy_from_slice(&number.to_be_bytes());
            offer(peer, file, 1)
        };
        (0..files).map(file).collect()
    }

    #[test]
    fn a_flood_of_files_pushes_out_none_that_more_peers_offer() {
        let honest = [
            offer(2, [200; 32], 2),
            offer(3, [200; 32], 2),
            offer(4, [255; 32], 2),
        ];
        let offers = made_up(1, 500, 7).into_iter().chain(honest);
        let (rows, left_out) = gather(offers, &near(&[4]), |_| None);
        assert_eq!((rows.len(), left_out), (MAX_ROWS, 502 - MAX_ROWS));
        assert_eq!(rows[0].digest, ModelDigest::new([200; 32]));
        assert_eq!(rows[1].digest, ModelDigest::new([255; 32]), "a near one");
    }

    #[test]
    fn many_names_that_offer_the_same_keep_out_nobody() {
        // Twenty-six names, each with sixteen files that half of them offer as well.
        let flood = (100u8..126).flat_map(|peer| {
            let group = peer % 26;
            (0u8..2).flat_map(move |half| made_up(peer, 8, (group + half) % 26))
        });
        let flood: Vec<Offer> = flood.collect();
        let files: BTreeSet<_> = flood.iter().map(|offer| offer.model.digest).collect();
        assert!(files.len() > MAX_ROWS);
        let honest = [offer(2, [200; 32], 2), offer(3, [201; 32], 2)];
        let own = |offer: &Offer| {
            let block = Block::Public(Group::V4([198, 51, 100]));
            (offer.model.digest.as_bytes()[5] < 100).then_some(block)
        };
        for (block, connected) in [
            (None, near(&[])),
            (None, near(&[3])),
            (Some(own), near(&[])),
        ] {
            let offers = flood.iter().chain(&honest).cloned();
            let (rows, _) = gather(offers, &connected, |offer| block.and_then(|of| of(offer)));
            assert_eq!(rows.len(), MAX_ROWS);
            for file in [200, 201] {
                let is_there = rows
                    .iter()
                    .any(|row| row.digest == ModelDigest::new([file; 32]));
                assert!(is_there, "{file}");
            }
        }
    }

    #[test]
    fn what_a_connected_peer_offers_is_kept_before_what_names_far_away_do() {
        let flood = (100u8..200).flat_map(|peer| made_up(peer, 4, peer / 2));
        let honest = offer(2, [255; 32], 2);
        let (rows, _) = gather(flood.chain([honest]), &near(&[2]), |_| None);
        let digest = ModelDigest::new([255; 32]);
        assert!(rows.iter().any(|row| row.digest == digest));
    }

    #[test]
    fn what_peers_say_is_bounded_and_cleaned() {
        let offers = (1..20).map(|peer| Offer {
            quant: format!("Q{peer}\u{202e}\n"),
            ..offer(peer, [2; 32], 1)
        });
        let (rows, _) = gather(offers, &near(&[]), |_| None);
        let quants = rows[0].quants();
        assert_eq!(quants.len(), MAX_QUANTS);
        assert!(quants.contains(&"Q1".to_owned()), "{quants:?}");
    }
}

//! Where the table says that the providers of one search are, and what of it is dialled.

use std::collections::{BTreeSet, HashMap};

use libp2p::{Multiaddr, PeerId};

use crate::address::{self, Prefix, Scope};

/// Addresses of one site (a /24 or /48) that are dialled in one search because the table names them: what four providers of it have,
/// named once with eight each. Whoever stands next to a key can name one provider again and again, and the site may be a victim's.
const ADDRESSES_PER_SITE: usize = 32;

/// Where the table says that a provider is: each naming brings eight addresses at most, and there are not many.
#[derive(Debug, Default)]
struct Told {
    /// Everything that was said in this search.
    addresses: Vec<Multiaddr>,
    /// What of it was not dialled yet.
    fresh: Vec<Multiaddr>,
    /// It was dialled in this search, and so wherever else it is known to be.
    dialled: bool,
}

/// What was told in one search: of as many providers as one search hears of.
#[derive(Debug, Default)]
pub(super) struct Tellings {
    providers: HashMap<PeerId, Told>,
    /// Addresses taken at each site.
    at_sites: HashMap<Prefix, usize>,
}

/// What a naming brought.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// To be dialled.
    pub(super) addresses: Vec<Multiaddr>,
    /// Where the provider was not named before.
    pub(super) sites: BTreeSet<Prefix>,
}

impl Tellings {
    /// Whether this provider was not named at this address before.
    pub(super) fn is_news(&self, provider: &PeerId, told: &Multiaddr) -> bool {
        let before = self.providers.get(provider);
        before.is_none_or(|before| !before.addresses.contains(&address::without_peer(told)))
    }

    /// Takes of these addresses of a provider those that there is room for: `has_room` says whether one more provider may be at a site.
    pub(super) fn take(
        &mut self,
        provider: PeerId,
        addresses: Vec<Multiaddr>,
        has_room: impl Fn(&Prefix) -> bool,
    ) -> Taken {
        let before = self.providers.get(&provider);
        let before = before.map(|before| before.addresses.as_slice());
        let before: BTreeSet<_> = before.unwrap_or_default().iter().filter_map(site).collect();
        let mut taken = Taken::default();
        for told in addresses {
            if let Some(site) = site(&told) {
                let at_site = self.at_sites.get(&site).copied().unwrap_or_default();
                let is_new = !before.contains(&site);
                if at_site >= ADDRESSES_PER_SITE || is_new && !has_room(&site) {
                    continue;
                }
                self.at_sites.insert(site, at_site + 1);
                if is_new {
                    taken.sites.insert(site);
                }
            }
            taken.addresses.push(told);
        }
        if !taken.addresses.is_empty() {
            let told = self.providers.entry(provider).or_default();
            for address in taken.addresses.iter().map(address::without_peer) {
                told.addresses.push(address.clone());
                told.fresh.push(address);
            }
        }
        taken
    }

    /// Where a provider is to be dialled now that it was not yet, and whether it was dialled in this search before.
    pub(super) fn to_dial(&self, provider: &PeerId) -> (Vec<Multiaddr>, bool) {
        let told = self.providers.get(provider);
        told.map_or_else(Default::default, |told| (told.fresh.clone(), told.dialled))
    }

    /// It is being dialled at all of that.
    pub(super) fn dialled(&mut self, provider: PeerId) {
        let told = self.providers.entry(provider).or_default();
        told.fresh.clear();
        told.dialled = true;
    }
}

/// The site of an address of the internet: at home there is one.
fn site(told: &Multiaddr) -> Option<Prefix> {
    (address::scope(told) == Some(Scope::Public))
        .then(|| Prefix::of_site(told))
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Instant};

    use super::*;
    use crate::search::Steps;

    fn at(site: u8, port: usize) -> Multiaddr {
        format!("/ip4/198.51.{site}.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn providers_that_are_named_again_and_again_lead_no_more_often_into_a_victims_network() {
        let mut tellings = Tellings::default();
        let mut steps = Steps::<u8>::new(VecDeque::new(), Instant::now());
        let providers: Vec<_> = (0..6).map(|_| PeerId::random()).collect();
        let mut dialled = 0;
        for naming in 0..6 {
            for (which, provider) in providers.iter().enumerate() {
                let first = 1 + (naming * providers.len() + which) * 8;
                let news: Vec<_> = (first..first + 8).map(|port| at(100, port)).collect();
                let taken = tellings.take(*provider, news, |site| steps.has_room_at(site));
                if !taken.addresses.is_empty() {
                    steps.names(*provider, taken.sites);
                }
                dialled += tellings.to_dial(provider).0.len();
                tellings.dialled(*provider);
            }
        }
        assert_eq!(dialled, ADDRESSES_PER_SITE);
        // Elsewhere there is room for the same ones.
        let other = tellings.take(providers[0], vec![at(101, 1)], |site| {
            steps.has_room_at(site)
        });
        assert_eq!(other.addresses, [at(101, 1)]);
        assert_eq!(other.sites.len(), 1);
    }

    #[test]
    fn who_was_named_at_the_wrong_ports_of_its_own_network_can_be_named_there_again() {
        let mut tellings = Tellings::default();
        let provider = PeerId::random();
        let wrong: Vec<_> = (1..=8).map(|port| at(100, port)).collect();
        assert_eq!(tellings.take(provider, wrong, |_| true).sites.len(), 1);
        tellings.dialled(provider);
        let home = at(100, 4001).with_p2p(provider).unwrap();
        assert!(tellings.is_news(&provider, &home));
        // Its place at the site is the one that it has.
        let taken = tellings.take(provider, vec![home.clone()], |_| false);
        assert_eq!(taken.addresses, std::slice::from_ref(&home));
        assert!(taken.sites.is_empty() && !tellings.is_news(&provider, &home));
        let again = (vec![at(100, 4001)], true);
        assert_eq!(tellings.to_dial(&provider), again);
        // What could not be dialled is still to be.
        assert_eq!(tellings.to_dial(&provider), again);
        tellings.dialled(provider);
        assert_eq!(tellings.to_dial(&provider), (Vec::new(), true));
    }
}

//! How often what happened: a history in which hardly anything succeeds, or nothing is ever refused, shows little.

use std::collections::BTreeMap;

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    done: BTreeMap<&'static str, u64>,
    refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(super) fn count(&mut self, what: &'static str, done: bool) {
        let side = if done {
            &mut self.done
        } else {
            &mut self.refused
        };
        *side.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.done {
            *self.done.entry(what).or_default() += count;
        }
        for (what, count) in &other.refused {
            *self.refused.entry(what).or_default() += count;
        }
    }

    pub(crate) fn says_something(&self) {
        for what in [
            "deposit",
            "withdraw",
            "set signer",
            "end signer",
            "promise",
            "overpromise",
            "hold",
            "reserve",
            "release",
            "claim",
            "thaw",
            "prove",
            "settle",
            "decided",
            "mended",
            "all honest vouchers paid",
            "move payout",
            "join",
            "unjoin",
            "kept as grant",
            "kept as balance",
        ] {
            assert!(
                self.done.get(what).is_some_and(|count| *count > 20),
                "{what} hardly ever happened"
            );
        }
        for what in [
            "withdraw",
            "set signer",
            "promise",
            "reserve",
            "release",
            "thaw",
            "prove",
            "settle",
            "move payout",
            "join",
            "unjoin",
        ] {
            assert!(
                self.refused.get(what).is_some_and(|count| *count > 20),
                "{what} was hardly ever refused"
            );
        }
    }
}

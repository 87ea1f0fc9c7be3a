//! A job whose input begins with what the provider has in its cache, as its quote said.

use proptest::prelude::*;
use protocol::{
    JobId,
    frame::{Open, RefuseCode},
    job::{
        Finish,
        provider::{Action, EngineEvent, Event, Provider, Recorded},
    },
    price::{Price, Prices, Terms, Totals, due},
    quote::{Bound, Prefix, QuoteRequest, prefix_hashes},
    receipt::work_of_job,
    tokens,
};

use crate::{
    desk::{MODEL, VOCAB, at, done_in, engine, write},
    payer::{Payer, admitted, charging, errors, opened, paid, paid_open, prices},
};

const N_IN: u32 = 100;

/// One base unit per cached token, where one that is read costs three and one that is written seven.
fn with_cache() -> Prices {
    Prices {
        cached: Price::new(1_000_000),
        ..prices()
    }
}

fn input(n_in: u32) -> Vec<u32> {
    (0..n_in).map(|id| id % VOCAB).collect()
}

/// The prefix of this length, as a client names it.
fn prefix(ids: &[u32], tokens: u32) -> Prefix {
    let request = QuoteRequest {
        nonce: [1; 16],
        model: MODEL,
        n_in: ids.len() as u32,
        max_out: 10,
        prefix_hashes: prefix_hashes(ids),
    };
    let named = request.prefixes();
    *named.iter().find(|prefix| prefix.tokens == tokens).unwrap()
}

fn bound(cached: u32, prefix: Prefix) -> Bound {
    Bound {
        terms: Terms::new(with_cache(), cached),
        prefix: Some(prefix),
    }
}

fn cost(input: u64, cached: u64, output: u64) -> u128 {
    let totals = Totals {
        input,
        cached,
        output,
    };
    due(&with_cache(), &totals).unwrap()
}

/// A job of [`N_IN`] tokens, of which so many count as cached, that was accepted and is not paid for yet.
fn accepted(cached: u32) -> (Provider, JobId) {
    let ids = input(N_IN);
    let mut provider = Provider::new(charging(), false, at(0));
    let quoted = bound(cached, prefix(&ids, N_IN * 3 / 4));
    let (open, job) = opened(paid_open(N_IN), Some(quoted));
    assert_eq!(provider.step(open, at(0)), []);
    provider.step(Payer::honest().pay(100, work_of_job(&job)), at(0));
    admitted(&mut provider, 0);
    provider.step(Event::Recorded(Recorded::Fresh), at(0));
    (provider, job)
}

#[test]
fn what_is_cached_costs_the_price_of_the_cache() {
    let (mut provider, job) = accepted(75);
    // A base unit less does not do, though all of it would be paid for at the price of the cache.
    assert_eq!(paid(&mut provider, &job, cost(25, 75, 0) - 1, 1), []);
    let actions = paid(&mut provider, &job, cost(25, 75, 0), 2);
    assert!(matches!(&actions[..], [Action::Start(_)]), "{actions:?}");
    write(&mut provider, 0, 5, 50);
    let actions = engine(&mut provider, EngineEvent::Finished(Finish::Stop), 60);
    let receipt = done_in(&actions).receipt;
    let totals = Totals {
        input: 25,
        cached: 75,
        output: 5,
    };
    assert_eq!((receipt.totals, receipt.due), (totals, cost(25, 75, 5)));
}

#[test]
fn a_page_that_is_gone_by_then_is_the_provider_s_loss() {
    let (mut provider, job) = accepted(75);
    paid(&mut provider, &job, cost(25, 75, 0), 1);
    // It reads all of it anew.
    for done in [10, 80] {
        let read = EngineEvent::Prefill { done, total: N_IN };
        engine(&mut provider, read, u64::from(done));
    }
    write(&mut provider, 0, 1, 90);
    let actions = engine(&mut provider, EngineEvent::Finished(Finish::Stop), 99);
    assert_eq!(done_in(&actions).receipt.due, cost(25, 75, 1));
}

#[test]
fn what_was_read_when_it_ends_early_begins_with_what_is_cached() {
    let (mut provider, job) = accepted(75);
    paid(&mut provider, &job, cost(25, 75, 0), 1);
    let read = EngineEvent::Prefill {
        done: 80,
        total: N_IN,
    };
    engine(&mut provider, read, 10);
    let failed = EngineEvent::Failed("no memory".to_owned());
    let actions = engine(&mut provider, failed, 20);
    let stored = actions.iter().find_map(|action| match action {
        Action::Store(receipt) => Some(receipt.receipt.totals),
        _ => None,
    });
    let totals = Totals {
        input: 5,
        cached: 75,
        output: 0,
    };
    assert_eq!(stored, Some(totals));
}

#[test]
fn another_input_is_not_computed_at_the_price_of_the_cache() {
    let ids = input(N_IN);
    let quoted = bound(75, prefix(&ids, 75));
    let refused = |prompt: &[u32], resume: &[u32]| {
        let mut provider = Provider::new(charging(), false, at(0));
        let open = Open {
            prompt_tokens: tokens::pack(prompt),
            resume_tokens: tokens::pack(resume),
            ..paid_open(N_IN)
        };
        let (open, _) = opened(open, Some(quoted));
        errors(&provider.step(open, at(0)))
    };
    let mut other = ids.clone();
    other[74] += 1;
    assert_eq!(refused(&other, &[]), [RefuseCode::QuoteUnknown]);
    assert_eq!(refused(&ids[..74], &[]), [RefuseCode::QuoteUnknown]);
    // It may go on otherwise, and part of it may be output that is there already.
    other[74] -= 1;
    other[75] += 1;
    assert_eq!(refused(&other, &[7, 7]), []);
    assert_eq!(refused(&ids[..60], &ids[60..]), []);
}

#[test]
fn where_nothing_is_due_nothing_is_counted_apart() {
    let terms = Terms::new(Prices::FREE, 75);
    assert_eq!(terms, Terms::from(Prices::FREE));
    assert_eq!(terms.totals(100, 5).cached, 0);
}

proptest! {
    /// All that is read is counted once, the cached part first, and whoever quotes more of it asks no more.
    #[test]
    fn totals_split_what_was_read(
        price in any::<u64>(), part in 0u64..=100, cached in any::<u32>(), read in any::<u32>(), output in any::<u32>(),
    ) {
        let prices = Prices {
            input: Price::new(price.into()),
            cached: Price::new(u128::from(price) * u128::from(part) / 100),
            output: Price::new(u128::from(price) + 1),
        };
        prop_assert!(prices.favour_cached());
        let of = |cached| Terms::new(prices, cached).totals(read, output);
        let totals = of(cached);
        prop_assert_eq!(totals.input + totals.cached, u64::from(read));
        prop_assert_eq!(totals.cached, u64::from(read.min(cached)));
        prop_assert_eq!(totals.output, u64::from(output));
        let less = of(cached / 2);
        prop_assert!(due(&prices, &totals).unwrap() <= due(&prices, &less).unwrap());
        // More is never cheaper: a voucher for a part never covers more than the part.
        let before = Terms::new(prices, cached).totals(read / 2, output);
        prop_assert!(due(&prices, &before).unwrap() <= due(&prices, &totals).unwrap());
    }
}

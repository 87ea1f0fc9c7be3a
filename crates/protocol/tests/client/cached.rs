//! An answer part of whose input is cached, as the quote said: what is paid for it, and who lies about it.

use protocol::{
    Signer,
    frame::Frame,
    job::{
        CloseWhy, Finish,
        client::{Action, AttemptEnd, Candidate, Event, Lie},
    },
    price::{Price, Prices, Terms, Totals, due},
    receipt::{Checkpoint, Receipt, SignedReceipt},
    voucher::payee::{OPENING_TOKENS, PREFILL_CHUNK},
};

use crate::{
    desk::ended,
    payer::{self, Payer, QUOTE, STRIDE},
};

const N_IN: u32 = 5_000;
const CACHED: u32 = 3_000;

/// One base unit per cached token, where one that is read costs three and one that is written seven.
fn prices() -> Prices {
    Prices {
        cached: Price::new(1_000_000),
        ..payer::prices()
    }
}

fn terms() -> Terms {
    Terms::new(prices(), CACHED)
}

fn cost(read: u32, output: u32) -> u128 {
    due(&prices(), &terms().totals(read, output)).unwrap()
}

fn candidate() -> Candidate {
    Candidate {
        terms: terms(),
        ..payer::candidate(1)
    }
}

fn running() -> Payer {
    let (mut payer, _) = Payer::asks_with(N_IN, None, vec![candidate()]);
    payer.connected();
    payer.accept();
    payer
}

fn checkpoint(payer: &Payer, totals: Totals) -> Frame {
    let ids: Vec<u32> = (0..STRIDE).map(|id| 100 + id).collect();
    let job = payer.job();
    let checkpoint = Checkpoint {
        job,
        totals,
        h: protocol::chain::extend(&protocol::chain::start(&job), &ids),
        due: due(&prices(), &totals).unwrap(),
    };
    Frame::Checkpoint(checkpoint.sign(&Signer::from_seed([1; 32])))
}

#[test]
fn what_is_cached_is_paid_for_at_its_price_and_the_rest_at_its_own() {
    let mut payer = running();
    // The first chunk is all cached, and the whole prompt costs 3000 and three times 2000.
    assert_eq!(payer.total(), u128::from(PREFILL_CHUNK));
    payer.reads(u64::from(CACHED), 10);
    assert_eq!(payer.total(), 3_000 + 3 * 2_000);
    payer.tokens(0, STRIDE, 20);
    assert_eq!(payer.total(), cost(N_IN, STRIDE));
    assert_eq!(cost(N_IN, STRIDE), 3_000 + 6_000 + 7 * 16);
}

#[test]
fn the_promised_totals_say_what_is_cached() {
    let (mut payer, _) = Payer::asks_with(N_IN, None, vec![candidate()]);
    payer.connected();
    let actions = payer.accept();
    let totals = actions.iter().find_map(|action| match action {
        Action::Promise { totals, add, .. } if *add > 0 => Some(*totals),
        _ => None,
    });
    assert_eq!(totals, Some(terms().totals(PREFILL_CHUNK, 0)));
}

#[test]
fn a_count_of_cached_tokens_that_was_not_quoted_is_a_lie_either_way() {
    let right = terms().totals(N_IN, STRIDE);
    let with = |cached: u64| Totals {
        input: u64::from(N_IN) - cached,
        cached,
        ..right
    };
    let told = |totals| {
        let mut payer = running();
        payer.tokens(0, STRIDE, 10);
        let frame = checkpoint(&payer, totals);
        ended(&payer.say(frame, 20))
    };
    assert_eq!(told(right), []);
    let quoted = u64::from(CACHED);
    for cached in [0, quoted - 1, quoted + 1, u64::from(N_IN)] {
        let lie = Lie::WrongCached {
            expected: quoted,
            got: cached,
        };
        assert_eq!(told(with(cached)), [AttemptEnd::Lie(lie)]);
    }
    // Nor is what is cached counted a second time as read.
    let twice = Totals {
        input: N_IN.into(),
        cached: quoted,
        ..right
    };
    let lie = Lie::WrongInput {
        expected: N_IN,
        got: N_IN + CACHED,
    };
    assert_eq!(told(twice), [AttemptEnd::Lie(lie)]);
    let overflow = Totals {
        input: u64::MAX,
        cached: u64::MAX,
        ..right
    };
    assert!(matches!(
        ended(&{
            let mut payer = running();
            payer.tokens(0, STRIDE, 10);
            let job = payer.job();
            let ids: Vec<u32> = (0..STRIDE).map(|id| 100 + id).collect();
            let huge = Checkpoint {
                job,
                totals: overflow,
                h: protocol::chain::extend(&protocol::chain::start(&job), &ids),
                due: 0,
            };
            let signed = huge.sign(&Signer::from_seed([1; 32]));
            payer.say(Frame::Checkpoint(signed), 20)
        })[..],
        [AttemptEnd::Lie(Lie::WrongInput { .. })]
    ));
}

#[test]
fn a_receipt_is_held_to_the_quote_as_well() {
    let told = |totals: Totals| {
        let mut payer = running();
        payer.tokens(0, STRIDE, 10);
        let Frame::Done(done) = payer.done(STRIDE, Finish::Abort) else {
            panic!("no Done")
        };
        let provider = Signer::from_seed([1; 32]);
        let signed = done.receipt.unwrap();
        let receipt = SignedReceipt::verify_then_decode(&signed, &provider.peer_id()).unwrap();
        let receipt = Receipt {
            totals,
            due: due(&prices(), &totals).unwrap(),
            ..receipt.receipt
        };
        let done = protocol::frame::Done {
            receipt: Some(receipt.sign(&provider).to_signed()),
        };
        ended(&payer.say(Frame::Done(done), 20))
    };
    let right = terms().totals(N_IN, STRIDE);
    let lies = |totals| {
        let ended = told(totals);
        ended.iter().any(|end| matches!(end, AttemptEnd::Lie(_)))
    };
    assert!(!lies(right));
    assert!(lies(Terms::from(prices()).totals(N_IN, STRIDE)));
}

#[test]
fn a_quote_that_comes_on_the_way_says_what_is_cached() {
    let unquoted = Candidate {
        quote_id: None,
        terms: prices().into(),
        ..candidate()
    };
    let (mut payer, _) = Payer::asks_with(N_IN, None, vec![unquoted]);
    let quoted = Event::Quoted {
        attempt: 0,
        terms: terms(),
        quote_id: QUOTE,
        queue_pos: 0,
    };
    payer.step(quoted, 1);
    payer.connected();
    payer.accept();
    payer.reads(u64::from(CACHED), 10);
    assert_eq!(payer.total(), cost(N_IN, 0));
}

#[test]
fn the_first_voucher_pays_for_more_where_it_costs_less() {
    let prepaid = Candidate {
        prepaid: true,
        ..candidate()
    };
    let (mut payer, _) = Payer::asks_with(N_IN, None, vec![prepaid]);
    payer.connected();
    let most = due(&prices(), &Terms::from(prices()).totals(OPENING_TOKENS, 0)).unwrap();
    let first = payer.total();
    assert!(
        first <= most && first + cost(1, 0).max(3) > most,
        "{first} of {most}"
    );
    assert!(first > cost(CACHED, 0), "all that is cached, and more");
    payer.accept_counting(first);
    assert!(payer.total() >= first);
    payer.reads(u64::from(N_IN), 10);
    assert_eq!(payer.total(), cost(N_IN, 0));
}

#[test]
fn an_answer_that_moves_pays_for_all_of_its_input() {
    let next = Candidate {
        terms: prices().into(),
        quote_id: Some([9; 16]),
        ..payer::candidate(2)
    };
    let (mut payer, _) = Payer::asks_with(N_IN, None, vec![candidate(), next]);
    payer.connected();
    let accept = protocol::frame::Accept {
        // It keeps no job whose stream is cut.
        resume_grace_s: 0,
        ..payer.terms()
    };
    payer.say(Frame::Accept(accept), 1);
    payer.reads(N_IN.into(), 2);
    payer.tokens(0, STRIDE, 10);
    let before = payer.total();
    assert_eq!(before, cost(N_IN, STRIDE));
    let why = CloseWhy::Cut("cut".into());
    payer.step(Event::Closed { attempt: 0, why }, 30);
    let connected = Event::Connected {
        attempt: 1,
        rtt_ms: 10,
    };
    payer.step(connected, 40);
    let accept = protocol::frame::Accept {
        n_in: N_IN + STRIDE,
        ..payer.terms()
    };
    let frame = Frame::Accept(accept);
    payer.step(Event::Frame { attempt: 1, frame }, 50);
    // A chunk at the price of what is read: nothing is cached there.
    assert_eq!(payer.total() - before, 3 * u128::from(PREFILL_CHUNK));
}

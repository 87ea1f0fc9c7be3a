//! An answer that costs something, and payees of every kind.

use bytes::Bytes;
use protocol::{
    Signer,
    frame::{Accept, Busy, CancelReason, Frame, Phase, Progress, RefuseCode, Reserve},
    job::{
        CloseWhy, Finish,
        client::{
            ANSWER_PATIENCE_MS, Action, AttemptEnd, CANCEL_LINGER_MS, Candidate, End, Event, Lie,
            Local, SETTLE_MS,
        },
    },
    price::{Price, Prices, Totals},
    receipt::{Checkpoint, work_of},
    voucher::{
        B256,
        payee::{OPENING_TOKENS, PREFILL_CHUNK, PREFILL_STEP, VOUCHER_MS},
    },
};

use crate::desk::{self, ended, finish, peer, say};

use crate::payer::{
    Payer, QUOTE, STRIDE, WINDOW, cancels, candidate, cost, prices, signed, signed_by,
};

#[test]
fn nothing_is_promised_in_line_and_the_prompt_is_paid_for_once_the_job_is_taken() {
    let (mut payer, _) = Payer::asks(3, None);
    payer.connected();
    assert_eq!((payer.total(), payer.paid.len()), (0, 1), "the opening one");
    for second in 0..30 {
        let queued = Progress {
            phase: Phase::Queued.into(),
            queue_pos: 1,
            ..Progress::default()
        };
        payer.say(Frame::Progress(queued), second * 1_000);
    }
    assert_eq!((payer.total(), payer.paid.len()), (0, 1));
    let accept = payer.terms();
    payer.say(Frame::Accept(accept), 30_000);
    assert_eq!((payer.total(), payer.paid.len()), (cost(3, 0), 2));
}

#[test]
fn an_open_is_followed_by_a_voucher_for_it_that_promises_nothing_new() {
    let (mut payer, _) = Payer::asks(3, None);
    payer.connected();
    assert_eq!(payer.promises, [0]);
    let [opening] = payer.paid[..] else {
        panic!("{:?}", payer.paid)
    };
    assert_eq!(opening.cumulative, 1_000);
    assert_eq!(opening.work.as_slice(), payer.job().as_bytes());
    let open = payer.open.as_ref().unwrap();
    assert_eq!(open.provider.as_ref(), peer(1).as_bytes());
    assert_eq!(open.quote_id.as_ref(), QUOTE);
}

/// Of a provider that counts what the first voucher pays for.
fn prepaid(number: u8) -> Candidate {
    Candidate {
        prepaid: true,
        ..candidate(number)
    }
}

#[test]
fn the_first_part_of_the_prompt_is_paid_with_the_first_frame() {
    let (mut payer, _) = Payer::asks_with(3, None, vec![prepaid(1)]);
    payer.connected();
    assert_eq!(
        (&payer.promises[..], &payer.adds[..]),
        (&[cost(3, 0)][..], &[cost(3, 0)][..])
    );
    assert_eq!(payer.paid[0].work.as_slice(), payer.job().as_bytes());
    payer.accept_counting(cost(3, 0));
    payer.tokens(0, STRIDE, 10);
    assert_eq!(payer.promises[1..], [cost(3, STRIDE) - cost(3, 0)]);
    assert_eq!(payer.adds[1..], [0], "only a first voucher says it");
    // No more of a long one than leaves a step of the chunk.
    let (mut payer, _) = Payer::asks_with(7_000, None, vec![prepaid(1)]);
    payer.connected();
    assert_eq!(payer.total(), cost(OPENING_TOKENS, 0));
    payer.accept_counting(cost(OPENING_TOKENS, 0));
    assert_eq!(payer.total(), cost(PREFILL_CHUNK, 0));
}

#[test]
fn what_does_not_count_of_the_first_voucher_is_paid_again_and_a_chunk_is_at_stake_all_the_same() {
    for counts in [0, 5] {
        let (mut payer, _) = Payer::asks_with(7_000, None, vec![prepaid(1)]);
        payer.connected();
        payer.accept_counting(counts);
        let (lost, again) = (cost(OPENING_TOKENS, 0), cost(PREFILL_STEP, 0));
        assert_eq!(payer.total(), lost + again - counts);
        assert!(payer.total() <= cost(PREFILL_CHUNK, 0));
        for ms in (500..15_000).step_by(500) {
            payer.step(Event::Tick, ms);
        }
        assert_eq!(payer.total(), lost + again - counts);
    }
    let (mut payer, _) = Payer::asks_with(3, None, vec![prepaid(1)]);
    payer.connected();
    let accept = Accept {
        paid: Bytes::from_static(&[1]),
        ..payer.terms()
    };
    let actions = payer.say(Frame::Accept(accept), 1);
    let lie = AttemptEnd::Lie(Lie::WrongStatement("paid"));
    assert_eq!(ended(&actions), [lie]);
}

#[test]
fn nothing_is_paid_ahead_in_line_beside_another_or_where_it_was_lost() {
    let in_front = |queue_pos| {
        let unquoted = Candidate {
            quote_id: None,
            ..prepaid(1)
        };
        let (mut payer, _) = Payer::asks_with(3, None, vec![unquoted]);
        let quoted = Event::Quoted {
            attempt: 0,
            terms: prices().into(),
            quote_id: QUOTE,
            queue_pos,
        };
        payer.step(quoted, 0);
        payer.connected();
        payer.total()
    };
    assert_eq!((in_front(0), in_front(1)), (cost(3, 0), 0));
    // The second is asked beside the first, which says nothing.
    let second = |attempt| Event::Connected {
        attempt,
        rtt_ms: 10,
    };
    let (mut payer, _) = Payer::asks_with(3, None, vec![prepaid(1), prepaid(2)]);
    payer.connected();
    payer.step(Event::Tick, ANSWER_PATIENCE_MS + 500);
    payer.step(second(1), ANSWER_PATIENCE_MS + 500);
    assert_eq!(payer.promises, [cost(3, 0), 0]);
    // The first has no room after all.
    let (mut payer, _) = Payer::asks_with(3, None, vec![prepaid(1), prepaid(2)]);
    payer.connected();
    payer.say(Frame::Busy(Busy::default()), 10);
    payer.step(second(1), 20);
    assert_eq!(payer.promises, [cost(3, 0), 0]);
}

#[test]
fn what_is_paid_with_the_first_frame_is_within_the_cap_and_counts() {
    let most = cost(3, 1);
    let (mut payer, _) = Payer::asks_with(3, Some(most), vec![prepaid(1)]);
    payer.connected();
    payer.accept_counting(cost(3, 0));
    payer.tokens(0, 1, 10);
    let done = payer.done(1, Finish::Length);
    let actions = payer.say(done, 20);
    let Some(Action::Finish(outcome)) = actions.last() else {
        panic!("{actions:?}")
    };
    assert_eq!((outcome.paid, payer.total()), (most, most));
}

#[test]
fn who_asks_for_money_and_cannot_be_paid_is_not_asked() {
    let nowhere = Candidate {
        pay_to: None,
        ..candidate(1)
    };
    let (_, actions) = Payer::asks_with(3, None, vec![nowhere]);
    assert_eq!(finish(&actions), Some(&End::Failed(None)));
}

#[test]
fn a_quote_is_asked_for_where_there_is_none_and_must_not_be_dearer() {
    let unquoted = Candidate {
        quote_id: None,
        ..candidate(1)
    };
    let (mut payer, actions) = Payer::asks_with(3, None, vec![unquoted]);
    assert!(matches!(
        actions[0],
        Action::Connect {
            wants_quote: true,
            ..
        }
    ));
    let quoted = |input: u128| Event::Quoted {
        attempt: 0,
        terms: Prices {
            input: Price::new(input),
            ..prices()
        }
        .into(),
        quote_id: QUOTE,
        queue_pos: 0,
    };
    let actions = payer.step(quoted(3_000_001), 1);
    assert_eq!(ended(&actions), [AttemptEnd::Dearer]);
    let unquoted = Candidate {
        quote_id: None,
        ..candidate(1)
    };
    let (mut payer, _) = Payer::asks_with(100, None, vec![unquoted]);
    payer.step(quoted(1_000_000), 1);
    payer.connected();
    payer.accept();
    assert_eq!(payer.total(), 100, "the quote's price counts");
    let unquoted = Candidate {
        quote_id: None,
        ..candidate(1)
    };
    let (mut payer, _) = Payer::asks_with(3, None, vec![unquoted]);
    assert_eq!(ended(&payer.connected()), [AttemptEnd::NoQuote]);
}

#[test]
fn a_payee_that_takes_the_money_and_sends_nothing_has_one_chunk() {
    let mut payer = Payer::running(7_000, None);
    assert_eq!(payer.total(), cost(PREFILL_CHUNK, 0));
    for ms in (500..15_000).step_by(500) {
        payer.step(Event::Tick, ms);
    }
    assert_eq!(payer.total(), cost(PREFILL_CHUNK, 0));
}

#[test]
fn a_prompt_is_paid_a_chunk_ahead_and_no_further() {
    let mut payer = Payer::running(5_000, None);
    let mut ms = 0;
    for read in (0..5_000).step_by(100) {
        ms += 100;
        payer.reads(read, ms);
        let ahead = cost(u32::try_from(read).unwrap() + PREFILL_CHUNK, 0);
        assert!(payer.total() <= ahead.min(cost(5_000, 0)));
        // The next is here well before the last is used up.
        let next = cost((read as u32 + 2 * PREFILL_STEP).min(5_000), 0);
        assert!(payer.total() >= next, "at {read}");
    }
    payer.reads(u64::MAX, ms + 100);
    assert_eq!(payer.total(), cost(5_000, 0));
    // Loading the model from disk counts bytes, not tokens.
    let mut payer = Payer::running(5_000, None);
    let loading = Progress {
        phase: Phase::Loading.into(),
        done: 4_000,
        total: 5_000,
        queue_pos: 0,
    };
    payer.say(Frame::Progress(loading), 10);
    assert_eq!(payer.total(), cost(PREFILL_CHUNK, 0));
}

#[test]
fn output_is_paid_once_it_is_here_every_stride_or_half_second() {
    let mut payer = Payer::running(3, None);
    assert_eq!(payer.total(), cost(3, 0));
    payer.tokens(0, STRIDE - 1, 10);
    assert_eq!(payer.total(), cost(3, 0));
    payer.tokens(STRIDE - 1, 1, 20);
    assert_eq!(payer.total(), cost(3, STRIDE));
    payer.tokens(STRIDE, 2, 30);
    assert_eq!(payer.client.deadline(), Some(1_000 + 20 + VOUCHER_MS));
    payer.step(Event::Tick, 20 + VOUCHER_MS - 1);
    assert_eq!(payer.total(), cost(3, STRIDE));
    payer.step(Event::Tick, 20 + VOUCHER_MS);
    assert_eq!(payer.total(), cost(3, STRIDE + 2));
    let totals: Vec<u128> = payer.paid.iter().map(|paid| paid.cumulative).collect();
    assert!(totals.is_sorted());
    assert_eq!(totals.last(), Some(&(1_000 + cost(3, STRIDE + 2))));
}

#[test]
fn what_comes_while_one_is_signed_goes_into_the_next() {
    let mut payer = Payer::running(3, None);
    payer.signs = false;
    let asked = payer.tokens(0, STRIDE, 10);
    let promises = |actions: &[Action]| {
        let found = actions.iter().filter_map(|action| match action {
            Action::Promise { promise, add, .. } => Some((*promise, *add)),
            _ => None,
        });
        found.collect::<Vec<_>>()
    };
    let [(promise, add)] = promises(&asked)[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(promises(&payer.tokens(STRIDE, 2 * STRIDE, 20)), []);
    let voucher = signed(1_000 + cost(3, 0) + add, B256::ZERO);
    let next = payer.step(Event::Promised { promise, voucher }, 30);
    let [(_, add)] = promises(&next)[..] else {
        panic!("{next:?}")
    };
    assert_eq!(add, cost(3, 3 * STRIDE) - cost(3, STRIDE));
}

#[test]
fn a_voucher_names_the_checkpoint_that_it_pays_for() {
    let mut payer = Payer::running(3, None);
    payer.tokens(0, STRIDE, 10);
    let job = payer.job();
    assert!(
        payer
            .works
            .iter()
            .all(|work| work.as_slice() == job.as_bytes())
    );
    let ids: Vec<u32> = (0..STRIDE).map(|id| 100 + id).collect();
    let checkpoint = Checkpoint {
        job,
        totals: Totals {
            input: 3,
            cached: 0,
            output: u64::from(STRIDE),
        },
        h: protocol::chain::extend(&protocol::chain::start(&job), &ids),
        due: cost(3, STRIDE),
    };
    let signed = checkpoint.sign(&Signer::from_seed([1; 32]));
    payer.say(Frame::Checkpoint(signed.clone()), 20);
    payer.tokens(STRIDE, STRIDE, 30);
    assert_eq!(payer.works.last(), Some(&work_of(&signed)));
}

#[test]
fn the_rest_is_paid_before_the_receipt_is_signed() {
    let mut payer = Payer::running(3, None);
    payer.tokens(0, 10, 10);
    let done = payer.done(10, Finish::Abort);
    let actions = payer.say(done, 20);
    assert_eq!(payer.total(), cost(3, 10));
    let sent: Vec<&str> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Send { frame, .. } => Some(frame.kind()),
            _ => None,
        })
        .collect();
    assert_eq!(sent, ["Pay", "Ack"]);
}

#[test]
fn an_answer_does_not_wait_for_ever_for_its_last_signature() {
    let mut payer = Payer::running(3, None);
    payer.signs = false;
    payer.tokens(0, 10, 10);
    let done = payer.done(10, Finish::Abort);
    let waits = payer.say(done.clone(), 20);
    assert!(
        !waits
            .iter()
            .any(|action| matches!(action, Action::SpanDone { .. }))
    );
    payer.step(Event::Tick, 20 + SETTLE_MS - 1);
    let goes_on = payer.step(Event::Tick, 20 + SETTLE_MS);
    assert!(
        goes_on
            .iter()
            .any(|action| matches!(action, Action::SpanDone { .. }))
    );
    // Nor does a stream that is gone by then take the end away.
    let mut payer = Payer::running(3, None);
    payer.signs = false;
    payer.tokens(0, 10, 10);
    payer.say(done, 20);
    let why = CloseWhy::Cut("cut".into());
    let actions = payer.step(Event::Closed { attempt: 0, why }, 30);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::SpanDone { .. }))
    );
}

#[test]
fn terms_that_nobody_agreed_to_are_lies() {
    for (window, chunk) in [
        (0, PREFILL_CHUNK),
        (WINDOW, PREFILL_CHUNK + 1),
        (WINDOW, PREFILL_STEP - 1),
    ] {
        let (mut payer, _) = Payer::asks(3, None);
        payer.connected();
        let accept = Accept {
            stream_window: window,
            chunk_tokens: chunk,
            ..payer.terms()
        };
        let actions = payer.say(Frame::Accept(accept), 1);
        assert_eq!(
            ended(&actions),
            [AttemptEnd::Lie(Lie::WrongTerms { window, chunk })]
        );
        assert_eq!(payer.total(), 0);
    }
}

#[test]
fn a_voucher_that_the_books_do_not_know_is_shown_to_them() {
    let shown = |held: Bytes| {
        let (mut payer, _) = Payer::asks(3, None);
        payer.connected();
        let accept = Accept {
            last_voucher_held: held,
            ..payer.terms()
        };
        payer.say(Frame::Accept(accept), 1)
    };
    let held =
        |payer: u8, total| Bytes::copy_from_slice(&signed_by(payer, total, B256::ZERO).encode());
    let more = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::HeldMore { voucher, .. } => Some(voucher.cumulative),
            _ => None,
        })
    };
    assert_eq!(more(&shown(held(1, 1_000))), None);
    assert_eq!(more(&shown(held(1, 1_001))), Some(1_001));
    for foreign in [held(9, 5), Bytes::from_static(&[1, 2])] {
        assert!(matches!(
            ended(&shown(foreign))[..],
            [AttemptEnd::Lie(Lie::WrongStatement(_))]
        ));
    }
}

#[test]
fn what_cannot_be_signed_ends_the_job_and_is_told() {
    let mut payer = Payer::running(3, None);
    payer.signs = false;
    let asked = payer.tokens(0, STRIDE, 10);
    let promise = asked.iter().find_map(|action| match action {
        Action::Promise { promise, .. } => Some(*promise),
        _ => None,
    });
    let refused = Event::NotPromised {
        promise: promise.unwrap(),
        why: "the grant is used up".into(),
    };
    let actions = payer.step(refused, 20);
    assert_eq!(cancels(&actions), [CancelReason::Unpaid]);
    let Some(Action::Finish(outcome)) = actions.last() else {
        panic!("{actions:?}")
    };
    assert_eq!(outcome.paid, cost(3, 0));
    assert!(matches!(
        outcome.end,
        End::Interrupted(AttemptEnd::Unpaid(_))
    ));
}

#[test]
fn what_is_being_signed_at_the_end_is_named_apart_from_what_was_paid() {
    let mut payer = Payer::running(3, None);
    payer.signs = false;
    let actions = payer.tokens(0, STRIDE, 10);
    let asked = actions
        .iter()
        .any(|action| matches!(action, Action::Promise { add, .. } if *add > 0));
    assert!(asked, "{actions:?}");
    let mut actions = payer.step(Event::Cancel, 20);
    actions.extend(payer.step(Event::Tick, 20 + CANCEL_LINGER_MS));
    let outcome = actions.iter().find_map(|action| match action {
        Action::Finish(outcome) => Some(outcome),
        _ => None,
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.end, End::Stopped);
    assert_eq!((outcome.paid, outcome.signing), (payer.total(), 1));
}

#[test]
fn the_cap_is_compared_with_before_anything_is_signed() {
    // Ten tokens are asked for where ten can be paid.
    let (mut payer, _) = Payer::asks(3, Some(cost(3, 10) + 6));
    payer.connected();
    assert_eq!(payer.open.as_ref().unwrap().max_out, 10);
    payer.accept();
    payer.tokens(0, 10, 10);
    let done = payer.done(10, Finish::Length);
    let actions = payer.say(done, 20);
    let Some(Action::Finish(outcome)) = actions.last() else {
        panic!("{actions:?}")
    };
    assert_eq!(outcome.end, End::Length);
    assert!(outcome.capped);
    assert_eq!(outcome.paid, cost(3, 10));
    // And nobody at all where not even one can.
    let (mut payer, _) = Payer::asks(3, Some(cost(3, 1) - 1));
    let actions = payer.connected();
    assert!(matches!(ended(&actions)[..], [AttemptEnd::TooDear { .. }]));
    assert!(payer.open.is_none() && payer.promises.is_empty());
}

#[test]
fn a_job_that_is_taken_up_shows_its_last_voucher_and_pays_nothing_twice() {
    let mut payer = Payer::running(3, None);
    payer.tokens(0, STRIDE, 10);
    let last = *payer.paid.last().unwrap();
    let before = payer.total();
    let why = CloseWhy::Cut("cut".into());
    payer.step(Event::Closed { attempt: 0, why }, 20);
    let actions = payer.step(
        Event::Connected {
            attempt: 1,
            rtt_ms: 10,
        },
        30,
    );
    let sent: Vec<&str> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Send { frame, .. } => Some(frame.kind()),
            _ => None,
        })
        .collect();
    assert_eq!(sent, ["Open", "Pay"]);
    assert_eq!(payer.paid.last(), Some(&last));
    let accept = Accept {
        max_out: 300,
        ..payer.terms()
    };
    payer.step(
        Event::Frame {
            attempt: 1,
            frame: Frame::Accept(accept),
        },
        40,
    );
    assert_eq!(payer.total(), before);
}

#[test]
fn a_quote_that_is_over_is_asked_for_anew() {
    let (mut payer, _) = Payer::asks(3, None);
    payer.connected();
    let refuse = protocol::frame::Refuse {
        code: RefuseCode::QuoteUnknown.into(),
        msg: String::new(),
    };
    payer.say(Frame::Refuse(refuse), 10);
    let again = payer.step(Event::Tick, 1_000);
    assert!(again.iter().any(|action| matches!(
        action,
        Action::Connect {
            wants_quote: true,
            ..
        }
    )));
}

#[test]
fn a_reservation_is_for_what_the_job_may_still_cost() {
    let mut payer = Payer::running(3, None);
    payer.tokens(0, STRIDE, 10);
    let ask = || {
        Frame::Reserve(Reserve {
            least: Bytes::copy_from_slice(&protocol::price::to_bytes(500)),
        })
    };
    let actions = payer.say(ask(), 20);
    let [Action::Reserve { least, rest, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(least, 500);
    assert_eq!(rest, cost(3, 300) - cost(3, STRIDE));
    // One at a time.
    assert_eq!(payer.say(ask(), 30), []);
    // A job that costs nothing has none.
    let mut free = desk::running(vec![desk::candidate(1)], Local::Never);
    let actions = say(&mut free, 0, ask(), 10);
    assert!(matches!(
        ended(&actions)[..],
        [AttemptEnd::Lie(Lie::OutOfTurn("Reserve"))]
    ));
}

//! A job that costs something, and payers of every kind.

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{
    frame::{Ack, Frame, Open, Pay, Phase, RefuseCode},
    job::{
        CloseWhy, Finish,
        provider::{
            Action, Declined, Ended, EngineEvent, Event, Provider, Recorded, Room, Standing,
            UNPAID_MS, VOUCHER_WAIT_MS, quote_of,
        },
    },
    price::{Prices, from_bytes},
    receipt::{Checkpoint, work_of, work_of_job},
    voucher::{
        Address, B256, Vault,
        payee::{
            Debt, MAX_STREAM_WINDOW, PREFILL_CHUNK, PREFILL_STEP, STREAM_WINDOW, SignerFacts,
            stream_window, stride,
        },
    },
};

use crate::desk::{MODEL, UNIX_MS, at, client, done_in, engine, me, phases_in, tokens_in, write};

use crate::payer::{
    DAY, Payer, QUOTE, accepted, charging, computing, cost, errors, is_refused, opened, paid,
    paid_open, prices, standing, vault, waiting,
};

#[test]
fn nothing_is_given_before_a_voucher_for_this_very_job() {
    // Nothing is written down, accepted or told, and nobody is waited for for long.
    let (mut provider, job) = waiting(3);
    is_refused(&provider.step(Event::Tick, at(VOUCHER_WAIT_MS)));
    // One that was signed for another job is worth nothing, as is one whose like was seen on the chain.
    let (mut provider, _) = waiting(3);
    let other = Payer::honest().pay(100, B256::repeat_byte(9));
    is_refused(&provider.step(other, at(1)));
    let (mut provider, _) = waiting(3);
    let garbage = Frame::Pay(Pay {
        voucher: Bytes::from_static(&[1, 2, 3]),
        ..Pay::default()
    });
    is_refused(&provider.step(Event::Frame(garbage), at(1)));
    let (mut provider, _) = waiting(3);
    let actions = provider.step(Payer::honest().pay(0, work_of_job(&job)), at(1));
    let [
        Action::Admit {
            job: admits,
            voucher,
            adds: 0,
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((admits, voucher.cumulative), (&job, 0));
}

#[test]
fn a_first_voucher_that_pays_for_the_prompt_begins_it() {
    let (mut provider, job) = waiting(3);
    let pay = Payer::honest().pay_ahead(100 + cost(3, 0), cost(3, 0), work_of_job(&job));
    let actions = provider.step(pay, at(1));
    assert!(matches!(&actions[..], [Action::Admit { adds, .. }] if *adds == cost(3, 0)));
    let admitted = Event::Admitted {
        standing: standing(cost(3, 0)),
        last_held: None,
    };
    provider.step(admitted, at(2));
    // The engine waits for nothing more.
    let actions = provider.step(Event::Room(Room::Free), at(2));
    assert!(matches!(
        &actions[..],
        [Action::Start(_), Action::Record { .. }]
    ));
    let early = write(&mut provider, 0, 2, 3);
    assert_eq!(early, []);
    let actions = provider.step(Event::Recorded(Recorded::Fresh), at(4));
    let Action::Send(Frame::Accept(accept)) = &actions[0] else {
        panic!("{actions:?}")
    };
    assert_eq!(from_bytes(&accept.paid), Some(cost(3, 0)));
    assert_eq!(tokens_in(&actions).len(), 2);
    // It cannot be for more of the job than it promises at all.
    let (mut provider, job) = waiting(3);
    let pay = Payer::honest().pay_ahead(100, 101, work_of_job(&job));
    is_refused(&provider.step(pay, at(1)));
    let (mut provider, job) = waiting(3);
    let voucher = Payer::honest().voucher(100, work_of_job(&job)).encode();
    let garbage = Frame::Pay(Pay {
        voucher: Bytes::copy_from_slice(&voucher),
        adds: Bytes::from_static(&[1]),
    });
    is_refused(&provider.step(Event::Frame(garbage), at(1)));
}

#[test]
fn the_quote_binds_the_prices_and_nothing_else_does() {
    let mut provider = Provider::new(charging(), false, at(0));
    let (open, _) = opened(paid_open(3), None);
    assert_eq!(
        errors(&provider.step(open, at(0))),
        [RefuseCode::QuoteUnknown]
    );
    let bytes = Frame::Open(Box::new(paid_open(3))).to_bytes();
    assert_eq!(quote_of(&bytes), Some((QUOTE, MODEL)));
    // What was quoted for nothing costs nothing, whatever is asked by now.
    let mut provider = Provider::new(charging(), false, at(0));
    let (open, _) = opened(paid_open(3), Some(Prices::FREE.into()));
    provider.step(open, at(0));
    let actions = provider.step(Event::Room(Room::Free), at(0));
    assert!(matches!(
        &actions[..],
        [Action::Start(_), Action::Record { .. }]
    ));
}

#[test]
fn a_foreign_vault_or_chain_shows_as_another_signer() {
    for vault in [
        Vault::new(1, Address::repeat_byte(0xee)),
        Vault::new(31_337, Address::repeat_byte(0xed)),
    ] {
        let (mut provider, job) = waiting(3);
        let pay = Payer::with(1, 7, vault).pay(100, work_of_job(&job));
        let actions = provider.step(pay, at(1));
        let [Action::Admit { voucher, .. }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_ne!(voucher.signer(), Payer::honest().key.address());
        // Nobody has registered that one.
        let declined = Declined::because(&"the signer is not known");
        is_refused(&provider.step(Event::Declined(declined), at(2)));
    }
}

#[test]
fn room_is_looked_for_behind_the_voucher_and_a_full_house_says_so() {
    let (mut provider, job) = waiting(3);
    provider.step(Payer::honest().pay(100, work_of_job(&job)), at(1));
    let admitted = Event::Admitted {
        standing: standing(0),
        last_held: None,
    };
    assert!(matches!(
        provider.step(admitted, at(2))[..],
        [Action::Seek(_)]
    ));
    let full = Room::Full {
        retry_after_ms: 700,
        queue: 2,
    };
    let actions = provider.step(Event::Room(full), at(2));
    assert!(matches!(
        &actions[..],
        [Action::Send(Frame::Busy(busy)), Action::Close(Ended::Busy)] if busy.retry_after_ms == 700
    ));
}

#[test]
fn a_payer_in_line_is_asked_for_nothing_and_one_who_can_no_longer_pay_leaves_it() {
    let waiting = || {
        let mut provider = Provider::new(charging(), false, at(0));
        let open = Open {
            may_wait: true,
            ..paid_open(3)
        };
        let (open, job) = opened(open, Some(prices().into()));
        provider.step(open, at(0));
        provider.step(Payer::honest().pay(100, work_of_job(&job)), at(1));
        let admitted = Event::Admitted {
            standing: standing(0),
            last_held: None,
        };
        provider.step(admitted, at(2));
        let actions = provider.step(Event::Room(Room::InLine { in_front: 1 }), at(2));
        assert_eq!(phases_in(&actions), [Phase::Queued]);
        (provider, job)
    };
    let (mut provider, _) = waiting();
    for second in 1..30 {
        let actions = provider.step(Event::Tick, at(2 + second * 1_000));
        assert!(
            matches!(actions[..], [Action::Send(Frame::Progress(_))]),
            "{actions:?}"
        );
    }
    let empty = Standing {
        signer: SignerFacts {
            left: 0,
            ..standing(0).signer
        },
        ..standing(0)
    };
    is_refused(&provider.step(Event::Standing(empty), at(30_500)));
    // A voucher that nobody asked for is none that is kept.
    let (mut provider, job) = waiting();
    is_refused(&provider.step(Payer::honest().pay(200, work_of_job(&job)), at(10)));
}

#[test]
fn the_payer_is_told_what_is_held_of_him() {
    let (mut provider, job) = waiting(3);
    let before = Payer::honest().voucher(90, B256::ZERO).encode();
    provider.step(Payer::honest().pay(100, work_of_job(&job)), at(1));
    let admitted = Event::Admitted {
        standing: standing(0),
        last_held: Some(before),
    };
    provider.step(admitted, at(2));
    provider.step(Event::Room(Room::Free), at(2));
    let actions = provider.step(Event::Recorded(Recorded::Fresh), at(3));
    let Action::Send(Frame::Accept(accept)) = &actions[0] else {
        panic!("{actions:?}")
    };
    assert_eq!(accept.last_voucher_held.as_ref(), before);
}

#[test]
fn a_signer_near_its_end_or_with_nothing_left_is_not_served() {
    let ending = SignerFacts {
        until: UNIX_MS / 1000 + DAY - 1,
        ..standing(0).signer
    };
    let empty = SignerFacts {
        left: 0,
        ..standing(0).signer
    };
    for signer in [ending, empty] {
        let facts = Standing {
            signer,
            ..standing(0)
        };
        let (mut provider, job) = waiting(3);
        provider.step(Payer::honest().pay(100, work_of_job(&job)), at(1));
        let admitted = Event::Admitted {
            standing: facts,
            last_held: None,
        };
        is_refused(&provider.step(admitted, at(2)));
        // And no longer served when that turns out on the way.
        let (mut provider, _) = computing();
        write(&mut provider, 0, 5, 50);
        let actions = provider.step(
            Event::Standing(Standing {
                paid: cost(3, 0),
                ..facts
            }),
            at(60),
        );
        is_refused(&actions);
        assert!(
            actions
                .iter()
                .any(|action| matches!(action, Action::Store(_)))
        );
    }
}

#[test]
fn a_long_prompt_is_read_in_steps_that_are_paid_for() {
    let n_in = 5_000;
    let (mut provider, job) = accepted(n_in);
    // Less than a step is not worth beginning.
    let short = u64::from(PREFILL_STEP) - 1;
    assert_eq!(paid(&mut provider, &job, cost(short, 0), 1), []);
    let chunk = u64::from(PREFILL_CHUNK);
    let actions = paid(&mut provider, &job, cost(chunk, 0), 2);
    assert!(matches!(&actions[..], [Action::Start(_)]));
    let mut read = 0;
    let mut progress = Vec::new();
    while read + PREFILL_STEP <= PREFILL_CHUNK {
        assert!(!progress.contains(&Action::Pause), "at {read}");
        read += PREFILL_STEP;
        let done = EngineEvent::Prefill {
            done: read,
            total: n_in,
        };
        progress = engine(&mut provider, done, 10);
        // The client must know, to pay for the next.
        assert!(phases_in(&progress).contains(&Phase::Prefill), "at {read}");
    }
    // What is paid for is read; what is not, is not.
    assert!(progress.contains(&Action::Pause));
    assert_eq!(phases_in(&progress).last(), Some(&Phase::Unpaid));
    let actions = paid(
        &mut provider,
        &job,
        cost(chunk + u64::from(PREFILL_STEP), 0),
        20,
    );
    assert!(actions.contains(&Action::Resume));
}

#[test]
fn the_window_stops_the_engine_and_a_voucher_lets_it_go_on() {
    let (mut provider, job) = computing();
    let before = write(&mut provider, 0, STREAM_WINDOW - 1, 50);
    assert!(!before.contains(&Action::Pause));
    let last = write(&mut provider, STREAM_WINDOW - 1, 1, 60);
    assert!(last.contains(&Action::Pause), "{last:?}");
    // An engine that had gone on already: its tokens are not given away.
    let ahead = write(&mut provider, STREAM_WINDOW, 5, 61);
    let late = provider.step(Event::Tick, at(200));
    let sent = [before, last, ahead, late].concat();
    assert_eq!(tokens_in(&sent).len() as u32, STREAM_WINDOW);
    assert_eq!(provider.unvouchered(), STREAM_WINDOW + 5);
    let actions = paid(&mut provider, &job, cost(3, 16), 300);
    assert_eq!(tokens_in(&actions).len(), 5);
    assert!(actions.contains(&Action::Resume));
    assert_eq!(provider.unvouchered(), STREAM_WINDOW + 5 - 16);
}

#[test]
fn a_window_is_as_large_as_its_path_is_long_and_no_larger_than_may_be() {
    assert_eq!(stream_window(0, 0), STREAM_WINDOW);
    assert_eq!(stream_window(60, 300), STREAM_WINDOW);
    assert_eq!(stream_window(1_000, 10), STREAM_WINDOW, "a neighbour");
    assert_eq!(stream_window(u32::MAX, u64::MAX), MAX_STREAM_WINDOW);
    // What comes within a round trip and a tenth of a second, and what waits for the next voucher.
    let window = stream_window(300, 100);
    assert!(window >= 300 * 200 / 1000 + stride(window), "{window}");
    assert!(window < MAX_STREAM_WINDOW / 2);
}

#[test]
fn the_window_is_shared_with_the_payer_s_other_jobs() {
    let (mut provider, _) = computing();
    let shared = Standing {
        elsewhere: 60,
        ..standing(cost(3, 0))
    };
    provider.step(Event::Standing(shared), at(10));
    let actions = write(&mut provider, 0, 4, 50);
    assert!(actions.contains(&Action::Pause));
    let alone = provider.step(Event::Standing(standing(cost(3, 0))), at(60));
    assert!(alone.contains(&Action::Resume));
}

#[test]
fn replayed_and_lowered_vouchers_do_nothing() {
    let (mut provider, job) = computing();
    let work = work_of_job(&job);
    for total in [0, 99, 100, 100 + cost(3, 0)] {
        let actions = provider.step(Payer::honest().pay(total, work), at(10));
        assert_eq!(actions, [], "{total}");
    }
    let actions = provider.step(Payer::honest().pay(200, work), at(11));
    assert!(matches!(&actions[..], [Action::HoldVoucher { .. }]));
    assert_eq!(provider.step(Payer::honest().pay(200, work), at(12)), []);
}

#[test]
fn a_voucher_that_does_not_count_ends_the_job_with_a_receipt() {
    let (_, job) = computing();
    let work = work_of_job(&job);
    let forged = {
        let mut bytes = Payer::honest().voucher(500, work).encode();
        bytes[80] ^= 1;
        Event::Frame(Frame::Pay(Pay {
            voucher: Bytes::copy_from_slice(&bytes),
            ..Pay::default()
        }))
    };
    let foreign = Vault::new(1, Address::repeat_byte(0xee));
    for (what, event) in [
        ("forged", forged),
        ("another payer's", Payer::with(9, 7, vault()).pay(500, work)),
        (
            "another signer's",
            Payer::with(1, 8, vault()).pay(500, work),
        ),
        ("another chain's", Payer::with(1, 7, foreign).pay(500, work)),
        ("for other work", Payer::honest().pay(500, B256::ZERO)),
    ] {
        let (mut provider, _) = computing();
        write(&mut provider, 0, 5, 50);
        let actions = provider.step(event, at(60));
        assert_eq!(errors(&actions), [RefuseCode::PaymentRefused], "{what}");
        let stored = actions.iter().any(
            |action| matches!(action, Action::Store(receipt) if receipt.receipt.due == cost(3, 5)),
        );
        assert!(stored, "{what}");
        assert!(provider.is_done());
    }
}

#[test]
fn a_checkpoint_may_be_named_once_it_is_signed() {
    let (mut provider, _) = computing();
    let actions = write(&mut provider, 0, STREAM_WINDOW, 50);
    let signed = actions.iter().find_map(|action| match action {
        Action::Send(Frame::Checkpoint(signed)) => Some(signed.clone()),
        _ => None,
    });
    let signed = signed.expect("a checkpoint every 64 tokens");
    let checkpoint = Checkpoint::verify_then_decode(&signed, &me().peer_id()).unwrap();
    assert_eq!(checkpoint.due, cost(3, u64::from(STREAM_WINDOW)));
    let pay = Payer::honest().pay(100 + checkpoint.due, work_of(&signed));
    let actions = provider.step(pay, at(70));
    let [Action::HoldVoucher { totals, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(totals.output, u64::from(STREAM_WINDOW));
}

#[test]
fn who_stops_paying_gets_a_window_and_half_a_minute() {
    let (mut provider, _) = computing();
    let mut sent = write(&mut provider, 0, 200, 50);
    let mut ms = 50;
    while !provider.is_done() {
        ms = provider.deadline().unwrap() - 1_000;
        sent.extend(provider.step(Event::Tick, at(ms)));
    }
    assert_eq!(ms, 50 + UNPAID_MS);
    assert_eq!(tokens_in(&sent).len() as u32, STREAM_WINDOW);
    assert_eq!(errors(&sent), [RefuseCode::PaymentRefused]);
    assert!(sent.contains(&Action::CancelEngine));
}

#[test]
fn a_job_that_ends_within_the_window_is_signed_for_and_its_rest_is_taken() {
    let (mut provider, job) = computing();
    write(&mut provider, 0, 20, 50);
    let receipt = done_in(&engine(
        &mut provider,
        EngineEvent::Finished(Finish::Stop),
        60,
    ));
    assert_eq!(receipt.receipt.due, cost(3, 20));
    let rest = Payer::honest().pay(100 + cost(3, 20), work_of(&receipt.to_signed()));
    let actions = provider.step(rest, at(80));
    assert!(matches!(&actions[..], [Action::HoldVoucher { .. }]));
    // What does not count, or is not written down, changes nothing any more.
    let declined = Declined::because(&"the disk is full");
    assert_eq!(provider.step(Event::Declined(declined), at(80)), []);
    let forged = Payer::with(1, 8, vault()).pay(900, work_of_job(&job));
    assert_eq!(provider.step(forged, at(81)), []);
    let mut signed = receipt.clone();
    signed.countersign(&client());
    let ack = Frame::Ack(Ack {
        countersignature: signed.client_sig.unwrap(),
    });
    let actions = provider.step(Event::Frame(ack), at(90));
    assert_eq!(actions.last(), Some(&Action::Close(Ended::Signed)));
}

#[test]
fn the_end_waits_for_what_is_not_paid_for() {
    let (mut provider, job) = computing();
    write(&mut provider, 0, STREAM_WINDOW + 6, 50);
    let finished = EngineEvent::Finished(Finish::Stop);
    let actions = engine(&mut provider, finished, 60);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Send(Frame::Done(_))))
    );
    let actions = paid(&mut provider, &job, cost(3, 64), 100);
    assert_eq!(tokens_in(&actions).len(), 6);
    assert_eq!(done_in(&actions).receipt.totals.output, 70);
}

#[test]
fn a_used_up_credit_asks_once_and_goes_on_when_the_chain_says_so() {
    let (mut provider, _) = computing();
    write(&mut provider, 0, 10, 50);
    let poor = |paid, open| Standing {
        debt: Debt { open, claimed: 0 },
        signer: SignerFacts {
            bond: 0,
            ..standing(0).signer
        },
        ..standing(paid)
    };
    let asks = provider.step(Event::Standing(poor(cost(3, 10), 1_000)), at(60));
    let least = asks.iter().find_map(|action| match action {
        Action::Send(Frame::Reserve(reserve)) => protocol::price::from_bytes(&reserve.least),
        _ => None,
    });
    assert_eq!(least, Some(100));
    assert!(asks.contains(&Action::Pause));
    let again = provider.step(Event::Standing(poor(cost(3, 11), 1_001)), at(70));
    assert_eq!(again, []);
    // Too little, and somebody else's, are not what was asked for.
    for event in [
        Payer::honest().reserve(100 + cost(3, 0) + 99),
        Payer::with(1, 8, vault()).reserve(10_000),
        Payer::with(9, 7, vault()).reserve(10_000),
    ] {
        let (mut provider, _) = computing();
        provider.step(Event::Standing(poor(cost(3, 0), 1_000)), at(60));
        is_refused(&provider.step(event, at(80)));
    }
    let actions = provider.step(Payer::honest().reserve(10_000), at(80));
    assert!(matches!(&actions[..], [Action::HoldReservation { .. }]));
    // The chain takes its time, and the client is not blamed for it.
    let waits = provider.step(Event::Tick, at(80 + 2 * UNPAID_MS));
    assert!(errors(&waits).is_empty());
    let goes_on = provider.step(Event::Standing(standing(cost(3, 11))), at(90_000));
    assert!(goes_on.contains(&Action::Resume));
    // And one that nobody asked for is ignored.
    let unasked = Payer::honest().reserve(20_000);
    assert_eq!(provider.step(unasked, at(90_001)), []);
}

#[test]
fn nothing_is_paid_or_held_where_nothing_costs() {
    let (mut provider, _) = crate::desk::running();
    is_refused(&provider.step(Payer::honest().reserve(5), at(10)));
}

#[test]
fn a_client_that_leaves_before_it_paid_leaves_nothing_behind() {
    let (mut provider, _) = waiting(3);
    let actions = provider.step(Event::Closed(CloseWhy::Ended), at(5));
    assert_eq!(actions, [Action::Close(Ended::ClientGone(CloseWhy::Ended))]);
    let (mut provider, _) = accepted(3);
    let actions = provider.step(Event::Closed(CloseWhy::Ended), at(5));
    assert_eq!(actions, [Action::Close(Ended::ClientGone(CloseWhy::Ended))]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever is paid, in whatever steps, and however far the engine runs ahead: no token is sent beyond a window past what is
    /// paid for.
    #[test]
    fn no_more_is_sent_than_a_window_beyond_what_is_paid(
        steps in prop::collection::vec((0u64..30, 0u32..40), 1..25),
    ) {
        let (mut provider, _) = computing();
        let (mut paid_for, mut written, mut sent, mut ms) = (0, 0, 0, 50);
        for (more, tokens) in steps {
            ms += 30;
            paid_for += more;
            let mut actions = provider.step(Event::Standing(standing(cost(3, paid_for))), at(ms));
            let tokens = tokens.min(200 - written);
            if tokens > 0 {
                actions.extend(write(&mut provider, written, tokens, ms));
                written += tokens;
            }
            actions.extend(provider.step(Event::Tick, at(ms + 20)));
            sent += tokens_in(&actions).len() as u64;
            prop_assert!(sent <= paid_for + u64::from(STREAM_WINDOW));
            let may = (paid_for + u64::from(STREAM_WINDOW)).min(u64::from(written));
            prop_assert!(sent + 16 > may, "{} of {} that are paid for", sent, may);
        }
    }
}

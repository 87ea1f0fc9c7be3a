//! A job that was taken: when tokens go out, when it pauses, how it ends.

use crate::desk::*;
use bytes::Bytes;
use protocol::{
    chain,
    frame::{
        Ack, Cancel, Frame, JobError, Open, Pay, Phase, Ping, Pong, RefuseCode, TokenLogprobs,
        Tokens,
    },
    job::{
        CloseWhy, Finish, MAX_JOB_MS,
        provider::{
            ACK_MS, Action, BLOCKED_DROP_MS, BLOCKED_PAUSE_MS, CHECKPOINT_MS, Ended, EngineEvent,
            Event, FIRST_FRAME_MS, FLUSH_MS, MAX_WAITING, Provider, Recorded, Welcome,
        },
    },
    receipt::{COUNTERSIGN_DOMAIN, Checkpoint, Receipt},
};

#[test]
fn the_first_token_goes_at_once_and_the_others_in_company() {
    let (mut provider, _) = running();
    assert_eq!(tokens_in(&write(&mut provider, 0, 1, 300)), [100]);
    assert_eq!(tokens_in(&write(&mut provider, 1, 2, 310)), []);
    assert_eq!(provider.deadline(), Some(at(310 + FLUSH_MS).mono_ms));
    assert_eq!(tokens_in(&write(&mut provider, 3, 1, 320)), []);
    assert_eq!(
        tokens_in(&provider.step(Event::Tick, at(350))),
        [100, 101, 100]
    );
    assert_eq!(tokens_in(&write(&mut provider, 4, 16, 351)).len(), 16);
}

#[test]
fn it_speaks_at_least_every_second_then_every_half() {
    let (mut provider, _) = running();
    let mut said = 0;
    for ms in (0..=5_000).step_by(10) {
        said += phases_in(&provider.step(Event::Tick, at(ms))).len();
    }
    assert_eq!(said, 5);
    write(&mut provider, 0, 1, 5_000);
    for ms in (5_000..=8_000).step_by(10) {
        let actions = provider.step(Event::Tick, at(ms));
        assert!(
            phases_in(&actions)
                .iter()
                .all(|&phase| phase == Phase::Decode)
        );
        said += actions.len();
    }
    // Six heartbeats, and the checkpoint two seconds after the token.
    assert_eq!(said, 5 + 6);
}

#[test]
fn progress_of_the_engine_is_passed_on_with_measure() {
    let (mut provider, _) = running();
    let mut said = Vec::new();
    for done in 0..100u32 {
        let event = EngineEvent::Prefill { done, total: 100 };
        said.extend(phases_in(&engine(
            &mut provider,
            event,
            10 * u64::from(done),
        )));
    }
    assert!(said.len() <= 6 && said.len() >= 4, "{said:?}");
    assert!(said.iter().all(|&phase| phase == Phase::Prefill));
}

#[test]
fn a_checkpoint_comes_every_64_tokens_or_two_seconds() {
    let (mut provider, start) = running_with(Open {
        max_out: 100,
        ..open()
    });
    let checkpoints = |actions: &[Action]| -> Vec<Checkpoint> {
        let signed = actions.iter().filter_map(|action| match action {
            Action::Send(Frame::Checkpoint(signed)) => Some(signed.clone()),
            _ => None,
        });
        signed
            .map(|signed| Checkpoint::verify_then_decode(&signed, &me().peer_id()).unwrap())
            .collect()
    };
    assert!(checkpoints(&write(&mut provider, 0, 60, 10)).is_empty());
    let ids: Vec<u32> = (100..160).chain(100..116).collect();
    let [first] = checkpoints(&write(&mut provider, 60, 16, 20))[..] else {
        panic!()
    };
    assert_eq!(
        (first.job, first.totals.input, first.totals.output),
        (start.job, 3, 76)
    );
    assert_eq!(first.h, chain::extend(&chain::start(&start.job), &ids));
    write(&mut provider, 76, 1, 30);
    let [second] = checkpoints(&provider.step(Event::Tick, at(20 + CHECKPOINT_MS)))[..] else {
        panic!()
    };
    assert_eq!(second.totals.output, 77);
    assert!(checkpoints(&provider.step(Event::Tick, at(20 + 3 * CHECKPOINT_MS))).is_empty());
}

#[test]
fn a_finished_job_waits_for_the_countersignature() {
    let (mut provider, start) = running();
    write(&mut provider, 0, 3, 100);
    write(&mut provider, 3, 1, 110);
    let actions = engine(&mut provider, EngineEvent::Finished(Finish::Stop), 120);
    assert_eq!(
        tokens_in(&actions),
        [100],
        "what was waiting goes before Done"
    );
    let receipt = done_in(&actions);
    let Receipt {
        totals, finish, h, ..
    } = &receipt.receipt;
    assert_eq!((totals.input, totals.output, *finish), (3, 4, Finish::Stop));
    assert_eq!(
        *h,
        chain::extend(&chain::start(&start.job), &[100, 101, 102, 100])
    );
    let sig = Bytes::copy_from_slice(&client().sign(COUNTERSIGN_DOMAIN, &receipt.payload));
    let actions = provider.step(
        Event::Frame(Frame::Ack(Ack {
            countersignature: sig,
        })),
        at(150),
    );
    let [Action::Store(stored), Action::Close(Ended::Signed)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(stored.client_check(), Some(Ok(())));
}

#[test]
fn without_a_countersignature_the_receipt_is_kept_unsigned() {
    let finished = || {
        let (mut provider, _) = running();
        write(&mut provider, 0, 3, 100);
        engine(
            &mut provider,
            EngineEvent::Finished(Finish::StopString),
            120,
        );
        provider
    };
    let forged = Event::Frame(Frame::Ack(Ack {
        countersignature: Bytes::from(vec![1; 64]),
    }));
    let gone = Event::Closed(CloseWhy::Cut("reset".into()));
    for (event, ms) in [
        (forged, 130),
        (gone, 130),
        (Event::Off, 130),
        (Event::Tick, 120 + ACK_MS),
    ] {
        let actions = finished().step(event, at(ms));
        let [Action::Store(stored), Action::Close(Ended::Unsigned)] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(
            (stored.client_check(), stored.receipt.finish),
            (None, Finish::StopString)
        );
    }
}

#[test]
fn a_cancelled_job_ends_with_a_receipt_for_what_was_sent() {
    let (mut provider, _) = running();
    write(&mut provider, 0, 3, 100);
    write(&mut provider, 3, 2, 110);
    let actions = provider.step(Event::Frame(Frame::Cancel(Cancel { reason: 1 })), at(115));
    assert_eq!(actions[0], Action::CancelEngine);
    assert_eq!(
        tokens_in(&actions),
        [],
        "nobody pays for what comes behind a stop"
    );
    let receipt = done_in(&actions).receipt;
    assert_eq!((receipt.totals.output, receipt.finish), (3, Finish::Abort));
    // What the engine still says is too late.
    assert_eq!(write(&mut provider, 5, 1, 116), []);
}

#[test]
fn a_job_cancelled_before_its_first_token_counts_what_was_read() {
    let (mut provider, _) = running();
    engine(
        &mut provider,
        EngineEvent::Prefill { done: 2, total: 3 },
        50,
    );
    let actions = provider.step(Event::Frame(Frame::Cancel(Cancel { reason: 1 })), at(60));
    let totals = done_in(&actions).receipt.totals;
    assert_eq!((totals.input, totals.output), (2, 0));
}

#[test]
fn off_ends_at_once_and_says_why() {
    let (mut provider, _) = running();
    write(&mut provider, 0, 3, 100);
    write(&mut provider, 3, 2, 110);
    let actions = provider.step(Event::Off, at(115));
    let [
        Action::CancelEngine,
        Action::Send(Frame::Tokens(_)),
        Action::Send(Frame::Checkpoint(_)),
        Action::Send(Frame::Error(error)),
        Action::Store(stored),
        Action::Close(Ended::Failed(RefuseCode::NodeOff)),
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(error.code(), RefuseCode::NodeOff);
    assert_eq!(
        (stored.receipt.totals.output, stored.receipt.finish),
        (5, Finish::Abort)
    );
    assert_eq!(refusal_after(Event::Off), RefuseCode::NodeOff);
}

fn refusal_after(event: Event) -> RefuseCode {
    let mut provider = Provider::new(config(), false, at(0));
    seated(&mut provider, open());
    match provider.step(event, at(1)).last() {
        Some(Action::Close(Ended::Refused(code))) => *code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn own_work_is_said_and_what_is_computed_beside_it_is_left_to_the_engine() {
    let (mut provider, _) = running();
    write(&mut provider, 0, 3, 100);
    let actions = provider.step(Event::OwnWork(true), at(200));
    assert_eq!(
        (actions.len(), phases_in(&actions)),
        (1, vec![Phase::Paused])
    );
    assert_eq!(provider.step(Event::OwnWork(true), at(210)), []);
    let heartbeats: Vec<Phase> = (2..=20)
        .flat_map(|half| phases_in(&provider.step(Event::Tick, at(half * 500))))
        .collect();
    // At one of the nineteen ticks the checkpoint was due instead.
    assert_eq!(heartbeats.len(), 18);
    assert!(heartbeats.iter().all(|&phase| phase == Phase::Paused));
    // What comes nevertheless is sent as ever.
    write(&mut provider, 3, 2, 10_050);
    assert_eq!(tokens_in(&provider.step(Event::Tick, at(10_090))).len(), 2);
    let actions = provider.step(Event::OwnWork(false), at(10_100));
    assert_eq!(
        (actions.len(), phases_in(&actions)),
        (1, vec![Phase::Decode])
    );

    // A job that arrives meanwhile is accepted, and says so as well.
    let (mut provider, _) = accepted(Provider::new(config(), true, at(0)), open());
    let heartbeat = provider.step(Event::Tick, at(1000));
    assert_eq!(phases_in(&heartbeat), [Phase::Paused]);
}

#[test]
fn a_client_that_does_not_read_pauses_the_engine_then_loses_the_job() {
    let (mut provider, _) = running();
    write(&mut provider, 0, 3, 100);
    assert_eq!(provider.step(Event::WriteBlocked, at(200)), []);
    assert_eq!(write(&mut provider, 3, 5, 300), []);
    assert_eq!(
        provider.deadline(),
        Some(at(200 + BLOCKED_PAUSE_MS).mono_ms)
    );
    assert_eq!(
        provider.step(Event::Tick, at(200 + BLOCKED_PAUSE_MS)),
        [Action::Pause]
    );
    assert_eq!(provider.deadline(), Some(at(200 + BLOCKED_DROP_MS).mono_ms));
    let drained = provider.step(Event::Drained, at(20_000));
    assert_eq!(
        (&drained[0], tokens_in(&drained).len()),
        (&Action::Resume, 5)
    );

    provider.step(Event::WriteBlocked, at(21_000));
    provider.step(Event::Tick, at(21_000 + BLOCKED_PAUSE_MS));
    let actions = provider.step(Event::Tick, at(21_000 + BLOCKED_DROP_MS));
    let [
        Action::CancelEngine,
        Action::Store(stored),
        Action::Close(Ended::Failed(RefuseCode::Stalled)),
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(stored.receipt.totals.output, 8);
}

#[test]
fn too_much_waiting_for_a_slow_reader_pauses_at_once() {
    let mut config = config();
    config.max_out = 2_000;
    config.models[0].ctx_max = 4_000;
    let mut provider = Provider::new(config, false, at(0));
    let long = Open {
        max_out: 2_000,
        ..open()
    };
    seated(&mut provider, long);
    provider.step(Event::Recorded(Recorded::Fresh), at(0));
    provider.step(Event::WriteBlocked, at(1));
    let count = MAX_WAITING as u32;
    assert_eq!(write(&mut provider, 0, count, 2), [Action::Pause]);
    let drained = provider.step(Event::Drained, at(3));
    assert_eq!(
        (drained.contains(&Action::Resume), tokens_in(&drained).len()),
        (true, MAX_WAITING)
    );
}

#[test]
fn a_job_that_finished_while_the_client_did_not_read_is_done_when_it_does() {
    let (mut provider, _) = running();
    provider.step(Event::WriteBlocked, at(10));
    write(&mut provider, 0, 3, 20);
    assert_eq!(
        engine(&mut provider, EngineEvent::Finished(Finish::Stop), 30),
        []
    );
    let actions = provider.step(Event::Drained, at(40));
    assert_eq!(tokens_in(&actions).len(), 3);
    assert_eq!(done_in(&actions).receipt.totals.output, 3);
}

#[test]
fn more_than_was_asked_for_is_never_sent() {
    let (mut provider, _) = running();
    let actions = write(&mut provider, 0, 60, 100);
    assert_eq!(tokens_in(&actions).len(), 40);
    assert!(actions.contains(&Action::CancelEngine));
    assert_eq!(done_in(&actions).receipt.finish, Finish::Length);
}

#[test]
fn a_length_that_is_too_short_is_a_job_broken_off() {
    let (mut provider, _) = running();
    write(&mut provider, 0, 3, 100);
    let actions = engine(&mut provider, EngineEvent::Finished(Finish::Length), 110);
    assert_eq!(done_in(&actions).receipt.finish, Finish::Abort);
}

#[test]
fn an_engine_that_fails_or_errs_ends_the_job_with_an_error() {
    let failed = EngineEvent::Failed("the driver is gone".into());
    let gap = EngineEvent::Tokens {
        first_index: 9,
        ids: vec![1],
        logprobs: Vec::new(),
    };
    let outside = EngineEvent::Tokens {
        first_index: 3,
        ids: vec![VOCAB],
        logprobs: Vec::new(),
    };
    for event in [failed, gap, outside] {
        let (mut provider, _) = running();
        write(&mut provider, 0, 3, 100);
        let actions = engine(&mut provider, event, 200);
        let said = actions.iter().any(|action| {
            matches!(action, Action::Send(Frame::Error(error)) if error.code() == RefuseCode::EngineFailed)
        });
        assert!(said, "{actions:?}");
        assert_eq!(
            actions.last(),
            Some(&Action::Close(Ended::Failed(RefuseCode::EngineFailed)))
        );
    }
    let (mut provider, _) = running();
    let actions = engine(&mut provider, EngineEvent::Failed("é".repeat(500)), 200);
    let Some(Action::Send(Frame::Error(error))) = actions.get(1) else {
        panic!("{actions:?}")
    };
    assert_eq!(error.msg.len(), 200);
}

#[test]
fn a_client_that_breaks_the_protocol_is_told_so() {
    let second = opened(open(), Welcome::Yes);
    let early = Event::Frame(Frame::Ack(Ack {
        countersignature: Bytes::new(),
    }));
    let backwards = Event::Frame(Frame::Tokens(Tokens::padded(0, &[1])));
    for event in [second, early, backwards] {
        let (mut provider, _) = running();
        let actions = provider.step(event, at(10));
        assert_eq!(
            actions.last(),
            Some(&Action::Close(Ended::Failed(RefuseCode::Violation)))
        );
    }
}

#[test]
fn a_ping_is_answered_and_silence_before_an_open_is_not_waited_for_long() {
    let (mut provider, _) = running();
    let actions = provider.step(Event::Frame(Frame::Ping(Ping { nonce: 5 })), at(10));
    assert_eq!(actions, [Action::Send(Frame::Pong(Pong { nonce: 5 }))]);
    let mut silent = Provider::new(config(), false, at(0));
    assert_eq!(silent.deadline(), Some(at(FIRST_FRAME_MS).mono_ms));
    let actions = silent.step(Event::Tick, at(FIRST_FRAME_MS));
    assert_eq!(
        actions.last(),
        Some(&Action::Close(Ended::Refused(RefuseCode::BadOpen)))
    );
}

#[test]
fn a_client_that_is_gone_costs_nothing_more() {
    let (mut provider, _) = running();
    write(&mut provider, 0, 3, 100);
    let actions = provider.step(Event::Closed(CloseWhy::Ended), at(200));
    let [
        Action::CancelEngine,
        Action::Store(_),
        Action::Close(Ended::ClientGone(CloseWhy::Ended)),
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    let (mut provider, _) = running();
    let error = JobError {
        code: 0,
        msg: "bye".into(),
        retry_after_ms: 0,
    };
    let actions = provider.step(Event::Frame(Frame::Error(error)), at(200));
    let [Action::CancelEngine, Action::Close(Ended::ClientGone(_))] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(provider.step(Event::Off, at(300)), []);
}

#[test]
fn no_job_runs_for_longer_than_half_an_hour() {
    let (mut provider, _) = running();
    write(&mut provider, 0, 3, 100);
    let actions = provider.step(Event::Tick, at(MAX_JOB_MS));
    assert_eq!(actions[0], Action::CancelEngine);
    assert_eq!(done_in(&actions).receipt.finish, Finish::Abort);
}

#[test]
fn two_jobs_differ_by_their_nonce_alone() {
    let job = |nonce: u8| {
        running_with(Open {
            nonce: Bytes::from(vec![nonce; 32]),
            ..open()
        })
        .1
        .job
    };
    assert_ne!(job(1), job(2));
    assert_eq!(job(1), job(1));
}

#[test]
fn a_voucher_ends_a_job_that_costs_nothing() {
    let pay = || Event::Frame(Frame::Pay(Pay::default()));
    assert_eq!(refusal_after(pay()), RefuseCode::PaymentRefused);
    // One that crossed our Done on the way does no harm.
    let (mut provider, _) = running();
    write(&mut provider, 0, 3, 100);
    done_in(&engine(
        &mut provider,
        EngineEvent::Finished(Finish::Stop),
        150,
    ));
    assert_eq!(provider.step(pay(), at(160)), []);
}

#[test]
fn a_job_that_waits_for_its_turn_says_how_many_are_in_front() {
    let (mut provider, _) = running();
    let positions = |actions: Vec<Action>| -> Vec<(Phase, u32)> {
        actions
            .iter()
            .filter_map(|action| match action {
                Action::Send(Frame::Progress(progress)) => {
                    Some((progress.phase(), progress.queue_pos))
                }
                _ => None,
            })
            .collect()
    };
    let queued = |in_front| EngineEvent::Queued { in_front };
    assert_eq!(
        positions(engine(&mut provider, queued(3), 500)),
        [(Phase::Queued, 3)]
    );
    assert_eq!(
        positions(provider.step(Event::Tick, at(1_500))),
        [(Phase::Queued, 3)],
        "the heartbeat repeats it"
    );
    assert_eq!(
        positions(engine(&mut provider, queued(1), 1_800)),
        [(Phase::Queued, 1)]
    );
    let prefill = EngineEvent::Prefill { done: 1, total: 3 };
    assert_eq!(
        positions(engine(&mut provider, prefill, 1_900)),
        [(Phase::Prefill, 0)]
    );
}

#[test]
fn a_job_ends_when_its_answer_is_of_no_use_any_more() {
    let (mut provider, _) = running_with(Open {
        deadline_ms: 5_000,
        ..open()
    });
    write(&mut provider, 0, 3, 100);
    let actions = provider.step(Event::Tick, at(4_999));
    assert!(!actions.contains(&Action::CancelEngine));
    let actions = provider.step(Event::Tick, at(5_000));
    assert!(actions.contains(&Action::CancelEngine));
    assert_eq!(done_in(&actions).receipt.finish, Finish::Abort);
    assert_eq!(done_in(&actions).receipt.totals.output, 3);
}

#[test]
fn log_probabilities_are_sent_as_they_were_asked_for_and_again_with_their_tokens() {
    let likely = TokenLogprobs {
        logprob: -0.5,
        top_ids: vec![1, 2, 3],
        top_logprobs: vec![-0.1, -0.2, -0.3],
    };
    let (mut provider, start) = running_with(Open {
        want_logprobs_k: Some(2),
        ..open()
    });
    assert_eq!(start.logprobs, Some(2));
    let tokens = |first_index, logprobs| EngineEvent::Tokens {
        first_index,
        ids: vec![7],
        logprobs,
    };
    let actions = engine(&mut provider, tokens(0, vec![likely]), 100);
    let sent = actions.iter().find_map(|action| match action {
        Action::Send(Frame::Tokens(tokens)) => Some(tokens.logprobs.clone()),
        _ => None,
    });
    let sent = sent.unwrap();
    assert_eq!((sent.len(), sent[0].top_ids.as_slice()), (1, &[1, 2][..]));
    // An engine that forgets them has its job ended rather than a client misled.
    let actions = engine(&mut provider, tokens(1, Vec::new()), 200);
    assert!(
        matches!(
            actions.last(),
            Some(Action::Close(Ended::Failed(RefuseCode::EngineFailed)))
        ),
        "{actions:?}"
    );

    let (mut provider, start) = running();
    assert_eq!(start.logprobs, None);
    let unasked = engine(
        &mut provider,
        tokens(0, vec![TokenLogprobs::default()]),
        100,
    );
    let told = unasked.iter().any(
        |action| matches!(action, Action::Send(Frame::Tokens(tokens)) if !tokens.logprobs.is_empty()),
    );
    assert!(!told);
}

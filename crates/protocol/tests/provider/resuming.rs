//! A job whose stream was cut: what goes on without it, who may take it up, and what he is given.

use bytes::Bytes;
use protocol::{
    Signer, chain,
    frame::{Ack, Cancel, CancelReason, Frame, FrameError, Open, RefuseCode, ResumeOf},
    job::{
        CloseWhy, Finish, RESUME_GRACE_MS,
        provider::{
            ACK_MS, Action, BLOCKED_DROP_MS, Config, Ended, EngineEvent, Event, MAX_RESUMES,
            MAX_WAITING, Provider, StartJob, Welcome, resumes,
        },
    },
    receipt::COUNTERSIGN_DOMAIN,
};

use crate::desk::{
    UNIX_MS, accepted, at, client, config, done_in, engine, me, open, opened, resumable, running,
    tokens_in, write,
};

fn cut() -> Event {
    Event::Closed(CloseWhy::Cut("reset".into()))
}

fn resume(start: &StartJob, from_index: u32) -> Open {
    Open {
        provider: Bytes::copy_from_slice(me().peer_id().as_bytes()),
        expires_unix_ms: UNIX_MS + 120_000,
        resume_of: Some(ResumeOf {
            job: Bytes::copy_from_slice(start.job.as_bytes()),
            from_index,
        }),
        ..Open::default()
    }
}

fn comes_back(open: Open) -> Event {
    let Event::Open { from, bytes, .. } = opened(open, Welcome::Yes) else {
        unreachable!()
    };
    Event::Resumed { from, bytes }
}

fn take_up(provider: &mut Provider, start: &StartJob, from_index: u32, ms: u64) -> Vec<Action> {
    let actions = provider.step(comes_back(resume(start, from_index)), at(ms));
    let [
        Action::Attach,
        Action::Send(Frame::Accept(accept)),
        rest @ ..,
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((accept.n_in, accept.max_out), (3, 40));
    assert_eq!(u64::from(accept.resume_grace_s) * 1000, RESUME_GRACE_MS);
    rest.to_vec()
}

fn declined(provider: &mut Provider, event: Event, ms: u64) -> RefuseCode {
    let actions = provider.step(event, at(ms));
    let [Action::Decline(refuse)] = &actions[..] else {
        panic!("{actions:?}")
    };
    refuse.code()
}

#[test]
fn a_cut_job_computes_on_and_its_client_gets_all_it_missed_and_one_receipt() {
    let (mut provider, start) = resumable();
    write(&mut provider, 0, 10, 100);
    assert_eq!(provider.step(cut(), at(110)), [Action::Park]);
    // Written meanwhile, and sent to nobody.
    assert_eq!(write(&mut provider, 10, 20, 5_000), []);
    assert_eq!(provider.step(Event::Tick, at(9_000)), []);

    // The first four had arrived.
    let actions = take_up(&mut provider, &start, 4, 10_000);
    let ids: Vec<u32> = (104..110).chain(100..120).collect();
    assert_eq!(tokens_in(&actions), ids);
    let indices: Vec<u32> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(Frame::Tokens(tokens)) => Some(tokens.first_index),
            _ => None,
        })
        .collect();
    assert_eq!(indices, [4, 10]);

    let actions = engine(&mut provider, EngineEvent::Finished(Finish::Stop), 10_100);
    let receipt = done_in(&actions).receipt;
    assert_eq!(receipt.job, start.job);
    assert_eq!(receipt.totals.output, 30);
    let all: Vec<u32> = (100..110).chain(100..120).collect();
    assert_eq!(
        receipt.h,
        chain::extend(&chain::start(&start.job), &all),
        "the chain is that of the job, each token once"
    );
    let payload = done_in(&actions).payload;
    let countersignature = Bytes::copy_from_slice(&client().sign(COUNTERSIGN_DOMAIN, &payload));
    let actions = provider.step(
        Event::Frame(Frame::Ack(Ack { countersignature })),
        at(10_200),
    );
    assert!(matches!(
        &actions[..],
        [Action::Store(_), Action::Close(Ended::Signed)]
    ));
}

#[test]
fn a_cut_job_stops_computing_at_its_bound_and_goes_on_when_its_client_is_back() {
    let open = Open {
        max_out: 2_000,
        ..open()
    };
    let mut config = crate::desk::config();
    config.resume_grace_ms = RESUME_GRACE_MS;
    config.max_out = 2_000;
    config.models[0].ctx_max = 4_000;
    let (mut provider, start) = crate::desk::accepted(Provider::new(config, false, at(0)), open);
    write(&mut provider, 0, 5, 100);
    provider.step(cut(), at(110));
    let bound = MAX_WAITING as u32;
    assert_eq!(write(&mut provider, 5, bound - 1, 200), []);
    assert_eq!(write(&mut provider, 4 + bound, 1, 210), [Action::Pause]);
    assert!(provider.is_computing());
    let actions = provider.step(comes_back(resume(&start, 5)), at(300));
    assert_eq!(tokens_in(&actions).len(), MAX_WAITING);
    assert!(actions.contains(&Action::Resume), "{actions:?}");
}

#[test]
fn a_client_that_does_not_come_back_leaves_a_receipt_for_what_it_was_sent() {
    let (mut provider, _) = resumable();
    write(&mut provider, 0, 10, 100);
    provider.step(cut(), at(110));
    write(&mut provider, 10, 20, 120);
    let gone = 110 + RESUME_GRACE_MS;
    assert_eq!(provider.deadline(), Some(at(gone).mono_ms));
    assert_eq!(provider.step(Event::Tick, at(gone - 1)), []);
    let actions = provider.step(Event::Tick, at(gone));
    let [
        Action::CancelEngine,
        Action::Store(receipt),
        Action::Close(Ended::ClientGone(CloseWhy::Cut(_))),
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(receipt.receipt.totals.output, 10);
    assert_eq!(receipt.receipt.finish, Finish::Abort);
}

#[test]
fn nobody_but_its_client_takes_up_a_job_and_nobody_learns_that_it_is_there() {
    let (mut provider, start) = resumable();
    write(&mut provider, 0, 10, 100);
    provider.step(cut(), at(110));
    let Event::Resumed { bytes, .. } = comes_back(resume(&start, 10)) else {
        unreachable!()
    };
    assert_eq!(resumes(&bytes), Some(start.job));
    let stranger = Event::Resumed {
        from: Signer::from_seed([66; 32]).peer_id(),
        bytes,
    };
    assert_eq!(
        declined(&mut provider, stranger, 200),
        RefuseCode::ResumeUnknown
    );
    let mut other = resume(&start, 10);
    other.resume_of.as_mut().unwrap().job = Bytes::from(vec![1; 32]);
    assert_eq!(
        declined(&mut provider, comes_back(other), 200),
        RefuseCode::ResumeUnknown
    );
    for (change, code) in [
        (
            (|open: &mut Open| open.expires_unix_ms = UNIX_MS) as fn(&mut Open),
            RefuseCode::Expired,
        ),
        (
            |open| open.expires_unix_ms += 3_600_000,
            RefuseCode::ExpiryTooFar,
        ),
        (
            |open| open.provider = Bytes::from(vec![1; 38]),
            RefuseCode::WrongProvider,
        ),
        (|open| open.resume_of = None, RefuseCode::ResumeUnknown),
        (
            |open| open.resume_of.as_mut().unwrap().from_index = 11,
            RefuseCode::BadOpen,
        ),
    ] {
        let mut open = resume(&start, 10);
        change(&mut open);
        assert_eq!(declined(&mut provider, comes_back(open), 200), code);
    }
    let garbage = Event::Resumed {
        from: client().peer_id(),
        bytes: Bytes::from_static(&[0xff]),
    };
    assert_eq!(declined(&mut provider, garbage, 200), RefuseCode::BadOpen);
    // After all that, the right one still may.
    take_up(&mut provider, &start, 10, 300);
}

#[test]
fn a_job_that_is_over_or_never_was_is_unknown() {
    let mut provider = Provider::new(crate::desk::config(), false, at(0));
    let (_, start) = running();
    let actions = provider.step(opened(resume(&start, 0), Welcome::Yes), at(0));
    let [Action::Send(Frame::Refuse(refuse)), Action::Close(_)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(refuse.code(), RefuseCode::ResumeUnknown);
    let Event::Open { bytes, .. } = opened(open(), Welcome::Yes) else {
        unreachable!()
    };
    assert_eq!(resumes(&bytes), None);
    assert_eq!(resumes(&Bytes::from_static(&[0xff])), None);
}

#[test]
fn a_new_stream_takes_the_place_of_one_that_only_seems_to_live() {
    let (mut provider, start) = resumable();
    write(&mut provider, 0, 10, 100);
    assert_eq!(
        tokens_in(&take_up(&mut provider, &start, 8, 200)),
        [108, 109]
    );
    // From now on the new one is written to.
    assert_eq!(tokens_in(&write(&mut provider, 10, 16, 300)).len(), 16);
}

#[test]
fn a_done_that_got_lost_is_said_again() {
    let (mut provider, start) = resumable();
    write(&mut provider, 0, 10, 100);
    let actions = engine(&mut provider, EngineEvent::Finished(Finish::Stop), 150);
    let receipt = done_in(&actions);
    assert!(!provider.is_computing());
    assert_eq!(provider.step(cut(), at(160)), [Action::Park]);
    let actions = take_up(&mut provider, &start, 10, 5_000);
    assert_eq!(done_in(&actions), receipt);
    let signed = client().sign(COUNTERSIGN_DOMAIN, &receipt.payload);
    let countersignature = Bytes::copy_from_slice(&signed);
    let ack = Event::Frame(Frame::Ack(Ack { countersignature }));
    let actions = provider.step(ack, at(5_010));
    assert!(matches!(
        &actions[..],
        [Action::Store(_), Action::Close(Ended::Signed)]
    ));
}

#[test]
fn a_done_that_nobody_signs_waits_as_long_as_a_job_that_was_cut() {
    let (mut provider, start) = resumable();
    write(&mut provider, 0, 3, 100);
    let done = engine(&mut provider, EngineEvent::Finished(Finish::Stop), 110);
    done_in(&done);
    // A connection that broke without a word is noticed late, or not at all.
    assert_eq!(provider.step(Event::Tick, at(110 + ACK_MS)), [Action::Park]);
    let late = 110 + ACK_MS + RESUME_GRACE_MS - 1;
    let actions = take_up(&mut provider, &start, 0, late);
    assert_eq!(tokens_in(&actions), [100, 101, 102]);
    done_in(&actions);
    let actions = provider.step(Event::Tick, at(late + ACK_MS));
    assert_eq!(actions, [Action::Park]);
    let actions = provider.step(Event::Tick, at(late + ACK_MS + RESUME_GRACE_MS));
    assert!(matches!(
        &actions[..],
        [Action::Store(_), Action::Close(Ended::Unsigned)]
    ));
}

#[test]
fn who_cancelled_or_broke_the_protocol_is_not_waited_for() {
    let (mut provider, _) = resumable();
    write(&mut provider, 0, 10, 100);
    let violation = Event::Closed(CloseWhy::Violation(FrameError::Length));
    let actions = provider.step(violation, at(110));
    assert!(
        matches!(
            actions.last(),
            Some(Action::Close(Ended::ClientGone(CloseWhy::Violation(_))))
        ),
        "{actions:?}"
    );

    let (mut provider, _) = resumable();
    write(&mut provider, 0, 10, 100);
    let cancel = Cancel {
        reason: CancelReason::User.into(),
    };
    done_in(&provider.step(Event::Frame(Frame::Cancel(cancel)), at(110)));
    let actions = provider.step(Event::Closed(CloseWhy::Ended), at(120));
    assert!(matches!(
        &actions[..],
        [Action::Store(_), Action::Close(Ended::Unsigned)]
    ));
}

#[test]
fn a_stream_that_is_not_read_is_dropped_and_the_job_kept() {
    let (mut provider, start) = resumable();
    write(&mut provider, 0, 10, 100);
    provider.step(Event::WriteBlocked, at(200));
    let dropped = 200 + BLOCKED_DROP_MS;
    provider.step(Event::Tick, at(dropped - 1));
    let actions = provider.step(Event::Tick, at(dropped));
    // It was paused for the slow reader, and computes on for one that comes back.
    assert_eq!(actions, [Action::Park, Action::Resume]);
    // The old stream's last words mean nothing any more.
    assert_eq!(provider.step(Event::Drained, at(dropped + 1)), []);
    assert_eq!(provider.step(cut(), at(dropped + 1)), []);
    take_up(&mut provider, &start, 10, dropped + 2);
}

#[test]
fn a_stream_that_is_dropped_behind_the_end_of_its_job_is_not_waited_for() {
    let config = Config {
        resume_grace_ms: RESUME_GRACE_MS,
        ..config()
    };
    let open = Open {
        deadline_ms: (BLOCKED_DROP_MS / 2) as u32,
        ..open()
    };
    let (mut provider, _) = accepted(Provider::new(config, false, at(0)), open);
    write(&mut provider, 0, 10, 100);
    provider.step(Event::WriteBlocked, at(200));
    let dropped = 200 + BLOCKED_DROP_MS;
    provider.step(Event::Tick, at(dropped - 1));
    let actions = provider.step(Event::Tick, at(dropped));
    assert!(
        matches!(actions.last(), Some(Action::Close(Ended::ClientGone(_)))),
        "{actions:?}"
    );
    assert_eq!(provider.deadline(), None);
}

#[test]
fn a_parked_job_gives_its_place_when_it_is_needed_and_ends_when_the_node_is_off() {
    for event in [Event::Evicted, Event::Off] {
        let (mut provider, _) = resumable();
        write(&mut provider, 0, 10, 100);
        if event == Event::Evicted {
            assert_eq!(provider.step(event.clone(), at(105)), []);
        }
        provider.step(cut(), at(110));
        let actions = provider.step(event, at(120));
        assert!(
            matches!(
                &actions[..],
                [
                    Action::CancelEngine,
                    Action::Store(_),
                    Action::Close(Ended::ClientGone(_) | Ended::Failed(RefuseCode::NodeOff))
                ]
            ),
            "{actions:?}"
        );
    }
}

#[test]
fn a_job_is_not_taken_up_for_ever() {
    let (mut provider, start) = resumable();
    write(&mut provider, 0, 10, 100);
    for _ in 0..MAX_RESUMES {
        take_up(&mut provider, &start, 0, 200);
    }
    let once_more = comes_back(resume(&start, 0));
    assert_eq!(
        declined(&mut provider, once_more, 200),
        RefuseCode::ResumeUnknown
    );
}

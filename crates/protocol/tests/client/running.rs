//! What comes of an accepted job: tokens, silence, pauses, lies.

use protocol::{
    Clock,
    frame::{Frame, Phase, Ping, Pong, Progress, Tokens},
    job::{
        CloseWhy,
        client::{
            Action, AttemptEnd, End, Event, GIVE_UP_MS, Lie, Local, LocalEvent, PAUSE_PATIENCE_MS,
        },
    },
    tokens,
};

use crate::desk::*;

#[test]
fn a_ping_is_answered_and_strangers_are_not_heard() {
    let mut client = running(vec![candidate(1)], Local::Never);
    let actions = say(&mut client, 0, Frame::Ping(Ping { nonce: 4 }), 10);
    assert_eq!(
        actions,
        [Action::Send {
            attempt: 0,
            frame: Frame::Pong(Pong { nonce: 4 })
        }]
    );
    assert_eq!(
        say(&mut client, 7, Frame::Tokens(Tokens::padded(2, &[5])), 10),
        []
    );
    assert_eq!(
        client.step(
            Event::Closed {
                attempt: 7,
                why: CloseWhy::Ended
            },
            at(10)
        ),
        []
    );
    assert_eq!(
        client.step(
            Event::Local {
                attempt: 0,
                event: LocalEvent::Failed("x".into())
            },
            at(10)
        ),
        []
    );
}

#[test]
fn progress_is_passed_on_once_and_with_measure() {
    let mut client = running(vec![candidate(1)], Local::Never);
    let prefill = |done| {
        Frame::Progress(Progress {
            phase: Phase::Prefill.into(),
            done,
            total: 999,
            queue_pos: 0,
        })
    };
    let told = (0..200u64)
        .filter(|&ms| !say(&mut client, 0, prefill(ms), ms).is_empty())
        .count();
    assert!((2..=3).contains(&told), "{told}");
    assert_eq!(say(&mut client, 0, prefill(199), 1_000), []);
}

#[test]
fn tokens_before_accept_are_a_lie() {
    let mut client = client(Local::Never);
    client.step(Event::Start(vec![candidate(1)]), at(0));
    connected(&mut client, 0, 5);
    let actions = say(&mut client, 0, Frame::Tokens(Tokens::padded(2, &[5])), 9);
    assert_eq!(ended(&actions), [AttemptEnd::Lie(Lie::OutOfTurn("Tokens"))]);
}

#[test]
fn a_token_seen_may_come_again_and_only_the_new_ones_are_shown() {
    let mut client = running(vec![candidate(1)], Local::Never);
    say(
        &mut client,
        0,
        Frame::Tokens(Tokens::padded(2, &[5, 6])),
        10,
    );
    // Even the part that the message had before the job.
    let actions = say(
        &mut client,
        0,
        Frame::Tokens(Tokens::padded(0, &[20, 21, 5, 6, 7])),
        20,
    );
    let [
        Action::Emit {
            first_index: 4,
            ids,
            ..
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(ids, &[7]);
    let actions = say(&mut client, 0, Frame::Tokens(Tokens::padded(3, &[9])), 30);
    assert_eq!(
        ended(&actions),
        [AttemptEnd::Lie(Lie::Contradiction { index: 3 })]
    );
    assert_eq!(client.output(), [20, 21, 5, 6, 7], "what was shown stays");
}

#[test]
fn an_end_token_is_held_back_until_it_is_signed_for() {
    let mut client = running(vec![candidate(1), candidate(2)], Local::Never);
    let actions = say(
        &mut client,
        0,
        Frame::Tokens(Tokens::padded(2, &[5, 2])),
        10,
    );
    let [Action::Emit { ids, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(ids, &[5]);
    // Cut before Done: the next provider is asked to say the end again.
    let actions = client.step(
        Event::Closed {
            attempt: 0,
            why: CloseWhy::Ended,
        },
        at(20),
    );
    assert_eq!(connects(&actions), [peer(2)]);
    assert_eq!(
        tokens::unpack(&connected(&mut client, 1, 30).resume_tokens, 9),
        Ok(vec![20, 21, 5])
    );
}

#[test]
fn all_tokens_wanted_are_an_answer_even_if_the_receipt_never_comes() {
    let mut client = running(vec![candidate(1)], Local::Never);
    let ids: Vec<u32> = (100..130).collect();
    assert_eq!(
        finish(&say(
            &mut client,
            0,
            Frame::Tokens(Tokens::padded(2, &ids)),
            10
        )),
        None
    );
    let actions = client.step(
        Event::Closed {
            attempt: 0,
            why: CloseWhy::Ended,
        },
        at(20),
    );
    assert_eq!(finish(&actions), Some(&End::Length));
}

#[test]
fn a_silent_provider_without_a_spare_is_given_up_in_the_end() {
    let mut client = running(vec![candidate(1)], Local::Never);
    let mut actions = Vec::new();
    let mut ticks = 0;
    while let Some(deadline) = client.deadline() {
        let now = Clock {
            mono_ms: deadline,
            unix_ms: UNIX_MS,
        };
        actions.extend(client.step(Event::Tick, now));
        ticks += 1;
        if ended(&actions).contains(&AttemptEnd::Silent) {
            assert_eq!(deadline, at(GIVE_UP_MS).mono_ms);
            break;
        }
    }
    assert!(ticks < 10);
    // It is asked once more: there is nobody else.
    let actions = client.step(Event::Tick, at(GIVE_UP_MS + 600));
    assert_eq!(connects(&actions), [peer(1)]);
}

#[test]
fn a_candidate_found_late_becomes_the_spare_of_a_silent_provider() {
    let mut client = running(vec![candidate(1)], Local::Never);
    assert_eq!(connects(&client.step(Event::Tick, at(4_000))), []);
    let actions = client.step(Event::Candidates(vec![candidate(2)]), at(4_100));
    assert_eq!(connects(&actions), [peer(2)]);
}

#[test]
fn a_pause_is_borne_for_a_while() {
    let mut client = running(vec![candidate(1), candidate(2)], Local::Never);
    let paused = Frame::Progress(Progress {
        phase: Phase::Paused.into(),
        done: 0,
        total: 0,
        queue_pos: 0,
    });
    let mut moved_at = None;
    for ms in (500..10_000).step_by(500) {
        let actions = say(&mut client, 0, paused.clone(), ms);
        if !connects(&actions).is_empty() {
            moved_at.get_or_insert(ms);
        }
    }
    assert_eq!(moved_at, Some(500 + PAUSE_PATIENCE_MS));
}

//! Places in line: who waits where, and who is left.

use protocol::{
    frame::{CancelReason, Frame, Phase, Progress as Told},
    job::{
        OPEN_EXPIRY_MS,
        client::{
            Action, AnswerPhase, AttemptEnd, Client, Event, LINE_AGAIN_MS, Lie, Local,
            MAX_SILENCE_MS, Progress,
        },
    },
};

use crate::desk::*;

fn queued(queue_pos: u32) -> Frame {
    Frame::Progress(Told {
        phase: Phase::Queued.into(),
        queue_pos,
        ..Told::default()
    })
}

/// The places in line that were shown.
fn shown(actions: &[Action]) -> Vec<(u32, u32)> {
    let places = actions.iter().filter_map(|action| match action {
        Action::Progress(Progress {
            attempt,
            phase: AnswerPhase::InLine,
            queue_pos,
            ..
        }) => Some((*attempt, *queue_pos)),
        _ => None,
    });
    places.collect()
}

/// Attempts that were told that they are not waited for, and closed.
fn left(actions: &[Action]) -> Vec<u32> {
    let cancelled = actions.windows(2).filter_map(|pair| match pair {
        [
            Action::Send {
                attempt,
                frame: Frame::Cancel(cancel),
            },
            Action::Close { attempt: closed },
        ] if attempt == closed && cancel.reason() == CancelReason::LostRace => Some(*attempt),
        _ => None,
    });
    cancelled.collect()
}

/// The first of these candidates lets us wait behind one other, and the second is being asked.
fn waiting(candidates: u8) -> Client {
    let mut client = client(Local::Never);
    client.step(
        Event::Start((1..=candidates).map(candidate).collect()),
        at(0),
    );
    assert!(connected(&mut client, 0, 0).may_wait);
    let actions = say(&mut client, 0, queued(1), 5);
    assert_eq!(shown(&actions), [(0, 1)]);
    let next = if candidates > 1 {
        vec![peer(2)]
    } else {
        vec![]
    };
    assert_eq!(connects(&actions), next, "asked beside it at once");
    client
}

#[test]
fn a_place_in_line_is_shown_and_goes_on_when_its_turn_comes() {
    let mut client = waiting(1);
    assert_eq!(
        shown(&say(&mut client, 0, queued(1), 1_005)),
        [],
        "as before"
    );
    assert_eq!(shown(&say(&mut client, 0, queued(0), 2_005)), [(0, 0)]);
    // As long as heartbeats come it waits.
    for second in 3..30 {
        assert_eq!(say(&mut client, 0, queued(0), second * 1_000), []);
    }
    let actions = accept(&mut client, 0, 5, 30_000);
    let phase = AnswerPhase::At(Phase::Queued);
    assert!(
        matches!(&actions[..], [Action::Progress(progress)] if progress.phase == phase),
        "{actions:?}"
    );
}

#[test]
fn whoever_takes_the_job_first_has_it_and_the_lines_are_left() {
    let mut client = waiting(2);
    connected(&mut client, 1, 20);
    let actions = accept(&mut client, 1, 5, 40);
    assert_eq!(
        (left(&actions), ended(&actions)),
        (vec![0], vec![AttemptEnd::LostRace])
    );
    assert!(!client.is_finished());
}

#[test]
fn of_three_lines_the_longest_is_left_and_looked_at_again_later() {
    let mut client = waiting(3);
    connected(&mut client, 1, 20);
    // A longer one is not shown while there is a shorter one.
    let actions = say(&mut client, 1, queued(4), 30);
    assert_eq!(
        (shown(&actions), connects(&actions)),
        (vec![(0, 1)], vec![peer(3)])
    );
    connected(&mut client, 2, 50);
    let actions = say(&mut client, 2, queued(0), 200);
    let busy = AttemptEnd::Busy {
        retry_after_ms: LINE_AGAIN_MS,
    };
    assert_eq!(
        (left(&actions), ended(&actions), shown(&actions)),
        (vec![1], vec![busy], vec![(2, 0)])
    );
    let (mut ms, mut asked) = (200, Vec::new());
    while asked.is_empty() {
        ms += 1_000;
        for (attempt, in_front) in [(0, 1), (2, 0)] {
            asked.extend(connects(&say(&mut client, attempt, queued(in_front), ms)));
        }
        assert!(ms < 20_000, "it is never asked again");
    }
    assert_eq!(asked, [peer(2)]);
    assert!(ms >= 200 + u64::from(LINE_AGAIN_MS));
}

#[test]
fn who_lets_us_wait_and_falls_silent_is_left() {
    let mut client = waiting(1);
    let patience = MAX_SILENCE_MS + 10;
    assert_eq!(client.step(Event::Tick, at(5 + patience - 1)), []);
    let actions = client.step(Event::Tick, at(5 + patience));
    assert_eq!(
        (left(&actions), ended(&actions)),
        (vec![0], vec![AttemptEnd::Silent])
    );
}

#[test]
fn a_line_in_which_the_job_may_no_longer_begin_is_left_without_blame() {
    let mut client = waiting(1);
    let mut ends = Vec::new();
    let mut ms = 5;
    while ends.is_empty() {
        ms += 1_000;
        ends = ended(&say(&mut client, 0, queued(1), ms));
    }
    assert!((OPEN_EXPIRY_MS..OPEN_EXPIRY_MS + 1_010).contains(&ms));
    let busy = AttemptEnd::Busy {
        retry_after_ms: LINE_AGAIN_MS,
    };
    assert_eq!(ends, [busy]);
}

#[test]
fn this_computer_answers_while_everybody_lets_us_wait() {
    let mut client = client(Local::Fallback);
    client.step(Event::Start(vec![candidate(1)]), at(0));
    connected(&mut client, 0, 0);
    let actions = say(&mut client, 0, queued(3), 5);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::StartLocal { attempt: 1, .. })),
        "{actions:?}"
    );
    assert_eq!(
        shown(&say(&mut client, 0, queued(2), 900)),
        [],
        "it computes"
    );
}

#[test]
fn nothing_but_a_place_in_line_is_heard_before_the_job_is_taken() {
    let mut client = client(Local::Never);
    client.step(Event::Start(vec![candidate(1), candidate(2)]), at(0));
    connected(&mut client, 0, 0);
    let reading = Frame::Progress(Told {
        phase: Phase::Prefill.into(),
        ..Told::default()
    });
    let actions = say(&mut client, 0, reading, 5);
    let lie = AttemptEnd::Lie(Lie::OutOfTurn("Progress"));
    assert_eq!(ended(&actions), [lie]);
}

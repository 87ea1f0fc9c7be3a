//! Jobs that wait in line for a slot.

use protocol::{
    frame::{Cancel, CancelReason, Frame, Open, Phase, RefuseCode},
    job::{
        CloseWhy, HEARTBEAT_BEFORE_MS,
        provider::{
            Action, BLOCKED_DROP_MS, Ended, Event, Provider, Recorded, Room, SEEK_MS, Wanted,
            Welcome,
        },
    },
    tokens,
};

use crate::desk::*;

fn patient() -> Open {
    Open {
        may_wait: true,
        ..open()
    }
}

fn in_line(in_front: u32) -> Event {
    Event::Room(Room::InLine { in_front })
}

/// A job that was told at 0 ms that two wait in front of it.
fn waiting() -> Provider {
    let mut provider = Provider::new(config(), false, at(0));
    provider.step(opened(patient(), Welcome::Yes), at(0));
    assert_eq!(places(&provider.step(in_line(2), at(0))), [2]);
    provider
}

/// The places that were told, if nothing else was done.
fn places(actions: &[Action]) -> Vec<u32> {
    let place = |action: &Action| match action {
        Action::Send(Frame::Progress(progress)) if progress.phase() == Phase::Queued => {
            progress.queue_pos
        }
        other => panic!("{other:?}"),
    };
    actions.iter().map(place).collect()
}

#[test]
fn a_slot_is_sought_for_all_that_the_job_may_become() {
    let mut provider = Provider::new(config(), false, at(0));
    let broken = Open {
        resume_tokens: tokens::pack(&[5, 6]),
        max_out: 5_000,
        ..patient()
    };
    let actions = provider.step(opened(broken, Welcome::Yes), at(0));
    let wanted = Wanted {
        model: MODEL,
        tokens: 3 + 2 + 100,
        goes_on: true,
        may_wait: true,
    };
    assert_eq!(actions, [Action::Seek(wanted)]);
}

#[test]
fn who_waits_hears_its_place_at_every_heartbeat_and_at_once_when_it_changes() {
    let mut provider = waiting();
    assert_eq!(
        provider.deadline(),
        Some(at(HEARTBEAT_BEFORE_MS).mono_ms),
        "the next heartbeat"
    );
    assert_eq!(provider.step(in_line(2), at(400)), [], "it knows that");
    assert_eq!(places(&provider.step(in_line(1), at(500))), [1]);
    assert_eq!(provider.step(Event::Tick, at(1_499)), []);
    assert_eq!(places(&provider.step(Event::Tick, at(1_500))), [1]);
}

#[test]
fn a_job_moves_on_when_a_slot_is_free_and_nothing_of_it_is_done_before() {
    let mut provider = waiting();
    let actions = provider.step(Event::Room(Room::Free), at(7_000));
    assert!(
        matches!(actions[..], [Action::Start(_), Action::Record { .. }]),
        "{actions:?}"
    );
    let actions = provider.step(Event::Recorded(Recorded::Fresh), at(7_001));
    assert!(
        matches!(actions[..], [Action::Send(Frame::Accept(_))]),
        "{actions:?}"
    );
}

#[test]
fn whoever_goes_leaves_the_line_at_once() {
    let reason = CancelReason::User.into();
    let cut = CloseWhy::Cut("the cable".into());
    let ends = [
        (
            Event::Frame(Frame::Cancel(Cancel { reason })),
            Ended::Cancelled,
        ),
        (
            Event::Closed(CloseWhy::Ended),
            Ended::ClientGone(CloseWhy::Ended),
        ),
        (Event::Closed(cut.clone()), Ended::ClientGone(cut)),
    ];
    for (event, ended) in ends {
        // One that keeps jobs whose stream was cut keeps none that has not begun.
        let mut provider = Provider::new(
            protocol::job::provider::Config {
                resume_grace_ms: 60_000,
                ..config()
            },
            false,
            at(0),
        );
        provider.step(opened(patient(), Welcome::Yes), at(0));
        provider.step(in_line(1), at(0));
        assert_eq!(provider.step(event, at(10)), [Action::Close(ended)]);
    }
}

#[test]
fn a_node_that_goes_off_and_a_line_that_is_closed_say_so() {
    let mut provider = waiting();
    let actions = provider.step(Event::Off, at(10));
    assert_eq!(
        actions.last(),
        Some(&Action::Close(Ended::Refused(RefuseCode::NodeOff)))
    );
    let mut provider = waiting();
    let full = Room::Full {
        retry_after_ms: 900,
        queue: 8,
    };
    let actions = provider.step(Event::Room(full), at(10));
    assert!(matches!(
        actions[..],
        [Action::Send(Frame::Busy(busy)), Action::Close(Ended::Busy)] if busy.retry_after_ms == 900 && busy.queue == 8
    ));
}

#[test]
fn nobody_waits_for_longer_than_the_first_frame_holds() {
    let mut provider = waiting();
    let mut told = 0;
    loop {
        let deadline = provider.deadline().unwrap();
        let ms = deadline - at(0).mono_ms;
        let actions = provider.step(Event::Tick, at(ms));
        if provider.is_done() {
            assert_eq!(ms, 60_000, "it expires then");
            assert!(matches!(
                actions[..],
                [Action::Send(Frame::Busy(busy)), Action::Close(Ended::Busy)] if busy.queue == 2
            ));
            break;
        }
        told += places(&actions).len();
    }
    assert_eq!(told, 59, "one a second");
}

#[test]
fn who_does_not_read_its_place_loses_it() {
    let mut provider = waiting();
    provider.step(Event::WriteBlocked, at(100));
    assert_eq!(
        provider.step(in_line(1), at(200)),
        [],
        "it could not hear it"
    );
    let deadline = at(100 + BLOCKED_DROP_MS).mono_ms;
    assert_eq!(provider.deadline(), Some(deadline));
    let actions = provider.step(Event::Tick, at(100 + BLOCKED_DROP_MS));
    assert!(
        matches!(
            actions[..],
            [Action::Close(Ended::ClientGone(CloseWhy::Cut(_)))]
        ),
        "{actions:?}"
    );
    let mut provider = waiting();
    provider.step(Event::WriteBlocked, at(100));
    provider.step(in_line(1), at(200));
    assert_eq!(places(&provider.step(Event::Drained, at(300))), [1]);
}

#[test]
fn an_owner_who_does_not_say_whether_there_is_a_slot_is_not_waited_for() {
    let mut provider = Provider::new(config(), false, at(0));
    provider.step(opened(open(), Welcome::Yes), at(0));
    assert_eq!(provider.deadline(), Some(at(SEEK_MS).mono_ms));
    let actions = provider.step(Event::Tick, at(SEEK_MS));
    assert_eq!(
        actions.last(),
        Some(&Action::Close(Ended::Refused(RefuseCode::Internal)))
    );
}

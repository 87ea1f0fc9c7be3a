//! One asking machine and several answering ones in virtual time, with everything going wrong that can. The invariants
//! are asserted by `world` on the way; a failing case prints its seed, and proptest keeps it under `tests/proptest-regressions`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

mod fault;
mod model;
mod paying;
mod resuming;
mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;
use protocol::job::{
    Finish,
    client::{ANSWER_PATIENCE_MS, AttemptEnd, End, Lie as Broken, MAX_WRITING_SILENCE_MS, Place},
};

use fault::{Fault, Lie, any_fault};
use model::{EOG, next};
use world::{LocalPeer, Money, Peer, Scene, Sleep, Story, World, signer};

fn any_peer() -> impl Strategy<Value = Peer> {
    (
        1u64..200,
        0u64..5_000,
        1u64..400,
        1u32..200,
        prop::collection::vec(any_fault(), 0..3),
        prop_oneof![Just(0), Just(60_000), 500u64..60_000],
        prop::option::of(0u32..4_000),
        prop_oneof![4 => -100_000i64..100_000, 1 => -900_000i64..900_000],
        (any::<bool>(), any::<bool>()),
    )
        .prop_map(
            |(
                latency_ms,
                prefill_ms,
                gap_ms,
                out_max,
                faults,
                grace_ms,
                p95,
                ahead,
                (prepaid, quoted),
            )| Peer {
                latency_ms,
                prefill_ms,
                gap_ms,
                out_max,
                faults,
                grace_ms,
                first_token_p95_ms: p95,
                clock_ahead_ms: ahead,
                prepaid,
                quoted,
            },
        )
}

fn any_local() -> impl Strategy<Value = LocalPeer> {
    (
        0u64..4_000,
        1u64..300,
        prop::option::weighted(0.3, 0u32..80),
    )
        .prop_map(|(load_ms, gap_ms, dies_at)| LocalPeer {
            load_ms,
            gap_ms,
            dies_at,
        })
}

fn any_sleep() -> impl Strategy<Value = Sleep> {
    (0u64..9_000, 100u64..120_000, any::<bool>()).prop_map(|(at_ms, for_ms, told)| Sleep {
        at_ms,
        for_ms,
        told,
    })
}

fn any_money() -> impl Strategy<Value = Money> {
    (
        (0u128..3_000_000, 0u128..9_000_000, 0u32..60),
        prop_oneof![Just(1u32), Just(8), Just(64), 1u32..200],
        (0u64..40, 0u64..40),
        prop::bool::weighted(0.8),
        prop::option::weighted(0.3, 0u128..900),
        prop_oneof![4 => Just(10_000_000u128), 1 => 0u128..900],
    )
        .prop_map(
            |((input, output, cached), window, (sign_ms, hold_ms), bonded, max_cost, granted)| {
                Money {
                    prices: (input, output),
                    cached,
                    window,
                    sign_ms,
                    hold_ms,
                    bonded,
                    max_cost,
                    granted,
                }
            },
        )
}

fn any_scene() -> impl Strategy<Value = Scene> {
    (
        (
            prop::collection::vec(3u32..1_000, 1..40),
            0usize..5,
            1u32..160,
            prop::bool::weighted(0.1),
        ),
        (
            prop::collection::vec(any_peer(), 0..5),
            prop::option::weighted(0.3, any_local()),
        ),
        (
            prop::option::weighted(0.2, 0u64..15_000),
            prop::option::weighted(0.3, 0u64..8_000),
        ),
        (
            any::<bool>(),
            prop::option::weighted(0.1, 1u32..40_000),
            prop::option::weighted(0.2, any_sleep()),
            prop::option::weighted(0.2, (0u64..9_000, -90_000_000i64..90_000_000)),
            prop::option::weighted(0.5, any_money()),
        ),
    )
        .prop_map(
            |(
                (prompt, resumed, max_out, ignore_eog),
                (peers, local),
                (cancel_at, found_late),
                (hedge, deadline_ms, sleep, clock_set, money),
            )| {
                Scene {
                    prompt,
                    resumed,
                    max_out,
                    ignore_eog,
                    peers,
                    local,
                    cancel_at,
                    found_late,
                    hedge,
                    deadline_ms,
                    sleep,
                    clock_set,
                    money,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_wrong_no_token_is_missing_doubled_or_changed(scene in any_scene()) {
        World::play(scene);
    }
}

/// More by `PROPTEST_CASES`: signatures without optimisation are what takes the time.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(150)
}

fn quick() -> Peer {
    Peer {
        latency_ms: 20,
        prefill_ms: 300,
        gap_ms: 30,
        out_max: 100,
        faults: Vec::new(),
        grace_ms: 60_000,
        first_token_p95_ms: None,
        clock_ahead_ms: 0,
        prepaid: true,
        quoted: false,
    }
}

fn with(fault: Fault) -> Peer {
    Peer {
        faults: vec![fault],
        ..quick()
    }
}

fn scene(peers: Vec<Peer>) -> Scene {
    Scene {
        prompt: vec![11, 12, 16],
        resumed: 0,
        max_out: 100,
        ignore_eog: false,
        peers,
        local: None,
        cancel_at: None,
        found_late: None,
        hedge: false,
        deadline_ms: None,
        sleep: None,
        clock_set: None,
        money: None,
    }
}

fn undisturbed(scene: &Scene) -> Vec<u32> {
    let mut output = Vec::new();
    while output.last() != Some(&EOG) {
        output.push(next(&scene.prompt, &output));
    }
    output
}

fn peer(number: usize) -> Place {
    Place::Peer(signer(number).peer_id())
}

fn whole(story: &Story, scene: &Scene) {
    assert_eq!(story.outcome.end, End::Complete(Finish::Stop));
    assert_eq!(story.output, undisturbed(scene));
}

#[test]
fn an_undisturbed_answer_is_whole_and_signed_by_both() {
    let scene = scene(vec![quick()]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!(story.outcome.failovers, 0);
    assert_eq!(story.receipts.len(), 1);
    assert_eq!(story.stored, story.receipts);
}

#[test]
fn a_killed_provider_is_replaced_at_the_same_index() {
    let scene = scene(vec![with(Fault::Killed { at_ms: 1_500 }), quick()]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!(story.outcome.failovers, 1);
    let [(from, to, index)] = story.moves[..] else {
        panic!("{:?}", story.moves)
    };
    assert_eq!((from, to), (peer(0), peer(1)));
    assert!(index > 5, "{index}");
    let receipt = &story.receipts[0].receipt;
    assert_eq!(receipt.first_index, index);
    assert_eq!(
        u64::from(index) + receipt.totals.output,
        story.output.len() as u64
    );
}

#[test]
fn a_stopped_provider_is_noticed_within_the_promised_time() {
    let scene = scene(vec![
        with(Fault::Stopped {
            at_ms: 1_500,
            for_ms: 600_000,
        }),
        quick(),
    ]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    let (spare, _, asked_ms) = story.connects[1];
    assert_eq!(spare, 1);
    assert!(asked_ms <= story.heard[&0] + MAX_WRITING_SILENCE_MS + 40);
    assert!(story.ends.contains(&(0, peer(0), AttemptEnd::Silent)));
}

#[test]
fn a_provider_that_wakes_before_its_spare_writes_goes_on_itself() {
    let slow = Peer {
        prefill_ms: 5_000,
        ..quick()
    };
    let scene = scene(vec![
        with(Fault::Stopped {
            at_ms: 1_500,
            for_ms: 3_000,
        }),
        slow,
    ]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert!(story.moves.is_empty());
    assert!(story.ends.contains(&(1, peer(1), AttemptEnd::LostRace)));
}

#[test]
fn this_computer_goes_on_when_no_peer_is_left() {
    let local = Some(LocalPeer {
        load_ms: 800,
        gap_ms: 20,
        dies_at: None,
    });
    let scene = Scene {
        local,
        ..scene(vec![with(Fault::Killed { at_ms: 1_500 })])
    };
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!(story.moves[0].1, Place::Local);
}

#[test]
fn the_same_peer_is_asked_again_when_there_is_no_other() {
    let mut once = scene(vec![with(Fault::Killed { at_ms: 2_300 })]);
    once.max_out = 100;
    let story = World::play(once.clone());
    // Each of its streams is cut, and each gives a part: three of them make the answer.
    whole(&story, &once);
    assert!(story.moves.is_empty());
    assert!(story.outcome.failovers >= 1);
}

#[test]
fn a_provider_that_pauses_is_left_for_one_that_is_free() {
    let scene = scene(vec![
        with(Fault::OwnWork {
            at_ms: 1_500,
            for_ms: 60_000,
        }),
        quick(),
    ]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!(story.moves[0].1, peer(1));
}

#[test]
fn a_provider_that_pauses_is_waited_for_when_there_is_no_other() {
    let scene = scene(vec![with(Fault::OwnWork {
        at_ms: 1_500,
        for_ms: 120_000,
    })]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!(story.outcome.failovers, 0);
    assert!(story.finished_ms > 120_000);
}

#[test]
fn busy_and_refusing_providers_are_passed_over_without_counting() {
    let busy = with(Fault::Busy {
        times: 9,
        retry_after_ms: 9_000,
    });
    let scene = scene(vec![
        busy,
        with(Fault::Replay),
        with(Fault::Unreachable { after_ms: 5 }),
        quick(),
    ]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!(story.outcome.failovers, 0);
}

#[test]
fn the_only_provider_is_asked_again_when_it_was_busy() {
    let scene = scene(vec![with(Fault::Busy {
        times: 2,
        retry_after_ms: 1_000,
    })]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert!(story.finished_ms > 3_000);
}

#[test]
fn a_line_is_waited_in_where_there_is_nobody_else() {
    let scene = scene(vec![with(Fault::Line {
        in_front: 3,
        each_ms: 20_000,
    })]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!((story.outcome.failovers, story.ends.len()), (0, 0));
    assert!((60_000..70_000).contains(&story.finished_ms));
}

#[test]
fn a_line_is_left_for_one_who_has_a_slot() {
    let line = with(Fault::Line {
        in_front: 3,
        each_ms: 20_000,
    });
    let scene = scene(vec![line.clone(), line, quick()]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    let lost = |(_, _, why): &(_, _, AttemptEnd)| *why == AttemptEnd::LostRace;
    assert_eq!(story.ends.iter().filter(|end| lost(end)).count(), 2);
    assert_eq!(story.outcome.failovers, 0);
    assert!(story.finished_ms < 20_000);
}

#[test]
fn a_provider_switched_off_says_so_and_is_replaced() {
    let scene = scene(vec![with(Fault::Off { at_ms: 1_500 }), quick()]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    let said = |why: &AttemptEnd| {
        matches!(
            why,
            AttemptEnd::Gave {
                code: protocol::frame::RefuseCode::NodeOff,
                ..
            }
        )
    };
    assert!(story.ends.iter().any(|(_, _, why)| said(why)));
}

#[test]
fn after_three_failovers_the_answer_is_interrupted_and_keeps_what_it_has() {
    let scene = scene(
        (0..6)
            .map(|_| with(Fault::Killed { at_ms: 1_600 }))
            .collect(),
    );
    let story = World::play(scene.clone());
    assert!(
        matches!(story.outcome.end, End::Interrupted(AttemptEnd::Closed(_))),
        "{:?}",
        story.outcome
    );
    assert_eq!(story.outcome.failovers, 3);
    let asked: BTreeSet<_> = story.connects.iter().map(|(_, peer, _)| *peer).collect();
    assert_eq!(asked.len(), 4);
    assert!(undisturbed(&scene).starts_with(&story.output));
}

#[test]
fn a_stop_gives_a_receipt_for_what_was_sent() {
    let scene = Scene {
        cancel_at: Some(1_500),
        ..scene(vec![quick()])
    };
    let story = World::play(scene);
    assert_eq!(story.outcome.end, End::Stopped);
    assert_eq!(story.receipts[0].receipt.finish, Finish::Abort);
    assert_eq!(story.stored, story.receipts);
}

#[test]
fn nobody_to_ask_is_a_failure_at_once() {
    let story = World::play(scene(Vec::new()));
    assert_eq!(story.outcome.end, End::Failed(None));
}

#[test]
fn every_lie_is_called_by_its_name() {
    let lies = [
        (Lie::SkipsIndex(2), "WrongIndex"),
        (Lie::Contradicts(2), "Contradiction"),
        (Lie::Drops(2), "WrongIndex"),
        (Lie::Swaps(2), "WrongIndex"),
        (Lie::OutsideVocabulary(2), "OutsideVocabulary"),
        (Lie::Exchanges(2), "BrokenChain"),
        (Lie::Stuffs, "BehindTheEnd"),
        (Lie::MiscountsInput, "WrongInput"),
        (Lie::ForgesCheckpoint, "BadSignature"),
        (Lie::MistakesJob, "WrongStatement"),
        (Lie::ForgesReceipt, "BadSignature"),
        (Lie::Overcounts, "WrongTotals"),
        (Lie::AsksMoney, "WrongDue"),
        (Lie::MistakesFinish, "WrongFinish"),
        (Lie::ForgetsReceipt, "BadSignature"),
    ];
    for (lie, name) in lies {
        let changes = lie.changes_tokens(false);
        let scene = scene(vec![with(Fault::Lies(lie.clone())), quick()]);
        let story = World::play(scene.clone());
        let found = story.ends.iter().find_map(|(_, _, why)| match why {
            AttemptEnd::Lie(found) => Some(found.clone()),
            _ => None,
        });
        let found: Broken =
            found.unwrap_or_else(|| panic!("{lie:?} was not found: {:?}", story.ends));
        assert!(
            format!("{found:?}").starts_with(name),
            "{lie:?} was called {found:?}"
        );
        assert!(
            matches!(story.outcome.end, End::Complete(_) | End::Length),
            "{lie:?}: {:?}",
            story.outcome
        );
        if !changes {
            whole(&story, &scene);
        }
        let asked_again = story
            .connects
            .iter()
            .filter(|(_, peer, _)| *peer == signer(0).peer_id())
            .count();
        assert_eq!(asked_again, 1, "{lie:?}: a liar was asked again");
    }
}

#[test]
fn what_is_said_twice_alike_does_no_harm() {
    let scene = scene(vec![with(Fault::Lies(Lie::Repeats(3)))]);
    whole(&World::play(scene.clone()), &scene);
}

#[test]
fn a_spare_that_died_with_the_writer_is_not_even_asked() {
    let stopped = |at_ms| {
        with(Fault::Stopped {
            at_ms,
            for_ms: 600_000,
        })
    };
    for dead in [stopped(0), with(Fault::NeverConnects)] {
        let scene = scene(vec![stopped(1_500), dead, quick()]);
        let story = World::play(scene.clone());
        whole(&story, &scene);
        let sounded: Vec<_> = story.sounded.iter().map(|(peer, _)| *peer).collect();
        assert_eq!(sounded, [signer(1).peer_id(), signer(2).peer_id()]);
        let [_, (_, spare, asked_ms)] = story.connects[..] else {
            panic!("{:?}", story.connects)
        };
        assert_eq!(spare, signer(2).peer_id());
        assert!(asked_ms <= story.heard[&0] + MAX_WRITING_SILENCE_MS + 40);
    }
}

#[test]
fn a_candidate_that_says_nothing_at_the_beginning_is_not_waited_for_alone() {
    let scene = scene(vec![with(Fault::NeverConnects), quick()]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!(story.outcome.failovers, 0);
    let [(_, _, first), (_, _, second)] = story.connects[..] else {
        panic!("{:?}", story.connects)
    };
    assert_eq!(second - first, ANSWER_PATIENCE_MS);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// However slowly and unevenly it writes, as long as it beats.
    #[test]
    fn a_slow_honest_provider_is_not_left(
        latency_ms in 1u64..400,
        prefill_ms in 0u64..9_000,
        gap_ms in 1u64..4_000,
    ) {
        let slow = Peer { latency_ms, prefill_ms, gap_ms, ..quick() };
        let scene = Scene { max_out: 20, ..scene(vec![slow, quick()]) };
        let story = World::play(scene);
        prop_assert!(story.moves.is_empty());
        prop_assert_eq!(story.connects.len(), 1, "a spare was opened");
    }

    /// Stops now and then, each longer than silence may be: it keeps its chance, and the one that is dead in the end is
    /// replaced all the same.
    #[test]
    fn false_alarms_do_not_use_up_the_failovers(stops in prop::collection::vec(3_000u64..4_000, 1..5)) {
        let mut at_ms = 1_000;
        let mut faults = Vec::new();
        for for_ms in &stops {
            faults.push(Fault::Stopped { at_ms, for_ms: *for_ms });
            at_ms += for_ms + 2_000;
        }
        let stuttering = Peer { gap_ms: 400, faults, ..quick() };
        let slow = Peer { prefill_ms: 60_000, ..quick() };
        let scene = Scene { ignore_eog: true, max_out: 80, ..scene(vec![stuttering, slow]) };
        let story = World::play(scene);
        prop_assert_eq!(&story.outcome.end, &End::Length);
        prop_assert_eq!(story.outcome.failovers, 0, "{:?}", story.connects);
        prop_assert!(story.moves.is_empty());
    }
}

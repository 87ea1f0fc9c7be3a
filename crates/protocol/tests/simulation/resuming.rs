//! Streams that break, computers that sleep, providers that are slow to begin.

use protocol::job::{
    Finish,
    client::{AttemptEnd, End, RESUME_PATIENCE_MS},
};

use crate::{
    fault::Fault,
    peer, quick, scene, undisturbed, whole, with,
    world::{Peer, Scene, Sleep, Story, World, signer},
};

/// Times in milliseconds after the start at which an undisturbed answer of [`quick`] is under way.
const MIDWAY_MS: u64 = 1_500;

fn one_job(story: &Story) {
    assert_eq!(story.outcome.failovers, 0);
    assert!(story.moves.is_empty());
    assert_eq!(story.receipts.len(), 1, "one receipt for the whole job");
    let receipt = &story.receipts[0].receipt;
    assert_eq!(receipt.first_index, 0);
    assert_eq!(receipt.totals.output, story.output.len() as u64);
    assert_eq!(story.stored, story.receipts);
}

#[test]
fn a_cut_stream_is_taken_up_at_the_same_provider() {
    for fault in [
        Fault::Cut { at_ms: MIDWAY_MS },
        Fault::RelayCut {
            at_ms: MIDWAY_MS,
            provider_after_ms: 9_000,
        },
        Fault::DeadPath {
            at_ms: MIDWAY_MS,
            client_after_ms: 900,
        },
    ] {
        let scene = scene(vec![with(fault.clone()), quick()]);
        let story = World::play(scene.clone());
        whole(&story, &scene);
        one_job(&story);
        assert!(story.outcome.resumes >= 1, "{fault:?}");
    }
}

#[test]
fn a_provider_out_of_reach_for_long_is_taken_up_when_there_is_no_other() {
    let scene = scene(vec![with(Fault::Outage {
        at_ms: MIDWAY_MS,
        for_ms: 30_000,
    })]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    one_job(&story);
    assert!(
        (31_500..40_000).contains(&story.finished_ms),
        "{}",
        story.finished_ms
    );
}

#[test]
fn a_provider_out_of_reach_for_longer_than_its_grace_is_asked_anew() {
    let late = Peer {
        grace_ms: 10_000,
        ..with(Fault::Outage {
            at_ms: MIDWAY_MS,
            for_ms: 9_000,
        })
    };
    let story = World::play(scene(vec![late.clone()]));
    one_job(&story);
    let later = Peer {
        faults: vec![Fault::Outage {
            at_ms: MIDWAY_MS,
            for_ms: 11_000,
        }],
        ..late
    };
    let scene = scene(vec![later]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!((story.outcome.resumes, story.outcome.failovers), (0, 1));
}

#[test]
fn a_provider_that_cannot_be_reached_any_more_is_replaced_within_the_promised_time() {
    let gone = with(Fault::Outage {
        at_ms: MIDWAY_MS,
        for_ms: 600_000,
    });
    let scene = scene(vec![gone, quick()]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!(story.outcome.failovers, 1);
    let spare = story
        .connects
        .iter()
        .find(|(_, peer, _)| *peer == signer(1).peer_id());
    let (_, _, asked_ms) = spare.expect("the spare is asked");
    assert!(*asked_ms <= 1_000 + MIDWAY_MS + RESUME_PATIENCE_MS);
}

#[test]
fn a_sleeping_computer_takes_its_job_up_when_it_wakes() {
    for told in [true, false] {
        let sleep = Sleep {
            at_ms: MIDWAY_MS,
            for_ms: 30_000,
            told,
        };
        let scene = Scene {
            sleep: Some(sleep),
            ..scene(vec![quick(), quick()])
        };
        let story = World::play(scene.clone());
        whole(&story, &scene);
        one_job(&story);
        assert_eq!(story.outcome.resumes, 1, "told: {told}");
    }
    // After a night the provider has forgotten it.
    let sleep = Sleep {
        at_ms: MIDWAY_MS,
        for_ms: 8 * 3_600_000 / 4,
        told: true,
    };
    let scene = Scene {
        sleep: Some(sleep),
        ..scene(vec![quick()])
    };
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!(story.outcome.failovers, 1);
}

#[test]
fn a_job_that_is_over_when_its_client_comes_back_is_whole() {
    // All of it was written, and its end signed, while nothing passed.
    let scene = scene(vec![with(Fault::Outage {
        at_ms: MIDWAY_MS,
        for_ms: 20_000,
    })]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!(story.receipts[0].receipt.finish, Finish::Stop);
    let slow = Scene {
        max_out: 30,
        ..scene
    };
    let story = World::play(slow);
    assert_eq!(story.outcome.end, End::Length);
    one_job(&story);
}

#[test]
fn a_provider_slow_to_begin_is_hedged_against_once_and_the_slower_one_is_let_go() {
    let slow = Peer {
        prefill_ms: 400_000,
        first_token_p95_ms: Some(2_000),
        faults: vec![Fault::OwnWork {
            at_ms: 100,
            for_ms: 4_500,
        }],
        ..quick()
    };
    let hedging = Scene {
        hedge: true,
        ..scene(vec![slow.clone(), quick(), quick()])
    };
    let story = World::play(hedging.clone());
    whole(&story, &hedging);
    assert!(story.outcome.hedged);
    assert_eq!(story.outcome.failovers, 0);
    assert_eq!(story.connects.len(), 2);
    assert!(story.ends.contains(&(0, peer(0), AttemptEnd::LostRace)));

    let not_allowed = Scene {
        hedge: false,
        ..hedging.clone()
    };
    assert!(!World::play(not_allowed).outcome.hedged);
    let quick_enough = Scene {
        peers: vec![
            Peer {
                first_token_p95_ms: Some(2_000),
                ..quick()
            },
            quick(),
        ],
        ..hedging.clone()
    };
    assert!(!World::play(quick_enough).outcome.hedged);
    let unknown = Scene {
        peers: vec![
            Peer {
                first_token_p95_ms: None,
                ..slow
            },
            quick(),
        ],
        ..hedging
    };
    assert!(!World::play(unknown).outcome.hedged);
}

#[test]
fn an_answer_ends_when_it_is_of_no_use_any_more() {
    let late = Scene {
        deadline_ms: Some(1_400),
        ..scene(vec![quick()])
    };
    let story = World::play(late.clone());
    assert_eq!(story.outcome.end, End::Interrupted(AttemptEnd::TooLate));
    assert_eq!(story.finished_ms, 1_000 + 1_400);
    assert!(undisturbed(&late).starts_with(&story.output));
    let nobody = Scene {
        deadline_ms: Some(1_400),
        ..scene(vec![with(Fault::NeverConnects)])
    };
    let story = World::play(nobody);
    assert_eq!(story.outcome.end, End::Failed(Some(AttemptEnd::TooLate)));
}

//! Answers that cost something.

use protocol::{
    job::{
        Finish,
        client::{AttemptEnd, End, MAX_SILENCE_MS},
    },
    voucher::payee::{STREAM_WINDOW, stream_window},
};

use super::{
    Fault, Money, Peer, Scene, Story, World, peer, quick, scene, undisturbed, whole, with,
};

fn money() -> Money {
    Money {
        prices: (333_333, 1_700_001),
        cached: 1,
        window: 64,
        sign_ms: 4,
        hold_ms: 4,
        bonded: true,
        max_cost: None,
        granted: 10_000_000,
    }
}

fn paid(peers: Vec<Peer>) -> Scene {
    Scene {
        money: Some(money()),
        ..scene(peers)
    }
}

/// Every receipt of the answer is paid to the unit, and nothing else is.
fn settled(story: &Story) {
    let due: u128 = story.receipts.iter().map(|signed| signed.receipt.due).sum();
    assert!(due > 0);
    assert_eq!(story.outcome.paid, due);
    assert_eq!(story.held.iter().sum::<u128>(), due);
}

#[test]
fn an_undisturbed_answer_is_paid_to_the_unit_and_never_stands_still() {
    let scene = paid(vec![quick()]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    settled(&story);
    assert_eq!(story.stalls, 0);
}

/// A quarter of a second away, at a hundred tokens per second: vouchers are on their way before the window is used up.
#[test]
fn a_far_provider_is_paid_before_its_window_is_used_up() {
    let far = Peer {
        latency_ms: 125,
        gap_ms: 10,
        ..quick()
    };
    let story = World::play(paid(vec![far]));
    settled(&story);
    assert_eq!(story.stalls, 0);
}

/// The window grows with the path: three hundred tokens a second, a tenth of a second away, with slow disks, come as fast as unpaid ones.
#[test]
fn fast_tokens_from_far_away_never_wait_for_their_payment() {
    let far = Peer {
        latency_ms: 50,
        gap_ms: 3,
        ..quick()
    };
    let free = World::play(long(scene(vec![far.clone()])));
    let within = |window| {
        World::play(long(Scene {
            money: Some(Money {
                window,
                sign_ms: 15,
                hold_ms: 15,
                ..money()
            }),
            ..paid(vec![far.clone()])
        }))
    };
    assert!(within(STREAM_WINDOW).stalls > 0, "the least is too small");
    let story = within(stream_window(333, 100));
    settled(&story);
    assert_eq!(story.stalls, 0);
    let wrote = |story: &Story| story.last_token_ms - story.first_token_ms.unwrap();
    assert_eq!(wrote(&story), wrote(&free));
}

fn long(scene: Scene) -> Scene {
    Scene {
        ignore_eog: true,
        ..scene
    }
}

/// Where the quote is at hand, the first token of a paid answer is as near as that of a free one, but for what the disks take; one that
/// does not count what comes with the first frame is a round trip behind.
#[test]
fn the_first_token_waits_for_the_disks_and_not_for_the_path() {
    let far = Peer {
        latency_ms: 50,
        quoted: true,
        ..quick()
    };
    let first = |story: Story| story.first_token_ms.unwrap();
    let free = first(World::play(scene(vec![far.clone()])));
    let disks = money().sign_ms + money().hold_ms;
    let now = first(World::play(paid(vec![far.clone()])));
    assert!((free..=free + disks).contains(&now), "{now} beside {free}");
    let before = Peer {
        prepaid: false,
        ..far
    };
    let later = first(World::play(paid(vec![before])));
    assert!(
        (now + 100..=now + 100 + 2 * disks).contains(&later),
        "{later} beside {now}"
    );
}

/// What costs nothing takes as long as what costs something, but for the disks.
#[test]
fn paying_takes_no_round_trip() {
    let free = World::play(scene(vec![quick()]));
    let paid = World::play(paid(vec![quick()]));
    let more = paid.finished_ms - free.finished_ms;
    assert!(more < 20, "{more} ms");
}

#[test]
fn a_window_of_one_token_goes_on_all_the_same() {
    let mut scene = paid(vec![quick()]);
    scene.money = Some(Money {
        window: 1,
        ..money()
    });
    let story = World::play(scene.clone());
    whole(&story, &scene);
    settled(&story);
}

#[test]
fn a_job_that_is_taken_up_is_charged_once() {
    let scene = paid(vec![with(Fault::Cut { at_ms: 1_700 })]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert_eq!((story.outcome.resumes, story.receipts.len()), (1, 1));
    settled(&story);
}

#[test]
fn an_answer_that_moves_pays_each_for_what_it_gave() {
    let scene = paid(vec![with(Fault::Killed { at_ms: 1_700 }), quick()]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    let [receipt] = &story.receipts[..] else {
        panic!("{:?}", story.receipts)
    };
    let (index, due) = (receipt.receipt.first_index, receipt.receipt.due);
    assert_eq!(story.held[1], due);
    // The input of the second is what the first gave, and is paid for there.
    let totals = &receipt.receipt.totals;
    assert_eq!(totals.input + totals.cached, u64::from(index) + 3);
    let given = money().due(3, index);
    assert!((1..=given).contains(&story.held[0]), "{:?}", story.held);
    let window = given - money().due(3, index.saturating_sub(money().window));
    assert!(story.held[0] + window >= given);
    assert_eq!(story.outcome.paid, story.held[0] + due);
}

#[test]
fn a_silent_provider_keeps_what_it_was_paid_and_gets_no_more() {
    let stopped = with(Fault::Stopped {
        at_ms: 1_500,
        for_ms: 600_000,
    });
    let scene = paid(vec![stopped, quick()]);
    let story = World::play(scene.clone());
    whole(&story, &scene);
    assert!(story.finished_ms < 20_000 + MAX_SILENCE_MS);
    let index = story.moves[0].2;
    assert!(story.held[0] <= money().due(3, index));
}

#[test]
fn the_cap_is_the_cap_and_the_answer_says_so() {
    let whole = undisturbed(&scene(vec![quick()])).len() as u32;
    let most = money().due(3, whole / 2);
    let mut scene = paid(vec![quick()]);
    scene.money = Some(Money {
        max_cost: Some(most),
        ..money()
    });
    let story = World::play(scene);
    assert_eq!(story.outcome.end, End::Length);
    assert!(story.outcome.capped);
    assert!(story.outcome.paid <= most);
    assert_eq!(story.output.len() as u32, whole / 2);
    settled(&story);
}

#[test]
fn what_not_even_one_token_may_cost_is_not_asked() {
    let mut scene = paid(vec![quick()]);
    scene.money = Some(Money {
        max_cost: Some(1),
        ..money()
    });
    let story = World::play(scene);
    assert!(matches!(
        story.outcome.end,
        End::Failed(Some(AttemptEnd::TooDear { most: 1, .. }))
    ));
    assert_eq!(story.outcome.paid, 0);
}

/// Beyond its grant nothing is signed: the provider is told, and has its window to lose.
#[test]
fn a_grant_that_is_used_up_ends_the_answer() {
    let mut scene = paid(vec![quick()]);
    scene.money = Some(Money {
        granted: 40,
        ..money()
    });
    let story = World::play(scene);
    assert!(matches!(
        story.outcome.end,
        End::Interrupted(AttemptEnd::Unpaid(_))
    ));
    assert!(story.outcome.paid <= 40);
    assert_eq!(story.held[0], story.outcome.paid);
}

/// A stranger without a bond has a credit of a window: then a part of the grant is held for the provider, on the chain.
#[test]
fn a_credit_that_is_used_up_asks_for_a_reservation() {
    let mut scene = paid(vec![quick()]);
    scene.ignore_eog = true;
    scene.money = Some(Money {
        bonded: false,
        ..money()
    });
    let story = World::play(scene);
    assert_eq!(story.outcome.end, End::Length);
    assert!(story.finished_ms > 4_000, "the chain takes its time");
    settled(&story);
}

#[test]
fn a_stop_pays_for_what_came() {
    let scene = Scene {
        cancel_at: Some(1_500),
        ..paid(vec![quick()])
    };
    let story = World::play(scene);
    assert_eq!(story.outcome.end, End::Stopped);
    assert_eq!(story.receipts[0].receipt.finish, Finish::Abort);
    settled(&story);
}

#[test]
fn a_liar_is_left_and_what_he_claims_is_not_paid() {
    use crate::fault::Lie;
    for lie in [
        Lie::Overcounts,
        Lie::AsksMoney,
        Lie::Stuffs,
        Lie::SkipsIndex(2),
    ] {
        let scene = paid(vec![with(Fault::Lies(lie.clone())), quick()]);
        let story = World::play(scene);
        let found = |end: &AttemptEnd| matches!(end, AttemptEnd::Lie(_));
        assert!(
            story
                .ends
                .iter()
                .any(|(_, at, end)| *at == peer(0) && found(end)),
            "{lie:?}: {:?}",
            story.ends
        );
    }
}

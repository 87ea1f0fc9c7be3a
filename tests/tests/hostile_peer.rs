//! Peers that lie, flood or fall silent: whoever talks with them lives, shows nothing of theirs, and answers the honest one
//! beside them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use decentralgpt_tests::{
    Folder, QUESTION, SYSTEM, Said, Serving,
    attacks::{ATTACKS, Attacker},
    run, starter,
    wire::{Liar, Lie, Text},
};

const LIES: &[Lie] = &[
    Lie::Garbage,
    Lie::Oversized,
    Lie::OutOfVocabulary,
    Lie::OutOfOrder,
    Lie::Silence,
    Lie::SilenceAfterAccept,
    Lie::SilenceInLine,
    Lie::SilenceWhileReading,
    Lie::HalfCloses,
    Lie::AnotherModel,
    Lie::Closes,
];

/// Streams that a flooding peer opens at once: several times what one peer may have.
const FLOOD: usize = 200;

#[test]
fn a_lying_provider_is_left_for_an_honest_one() {
    let Some(starter) = starter() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let honest = Serving::start(&starter);
    let mut lied_to = 0;
    for lie in LIES {
        let liar = runtime.block_on(liar(*lie, &starter));
        let asker = Folder::new();
        let said = ask(
            &asker,
            &["--peer", &liar.address, "--peer", &honest.address],
        );
        assert_eq!(said.code(), Some(0), "{lie:?}: {}", said.err);
        assert!(
            said.out.contains("Paris"),
            "{lie:?}: {}\n{}",
            said.out,
            said.err
        );
        lied_to += liar.jobs();
        runtime.block_on(liar.end());
    }
    println!(
        "the liars were asked {lied_to} times in {} runs",
        LIES.len()
    );
}

#[test]
fn a_lying_provider_alone_is_an_error_and_never_an_answer() {
    let Some(starter) = starter() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for lie in LIES {
        let liar = runtime.block_on(liar(*lie, &starter));
        let asker = Folder::new();
        let said = ask(&asker, &["--peer", &liar.address]);
        said.is_a_failure_that_says(&[]);
        assert_eq!(said.out.trim(), "", "{lie:?} was shown");
        assert!(liar.jobs() > 0, "{lie:?} was never asked");
        runtime.block_on(liar.end());
    }
}

#[test]
fn a_hostile_asker_does_not_keep_the_honest_one_from_its_answer() {
    let Some(starter) = starter() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let serving = Serving::start(&starter);
    let (text, reference) = runtime.block_on(async {
        let text = Text::new(&starter);
        let reference = text.reference().await;
        (text, reference)
    });

    runtime.block_on(async {
        let prompt = text.prompt(SYSTEM, QUESTION).await;
        for (name, attack) in ATTACKS {
            // Each with an identity of its own: what one is banned for must not spare us the next one.
            let attacker = Attacker::connect(&serving.address, reference.digest, &prompt);
            let attacker = attacker
                .await
                .unwrap_or_else(|| panic!("{name}: not let in"));
            attack(&attacker).await;
            attacker.end().await;
        }
    });

    // The flood goes on while the honest one asks.
    let (flooding, flood) = runtime.block_on(async {
        let attacker = Attacker::connect(&serving.address, reference.digest, &[]).await;
        let attacker = attacker.unwrap();
        let held = attacker.hold(FLOOD).await;
        (attacker, held)
    });
    let asker = Folder::new();
    let said = ask(&asker, &["--peer", &serving.address]);
    assert_eq!(said.code(), Some(0), "{}", said.err);
    assert!(said.out.contains("Paris"), "{}\n{}", said.out, said.err);

    println!(
        "{} of {FLOOD} streams of the flood were let in",
        flood.len()
    );
    drop(flood);
    runtime.block_on(async {
        flooding.end().await;
        text.end().await;
    });
    let status = run(serving.folder().decentralgpt().args(["status", "--json"]));
    assert_eq!(status.code(), Some(0), "the node died: {}", status.err);

    // What was turned away is counted, each by its kind, and said.
    let doctor = run(serving.folder().decentralgpt().args(["doctor", "--json"]));
    let checks: serde_json::Value = serde_json::from_str(&doctor.out).unwrap();
    let check = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "Turned away")
        .unwrap();
    let detail = check["detail"].as_str().unwrap();
    println!("{detail}");
    for what in [
        "broke the protocol",
        "over their rate",
        "another provider",
        "not served here",
        "outside the vocabulary",
        "seen before",
        "over already",
        "too far ahead",
        "longer than the context",
    ] {
        assert!(detail.contains(what), "{what:?} is not in: {detail}");
    }
}

async fn liar(lie: Lie, starter: &std::path::Path) -> Liar {
    let text = Text::new(starter);
    let reference = text.reference().await;
    text.end().await;
    Liar::start(lie, reference, starter).await
}

fn ask(asker: &Folder, peers: &[&str]) -> Said {
    run(asker.decentralgpt().arg("chat").args(peers).args([
        "--system",
        SYSTEM,
        "--temperature",
        "0",
        QUESTION,
    ]))
}

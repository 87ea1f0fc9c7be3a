//! Peers that lie, flood or fall silent: whoever talks with them lives, shows nothing of theirs, and answers the honest one
//! beside them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use decentralgpt_tests::{
    Folder, QUESTION, SYSTEM, Said, Serving,
    attacks::ATTACKS,
    run, starter,
    wire::{self, Liar, Lie, Text},
};

const LIES: &[Lie] = &[
    Lie::Garbage,
    Lie::Oversized,
    Lie::OutOfVocabulary,
    Lie::OutOfOrder,
    Lie::Silence,
    Lie::SilenceAfterAccept,
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
        for attack in ATTACKS {
            // Each with an identity of its own: what one is banned for must not spare us the next one.
            let network = wire::dialler().await;
            let peer = network.connect(&serving.address).await.unwrap();
            attack(&network, peer, reference.digest, &prompt).await;
            network.shutdown().await;
        }
    });

    // The flood goes on while the honest one asks.
    let flood = runtime.block_on(async {
        let network = wire::dialler().await;
        let peer = network.connect(&serving.address).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..FLOOD {
            match network.open_job(&peer).await {
                Ok(stream) => held.push(stream),
                Err(_) => break,
            }
        }
        (network, held)
    });
    let asker = Folder::new();
    let said = ask(&asker, &["--peer", &serving.address]);
    assert_eq!(said.code(), Some(0), "{}", said.err);
    assert!(said.out.contains("Paris"), "{}\n{}", said.out, said.err);

    let (network, held) = flood;
    println!("{} of {FLOOD} streams of the flood were let in", held.len());
    drop(held);
    runtime.block_on(async {
        network.shutdown().await;
        text.end().await;
    });
    let status = run(serving.folder().decentralgpt().args(["status", "--json"]));
    assert_eq!(status.code(), Some(0), "the node died: {}", status.err);
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

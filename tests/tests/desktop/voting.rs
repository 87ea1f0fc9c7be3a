//! A vote in the real window: power is taken, a proposal of somebody else is read from its calls, and the vote that was shown
//! is the one that the chain counts.

use chain::{Call, Change, Spender};
use decentralgpt_tests::{
    QUESTION,
    world::{UNIT, World},
};
use serde_json::json;

use crate::{
    Bench,
    money::{account, held, newest, units},
    page::App,
    signature::{Signing, nobody_knows, nothing_is_written, pages},
};

/// Typed in this window and found nowhere else.
const PASSWORD: &str = "amber-quarry-63-whistle";
/// Whole tokens that are turned into votes.
const WRAPPED: u128 = 40;
/// Voting begins soon enough after a proposal to be waited for, and late enough to be seen before; it stays open for longer than
/// a test takes.
const VOTING_DELAY_S: u32 = 20;
const VOTING_PERIOD_S: u32 = 3600;
/// Of the proposal.
const TITLE: &str = "Lower the share of the audits";

#[test]
fn a_vote_is_read_from_its_calls_and_counted_as_it_was_shown() {
    let devnet = World::start_with(|options| {
        options.deploy.voting.delay_s = VOTING_DELAY_S;
        options.deploy.voting.period_s = VOTING_PERIOD_S;
    });
    let Some(devnet) = devnet else { return };
    let Some(bench) = Bench::new() else { return };
    devnet.wallet_on(&bench.folder, PASSWORD);
    let driver = bench.driver();
    let app = bench.open(&driver);
    app.wait_until_focused("Ask anything");
    // The engine's worker runs from here on.
    app.ask(QUESTION);
    app.wait_for_answer();
    let main_pages = pages(&app);
    let secrets = [PASSWORD.to_owned()];

    let wallet = account(&app, "wallet");
    devnet.set_coin(wallet, UNIT);
    devnet.send(&Call::Faucet { to: wallet });
    app.go("Vote");
    app.wait_for_text("No proposals");
    bench.pictures(&app, "vote-none");
    take_power(&devnet, &bench, &app);
    propose(&devnet);

    app.wait_for_text(TITLE);
    app.wait_for_text("Upcoming");
    bench.pictures_down(&app, "vote-upcoming");
    app.wait("an open vote", || app.find_button("For"));
    let said = app.text();
    for words in ["Share of jobs that are checked again", "1.00 %", "0.50 %"] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    bench.pictures(&app, "vote-open");

    // The password is asked for, as on most days.
    app.invoke("wallet_lock", json!({})).unwrap();
    let signing = Signing::by(&app, "For");
    let shown = signing.shown();
    signing.type_password(PASSWORD);
    bench.pictures(&app, "signing-vote");
    assert_eq!(shown.title, "Vote");
    assert_eq!(shown.figure("Leaves"), ["Nothing but the fee"], "{shown:?}");
    let governor = devnet.network().governor;
    assert_eq!(shown.figure("To")[0], governor.to_checksum(None));
    assert_eq!(shown.call["Vote"], "for");
    assert_eq!(shown.call["Title"], TITLE);
    let change = &shown.call["Change"];
    for words in ["0.50 %", "now 1.00 %"] {
        assert!(change.contains(words), "what would change: {change}");
    }
    assert!(shown.passes, "{shown:?}");
    signing.sign();
    app.wait("a final vote", || {
        newest(&app, "final").filter(|sent| sent["title"] == "Vote")
    });

    // This test reads the chain for itself, perhaps a moment later.
    let (proposal, standing) = app.wait("a vote that the chain counts", || {
        let (proposal, standing) = devnet.ask(|chain| {
            let chain = chain.clone();
            async move {
                let proposal = chain.proposals().await?.remove(0);
                let standing = chain.standing(&proposal, wallet).await?;
                Ok::<_, chain::ChainError>((proposal, standing))
            }
        });
        standing.1.then_some((proposal, standing))
    });
    assert_eq!(shown.call["Proposal"], proposal.id.to_string());
    assert_eq!(proposal.votes_for, WRAPPED * UNIT);
    assert_eq!(standing, (WRAPPED * UNIT, true));
    app.wait_for_text("You have voted.");
    bench.pictures_down(&app, "vote-voted");

    nobody_knows(&app, &main_pages, &secrets);
    nothing_is_written(&bench, &secrets);
    assert_eq!(app.complaints(), [""; 0], "the page broke its own rules");
    app.quit();
}

/// Wraps tokens and delegates to oneself, each signed in the window. The first two signatures are an allowance and its use.
fn take_power(devnet: &World, bench: &Bench, app: &App<'_>) {
    app.go("Wallet");
    let signing = Signing::by(app, "Unlock");
    signing.type_password(PASSWORD);
    signing.end_with("Unlock");
    let symbol = &devnet.network().token.symbol;
    let wallet = account(app, "wallet");
    app.wait("tokens in the wallet", || {
        held(app, "wallet", "token").filter(|held| *held > 0)
    });
    app.go("Vote");
    for (title, leaves) in [
        (format!("Allow the votes to take {symbol}"), false),
        (format!("Turn {symbol} into votes"), true),
    ] {
        app.click_button("Wrap");
        app.fill(&format!("Amount in {symbol}"), &WRAPPED.to_string());
        let signing = Signing::by(app, "Continue in the signing window");
        let shown = signing.shown();
        assert_eq!(shown.title, title);
        match leaves {
            true => assert_eq!(units(&shown.figure("Leaves")[0], symbol), WRAPPED * UNIT),
            false => assert_eq!(units(&shown.call["Allowance"], symbol), WRAPPED * UNIT),
        }
        bench.pictures(
            app,
            if leaves {
                "signing-wrap"
            } else {
                "signing-allow"
            },
        );
        signing.sign();
        app.wait(&title, || {
            newest(app, "final").filter(|sent| sent["title"] == title)
        });
    }
    app.click_button("Delegate");
    app.fill("Address", &wallet.to_checksum(None));
    bench.pictures(app, "delegate");
    let signing = Signing::by(app, "Continue in the signing window");
    let shown = signing.shown();
    assert_eq!(shown.call["To"], wallet.to_checksum(None));
    signing.sign();
    let sure = format!("{WRAPPED} {symbol} (worth nothing) wrapped, voting through you.");
    app.wait_for_text(&sure);
}

/// Somebody else with enough of a weight proposes.
fn propose(devnet: &World) {
    let maker = devnet.maker();
    let amount = 20 * UNIT;
    devnet.send(&Call::Faucet { to: maker });
    devnet.send(&Call::Approve {
        spender: Spender::Votes,
        amount,
    });
    devnet.send(&Call::Wrap { amount });
    devnet.send(&Call::Delegate { to: maker });
    devnet.send(&Call::Propose {
        changes: vec![Change::AuditRate(50)],
        description: format!("# {TITLE}\n\nHalf of it is enough by what was found so far."),
    });
}

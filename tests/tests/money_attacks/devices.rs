//! Two devices of one payer. Each has a key of its own, and so a grant of its own; a device that was copied whole has the key of the
//! other, and both promise out of one grant without knowing of one another.

use std::{fs, process::Command};

use decentralgpt_tests::{
    Folder, LONG_QUESTION, Running, Said, Serving,
    money::{PURSE, World, amount, earned_in_full, wait},
    starter, wire,
};
use protocol::voucher::payee::{STREAM_WINDOW, UNBONDED_CREDIT_TOKENS};

use crate::{
    WINDOW,
    payer::{self, Came, Payer},
};

/// Base units per million tokens. A first credit is worth more than the bond of [`SMALL`], so these payers get that of 64 tokens.
const PRICE: u128 = 10_000_000_000_000_000_000;
/// A deposit that lasts for some answers, in tokens.
const SMALL: &str = "0.02";
/// What a few answers use up.
const FEW: &str = "0.006";
/// Tokens of an answer.
const WHOLE: u32 = 200;
/// How often both ask at once. Twice their grant is used up before.
const ROUNDS: usize = 12;

/// What the value of so many tokens is.
fn worth(tokens: u32) -> u128 {
    u128::from(tokens) * PRICE / 1_000_000
}

#[test]
fn two_devices_of_one_payer_ask_two_providers_at_once_and_nobody_loses_a_unit() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let providers = [world.provider(&model, PRICE), world.provider(&model, PRICE)];
    let first = world.asker("5");
    let second = world.second_device(&first);
    second.json(&["wallet", "deposit", "5", "--yes"]);
    let payer = first.account("spend");
    let devices = [&first, &second];
    let signers = devices.map(|device| device.account("session"));
    assert_ne!(signers[0], signers[1]);

    // Each provider is asked by both at the same time.
    for provider in &providers {
        let asking = devices.map(|device| device.asking(&[provider], WHOLE, LONG_QUESTION));
        for said in asking.map(Running::wait) {
            assert_eq!(said.code(), Some(0), "{}\n{}", said.out, said.err);
        }
    }
    let promised: u128 = devices
        .map(|device| {
            let promised = amount(&device.json(&["wallet", "balance"])["vault"]["promised"]);
            assert!(promised > 0);
            promised
        })
        .iter()
        .sum();
    let mut paid_out = 0;
    for provider in providers {
        let loss = Loss::of(&world, provider);
        println!("{loss:?}");
        assert_eq!((loss.unpaid(), loss.given_beyond), (0, 0), "{loss:?}");
        paid_out += loss.claimed;
    }
    assert_eq!(paid_out, promised);
    let spend = world.account(payer);
    let granted: u128 = signers
        .map(|signer| {
            let view = world.ask_now(|chain| chain.signer(payer, signer)).unwrap();
            view.granted - view.spent + view.bond + view.gas_pot
        })
        .iter()
        .sum();
    assert_eq!(
        spend.token + spend.vault_balance + granted + promised,
        PURSE
    );
}

#[test]
fn a_device_that_uses_up_its_grant_costs_a_window_at_most_and_every_promise_is_paid() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let providers = [world.provider(&model, PRICE), world.provider(&model, PRICE)];
    let poor = world.asker(FEW);
    let rich = world.second_device(&poor);
    rich.json(&["wallet", "deposit", "5", "--yes"]);
    let payer = poor.account("spend");
    let devices = [&poor, &rich];
    let signers = devices.map(|device| device.account("session"));

    // Crosswise, so that both owe both providers.
    let mut rounds = 0;
    loop {
        let asking = [(&poor, rounds), (&rich, rounds + 1)].map(|(device, at)| {
            let provider = &providers[at % providers.len()];
            device.asking(&[provider], WHOLE, LONG_QUESTION)
        });
        let [of_poor, of_rich] = asking.map(Running::wait);
        assert!(
            !failed(&of_rich),
            "its own grant is not touched: {of_rich:?}"
        );
        rounds += 1;
        if failed(&of_poor) {
            println!("{}", of_poor.out.lines().last().unwrap_or_default());
            break;
        }
        assert!(rounds < ROUNDS, "a grant of {FEW} was never used up");
    }
    assert!(rounds > 1, "it never paid for anything");
    let promised = devices.map(|device| {
        let vault = device.json(&["wallet", "balance"])["vault"].clone();
        let (promised, granted) = (amount(&vault["promised"]), amount(&vault["granted"]));
        println!("{promised} of {granted} is promised");
        assert!(promised > 0 && promised <= granted, "{vault}");
        promised
    });
    // What is too small to collect is collected once its key has ended.
    for device in devices {
        device.json(&["wallet", "end-key", "--yes"]);
    }
    let mut paid_out = 0;
    for provider in providers {
        paid_out += earned_in_full(provider.folder());
        let loss = Loss::of(&world, provider);
        println!("{loss:?}");
        // The answer in whose middle nothing more could be promised.
        assert!(loss.given_beyond <= u64::from(STREAM_WINDOW), "{loss:?}");
        // With its part of the pot for late claims it may have more.
        assert!(loss.claimed >= loss.held, "{loss:?}");
    }
    let drawn = signers.map(|signer| {
        let view = world.ask_now(|chain| chain.signer(payer, signer)).unwrap();
        view.spent
    });
    assert_eq!(drawn.iter().sum::<u128>(), paid_out);
    // A part that was reserved and not used up is the payer's again.
    assert!(drawn[0] <= promised[0] && drawn[1] <= promised[1]);
}

#[test]
fn two_copies_of_one_device_cost_each_provider_a_window_and_a_credit_at_most() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let providers = [world.provider(&model, PRICE), world.provider(&model, PRICE)];
    let first = world.asker(SMALL);
    let (payer, signer) = (first.account("spend"), first.account("session"));
    let second = copied(&first);
    assert_eq!(second.account("session"), signer);

    // Each at its own provider, so that neither is told what the other one signed; then crosswise, when they are.
    let asks = |round: usize| {
        let turn = usize::from(round > ROUNDS / 2);
        let asking = [(&first, 0), (&second, 1)].map(|(device, at)| {
            let provider = &providers[(at + turn) % providers.len()];
            device.asking(&[provider], WHOLE, LONG_QUESTION)
        });
        asking.map(Running::wait)
    };
    let mut stopped = 0;
    for round in 0..ROUNDS {
        let said = asks(round);
        stopped += said.iter().filter(|said| failed(said)).count();
        if said.iter().all(failed) && round > ROUNDS / 2 {
            break;
        }
    }
    assert!(stopped > 0, "twice the grant was served");

    let view = world.ask_now(|chain| chain.signer(payer, signer)).unwrap();
    let mut claimed = 0;
    for provider in providers {
        let loss = Loss::of(&world, provider);
        println!("{loss:?} of a grant of {}", view.granted);
        assert!(loss.claimed > 0, "{loss:?}");
        let credit = worth(u32::try_from(UNBONDED_CREDIT_TOKENS).unwrap());
        assert!(loss.unpaid() <= credit, "{loss:?}");
        assert!(loss.given_beyond <= u64::from(STREAM_WINDOW), "{loss:?}");
        claimed += loss.claimed;
    }
    assert!(claimed <= view.granted, "{claimed} of {}", view.granted);
}

#[test]
fn two_keys_of_one_payer_that_fall_silent_at_once_cost_one_window() {
    let Some(model) = starter() else { return };
    let Some(world) = World::start() else { return };
    let provider = world.provider(&model, PRICE);
    let first = world.asker("5");
    let second = world.second_device(&first);
    second.json(&["wallet", "deposit", "5", "--yes"]);
    wire::block_on(async {
        let prompt = payer::prompt(&model).await;
        let mut asked = Vec::new();
        for device in [&first, &second] {
            let payer = Payer::new(device, &provider, prompt.clone()).await;
            let mut job = payer.open(WHOLE).await;
            job.pay(&payer.sign(0, &job.id));
            job.accepted().await;
            asked.push((payer, job));
        }
        // Both have paid for their prompts, and for nothing more.
        for (payer, job) in &asked {
            job.pay(&payer.sign(payer.due(0), &job.id));
        }
        let mut given = 0;
        for (_, job) in &mut asked {
            assert_eq!(job.until_quiet().await, Came::Nothing);
            given += job.tokens;
        }
        println!("{given} tokens were given to both");
        assert!(given > 0 && given <= WINDOW, "{given}");
        for (payer, _) in asked {
            payer.leave().await;
        }
    });
}

/// What a provider has of a payer, and what it gave.
#[derive(Debug)]
struct Loss {
    /// Vouchered.
    held: u128,
    /// Paid by the vault.
    claimed: u128,
    /// Tokens of all answers that no voucher covers.
    given_beyond: u64,
}

impl Loss {
    /// Once the provider has claimed what it can.
    fn of(world: &World, provider: Serving) -> Self {
        let folder = provider.folder();
        let wallet = folder.account("wallet");
        let mut before = None;
        wait("nothing more is claimed", || {
            let (now, earned) = (world.account(wallet).token, balance(folder));
            let over = before == Some(now) && amount(&earned["available"]) == 0;
            before = Some(now);
            over
        });
        let rows = folder.json(&["earnings", "--by", "job"]);
        let rows = rows.as_array().unwrap();
        let held = rows.iter().map(|row| amount(&row["earned"])).sum();
        let vouchered = rows.iter().map(|row| row["tokensOut"].as_u64().unwrap());
        let vouchered: u64 = vouchered.sum();
        let given = world.audited(&provider.killed()).tokens_given();
        Self {
            held,
            claimed: before.unwrap_or_default(),
            given_beyond: given.saturating_sub(vouchered),
        }
    }

    fn unpaid(&self) -> u128 {
        self.held.saturating_sub(self.claimed)
    }
}

fn balance(folder: &Folder) -> serde_json::Value {
    folder.json(&["wallet", "balance"])["earned"].clone()
}

fn failed(said: &Said) -> bool {
    !said.status.success() || said.out.contains("\"error\":{")
}

/// All that lies in a device's folder, on another computer: its wallet, its keys, its books, its settings.
fn copied(of: &Folder) -> Folder {
    let copy = Folder::new();
    let mut command = Command::new("cp");
    command.arg("-a").arg(of.path().join(".")).arg(copy.path());
    assert!(command.status().unwrap().success());
    let _ = fs::remove_file(copy.path().join("control.sock"));
    copy
}

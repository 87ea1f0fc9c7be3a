//! kill -9 at random moments of paying and being paid, on both sides, from the deposit to the withdrawal of everything: after each of
//! them the books are whole, and in the end not a unit is lost or doubled.
//!
//! `cargo xtask soak --money` asks for more kills than CI takes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chain::{Address, LineView, SignerView};
use decentralgpt_tests::{
    Folder, LONG_QUESTION, Running, Serving,
    money::{PURSE, UNIT, World, amount, serve, tokens, wait},
    run, starter,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Base units per million tokens written. Answers are cheap, so that one deposit lasts for all of them.
const PRICE: u128 = 10 * UNIT;
/// Kills, unless the environment asks for more of them; whole journeys, so it may be some more.
const KILLS: u64 = 8;
const KILLS_SET: &str = "DECENTRALGPT_MONEY_KILLS";
/// The same moments everywhere, unless the environment says otherwise.
const SEED: u64 = 20_261_126;
const SEED_SET: &str = "DECENTRALGPT_MONEY_SEED";
/// Tokens of an answer.
const WHOLE: u32 = 120;
/// What a later deposit adds, in tokens.
const MORE: &str = "0.05";
/// A provider looks for something to claim when it starts, and claims are mined in seconds: a kill in this time lands before, in
/// and after it.
const CLAIM: Duration = Duration::from_secs(5);
/// How long what an ended key left stays for its payees: the vault's own constant.
const THAW_S: u64 = 14 * 24 * 60 * 60;

#[test]
fn no_kill_at_any_moment_loses_or_doubles_a_unit() {
    let Some(model) = starter() else { return };
    let number = |name, or| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    let (kills, seed) = (number(KILLS_SET, KILLS), number(SEED_SET, SEED));
    let journeys = kills.div_ceil(Step::JOURNEY.len() as u64);
    println!("{journeys} journeys, seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for journey in 1..=journeys {
        // What has ended thaws for weeks of the chain's time: each journey has a chain of its own.
        let Some(world) = World::start() else { return };
        let mut table = Table::new(&world, &model);
        for step in Step::JOURNEY {
            let moment = chance.random_range(0.0..1.1);
            let of = chance.random_range(0..2);
            println!(
                "journey {journey}: {} is killed at {:.0} % of its usual time",
                step.name(),
                moment * 100.0
            );
            table.kill(step, of, moment);
            *counts.entry(step.name()).or_default() += 1;
        }
        table.all_is_out();
    }
    println!("{counts:?}");
}

/// What is killed, and in the middle of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The asker, while it asks.
    Asking,
    /// A provider, while it is asked.
    Answering,
    /// The asker, while it puts more in.
    Depositing,
    /// A provider, while it collects.
    Claiming,
    /// The asker, while it ends its key.
    Ending,
    /// A provider, while it collects from a key that has ended.
    Closing,
    /// The asker, while it takes out what the key left; later, while it takes out the bond.
    Withdrawing,
}

impl Step {
    /// Asking and answering twice: they have the most writes.
    const JOURNEY: [Self; 10] = [
        Self::Answering,
        Self::Asking,
        Self::Claiming,
        Self::Answering,
        Self::Depositing,
        Self::Asking,
        Self::Ending,
        Self::Closing,
        Self::Withdrawing,
        Self::Withdrawing,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Answering => "answering",
            Self::Depositing => "depositing",
            Self::Claiming => "claiming",
            Self::Ending => "ending a key",
            Self::Closing => "closing an ended key's lines",
            Self::Withdrawing => "withdrawing",
        }
    }
}

/// One that asks, two that answer, and what was seen of them.
struct Table<'a> {
    world: &'a World,
    model: PathBuf,
    asker: Folder,
    providers: Vec<Serving>,
    keys: Keys,
    /// How long things take when nobody is killed.
    answer: Duration,
    deposit: Duration,
    /// What a line stood at, at the asker and at the provider. Neither ever falls.
    promised: BTreeMap<Address, u128>,
    held: BTreeMap<Address, u128>,
}

/// Addresses: they are asked of programs, which are not always there.
struct Keys {
    payer: Address,
    signer: Address,
    payees: [Address; 2],
    wallets: [Address; 2],
}

impl<'a> Table<'a> {
    fn new(world: &'a World, model: &Path) -> Self {
        let providers = vec![world.provider(model, PRICE), world.provider(model, PRICE)];
        let asker = world.asker("20");
        let of = |role| [0, 1].map(|at: usize| providers[at].folder().account(role));
        let keys = Keys {
            payer: asker.account("spend"),
            signer: asker.account("session"),
            payees: of("operator"),
            wallets: of("wallet"),
        };
        let mut table = Self {
            world,
            model: model.to_owned(),
            asker,
            providers,
            keys,
            answer: Duration::ZERO,
            deposit: Duration::ZERO,
            promised: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        let began = Instant::now();
        table.undisturbed(0);
        table.answer = began.elapsed();
        let began = Instant::now();
        table.asker.json(&["wallet", "deposit", MORE, "--yes"]);
        table.deposit = began.elapsed();
        table
    }

    /// Kills it at this part of its usual time, and looks at the books that are left.
    fn kill(&mut self, step: Step, of: usize, moment: f64) {
        match step {
            Step::Asking => {
                let chat = self.ask();
                std::thread::sleep(self.answer.mul_f64(moment));
                drop(chat);
                self.look_at_asker();
            }
            Step::Depositing => self.kill_signing(&["wallet", "deposit", MORE, "--yes"], moment),
            Step::Ending => {
                self.compare();
                // Something is owed when it ends.
                self.undisturbed(of);
                self.kill_signing(&["wallet", "end-key", "--yes"], moment);
                self.end();
            }
            Step::Withdrawing => {
                // Who has not claimed by then has lost it: two weeks are what a payee has.
                self.closed();
                self.world.pass(THAW_S);
                let due = tokens(self.withdrawable());
                self.kill_signing(&["wallet", "withdraw", &due, "--yes"], moment);
                self.withdraw();
            }
            Step::Answering => {
                let chat = self.ask();
                std::thread::sleep(self.answer.mul_f64(moment));
                self.kill_provider(of);
                // It ends with the other one, or says that it could not: both are fine here.
                let _ = chat.wait();
                self.look_at_asker();
            }
            Step::Claiming | Step::Closing => {
                // Started anew, it finds what is due at once.
                std::thread::sleep(CLAIM.mul_f64(moment));
                self.kill_provider(of);
            }
        }
    }

    /// Kills the asker while it signs and sends something.
    fn kill_signing(&mut self, arguments: &[&str], moment: f64) {
        let signing = Running::start(&mut self.asker.command(arguments));
        std::thread::sleep(self.deposit.mul_f64(moment));
        drop(signing);
        self.look_at_asker();
        self.nothing_waits();
    }

    /// The key ends, if what was killed has not ended it.
    fn end(&mut self) {
        if !self.signer().ended {
            self.asker.json(&["wallet", "end-key", "--yes"]);
        }
        assert!(self.signer().ended);
    }

    /// What can be taken out now, by the asker's own account of it.
    fn withdrawable(&self) -> u128 {
        let vault = self.asker.json(&["wallet", "balance"])["vault"].clone();
        let ended = &vault["ended"]["due"];
        let due = if ended.is_null() { 0 } else { amount(ended) };
        amount(&vault["free"]) + due
    }

    /// Takes out what is there. What was killed may have done all of it, a half (what thaws is free first), or nothing.
    fn withdraw(&mut self) {
        let left = self.withdrawable();
        if left > 0 {
            self.asker
                .json(&["wallet", "withdraw", &tokens(left), "--yes"]);
        }
        assert_eq!(self.withdrawable(), 0);
        let again =
            run(&mut self
                .asker
                .command(&["wallet", "withdraw", "0.000000000000000001", "--yes"]));
        again.is_a_failure_that_says(&["refuse"]);
    }

    fn signer(&self) -> SignerView {
        let Keys { payer, signer, .. } = self.keys;
        self.world
            .ask_now(|chain| chain.signer(payer, signer))
            .unwrap()
    }

    /// Both are asked, and the better one answers.
    fn ask(&self) -> Running {
        let peers: Vec<&Serving> = self.providers.iter().collect();
        self.asker.asking(&peers, WHOLE, LONG_QUESTION)
    }

    fn kill_provider(&mut self, at: usize) {
        let folder = self.providers.remove(at).killed();
        let payee = self.keys.payees[at];
        let books = self.world.audited(&folder);
        let held = books.held(payee, self.keys.payer);
        assert!(books.claimed(payee, self.keys.payer) <= held);
        drop(books);
        rises(&mut self.held, payee, held);
        self.providers.insert(at, serve(folder, &self.model));
    }

    /// The asker's books, which no program holds now: they know of everything that any provider was seen to hold.
    fn look_at_asker(&mut self) {
        let books = self.world.audited(&self.asker);
        let rows = books.of_payer(self.keys.payer, self.keys.signer);
        let sum: u128 = rows.lines.iter().map(|line| line.cumulative).sum();
        assert!(sum <= rows.granted, "{sum} of {}", rows.granted);
        for line in &rows.lines {
            let payee = Address::from(line.payee);
            let held = self.held.get(&payee).copied().unwrap_or_default();
            assert!(line.cumulative >= held, "{held} is held of {line:?}");
            rises(&mut self.promised, payee, line.cumulative);
        }
    }

    /// An answer to its end.
    fn undisturbed(&self, at: usize) {
        let chat = self
            .asker
            .asking(&[&self.providers[at]], WHOLE, LONG_QUESTION);
        let said = chat.wait();
        assert_eq!(said.code(), Some(0), "{}\n{}", said.out, said.err);
    }

    /// Lets everything come to rest, and compares: what was promised, is held, was claimed and lies on wallets is one sum.
    fn compare(&mut self) {
        // What was promised and did not arrive is in the next voucher of its line.
        for at in 0..self.providers.len() {
            self.undisturbed(at);
        }
        self.nothing_waits();
        let claimed = self.all_is_paid_out(|_| 0);
        let signer = self.signer();
        assert_eq!((signer.spent, signer.locked), (claimed, 0));
        let spend = self.world.account(self.keys.payer);
        assert_eq!(spend.vault_balance, 0);
        let in_vault = signer.granted - signer.spent + signer.bond + signer.gas_pot;
        assert_eq!(spend.token + in_vault + claimed, PURSE);
        assert_eq!(self.world.in_the_vault(), in_vault);
    }

    /// The end of the journey: what was promised was paid, and everything else is the asker's again.
    fn all_is_out(&mut self) {
        let paid = self.closed();
        let spend = self.world.account(self.keys.payer);
        assert_eq!((spend.vault_balance, self.world.in_the_vault()), (0, 0));
        let wallets = self.keys.wallets.iter();
        let earned: u128 = wallets
            .map(|wallet| self.world.account(*wallet).token)
            .sum();
        assert_eq!(spend.token + earned, PURSE);
        assert!(paid > 0);
        self.look_at_asker();
        for at in 0..self.providers.len() {
            self.kill_provider(at);
        }
    }

    /// Waits until each provider is paid what the ended key promised to it; some of it came with gas from the key's pot.
    fn closed(&mut self) -> u128 {
        let gas = self.world.ask_now(chain::Chain::vault_terms).gas_share;
        self.all_is_paid_out(|line| if line.gas_paid { gas } else { 0 })
    }

    /// Waits until each provider is paid what was promised to it, to the unit; and says how much that is. Beside it stands in its
    /// wallet what the key's pot gave it for the gas.
    fn all_is_paid_out(&mut self, gas: impl Fn(&LineView) -> u128) -> u128 {
        let books = self.world.audited(&self.asker);
        let rows = books.of_payer(self.keys.payer, self.keys.signer);
        drop(books);
        let Keys { payer, signer, .. } = self.keys;
        let mut claimed = 0;
        for at in 0..self.providers.len() {
            let payee = self.keys.payees[at];
            let lines = rows.lines.iter();
            let promised: u128 = lines
                .filter(|line| Address::from(line.payee) == payee)
                .map(|line| line.cumulative)
                .sum();
            let folder = self.providers[at].folder();
            wait("all that was promised is paid out", || {
                let earned = folder.json(&["wallet", "balance"])["earned"].clone();
                amount(&earned["paidOut"]) == promised
            });
            let line = self.world.ask_now(|chain| chain.line(payer, signer, payee));
            assert_eq!(line.claimed, promised);
            let wallet = self.world.account(self.keys.wallets[at]).token;
            assert_eq!(wallet, promised + gas(&line), "{line:?}");
            let problems = folder.json(&["wallet", "balance"])["problems"].clone();
            let mut problems = problems.as_array().unwrap().iter();
            assert!(problems.all(|problem| problem["code"] != "books_disagree"));
            claimed += promised;
        }
        claimed
    }

    fn nothing_waits(&self) {
        wait("no transaction of the asker waits", || {
            let all = self.asker.json(&["wallet", "history"]);
            let over = ["final", "failed", "lost", "replaced"];
            let mut all = all.as_array().unwrap().iter();
            all.all(|tx| over.contains(&tx["state"].as_str().unwrap()))
        });
    }
}

/// Remembers what a line stands at: never lower than before.
fn rises(seen: &mut BTreeMap<Address, u128>, payee: Address, now: u128) {
    let before = seen.insert(payee, now).unwrap_or_default();
    assert!(now >= before, "{now} after {before}");
}

//! A whole network on this machine, with money that is worth nothing: a chain with every contract, three computers that answer at
//! their own prices, and one that asks and pays by the token. Then it is yours, in the window or in this terminal.

mod devnet;
mod person;
mod sums;

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use self::{
    devnet::Devnet,
    person::{Answered, PASSWORD, Person, amount},
    sums::Unit,
};
use crate::{
    headless::Serving,
    house::House,
    run,
    sh::{Failure, Kept, stage},
};

/// Who answers, and at which price per million tokens written. Dear enough that a short answer is worth collecting.
const ANSWERING: [(&str, u128); 3] = [("bob", 400), ("cleo", 600), ("dan", 900)];
const ASKING: &str = "ann";
/// What ann puts into the vault. Its bond is worth more than a first credit at the dearest price: nobody asks for a reservation.
const DEPOSIT: &str = "100";
/// What bob turns into votes for ann: twice what a proposer needs.
const VOTES: &str = "20";
/// One token.
const ONE: u128 = 1_000_000_000_000_000_000;
/// The first goes to whoever is taken of all three, the others to one each that has earned nothing yet.
const QUESTIONS: [&str; 3] = [
    "Tell me about the ocean.",
    "Write a short story about a ship and its crew.",
    "How do I bake bread?",
];

/// How often the programs are looked at: a person notices no more.
const LOOK: Duration = Duration::from_millis(200);
/// How often it is looked what was earned.
const LOOK_AT_MONEY: Duration = Duration::from_secs(4);
/// The window answers its control socket well before this.
const WINDOW_WITHIN: Duration = Duration::from_secs(60);
/// A node opens its model in seconds.
const OFFERS_WITHIN: Duration = Duration::from_secs(90);
/// Claims are looked for every twenty seconds, and a block is made every second.
const COLLECTED_WITHIN: Duration = Duration::from_secs(150);
/// A proposal's vote begins ten seconds after it.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// Whether Ctrl-C was pressed. The programs hear it as well; this one stays to see them end and to clear the folders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let stop = Self::default();
        let flag = Arc::clone(&stop.0);
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
            .map_err(|error| Failure::new(format!("Ctrl-C cannot be caught: {error}.")))?;
        Ok(stop)
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once it was: what a step would wait for is ending.
    fn check(&self) -> Result<(), Failure> {
        if self.asked() {
            return Err(Failure::new("It was ended."));
        }
        Ok(())
    }
}

/// `once`: the story alone, for nobody who would go on.
pub(crate) fn demo(house: &House, once: bool) -> Result<(), Failure> {
    run::prepare(house)?;
    stage("the chain's program", || Devnet::build(house))?;
    let stop = Stop::listen()?;
    match story(house, &stop, once) {
        Err(_) if stop.asked() => Ok(()),
        told => told,
    }?;
    println!("── ended, and nothing of it is left");
    Ok(())
}

/// The story, where everything is built and nobody watches.
pub(crate) fn once(house: &House) -> Result<(), Failure> {
    Devnet::build(house)?;
    story(house, &Stop::default(), true)
}

fn story(house: &House, stop: &Stop, once: bool) -> Result<(), Failure> {
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("No temporary folder: {error}.")))?;
    let world = World::open(house, stop, folder.path())?;
    let paid = stage("ann asks, and pays by the token", || world.asks())?;
    stage("what was earned is collected, unasked", || {
        world.collected(&paid)
    })?;
    stage("ann proposes a fee, and the vote opens", || {
        world.proposes()
    })?;
    if once {
        return Ok(());
    }
    if run::has_display() {
        world.in_the_window()
    } else {
        world.in_the_terminal()
    }
}

/// Everybody, and the chain. Fields end in this order: who uses the chain before the chain.
struct World<'a> {
    house: &'a House,
    stop: &'a Stop,
    nodes: Vec<Node<'a>>,
    asker: Person<'a>,
    chain: Devnet,
}

/// Somebody who answers.
struct Node<'a> {
    program: Serving,
    person: Person<'a>,
}

impl Node<'_> {
    /// Its id, which answers name.
    fn peer(&self) -> &str {
        let address = self.program.address.as_str();
        address.rsplit_once("/p2p/").map_or("", |(_, peer)| peer)
    }

    /// Vouchered, and of that collected, in base units.
    fn earned(&self) -> Result<(u128, u128), Failure> {
        let earned = self.person.json(&["wallet", "balance"])?["earned"].clone();
        let parts = ["checking", "available", "tooSmall", "paidOut"];
        let sum = parts.iter().map(|part| amount(&earned[part])).sum();
        Ok((sum, amount(&earned["paidOut"])))
    }
}

impl<'a> World<'a> {
    fn open(house: &'a House, stop: &'a Stop, folder: &Path) -> Result<Self, Failure> {
        let (asker, people) = stage("wallets of four people", || {
            let asker = Person::new(house, stop, ASKING, folder)?;
            println!("   {ASKING:5} asks     {}", asker.short("spend")?);
            let mut people = Vec::new();
            for (name, _) in ANSWERING {
                let person = Person::new(house, stop, name, folder)?;
                println!("   {name:5} answers  {}", person.short("wallet")?);
                people.push(person);
            }
            Ok((asker, people))
        })?;
        let mut chain = stage("a chain of this machine's own", || {
            let chain = Devnet::start(house, folder)?;
            println!("   chain {} at {}", chain.chain_id, chain.url);
            println!("   the vault is {}; every contract is there", chain.vault);
            Ok(chain)
        })?;
        let unit = chain.unit.clone();
        let nodes = stage("three computers that answer", || {
            let mut nodes = Vec::new();
            for (person, (name, price)) in people.into_iter().zip(ANSWERING) {
                let price = price * ONE;
                // The faucet gives to the account that asks: bob's is the one that holds votes as well.
                let mode = if name == ANSWERING[0].0 {
                    "lend_and_spend"
                } else {
                    "earn"
                };
                person.settle(
                    &chain.file,
                    &format!("mode = \"{mode}\"\nprice = \"{price}\"\n"),
                )?;
                let program = Serving::start(house, &person.data, person.told()?)?;
                let mut node = Node { program, person };
                wait(stop, OFFERS_WITHIN, "offers a model", || {
                    if node.program.ended() {
                        return Err(Failure::new("Its program ended."));
                    }
                    let offered = node.person.json(&["status"])?["offered"].clone();
                    Ok(offered.as_array().is_some_and(|list| !list.is_empty()))
                })
                .map_err(|failure| node.person.failed(&failure.what))?;
                coin(&mut chain, &node.person)?;
                println!("   {name:5} {} for a million tokens", unit.text(price));
                nodes.push(node);
            }
            Ok(nodes)
        })?;
        stage("ann puts money into the vault", || {
            asker.settle(&chain.file, "")?;
            coin(&mut chain, &asker)?;
            deposit(&asker, &unit)
        })?;
        Ok(Self {
            house,
            stop,
            nodes,
            asker,
            chain,
        })
    }

    fn unit(&self) -> &Unit {
        &self.chain.unit
    }

    /// What was paid to whom, by the peer's id.
    fn asks(&self) -> Result<BTreeMap<String, u128>, Failure> {
        let addresses = self.addresses();
        let mut paid: BTreeMap<String, u128> = BTreeMap::new();
        for (number, question) in QUESTIONS.iter().enumerate() {
            let without = self.nodes.iter();
            let without = without
                .filter(|node| !paid.contains_key(node.peer()))
                .map(|node| node.program.address.as_str());
            let asked: Vec<&str> = match number {
                0 => addresses.clone(),
                _ => without.take(1).collect(),
            };
            let Answered {
                tokens,
                paid: parts,
            } = self.asker.ask(&asked, question)?;
            for (peer, part) in parts {
                println!(
                    "   {tokens} tokens, {} to {}",
                    self.unit().text(part),
                    self.name_of(&peer)
                );
                *paid.entry(peer).or_default() += part;
            }
        }
        let spent = amount(&self.asker.json(&["wallet", "balance"])?["spentToday"]);
        let sum = paid.values().sum::<u128>();
        if spent != sum || sum == 0 {
            return Err(Failure::new(format!(
                "ann's books say {}, and her answers cost {}.",
                self.unit().text(spent),
                self.unit().text(sum)
            )));
        }
        println!(
            "   in all {}, in vouchers: nothing of it is on the chain yet",
            self.unit().text(sum)
        );
        Ok(paid)
    }

    fn addresses(&self) -> Vec<&str> {
        let nodes = self.nodes.iter();
        nodes.map(|node| node.program.address.as_str()).collect()
    }

    fn name_of(&self, peer: &str) -> &str {
        let mut nodes = self.nodes.iter();
        nodes
            .find(|node| node.peer() == peer)
            .map_or("a stranger", |node| node.person.name)
    }

    /// Waits until each has on its wallet what was promised to it, to the unit.
    fn collected(&self, paid: &BTreeMap<String, u128>) -> Result<(), Failure> {
        println!("   each sends a claim of its own as soon as it is worth its gas");
        for node in &self.nodes {
            let Some(promised) = paid.get(node.peer()) else {
                continue;
            };
            wait(self.stop, COLLECTED_WITHIN, "collects it", || {
                Ok(node.earned()? == (*promised, *promised))
            })?;
            println!(
                "   {:5} has {} on {}",
                node.person.name,
                self.unit().text(*promised),
                node.person.short("wallet")?
            );
        }
        let sum = paid.values().sum::<u128>();
        wait(self.stop, COLLECTED_WITHIN, "reaches ann's books", || {
            let balance = self.asker.json(&["wallet", "balance"])?;
            Ok(amount(&balance["vault"]["spent"]) == sum)
        })?;
        println!(
            "   the vault paid {}: not a unit more or less",
            self.unit().text(sum)
        );
        if let Some(node) = self.nodes.first() {
            node.person.shows(&["earnings", "--by", "job"])?;
        }
        Ok(())
    }

    fn proposes(&self) -> Result<(), Failure> {
        let Some(bob) = self.nodes.first().map(|node| &node.person) else {
            return Ok(());
        };
        bob.signed(&["wallet", "faucet", "--yes"])?;
        bob.signed(&["vote", "wrap", VOTES, "--yes"])?;
        // Lent to ann, they are what she votes with in the window.
        let mut accounts = self.asker.accounts()?.into_iter();
        let ann = accounts.find(|(role, _)| role == "wallet");
        let ann = ann.map(|(_, address)| address).unwrap_or_default();
        bob.signed(&["vote", "delegate", &ann, "--yes"])?;
        println!(
            "   bob turned {VOTES} {} into votes, and lends them to ann",
            self.unit().symbol
        );
        self.asker.signed(&[
            "vote",
            "propose",
            "fee",
            "100",
            "--title",
            "A fee of one percent on claims",
            "--why",
            "It pays for audits.",
            "--yes",
        ])?;
        wait(self.stop, OPEN_WITHIN, "opens", || {
            let vote = bob.json(&["vote", "list"])?;
            Ok(vote["proposals"][0]["state"] == "open")
        })?;
        bob.shows(&["vote", "list"])
    }

    /// ann's folder in the window, until it is closed.
    fn in_the_window(mut self) -> Result<(), Failure> {
        let mut window = Kept::spawn(run::window(self.house).arg("--data").arg(&self.asker.data))?;
        stage("the window meets the three", || self.introduce())?;
        println!(
            "   This is ann's window. Ask in a new chat with the place \"A peer\", look into Wallet, vote in Vote.\n   \
             To sign something, her password is: {PASSWORD}\n   \
             Close the window, or press Ctrl-C here, to end everything."
        );
        let mut seen: BTreeMap<String, (u128, u128)> = BTreeMap::new();
        let mut next = Instant::now();
        while !self.stop.asked() && !window.ended() && !self.chain.ended() {
            let before = self.nodes.len();
            self.nodes.retain_mut(|node| !node.program.ended());
            if self.nodes.len() < before {
                println!("   {} of {before} are left", self.nodes.len());
            }
            if Instant::now() >= next {
                self.tell_earnings(&mut seen);
                next = Instant::now() + LOOK_AT_MONEY;
            }
            std::thread::sleep(LOOK);
        }
        println!("── ending");
        Ok(())
    }

    /// What came in since it was last told.
    fn tell_earnings(&self, seen: &mut BTreeMap<String, (u128, u128)>) {
        for node in &self.nodes {
            let Ok((earned, out)) = node.earned() else {
                // It is ending, or busy: the next look tells.
                continue;
            };
            let (was, was_out) = seen
                .insert(node.peer().to_owned(), (earned, out))
                .unwrap_or((earned, out));
            let name = node.person.name;
            if earned > was {
                println!("   {name:5} earned {}", self.unit().text(earned - was));
            }
            if out > was_out {
                println!("   {name:5} collected {}", self.unit().text(out - was_out));
            }
        }
    }

    /// Through the window's control socket, as a second terminal would.
    fn introduce(&self) -> Result<(), Failure> {
        let socket = self.asker.data.join("control.sock");
        wait(self.stop, WINDOW_WITHIN, "answers", || Ok(socket.exists()))
            .map_err(|failure| failure.fix("cargo xtask run, to see what the window says"))?;
        for node in &self.nodes {
            let address = &node.program.address;
            self.asker.json(&["peers", "connect", address])?;
        }
        Ok(())
    }

    fn in_the_terminal(self) -> Result<(), Failure> {
        println!("   No display here (neither DISPLAY nor WAYLAND_DISPLAY is set), so no window.");
        if !std::io::stdin().is_terminal() {
            println!("   No terminal to chat in either: that was all.");
            return Ok(());
        }
        println!("── now you ask as ann (an empty line with Ctrl-D ends)");
        self.asker.talk(&self.addresses())?;
        self.asker.shows(&["wallet", "balance"])
    }
}

/// Coin for gas, on every account of somebody.
fn coin(chain: &mut Devnet, person: &Person<'_>) -> Result<(), Failure> {
    let accounts = person.accounts()?;
    accounts
        .iter()
        .try_for_each(|(_, address)| chain.coin(address))
}

fn deposit(asker: &Person<'_>, unit: &Unit) -> Result<(), Failure> {
    asker.signed(&["wallet", "faucet", "--yes"])?;
    let accounts = asker.json(&["wallet", "balance"])?["accounts"].clone();
    let spend = accounts
        .as_array()
        .into_iter()
        .flatten()
        .find(|account| account["role"] == "spend")
        .map_or(0, |account| amount(&account["token"]));
    println!("   the faucet gave {}", unit.text(spend));
    asker.signed(&["wallet", "deposit", DEPOSIT, "--yes"])?;
    let vault = asker.json(&["wallet", "balance"])?["vault"].clone();
    println!(
        "   {DEPOSIT} are in the vault, by one signature and one transaction:\n   \
         {} to pay with, {} as a bond",
        unit.text(amount(&vault["granted"])),
        unit.text(amount(&vault["bond"]))
    );
    Ok(())
}

/// Looks until it is so.
fn wait(
    stop: &Stop,
    within: Duration,
    what: &str,
    mut so: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let until = Instant::now() + within;
    while !so()? {
        stop.check()?;
        if Instant::now() >= until {
            return Err(Failure::new(format!(
                "Nobody {what} within {} s.",
                within.as_secs()
            )));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

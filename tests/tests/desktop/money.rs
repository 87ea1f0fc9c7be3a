//! Money in real windows, on a real development chain: a wallet is made, money put in, an answer paid and earned. What was
//! shown before a signature is compared with what the chain then says, and what one window paid with what the other earned.

use chain::{Address, U256};
use decentralgpt_tests::{
    Folder, QUESTION,
    world::{UNIT, World},
};
use serde_json::{Value, json};

use crate::{
    Bench,
    page::App,
    signature::{Signing, make_wallet, nobody_knows, nothing_is_written, pages, secrets},
};

/// Typed in these windows and found nowhere else.
const PASSWORD: &str = "copper-heron-41-lantern";
/// Base units per million output tokens.
const PRICE: &str = "10000000000000000000";
/// What is put in, as it is typed.
const DEPOSIT: &str = "5.5";

#[test]
fn a_wallet_is_made_filled_and_pays_for_an_answer_that_another_window_earns() {
    let Some(devnet) = World::start() else {
        return;
    };
    let Some(asking) = Bench::new() else { return };
    devnet.is_known_to(&asking.folder);
    let lending = lender(&devnet);

    let lending_driver = lending.driver();
    let lender = lending.open(&lending_driver);
    let address = lend(&devnet, &lending, &lender);

    let driver = asking.driver();
    let app = asking.open(&driver);
    app.wait_until_focused("Ask anything");
    // The engine's worker runs from here on.
    app.ask(QUESTION);
    app.wait_for_answer();
    let main_pages = pages(&app);

    app.go("Wallet");
    app.wait_for_text("No wallet yet");
    asking.pictures(&app, "wallet-none");
    let words = make_wallet(&asking, &app, PASSWORD);
    let secrets = secrets(PASSWORD, &words);
    nobody_knows(&app, &main_pages, &secrets);
    take_test_money(&devnet, &asking, &app);
    deposit(&devnet, &asking, &app);

    let paid = ask_and_pay(&devnet, &asking, &app, &address);
    earns(&devnet, &lending, &lender, &paid);

    nobody_knows(&app, &main_pages, &secrets);
    nothing_is_written(&asking, &secrets);
    assert_eq!(app.complaints(), [""; 0], "the page broke its own rules");
    app.quit();
    lender.quit();
}

/// A computer that is paid for what it lends, in a dark window.
fn lender(devnet: &World) -> Bench {
    let bench = Bench::on(Folder::with_settings(&format!(
        "theme = \"dark\"\nserve_max_out = 256\n[money]\nmode = \"earn\"\nprice = \"{PRICE}\"\n"
    )))
    .expect("what the other window runs with");
    devnet.wallet_on(&bench.folder, PASSWORD);
    bench
}

/// Switches it on, and says where it is reached once it offers its model.
fn lend(devnet: &World, bench: &Bench, app: &App<'_>) -> String {
    devnet.set_coin(account(app, "operator"), UNIT);
    app.go("Node");
    app.switch(true);
    app.wait("an offer", || {
        let status = app.invoke("node_status", json!({})).ok()?;
        let offered = status["offered"].as_array()?.len();
        (offered > 0).then_some(())
    });
    app.wait_for_text("What you ask");
    bench.pictures(app, "node-earning");
    let addresses = app.invite();
    let tcp = addresses.into_iter().find(|one| one.contains("/tcp/"));
    tcp.expect("an address over TCP")
}

/// Coin from somebody, and tokens from the faucet, which the signing window shows first.
fn take_test_money(devnet: &World, bench: &Bench, app: &App<'_>) {
    let spend = account(app, "spend");
    bench.pictures(app, "wallet-empty");
    for role in ["wallet", "spend"] {
        devnet.set_coin(account(app, role), UNIT);
    }
    app.wait("coin for the fee", || {
        (held(app, "spend", "coin")? == UNIT).then_some(())
    });
    let signing = Signing::by(app, "Get test tokens");
    let shown = signing.shown();
    bench.pictures(app, "signing-faucet");
    assert_eq!(shown.figure("Leaves"), ["Nothing but the fee"], "{shown:?}");
    assert_eq!(shown.call["For"], spend.to_checksum(None), "{shown:?}");
    assert!(shown.passes, "{shown:?}");
    signing.sign();
    app.wait("tokens of the faucet", || {
        (held(app, "spend", "token")? == 1000 * UNIT).then_some(())
    });
}

/// Puts money in, and compares what was shown with what the chain then says.
fn deposit(devnet: &World, bench: &Bench, app: &App<'_>) {
    let payer = account(app, "spend");
    let device = account(app, "session");
    let symbol = &devnet.network().token.symbol;
    let before = devnet.ask(|chain| {
        let chain = chain.clone();
        async move { chain.account(payer).await }
    });
    app.click_button("Deposit");
    app.fill(&format!("Amount in {symbol}"), DEPOSIT);
    bench.pictures(app, "deposit");
    let signing = Signing::by(app, "Continue in the signing window");
    let shown = signing.shown();
    bench.pictures(app, "signing-deposit");
    signing.sign();
    let sent = app.wait("a final deposit", || newest(app, "final"));

    let vault = devnet.network().vault;
    assert_eq!(shown.title, "Deposit, and let this device pay");
    assert_eq!(
        shown.figure("Leaves"),
        [format!("{DEPOSIT} {symbol} worth nothing")]
    );
    assert_eq!(shown.figure("To")[0], vault.to_checksum(None));
    assert!(shown.passes && shown.digest.starts_with("0x"), "{shown:?}");

    // The transaction itself, as anvil has it.
    let hash = &sent["hash"];
    let mined = devnet.anvil("eth_getTransactionByHash", json!([hash]));
    let read = |value: &Value| value.as_str().unwrap().parse::<Address>().unwrap();
    assert_eq!((read(&mined["from"]), read(&mined["to"])), (payer, vault));
    let receipt = devnet.anvil("eth_getTransactionReceipt", json!([hash]));
    let number = |value: &Value| value.as_str().unwrap().parse::<U256>().unwrap();
    let fee = number(&receipt["gasUsed"]) * number(&receipt["effectiveGasPrice"]);
    let most = units(
        &shown.figure("Fee, at most")[0],
        &devnet.network().coin.symbol,
    );
    assert!(fee <= U256::from(most), "{fee} of {most}: {shown:?}");

    // This test reads the chain for itself, perhaps a moment later.
    let (after, signer) = app.wait("a device that may pay", || {
        let (account, signer) = devnet.ask(|chain| {
            let chain = chain.clone();
            async move {
                let account = chain.account(payer).await?;
                Ok::<_, chain::ChainError>((account, chain.signer(payer, device).await?))
            }
        });
        Some((account, signer?))
    });
    let left = shown.figure("Left after it");
    assert_eq!(units(&left[0], symbol), after.token, "{shown:?}");
    assert!(
        units(&left[1], &devnet.network().coin.symbol) <= after.coin,
        "{shown:?}"
    );
    assert_eq!(before.coin - after.coin, fee.to::<u128>());
    assert_eq!(shown.call["Device"], device.to_checksum(None));
    let call = |name: &str| units(&shown.call[name], symbol);
    assert_eq!(call("It may spend"), signer.granted);
    assert_eq!(call("Bond"), signer.bond);
    assert_eq!(call("For late claims"), signer.gas_pot);
    assert_eq!(
        call("It may spend") + call("Bond") + call("For late claims"),
        units(&format!("{DEPOSIT} {symbol}"), symbol)
    );
    // To the minute, as the page writes it.
    let until = app.script(
        "return Date.parse(arguments[0]) / 1000",
        json!([shown.call["Until"]]),
    );
    assert_eq!(until.as_u64(), Some(signer.until / 60 * 60), "{shown:?}");
    app.wait_for_text("Granted to this device");
    bench.pictures_down(app, "wallet-filled");
}

/// Asks the other window's computer, and says what the answer cost.
fn ask_and_pay(devnet: &World, bench: &Bench, app: &App<'_>, address: &str) -> Paid {
    let symbol = &devnet.network().token.symbol;
    app.connect(address);
    app.wait_for_text("Connected to");
    app.go("Chat");
    app.new_chat();
    app.be_greedy();
    app.choose_place("peer");
    app.wait_for_text("per million tokens written");
    app.ask(QUESTION);
    app.wait_for_text("Send to a peer");
    bench.pictures(app, "consent-paid");
    app.click_button("Send to a peer");
    let answer = app.wait_for_answer();
    assert!(answer.footer.contains("A peer's computer"), "{answer:?}");
    app.wait_for_text("paid");
    bench.pictures(app, "chat-paid");
    let footer = app.wait_for_answer().footer;
    assert!(footer.contains("worth nothing"), "{footer}");

    app.click_button("Receipt");
    app.wait_for_text("signed by both sides · not checked");
    let paid = units(&app.value_of("Due"), symbol);
    assert!(paid > 0, "an answer for nothing");
    bench.pictures(app, "receipt-paid");
    app.click_button("What paid for it");
    app.wait_for_text("This device signed this voucher.");
    assert_eq!(units(&app.value_of("This answer"), symbol), paid);
    assert_eq!(units(&app.value_of("Running total"), symbol), paid);
    let signature = app.value_of("Signature");
    bench.pictures(app, "payment");
    app.close_dialog();
    app.wait("the same sum in the wallet", || {
        let status = app.invoke("money_status", json!({})).ok()?;
        (amount(&status["spentToday"])? == paid).then_some(())
    });
    app.go("Wallet");
    app.wait_for_text("Spent today");
    bench.pictures(app, "wallet-spent");
    Paid {
        units: paid,
        signature,
    }
}

/// What an answer cost, and the signature by which its asker proves that.
struct Paid {
    units: u128,
    signature: String,
}

/// What the asker paid is a row here, and the row opens what proves it.
fn earns(devnet: &World, bench: &Bench, app: &App<'_>, paid: &Paid) {
    let signature = &paid.signature;
    let paid = paid.units;
    let symbol = &devnet.network().token.symbol;
    app.go("Wallet");
    let row = app.wait("a row that was paid out", || {
        let rows = app.invoke(
            "earnings",
            json!({ "fromUnixMs": 0, "toUnixMs": 1e14, "by": "job" }),
        );
        let row = rows.ok()?.get(0)?.clone();
        (row["state"] == "paid_out").then_some(row)
    });
    assert_eq!(amount(&row["earned"]), Some(paid), "{row}");
    app.wait_for_text("paid out");
    bench.pictures_down(app, "wallet-earned");
    app.click_button("Receipt and voucher");
    app.wait_for_text("The asker signed this voucher. The signature was checked just now.");
    app.wait_for_text("Paid: what was claimed reaches this running total.");
    let total = app.value_of("Running total");
    assert_eq!(units(&total, symbol), paid, "one answer was asked: {total}");
    // The payee has the very bytes that the payer shows, which were made anew.
    assert_eq!(&app.value_of("Signature"), signature);
    bench.pictures(app, "voucher-proof");
    app.click_button("Open the receipt");
    app.wait_for_text("You answered");
    assert_eq!(units(&app.value_of("Due"), symbol), paid);
    app.close_dialog();
    let wallet = held(app, "wallet", "token");
    assert_eq!(wallet, Some(paid), "the wallet has what was claimed");
    app.go("Node");
    assert!(app.tile("Earned today").is_some());
    bench.pictures_down(app, "node-earned");
}

fn status(app: &App<'_>) -> Value {
    app.invoke("money_status", json!({})).unwrap()
}

fn account_of(status: &Value, role: &str) -> Option<Value> {
    let mut accounts = status["accounts"].as_array()?.iter();
    accounts.find(|account| account["role"] == role).cloned()
}

/// The address of an account, once the window knows it.
pub(crate) fn account(app: &App<'_>, role: &str) -> Address {
    app.wait(&format!("the {role} account"), || {
        account_of(&status(app), role)?["address"]
            .as_str()?
            .parse()
            .ok()
    })
}

/// What an account has of the `token` or the `coin`, as far as the window knows.
pub(crate) fn held(app: &App<'_>, role: &str, what: &str) -> Option<u128> {
    amount(&account_of(&status(app), role)?[what])
}

/// The newest transaction, once it is in this state.
pub(crate) fn newest(app: &App<'_>, state: &str) -> Option<Value> {
    let all = app.invoke("transactions", json!({})).ok()?;
    let newest = all.get(0)?.clone();
    (newest["state"] == state).then_some(newest)
}

fn amount(value: &Value) -> Option<u128> {
    value.as_str()?.parse().ok()
}

/// The base units of an amount as a person reads it, with its unit behind it.
pub(crate) fn units(read: &str, symbol: &str) -> u128 {
    let (figure, _) = read
        .split_once(&format!(" {symbol}"))
        .unwrap_or_else(|| panic!("no {symbol} in {read:?}"));
    let (whole, decimals) = figure.split_once('.').unwrap_or((figure, ""));
    let digits = format!("{}{decimals:0<18}", whole.replace(',', ""));
    digits
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {read:?}"))
}

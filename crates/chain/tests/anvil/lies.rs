//! Endpoints that lie, stand still, answer garbage or nothing.

use chain::{Call, Chain, ChainError, Health, Network, State, VaultEvent};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    liar::{Liar, Said},
    voucher,
    world::{UNIT, World, finish, open, settle, within},
};

/// A chain over honest endpoints and one that is not.
struct Lied {
    world: World,
    liar: Liar,
    _honest: Vec<Liar>,
    chain: Chain,
    _folder: TempDir,
}

impl Lied {
    async fn new(
        honest: usize,
        lie: impl Fn(&str, &Value, Value) -> Said + Send + Sync + 'static,
    ) -> Self {
        let world = World::new().await;
        world.devnet.mine(5).await.unwrap();
        let liar = Liar::new(&world.devnet.url(), lie).await;
        let mut others = Vec::new();
        for _ in 0..honest {
            others.push(Liar::honest(&world.devnet.url()).await);
        }
        let network = Network {
            rpc: std::iter::once(&liar)
                .chain(&others)
                .map(|liar| liar.url.clone())
                .collect(),
            ..world.network().clone()
        };
        let folder = tempfile::tempdir().unwrap();
        let chain = Chain::open(network, folder.path()).unwrap();
        Self {
            world,
            liar,
            _honest: others,
            chain,
            _folder: folder,
        }
    }

    async fn health(&self, is: impl Fn(&Health) -> bool) -> Health {
        let mut health = self.chain.health();
        within(async {
            loop {
                let now = health.borrow_and_update().clone();
                if is(&now) {
                    return now;
                }
                self.chain.wake();
                let _ =
                    tokio::time::timeout(std::time::Duration::from_millis(200), health.changed())
                        .await;
            }
        })
        .await
    }

    async fn named(&self, words: &str) {
        let health = self
            .health(|health| {
                let liar = &health.endpoints[0];
                liar.problem
                    .as_ref()
                    .is_some_and(|problem| problem.contains(words))
            })
            .await;
        for honest in &health.endpoints[1..] {
            assert!(honest.agrees && honest.problem.is_none(), "{health:?}");
        }
    }
}

/// Answers one method with something else.
fn instead(
    of: &'static str,
    change: impl Fn(Value) -> Value + Send + Sync + 'static,
) -> impl Fn(&str, &Value, Value) -> Said + Send + Sync + 'static {
    move |method, _, result| Said::Result(if method == of { change(result) } else { result })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_about_a_balance_is_outvoted_and_named() {
    let lied = Lied::new(2, instead("eth_getBalance", |_| json!("0xffffffff"))).await;
    lied.chain.reached().await;
    let account = lied.chain.account(lied.world.address(1)).await.unwrap();
    assert_eq!(account.coin, 10_000 * UNIT);
    lied.named("a balance").await;
    assert_eq!(lied.chain.health().borrow().state, State::Online);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_about_what_a_contract_says_is_outvoted() {
    // The answer of every call is a large amount.
    let much = json!(format!("0x{:064x}", u128::MAX));
    let lied = Lied::new(2, instead("eth_call", move |_| much.clone())).await;
    lied.chain.reached().await;
    let account = lied.chain.account(lied.world.address(1)).await.unwrap();
    assert_eq!((account.token, account.vault_balance), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_contradict_each_other_stop_everything_until_they_agree() {
    let lied = Lied::new(1, instead("eth_getBalance", |_| json!("0xffffffff"))).await;
    lied.chain.reached().await;
    let address = lied.world.address(1);
    let contradiction = lied.chain.account(address).await.unwrap_err();
    let ChainError::Disagree { what, hosts } = contradiction else {
        panic!("{contradiction}");
    };
    assert_eq!((what.as_str(), hosts.len()), ("a balance", 2));
    lied.liar.lies(false);
    assert_eq!(
        lied.chain.account(address).await.unwrap().coin,
        10_000 * UNIT
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_about_a_nonce_sends_nothing_out_of_order() {
    let lied = Lied::new(2, instead("eth_getTransactionCount", |_| json!("0x63"))).await;
    lied.chain.reached().await;
    let key = lied.world.key(1);
    let faucet = Call::Faucet { to: key.address() };
    let preview = lied.chain.preview(key.address(), &faucet).await.unwrap();
    let id = lied.chain.send(&key, preview).await.unwrap();
    assert_eq!(lied.chain.transactions()[0].nonce, 0);
    settle(&lied.world.devnet, &lied.chain, id).await;
    lied.named("a nonce").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_runs_ahead_finishes_nothing_early() {
    let ahead = |mut block: Value| {
        if let Some(number) = block["number"].as_str() {
            let number = u64::from_str_radix(&number[2..], 16).unwrap() + 1_000;
            block["number"] = json!(format!("{number:#x}"));
        }
        block
    };
    let lied = Lied::new(2, instead("eth_getBlockByNumber", ahead)).await;
    lied.named("it claims block").await;
    let head = lied.chain.health().borrow().head.unwrap();
    assert!(head < 1_000, "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stands_still_holds_nobody_up() {
    let frozen = |method: &str, params: &Value, result: Value| {
        let newest = method == "eth_getBlockByNumber" && params[0] == "latest";
        let mut block = result;
        if newest {
            block["number"] = json!("0x1");
        }
        Said::Result(block)
    };
    let lied = Lied::new(2, frozen).await;
    lied.world.devnet.mine(40).await.unwrap();
    lied.named("it stands at block 1").await;
    finish(&lied.world.devnet, &lied.chain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_is_not_believed() {
    let back = |mut block: Value| {
        if !block.is_null() {
            block["timestamp"] = json!("0x1");
        }
        block
    };
    let lied = Lied::new(2, instead("eth_getBlockByNumber", back)).await;
    lied.chain.reached().await;
    let health = lied.health(|health| health.final_time.is_some()).await;
    assert!(health.final_time.unwrap() > 1_600_000_000);
    lied.named("block").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_endpoint_cannot_turn_its_own_clock_back() {
    let lied = Lied::new(0, |method: &str, _: &Value, mut result: Value| {
        if method == "eth_getBlockByNumber" && !result.is_null() {
            result["timestamp"] = json!("0x1");
        }
        Said::Result(result)
    })
    .await;
    lied.liar.lies(false);
    let before = lied
        .health(|health| health.final_time.is_some_and(|time| time > 1))
        .await;
    assert_eq!(before.state, State::OneOnly);
    lied.liar.lies(true);
    lied.world.devnet.mine(5).await.unwrap();
    let after = lied.health(|health| health.problem.is_some()).await;
    assert_eq!(after.final_time, before.final_time);
    assert_eq!(after.state, State::Disagree);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewritten_past_stops_everything() {
    let lied = Lied::new(0, |method: &str, _: &Value, mut result: Value| {
        if method == "eth_getBlockByNumber" && !result.is_null() {
            result["hash"] = json!(format!("0x{:064x}", 5));
        }
        Said::Result(result)
    })
    .await;
    lied.liar.lies(false);
    lied.chain.reached().await;
    lied.liar.lies(true);
    let health = lied.health(|health| health.problem.is_some()).await;
    assert!(health.problem.unwrap().contains("was final"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hidden_event_is_seen_all_the_same() {
    let lied = Lied::new(2, instead("eth_getLogs", |_| json!([]))).await;
    lied.world.funded(1, voucher::device(9).address()).await;
    finish(&lied.world.devnet, &lied.chain).await;
    let mut events = lied.chain.events(0);
    let first = within(async {
        loop {
            let last = events.recv().await.unwrap();
            if let Some(happened) = last.events.first() {
                return happened.event.clone();
            }
        }
    })
    .await;
    assert!(matches!(first, VaultEvent::Deposited { .. }));
    lied.named("events").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_did_not_happen_waits_between_two() {
    let made_up = |log: Value| {
        let mut logs = log;
        if let Some(first) = logs.as_array_mut().and_then(|logs| logs.first_mut()) {
            first["data"] = json!(format!("0x{:064x}", 1_000_000 * UNIT));
        }
        logs
    };
    let lied = Lied::new(1, instead("eth_getLogs", made_up)).await;
    lied.world.funded(1, voucher::device(9).address()).await;
    finish(&lied.world.devnet, &lied.chain).await;
    let mut events = lied.chain.events(0);
    let waits = tokio::time::timeout(std::time::Duration::from_secs(2), async {
        loop {
            let last = events.recv().await.unwrap();
            assert!(last.events.is_empty(), "{last:?}");
        }
    });
    assert!(waits.await.is_err(), "it waits");
    lied.liar.lies(false);
    lied.world.devnet.mine(1).await.unwrap();
    let amount = within(async {
        loop {
            lied.chain.wake();
            let next = tokio::time::timeout(std::time::Duration::from_millis(300), events.recv());
            if let Ok(Some(last)) = next.await
                && let Some(happened) = last.events.first()
            {
                return happened.event.clone();
            }
        }
    })
    .await;
    assert!(matches!(amount, VaultEvent::Deposited { amount, .. } if amount == 500 * UNIT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_floods_and_another_chain_are_named_and_left_out() {
    type Lie = Box<dyn Fn(&str, &Value, Value) -> Said + Send + Sync>;
    let cases: Vec<(&str, Lie)> = vec![
        (
            "more than",
            Box::new(|_: &str, _: &Value, _: Value| Said::Raw(vec![b' '; 9 << 20])),
        ),
        (
            "none",
            Box::new(|_: &str, _: &Value, _: Value| Said::Raw(b"<html>busy</html>".to_vec())),
        ),
        (
            "none",
            Box::new(|_: &str, _: &Value, _: Value| {
                Said::Raw(br#"{"jsonrpc":"2.0","id":999999,"result":"0x1"}"#.to_vec())
            }),
        ),
        (
            "it serves chain 1 and not 31337",
            Box::new(|method: &str, _: &Value, result: Value| {
                Said::Result(if method == "eth_chainId" {
                    json!("0x1")
                } else {
                    result
                })
            }),
        ),
    ];
    for (words, lie) in cases {
        let lied = Lied::new(2, lie).await;
        lied.named(words).await;
        lied.chain.reached().await;
        let account = lied.chain.account(lied.world.address(1)).await.unwrap();
        assert_eq!(account.coin, 10_000 * UNIT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_endpoint_everything_waits_and_goes_on_later() {
    let lied = Lied::new(0, |_: &str, _: &Value, _: Value| Said::Raw(Vec::new())).await;
    let health = lied
        .health(|health| health.endpoints.iter().any(|it| it.problem.is_some()))
        .await;
    assert_eq!((health.state, health.final_block), (State::Offline, None));
    assert!(matches!(
        lied.chain.account(lied.world.address(1)).await,
        Err(ChainError::NotYet)
    ));
    let mut events = lied.chain.events(0);
    lied.liar.lies(false);
    lied.chain.wake();
    within(lied.chain.reached()).await;
    assert!(within(events.recv()).await.is_some());
    lied.chain.account(lied.world.address(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_endpoint_is_left_out_after_its_time() {
    let lied = Lied::new(1, |_: &str, _: &Value, _: Value| Said::Nothing).await;
    lied.named("no answer within").await;
    within(lied.chain.reached()).await;
    assert_eq!(
        lied.health(|health| health.head.is_some()).await.state,
        State::OneOnly
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_that_is_dropped_ends_its_streams() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let chain = open(world.network(), &folder).await;
    let mut events = chain.events(u64::MAX);
    drop(chain);
    assert!(within(events.recv()).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_answers_alone_is_not_believed_while_others_are_there() {
    // The other one is there, and breaks just this question.
    let lied = Lied::new(1, |method: &str, _: &Value, result: Value| match method {
        "eth_getBalance" => Said::Raw(b"{}".to_vec()),
        _ => Said::Result(result),
    })
    .await;
    within(lied.chain.reached()).await;
    lied.health(|health| health.state == State::Online).await;
    let alone = lied.chain.account(lied.world.address(1)).await.unwrap_err();
    assert!(matches!(alone, ChainError::Unconfirmed { .. }), "{alone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_that_one_refuses_is_asked_for_in_parts() {
    let strict = |method: &str, params: &Value, result: Value| {
        let number = |field: &str| {
            let text = params[0][field].as_str().unwrap();
            u64::from_str_radix(&text[2..], 16).unwrap()
        };
        if method == "eth_getLogs" && number("toBlock") - number("fromBlock") > 10 {
            let error = json!({ "code": -32005, "message": "query returned more than 10 blocks" });
            return Said::Refused(error);
        }
        Said::Result(result)
    };
    let lied = Lied::new(1, strict).await;
    lied.world.funded(1, voucher::device(9).address()).await;
    lied.world.devnet.mine(200).await.unwrap();
    lied.world.run(1, &Call::Withdraw { amount: 3 }).await;
    finish(&lied.world.devnet, &lied.chain).await;
    let mut events = lied.chain.events(0);
    let mut seen = Vec::new();
    within(async {
        while seen.len() < 3 {
            let last = events.recv().await.unwrap();
            seen.extend(last.events.into_iter().map(|it| it.event));
        }
    })
    .await;
    assert!(matches!(seen[2], VaultEvent::Withdrawn { amount: 3, .. }));
    let named = lied.chain.health().borrow().endpoints[0].problem.clone();
    assert_eq!(named, None, "to be strict is no fault");
}

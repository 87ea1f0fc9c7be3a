//! What is deployed where, and what is refused.

use alloy::{
    primitives::Bytes,
    sol_types::{SolCall, SolValue},
};
use chain::{
    Address, Call, Chain, ChainError, Evm, Network, NetworkError, Simulation, U256, deploy,
    dev::{Devnet, DevnetError, DevnetOptions, launch},
};
use serde_json::{Value, json};

use crate::world::{UNIT, World, by_hand, within};

const DEVNET: &str = include_str!("../../../../networks/devnet.toml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_file_says_what_was_deployed() {
    let world = World::new().await;
    let network = world.network();
    assert_eq!(network.evm, Evm::Cancun);
    let text = network.to_toml().unwrap();
    assert_eq!(Network::parse(&text).unwrap(), *network);
    // The first account of a new chain makes the same addresses everywhere, but for the port.
    let shipped = Network::parse(DEVNET).unwrap();
    let here = Network {
        rpc: shipped.rpc.clone(),
        ..network.clone()
    };
    assert_eq!(
        here, shipped,
        "cargo xtask deploy devnet, then commit networks/devnet.toml"
    );
    world.chain.verify().await.unwrap();
    let terms = world.chain.vault_terms().await.unwrap();
    assert_eq!(terms.gas_share, UNIT / 10_000);
    // Nobody administers the timelock: neither who deployed it, nor the governor.
    for account in [world.address(0), network.governor] {
        let question = hasRoleCall {
            role: chain::B256::ZERO,
            account,
        };
        let data = Bytes::from(question.abi_encode());
        let call = json!([{ "to": network.timelock, "data": data }, "latest"]);
        let has = world.devnet.control("eth_call", call).await.unwrap();
        assert_eq!(has, json!(chain::B256::ZERO));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_without_the_opcodes_gets_nothing() {
    for (hardfork, has) in [("shanghai", "shanghai"), ("paris", "paris")] {
        let options = DevnetOptions {
            hardfork: Some(hardfork.to_owned()),
            ..by_hand()
        };
        let refused = Devnet::start(&options).await;
        let Err(DevnetError::Deploy(ChainError::EvmTooOld { has: seen, needs })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((seen.as_str(), needs.as_str()), (has, "cancun"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contracts_that_are_others_are_named() {
    let world = World::new().await;
    let wrong = [
        (
            "there is no code",
            Network {
                vault: Address::repeat_byte(5),
                ..world.network().clone()
            },
        ),
        (
            "its token",
            Network {
                token: chain::Token {
                    address: world.network().memory.unwrap(),
                    ..world.network().token.clone()
                },
                memory: None,
                ..world.network().clone()
            },
        ),
        (
            "the domain of its permits",
            Network {
                token: chain::Token {
                    version: "2".to_owned(),
                    ..world.network().token.clone()
                },
                ..world.network().clone()
            },
        ),
    ];
    for (words, network) in wrong {
        let folder = tempfile::tempdir().unwrap();
        let chain = Chain::open(network, folder.path()).unwrap();
        within(chain.reached()).await;
        let error = chain.verify().await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_keeps_a_part_of_a_transfer_is_refused() {
    let world = World::new().await;
    // A token that says yes to everything and moves nothing: the largest fee there can be.
    let token = Address::repeat_byte(0x77);
    let yes = json!([token, "0x600160005260206000f3"]);
    world.devnet.control("anvil_setCode", yes).await.unwrap();
    let text = include_str!("../../../../contracts/abi/PayVault.json");
    let artifact: Value = serde_json::from_str(text).unwrap();
    let code: Bytes = artifact["bytecode"].as_str().unwrap().parse().unwrap();
    let arguments = (token, world.network().timelock, U256::ZERO, U256::ZERO).abi_encode();
    let data = Bytes::from([&code[..], &arguments].concat());
    let made = json!([{ "from": world.address(0), "data": data }]);
    let hash = world
        .devnet
        .control("eth_sendTransaction", made)
        .await
        .unwrap();
    world.devnet.mine(1).await.unwrap();
    let receipt = world
        .devnet
        .control("eth_getTransactionReceipt", json!([hash]))
        .await
        .unwrap();
    let vault: Address = receipt["contractAddress"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let mut network = world.network().clone();
    network.vault = vault;
    network.token.address = token;
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::open(network, folder.path()).unwrap();
    world.finish().await;
    within(chain.reached()).await;
    let deposit = Call::Deposit {
        amount: UNIT,
        permit: None,
        nonce: U256::from(1),
    };
    let preview = chain.preview(world.address(1), &deposit).await.unwrap();
    let Simulation::Reverted { reason } = preview.simulation else {
        panic!("it is taken");
    };
    assert!(
        reason.contains("one that takes a fee cannot be deposited"),
        "{reason}"
    );
    // Nor is anything deployed on it.
    let options = chain::DeployOptions {
        token: Some(token),
        ..DevnetOptions::default().deploy
    };
    let refused = deploy(&[world.devnet.url()], &world.key(0), &options).await;
    assert!(
        matches!(
            refused,
            Err(ChainError::Contract {
                contract: "token",
                ..
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_come_by_themselves_where_they_are_asked_for() {
    let devnet = Devnet::start(&DevnetOptions::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::open(devnet.network.clone(), folder.path()).unwrap();
    within(chain.reached()).await;
    let key = devnet.key(1).unwrap();
    let faucet = Call::Faucet { to: key.address() };
    let preview = chain.preview(key.address(), &faucet).await.unwrap();
    let id = chain.send(&key, preview).await.unwrap();
    let state = within(chain.settled(id)).await.unwrap();
    assert!(matches!(state, chain::TxState::Final { .. }), "{state:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gas_of_the_network_file_is_what_it_costs() {
    let world = World::new().await;
    let device = crate::voucher::device(9);
    let (payer, payee) = (world.address(1), world.address(2));
    world.funded(1, device.address()).await;
    world
        .run(
            2,
            &Call::RegisterPayee {
                payout: world.address(3),
            },
        )
        .await;
    let row = crate::voucher::row(world.network(), &device, payer, payee, UNIT);
    let claim = Call::Claim {
        payee,
        rows: vec![row],
    };
    let until = world.now() + 3600;
    let reserved = (60 * UNIT, until, 1);
    let signature = crate::voucher::reservation(world.network(), &device, payer, payee, reserved);
    let reserve = Call::Reserve {
        payer,
        payee,
        upto: 60 * UNIT,
        until,
        nonce: 1,
        signature,
    };
    let gas = world.network().gas;
    for (call, stated) in [(claim, gas.claim_row), (reserve, gas.reserve)] {
        world.run(2, &call).await;
        let hash = world.chain.transactions().last().unwrap().hashes[0];
        let receipt = world
            .devnet
            .control("eth_getTransactionReceipt", json!([hash]))
            .await
            .unwrap();
        let used = receipt["gasUsed"]
            .as_str()
            .unwrap()
            .trim_start_matches("0x")
            .to_owned();
        let used = u64::from_str_radix(&used, 16).unwrap();
        println!(
            "{}: {used} of {stated}",
            call.describe(world.network()).title
        );
        assert!(
            used <= stated && stated <= used * 3 / 2,
            "{used} of {stated}"
        );
    }
}

#[test]
fn a_network_file_is_refused_with_the_field() {
    let good = DEVNET;
    Network::parse(good).unwrap();
    for (field, from, to) in [
        ("name", "name = \"devnet\"", "name = \"../devnet\""),
        ("title", "title = \"Development network\"", "title = \"\""),
        ("rpc", "http://127.0.0.1:8545", "http://example.org"),
        ("rpc", "http://127.0.0.1:8545", "file:///etc/passwd"),
        ("rpc", "rpc = [\"http://127.0.0.1:8545\"]", "rpc = []"),
        ("confirmations", "confirmations = 2", "confirmations = 0"),
        (
            "token.decimals",
            "version = \"1\"\ndecimals = 18",
            "version = \"1\"\ndecimals = 6",
        ),
        ("chain_id", "chain_id = 31337", "chain_id = 0"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Network::parse(&good.replacen(from, to, 1)).unwrap_err();
        let NetworkError::Field { field: seen, .. } = error else {
            panic!("{field}: {error}");
        };
        assert_eq!(seen, field);
    }
    let network = Network::parse(good).unwrap();
    let twice = good.replacen(&network.stake.to_string(), &network.vault.to_string(), 1);
    let error = Network::parse(&twice).unwrap_err();
    assert!(
        matches!(error, NetworkError::Field { field: "stake", .. }),
        "{error}"
    );
    let mistyped = good.replacen(
        &network.stake.to_string(),
        &network.stake.to_string().to_lowercase(),
        1,
    );
    for other in ["", "name = 1", &format!("{good}\nsurprise = 1"), &mistyped] {
        assert!(matches!(
            Network::parse(other),
            Err(NetworkError::Toml { .. })
        ));
    }
    let huge = format!("{good}#{}", " ".repeat(65 * 1024));
    assert!(matches!(Network::parse(&huge), Err(NetworkError::TooLarge)));
}

#[test]
fn anvil_is_where_npm_puts_it() {
    drop(launch(&by_hand()).unwrap());
}

alloy::sol! {
    function hasRole(bytes32 role, address account) returns (bool);
}

//! Attacks on what is read of the chain, and on what is asked to be signed.

use chain::{Call, ChainError, Permit, Simulation, U256};
use serde_json::json;

use crate::{
    liar::{Liar, Said},
    voucher,
    world::{self, UNIT, World, until},
};

/// A payee that served on a grant in a block that is replaced would hold nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_in_a_block_that_is_replaced_was_never_one() {
    let world = World::new().await;
    let (key, device) = (world.key(1), voucher::device(9).address());
    let payer = key.address();
    world.run(1, &Call::Faucet { to: payer }).await;
    let account = world.chain.account(payer).await.unwrap();
    let permit = key
        .permit(world.network(), 500 * UNIT, account.token_nonce, U256::MAX)
        .unwrap();
    let before = world.devnet.control("evm_snapshot", json!([])).await;
    let start = Call::Start {
        start: world.start(payer, device),
        permit: Some(permit),
    };
    let id = world.send(&key, &start).await;
    until(&world.chain, id, |state| {
        matches!(state, chain::TxState::Mined { .. })
    })
    .await;
    assert_eq!(world.chain.signer(payer, device).await.unwrap(), None);
    let stop = json!([false]);
    world.devnet.control("evm_setAutomine", stop).await.unwrap();
    let revert = json!([before.unwrap()]);
    world.devnet.control("evm_revert", revert).await.unwrap();
    world.devnet.mine(1).await.unwrap();
    until(&world.chain, id, |state| *state == chain::TxState::Sent).await;
    assert_eq!(world.chain.signer(payer, device).await.unwrap(), None);
    world.settle(id).await;
    let signer = world.chain.signer(payer, device).await.unwrap().unwrap();
    assert_eq!(signer.granted, 100 * UNIT, "once, when it is final");
}

/// No endpoint sees a permit before a person agreed, and what they agreed to is what is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_is_tried_without_its_permit_and_costs_no_more_than_was_shown() {
    let world = World::new().await;
    let (key, device) = (world.key(1), voucher::device(9).address());
    let payer = key.address();
    world.finish().await;
    let start = world.start(payer, device);
    // What the vault would refuse is refused in the preview.
    let poor = world.chain.preview_start(&start).await.unwrap();
    assert_eq!(poor.token_after, None);
    let Simulation::Reverted { reason } = &poor.simulation else {
        panic!("{poor:?}");
    };
    assert!(reason.to_lowercase().contains("balance"), "{reason}");

    world.run(1, &Call::Faucet { to: payer }).await;
    let late = chain::Start { until: 1, ..start };
    let late = world.chain.preview_start(&late).await.unwrap();
    assert!(matches!(late.simulation, Simulation::Reverted { .. }));

    let shown = world.chain.preview_start(&start).await.unwrap();
    assert_eq!(shown.simulation, Simulation::Ok);
    assert_eq!(shown.token_after, Some(500 * UNIT));
    let unsigned = world.chain.send(&key, shown.clone()).await.unwrap_err();
    assert!(matches!(unsigned, ChainError::PreviewChanged));

    let account = world.chain.account(payer).await.unwrap();
    let permit = |value| -> Permit {
        key.permit(world.network(), value, account.token_nonce, U256::MAX)
            .unwrap()
    };
    let other = chain::Start {
        deposit: 501 * UNIT,
        ..start
    };
    let swapped = world
        .chain
        .signed_start(&shown, &other, permit(501 * UNIT))
        .await
        .unwrap_err();
    assert!(matches!(swapped, ChainError::PreviewChanged), "{swapped}");

    let signed = world
        .chain
        .signed_start(&shown, &start, permit(500 * UNIT))
        .await
        .unwrap();
    assert_eq!(signed.described, shown.described);
    assert!(signed.fee_max <= shown.fee_max, "{}", signed.gas);
    assert!(
        signed.gas > shown.gas / 2,
        "{} of {}",
        signed.gas,
        shown.gas
    );
    println!("gas of a first deposit, with room: {}", signed.gas);
    let id = world.chain.send(&key, signed).await.unwrap();
    world.settle(id).await;
    let account = world.chain.account(payer).await.unwrap();
    assert_eq!(account.token, 500 * UNIT);
    let signer = world.chain.signer(payer, device).await.unwrap().unwrap();
    assert_eq!(signer.granted, 100 * UNIT);
}

/// Where no endpoint can try it before it is signed, the preview says so, and what is signed is tried before it is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_that_cannot_be_tried_says_so_and_is_tried_before_it_is_sent() {
    let world = World::new().await;
    let plain = Liar::new(&world.devnet.url(), |method, params, result| {
        let presumes = params.as_array().is_some_and(|params| params.len() > 2);
        match method == "eth_call" && presumes {
            true => Said::Refused(json!({ "code": -32602, "message": "too many arguments" })),
            false => Said::Result(result),
        }
    })
    .await;
    let mut network = world.network().clone();
    network.rpc = vec![plain.url.clone()];
    let folder = tempfile::tempdir().unwrap();
    let chain = world::open(&network, &folder).await;
    let (key, device) = (world.key(1), voucher::device(9).address());
    let payer = key.address();
    world.run(1, &Call::Faucet { to: payer }).await;
    world::finish(&world.devnet, &chain).await;
    let nonce = chain.account(payer).await.unwrap().token_nonce;
    let permit = || key.permit(&network, 500 * UNIT, nonce, U256::MAX).unwrap();
    let start = world.start(payer, device);

    let shown = chain.preview_start(&start).await.unwrap();
    assert_eq!(shown.simulation, Simulation::NotTried);
    let unsigned = chain.send(&key, shown.clone()).await.unwrap_err();
    assert!(matches!(unsigned, ChainError::PreviewChanged));
    // The vault would refuse another sum than was shown, and it is not signed for either.
    let other = chain::Start {
        deposit: 400 * UNIT,
        ..start
    };
    let swapped = chain.signed_start(&shown, &other, permit()).await;
    assert!(matches!(swapped, Err(ChainError::PreviewChanged)));

    let signed = chain.signed_start(&shown, &start, permit()).await.unwrap();
    assert_eq!(signed.simulation, Simulation::Ok);
    chain.send(&key, signed).await.unwrap();
}

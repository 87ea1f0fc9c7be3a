//! Transactions over restarts, reorgs, stuck blocks, and other users of the same key.

use chain::{Call, ChainError, Key, Network, Simulation, TxId, TxState};
use serde_json::json;

use crate::{
    voucher,
    world::{UNIT, World, finish, open, settle, until, within},
};

async fn stop_mining(world: &World) {
    world
        .devnet
        .control("evm_setAutomine", json!([false]))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_over_a_restart_is_found_mined() {
    let world = World::new().await;
    stop_mining(&world).await;
    let (key, to) = (world.key(1), world.address(2));
    let id = world
        .send(&key, &Call::TransferCoin { to, amount: 5 })
        .await;
    until(&world.chain, id, |state| *state == TxState::Sent).await;
    let World {
        devnet,
        chain,
        folder,
    } = world;
    drop(chain);
    devnet.mine(1).await.unwrap();
    let chain = open(&devnet.network, &folder).await;
    assert!(matches!(
        settle(&devnet, &chain, id).await,
        TxState::Final { .. }
    ));
    assert_eq!(chain.account(to).await.unwrap().coin, 10_000 * UNIT + 5);
    assert_eq!(chain.transactions().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_no_endpoint_heard_is_sent_after_a_restart() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let chain = open(world.network(), &folder).await;
    let (key, to) = (world.key(1), world.address(2));
    let call = Call::TransferCoin { to, amount: 5 };
    let preview = chain.preview(key.address(), &call).await.unwrap();
    // Written, and the program ends before anything is sent: the tasks are gone with the handle.
    let id = {
        let sent = chain.send(&key, preview).await.unwrap();
        drop(chain);
        sent
    };
    let chain = open(world.network(), &folder).await;
    assert!(matches!(
        settle(&world.devnet, &chain, id).await,
        TxState::Final { .. }
    ));
    assert_eq!(chain.account(to).await.unwrap().coin, 10_000 * UNIT + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_for_a_network_that_was_started_anew_is_not_sent_to_it() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    // What is final when it is signed has a time that the new one's blocks have not.
    world.devnet.pass(1_000).await.unwrap();
    world.finish().await;
    let chain = open(world.network(), &folder).await;
    let (key, to) = (world.key(1), world.address(2));
    let call = Call::TransferCoin { to, amount: 5 };
    let preview = chain.preview(key.address(), &call).await.unwrap();
    let id = chain.send(&key, preview).await.unwrap();
    drop(chain);

    let anew = World::new().await;
    anew.devnet.mine(64).await.unwrap();
    anew.finish().await;
    let chain = open(anew.network(), &folder).await;
    until(&chain, id, |state| matches!(state, TxState::Failed { .. })).await;
    anew.finish().await;
    assert_eq!(chain.account(to).await.unwrap().coin, 10_000 * UNIT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_one_is_sped_up_and_done_once() {
    let world = World::new().await;
    stop_mining(&world).await;
    let (key, to) = (world.key(1), world.address(2));
    let id = world
        .send(&key, &Call::TransferCoin { to, amount: 5 })
        .await;
    until(&world.chain, id, |state| *state == TxState::Sent).await;
    // It blocks no reading.
    world.chain.account(to).await.unwrap();
    let before = world.chain.transactions()[0].fee_max;
    let faster = world.chain.speed_up(id).await.unwrap();
    assert!(faster.fee_max > before && faster.replaces == Some(id));
    assert_eq!(world.chain.send(&key, faster).await.unwrap(), id);
    until(&world.chain, id, |state| *state == TxState::Sent).await;
    assert!(matches!(world.settle(id).await, TxState::Final { .. }));
    assert_eq!(world.chain.transactions()[0].hashes.len(), 2);
    assert_eq!(
        world.chain.account(to).await.unwrap().coin,
        10_000 * UNIT + 5
    );
    assert!(matches!(
        world.chain.speed_up(id).await,
        Err(ChainError::NotReplaceable { state: "final", .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_one_is_taken_back() {
    let world = World::new().await;
    stop_mining(&world).await;
    let (key, to) = (world.key(1), world.address(2));
    let id = world
        .send(&key, &Call::TransferCoin { to, amount: 5 })
        .await;
    let later = world
        .send(&key, &Call::TransferCoin { to, amount: 7 })
        .await;
    until(&world.chain, id, |state| *state == TxState::Sent).await;
    until(&world.chain, later, |state| *state == TxState::Sent).await;
    let cancel = world.chain.cancel(id).await.unwrap();
    assert!(cancel.described.leaves.is_empty());
    world.chain.send(&key, cancel).await.unwrap();
    until(&world.chain, id, |state| *state == TxState::Sent).await;
    assert_eq!(world.settle(id).await, TxState::Replaced);
    assert!(matches!(world.settle(later).await, TxState::Final { .. }));
    assert_eq!(
        world.chain.account(to).await.unwrap().coin,
        10_000 * UNIT + 7
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_in_a_block_that_is_replaced_comes_back() {
    let world = World::new().await;
    let device = voucher::device(9);
    let (payer, payee, payout) = (world.address(1), world.address(2), world.address(3));
    world.funded(1, device.address()).await;
    world.run(2, &Call::RegisterPayee { payout }).await;
    let before = world
        .devnet
        .control("evm_snapshot", json!([]))
        .await
        .unwrap();
    let row = voucher::row(world.network(), &device, payer, payee, 30 * UNIT);
    let claim = Call::Claim {
        payee,
        rows: vec![row],
    };
    let id = world.send(&world.key(2), &claim).await;
    until(&world.chain, id, |state| {
        matches!(state, TxState::Mined { .. })
    })
    .await;
    assert_eq!(
        world.chain.account(payout).await.unwrap().token,
        0,
        "it is not final"
    );
    stop_mining(&world).await;
    // The chain goes another way: the block of the claim is gone, and another one is in its place.
    world
        .devnet
        .control("evm_revert", json!([before]))
        .await
        .unwrap();
    world.devnet.mine(1).await.unwrap();
    until(&world.chain, id, |state| *state == TxState::Sent).await;
    assert!(matches!(world.settle(id).await, TxState::Final { .. }));
    assert_eq!(world.chain.account(payout).await.unwrap().token, 30 * UNIT);
    let claims = claims(&world).await;
    assert_eq!(claims, 1, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_that_is_used_elsewhere_is_noticed() {
    let world = World::new().await;
    stop_mining(&world).await;
    let (key, to) = (world.key(1), world.address(2));
    let id = world
        .send(&key, &Call::TransferCoin { to, amount: 5 })
        .await;
    until(&world.chain, id, |state| *state == TxState::Sent).await;
    let dropped = world.chain.transactions()[0].hashes[0];
    world
        .devnet
        .control("anvil_dropTransaction", json!([dropped]))
        .await
        .unwrap();
    let elsewhere = json!([{
        "from": key.address(), "to": world.address(3), "value": "0x1", "nonce": "0x0",
        "gasPrice": "0x2540be400",
    }]);
    world
        .devnet
        .control("eth_sendTransaction", elsewhere)
        .await
        .unwrap();
    assert_eq!(world.settle(id).await, TxState::Lost);
    assert_eq!(world.chain.account(to).await.unwrap().coin, 10_000 * UNIT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_refused_blocks_nothing_after_it() {
    let world = World::new().await;
    let key = Key::from_secret(&[7; 32]).unwrap();
    let faucet = Call::Faucet { to: key.address() };
    world.devnet.set_coin(key.address(), UNIT).await.unwrap();
    let preview = world.chain.preview(key.address(), &faucet).await.unwrap();
    // The gas is gone between looking and sending.
    world.devnet.set_coin(key.address(), 0).await.unwrap();
    let id = world.chain.send(&key, preview).await.unwrap();
    until(&world.chain, id, |state| {
        matches!(state, TxState::Failed { .. })
    })
    .await;
    world.devnet.set_coin(key.address(), UNIT).await.unwrap();
    world.finish().await;
    let next = world.send(&key, &faucet).await;
    assert!(matches!(world.settle(next).await, TxState::Final { .. }));
    let all = world.chain.transactions();
    assert_eq!((all[0].nonce, all[1].nonce), (0, 0));
    assert!(matches!(all[0].state, TxState::Failed { .. }));
}

/// Sends two as one account of which the first will be refused, for a lack of coin; the second may be numbered before that is known.
async fn refused_and_behind(world: &World, key: &Key, [large, small]: [&Call; 2]) -> [TxId; 2] {
    let set_coin = async |amount| {
        let set = world.devnet.set_coin(key.address(), amount).await;
        set.unwrap();
    };
    set_coin(10 * UNIT).await;
    let large = world.chain.preview(key.address(), large).await.unwrap();
    let small = world.chain.preview(key.address(), small).await.unwrap();
    // Most of the coin is gone between looking and sending.
    set_coin(UNIT).await;
    let refused = world.chain.send(key, large).await.unwrap();
    let behind = world.chain.send(key, small).await.unwrap();
    [refused, behind]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_behind_a_refused_one_is_freed_by_the_next() {
    let world = World::new().await;
    let to = world.address(2);
    let call = |amount| Call::TransferCoin { to, amount };
    let (large, small) = (call(9 * UNIT), call(5));
    let nonce_of = |id: TxId| {
        let all = world.chain.transactions();
        all.iter().find(|tx| tx.id == id).unwrap().nonce
    };
    // Where the refusal comes first, nothing waits behind it; another account tries again.
    for account in 7..47 {
        let key = Key::from_secret(&[account; 32]).unwrap();
        let [refused, behind] = refused_and_behind(&world, &key, [&large, &small]).await;
        if nonce_of(behind) == 0 {
            continue;
        }
        until(&world.chain, refused, |state| {
            matches!(state, TxState::Failed { .. })
        })
        .await;
        until(&world.chain, behind, |state| *state == TxState::Sent).await;
        let next = world.send(&key, &small).await;
        assert!(matches!(world.settle(next).await, TxState::Final { .. }));
        assert!(matches!(world.settle(behind).await, TxState::Final { .. }));
        assert_eq!([refused, behind, next].map(nonce_of), [0, 1, 0]);
        return;
    }
    panic!("the refusal always came first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_but_what_was_shown() {
    let world = World::new().await;
    let (key, to) = (world.key(1), world.address(2));
    let call = Call::TransferCoin { to, amount: 5 };
    let shown = world.chain.preview(key.address(), &call).await.unwrap();
    assert_eq!(shown.described.leaves[0].amount, 5);
    assert_eq!(shown.coin_after, Some(10_000 * UNIT - 5 - shown.fee_max));
    let mut changed = shown.clone();
    changed.described.leaves[0].amount = 4;
    let refused = world.chain.send(&key, changed).await;
    assert!(matches!(refused, Err(ChainError::PreviewChanged)));
    let mut dearer = shown.clone();
    dearer.gas *= 2;
    let refused = world.chain.send(&key, dearer).await;
    assert!(matches!(refused, Err(ChainError::PreviewChanged)));
    let refused = world.chain.send(&world.key(3), shown).await;
    assert!(matches!(refused, Err(ChainError::Key { .. })));
    assert!(world.chain.transactions().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_be_lost_is_not_sent() {
    let world = World::new().await;
    let from = world.address(1);
    for to in [
        world.network().vault,
        world.network().token.address,
        chain::Address::ZERO,
    ] {
        let lost = world
            .chain
            .preview(from, &Call::TransferToken { to, amount: 1 })
            .await;
        assert!(matches!(lost, Err(ChainError::Call(_))), "{lost:?}");
    }
    let poor = Call::TransferToken {
        to: world.address(2),
        amount: 1,
    };
    let poor = world.chain.preview(from, &poor).await.unwrap();
    assert!(matches!(poor.simulation, Simulation::Reverted { .. }));
    assert_eq!(poor.token_after, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contract_that_is_not_known_is_said_to_be() {
    let world = World::new().await;
    let code = json!([world.address(8), "0x5f5ff3"]);
    world.devnet.control("anvil_setCode", code).await.unwrap();
    world.finish().await;
    for (number, known) in [(2, true), (8, false)] {
        let to = world.address(number);
        let call = Call::TransferCoin { to, amount: 1 };
        let preview = world.chain.preview(world.address(1), &call).await.unwrap();
        assert_eq!(preview.described.contract_known, known);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_named_and_not_overwritten() {
    let world = World::new().await;
    world
        .run(
            1,
            &Call::Faucet {
                to: world.address(1),
            },
        )
        .await;
    let World {
        devnet,
        chain,
        folder,
    } = world;
    drop(chain);
    let path = folder.path().join("transactions.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    let damaged = chain::Chain::open(devnet.network.clone(), folder.path());
    assert!(matches!(damaged, Err(ChainError::Damaged { .. })));
    assert_eq!(
        std::fs::read_to_string(&path).unwrap().len(),
        text.len() / 2
    );
    let elsewhere = Network {
        chain_id: 1,
        ..devnet.network.clone()
    };
    std::fs::write(&path, &text).unwrap();
    let elsewhere = chain::Chain::open(elsewhere, folder.path());
    assert!(matches!(elsewhere, Err(ChainError::Damaged { .. })));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new().await;
    world
        .run(
            1,
            &Call::Faucet {
                to: world.address(1),
            },
        )
        .await;
    let path = world.folder.path().join("transactions.json");
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_on_disk_is_not_sent() {
    let world = World::new().await;
    let key = world.key(1);
    let faucet = Call::Faucet { to: key.address() };
    let preview = world.chain.preview(key.address(), &faucet).await.unwrap();
    // The folder is gone: nothing can be written into it.
    std::fs::remove_dir_all(world.folder.path()).unwrap();
    let refused = world.chain.send(&key, preview).await;
    assert!(matches!(refused, Err(ChainError::Store { .. })));
    world.finish().await;
    assert!(world.chain.transactions().is_empty());
    assert_eq!(world.chain.account(key.address()).await.unwrap().token, 0);
}

async fn claims(world: &World) -> usize {
    finish(&world.devnet, &world.chain).await;
    let last = world.chain.health().borrow().final_block.unwrap();
    let mut events = world.chain.events(0);
    let mut claims = 0;
    within(async {
        loop {
            let next = events.recv().await.unwrap();
            claims += next
                .events
                .iter()
                .filter(|it| matches!(it.event, chain::VaultEvent::Claimed { .. }))
                .count();
            if next.block >= last {
                return;
            }
        }
    })
    .await;
    claims
}

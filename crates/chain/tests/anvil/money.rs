//! Money on a real chain: deposit, claims, reservation, overdraft, and what the events say of it.

use chain::{Call, ChainError, Final, Simulation, U256, VaultEvent};

use crate::{
    voucher,
    world::{UNIT, World, within},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_is_claimed_and_withdrawn_to_the_last_unit() {
    let world = World::new().await;
    world.chain.verify().await.unwrap();
    let device = voucher::device(9);
    let (payer, payee, payout) = (world.address(1), world.address(2), world.address(3));
    world.funded(1, device.address()).await;

    let account = world.chain.account(payer).await.unwrap();
    assert_eq!(account.token, 500 * UNIT);
    assert_eq!(account.vault_balance, 500 * UNIT - 103 * UNIT);
    let signer = world.chain.signer(payer, device.address()).await.unwrap();
    let signer = signer.unwrap();
    assert_eq!((signer.granted, signer.spent), (100 * UNIT, 0));
    assert!(!signer.ended && !signer.contested);
    assert_eq!(
        world.chain.signer(payee, device.address()).await.unwrap(),
        None
    );

    assert_eq!(world.chain.payout(payee).await.unwrap(), None);
    world.run(2, &Call::RegisterPayee { payout }).await;
    assert_eq!(world.chain.payout(payee).await.unwrap(), Some(payout));

    let row = voucher::row(world.network(), &device, payer, payee, 30 * UNIT + 1);
    let claim = Call::Claim {
        payee,
        rows: vec![row],
    };
    // Anybody may bring it.
    world.run(4, &claim).await;
    let line = world
        .chain
        .line(payer, device.address(), payee)
        .await
        .unwrap();
    assert_eq!(line.claimed, 30 * UNIT + 1);
    assert_eq!(
        world.chain.account(payout).await.unwrap().token,
        30 * UNIT + 1
    );

    let until = world.now() + 3600;
    let reserved = (60 * UNIT, until, 1);
    let signature = voucher::reservation(world.network(), &device, payer, payee, reserved);
    let reserve = Call::Reserve {
        payer,
        payee,
        upto: 60 * UNIT,
        until,
        nonce: 1,
        signature,
    };
    world.run(2, &reserve).await;
    let line = world
        .chain
        .line(payer, device.address(), payee)
        .await
        .unwrap();
    assert_eq!((line.reserved_upto, line.nonce), (60 * UNIT, 1));

    world
        .run(
            1,
            &Call::EndSigner {
                signer: device.address(),
            },
        )
        .await;
    let signer = world.chain.signer(payer, device.address()).await.unwrap();
    assert!(signer.unwrap().ended);
    world.run(1, &Call::Withdraw { amount: 397 * UNIT }).await;
    let account = world.chain.account(payer).await.unwrap();
    assert_eq!((account.token, account.vault_balance), (897 * UNIT, 0));

    let kinds: Vec<VaultEvent> = all_events(&world, 0)
        .await
        .into_iter()
        .map(|(_, e)| e)
        .collect();
    assert!(matches!(kinds[0], VaultEvent::Deposited { amount, .. } if amount == 500 * UNIT));
    assert!(matches!(kinds[1], VaultEvent::SignerSet { granted, .. } if granted == 100 * UNIT));
    assert!(matches!(kinds[2], VaultEvent::PayeeSet { .. }));
    assert!(matches!(kinds[3], VaultEvent::Claimed { paid, .. } if paid == 30 * UNIT + 1));
    assert!(
        matches!(kinds[4], VaultEvent::PaidOut { amount, fee: 0, .. } if amount == 30 * UNIT + 1)
    );
    assert!(matches!(kinds[5], VaultEvent::Reserved { upto, .. } if upto == 60 * UNIT));
    assert!(matches!(kinds[6], VaultEvent::SignerEnded { .. }));
    assert!(matches!(kinds[7], VaultEvent::Withdrawn { .. }));
    assert_eq!(kinds.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_joined_payee_claims_is_granted_until_it_is_unjoined() {
    let world = World::new().await;
    let (asker, device) = (voucher::device(9), voucher::device(10));
    let (payer, payee, owner) = (world.address(1), world.address(2), world.address(3));
    world.funded(1, asker.address()).await;
    world.run(2, &Call::RegisterPayee { payout: owner }).await;
    assert_eq!(world.chain.joined(payee).await.unwrap(), None);
    let join = Call::Join {
        payee,
        signer: device.address(),
        until: world.now() + 30 * 86_400,
    };
    let preview = world.chain.preview(payee, &join).await.unwrap();
    assert!(
        matches!(&preview.simulation, Simulation::Reverted { reason } if reason.contains("is paid to")),
        "{preview:?}"
    );
    world.run(3, &join).await;
    let joined = world.chain.joined(payee).await.unwrap();
    assert_eq!(joined, Some(device.address()));

    let claim = |level| Call::Claim {
        payee,
        rows: vec![voucher::row(world.network(), &asker, payer, payee, level)],
    };
    world.run(2, &claim(30 * UNIT)).await;
    let granted = async || {
        let signer = world.chain.signer(owner, device.address()).await.unwrap();
        signer.unwrap().granted
    };
    assert_eq!(granted().await, 30 * UNIT);
    world.run(3, &Call::Unjoin { payee }).await;
    world.run(2, &claim(31 * UNIT)).await;
    assert_eq!(granted().await, 30 * UNIT);
    assert_eq!(world.chain.account(owner).await.unwrap().token, UNIT);
    let preview = world.chain.preview(owner, &Call::Unjoin { payee }).await;
    assert!(matches!(
        preview.unwrap().simulation,
        Simulation::Reverted { .. }
    ));

    let kinds: Vec<VaultEvent> = all_events(&world, 0)
        .await
        .into_iter()
        .map(|(_, e)| e)
        .skip(3)
        .collect();
    assert!(matches!(kinds[0], VaultEvent::SignerSet { payer, granted: 0, .. } if payer == owner));
    assert!(matches!(kinds[1], VaultEvent::Joined { payout, .. } if payout == owner));
    assert!(matches!(kinds[2], VaultEvent::Claimed { .. }));
    assert!(matches!(kinds[3], VaultEvent::PaidOut { payout, .. } if payout == owner));
    assert!(matches!(kinds[4], VaultEvent::Kept { amount, .. } if amount == 30 * UNIT));
    assert!(matches!(kinds[5], VaultEvent::SignerSet { granted, .. } if granted == 30 * UNIT));
    assert!(matches!(kinds[6], VaultEvent::Unjoined { payout, .. } if payout == owner));
    assert!(matches!(kinds[7], VaultEvent::Claimed { paid: UNIT, .. }));
    assert!(matches!(kinds[8], VaultEvent::PaidOut { .. }));
    assert_eq!(kinds.len(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_once_and_in_order_from_any_block() {
    let world = World::new().await;
    let device = voucher::device(9);
    world.funded(1, device.address()).await;
    for amount in 1..=5 {
        world.run(1, &Call::Withdraw { amount }).await;
    }
    let all = all_events(&world, 0).await;
    assert_eq!(all.len(), 7);
    for from in [all[3].0, all[3].0 + 1, all[6].0 + 1] {
        let expected: Vec<_> = all
            .iter()
            .filter(|(block, _)| *block >= from)
            .cloned()
            .collect();
        assert_eq!(all_events(&world, from).await, expected);
    }
    // Those that come while one listens.
    let mut stream = world.chain.events(all[6].0 + 1);
    world.run(1, &Call::Withdraw { amount: 6 }).await;
    let next = within(async {
        loop {
            let last = stream.recv().await.unwrap();
            if let Some(happened) = last.events.first() {
                return happened.event.clone();
            }
        }
    })
    .await;
    assert!(matches!(next, VaultEvent::Withdrawn { amount: 6, .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overdraft_is_shown_and_settled() {
    let world = World::new().await;
    let device = voucher::device(9);
    let payer = world.address(1);
    world.funded(1, device.address()).await;
    let payees = [2, 3];
    let mut rows = Vec::new();
    for number in payees {
        let payout = world.address(number + 4);
        world.run(number, &Call::RegisterPayee { payout }).await;
        let payee = world.address(number);
        rows.push(voucher::promise(
            world.network(),
            &device,
            payer,
            payee,
            80 * UNIT,
        ));
    }
    let prove = Call::ProveOverdraft {
        payer,
        signer: device.address(),
        rows,
    };
    world.run(4, &prove).await;
    let case = world
        .chain
        .overdraft(payer, device.address())
        .await
        .unwrap();
    assert_eq!(case.reporter, world.address(4));
    assert_eq!(case.promised, U256::from(160 * UNIT));
    let settle = Call::SettleOverdraft {
        payer,
        signer: device.address(),
        payees: payees.map(|number| world.address(number)).to_vec(),
    };
    let early = world.chain.preview(payer, &settle).await.unwrap();
    let Simulation::Reverted { reason } = &early.simulation else {
        panic!("it is too early");
    };
    assert!(reason.contains("too early"), "{reason}");
    let refused = world.chain.send(&world.key(1), early).await;
    assert!(matches!(refused, Err(ChainError::Reverted { .. })));
    world.devnet.pass(86_401).await.unwrap();
    world.finish().await;
    world.run(4, &settle).await;
    for number in payees {
        let payout = world
            .chain
            .account(world.address(number + 4))
            .await
            .unwrap();
        assert_eq!(payout.token, 50 * UNIT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_without_gas_starts_through_a_relayer() {
    let world = World::new().await;
    let device = voucher::device(9);
    let payer = world.key(1);
    world
        .run(
            5,
            &Call::Faucet {
                to: payer.address(),
            },
        )
        .await;
    world.devnet.set_coin(payer.address(), 0).await.unwrap();
    let permit = payer
        .permit(world.network(), 500 * UNIT, U256::ZERO, U256::MAX)
        .unwrap();
    let mut start = world.start(payer.address(), device.address());
    start.relayer_fee = UNIT;
    let signature = payer.start(world.network(), &start).unwrap();
    let call = Call::StartFor {
        start,
        permit: Some(permit),
        signature,
    };
    world.run(5, &call).await;
    let relayer = world.chain.account(world.address(5)).await.unwrap();
    assert_eq!(relayer.token, UNIT);
    let again = world.chain.preview(world.address(5), &call).await.unwrap();
    assert_ne!(again.simulation, Simulation::Ok, "each number once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stake_answers_for_an_operator_key() {
    let world = World::new().await;
    let (owner, operator) = (world.address(1), world.key(2));
    world.run(1, &Call::Faucet { to: owner }).await;
    let spender = chain::Spender::Stake;
    let amount = 50 * UNIT;
    world.run(1, &Call::Approve { spender, amount }).await;
    world.run(1, &Call::Stake { amount }).await;
    let signature = operator.operator(world.network(), owner).unwrap();
    let set = Call::SetOperator {
        operator: operator.address(),
        signature,
    };
    world.run(1, &set).await;
    let seen = world
        .chain
        .operator(operator.address())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((seen.owner, seen.slashed), (owner, false));
    world.run(1, &Call::ThawStake { amount: 20 * UNIT }).await;
    let stake = world.chain.stake(owner).await.unwrap();
    assert_eq!((stake.amount, stake.thawing), (30 * UNIT, 20 * UNIT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_that_somebody_used_first_deposits_all_the_same() {
    let world = World::new().await;
    let key = world.key(1);
    world.run(1, &Call::Faucet { to: key.address() }).await;
    let permit = key
        .permit(world.network(), 500 * UNIT, U256::ZERO, U256::MAX)
        .unwrap();
    let deposit = Call::Deposit {
        amount: 500 * UNIT,
        permit: Some(permit),
        nonce: U256::from(1),
    };
    let preview = world.chain.preview(key.address(), &deposit).await.unwrap();
    // Somebody who saw it brings the permit alone, before it.
    let data = alloy::sol_types::SolCall::abi_encode(&permitCall {
        owner: key.address(),
        spender: world.network().vault,
        value: U256::from(permit.value),
        deadline: permit.deadline,
        v: permit.v,
        r: permit.r,
        s: permit.s,
    });
    let data = alloy::hex::encode_prefixed(data);
    let stranger = world.address(9);
    let transaction = serde_json::json!([{ "from": stranger, "to": world.network().token.address, "data": data }]);
    world
        .devnet
        .control("eth_sendTransaction", transaction)
        .await
        .unwrap();
    world.finish().await;
    assert_eq!(
        world
            .chain
            .account(key.address())
            .await
            .unwrap()
            .token_nonce,
        U256::from(1)
    );
    let id = world.chain.send(&key, preview).await.unwrap();
    world.settle(id).await;
    let account = world.chain.account(key.address()).await.unwrap();
    assert_eq!(
        (account.token, account.vault_balance),
        (500 * UNIT, 500 * UNIT)
    );
}

alloy::sol! {
    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s);
}

/// Block and event, up to the newest final block.
async fn all_events(world: &World, from: u64) -> Vec<(u64, VaultEvent)> {
    let last = world.chain.health().borrow().final_block.unwrap();
    let mut stream = world.chain.events(from);
    let mut all = Vec::new();
    let mut before: Option<Final> = None;
    if from > last {
        return all;
    }
    within(async {
        while before.as_ref().is_none_or(|before| before.block < last) {
            let next = stream.recv().await.unwrap();
            assert!(
                before.is_none_or(|before| before.block < next.block),
                "in order"
            );
            all.extend(next.events.iter().map(|it| (next.block, it.event.clone())));
            before = Some(next);
        }
    })
    .await;
    all
}

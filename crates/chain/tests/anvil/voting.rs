//! A vote from its weight to its effect, and what a proposal says it does.

use chain::{
    Address, B256, Bytes, Call, Change, Model, Motion, ProposalState, Simulation, Spender, Support,
    U256,
};

use crate::world::{UNIT, World};

async fn weight(world: &World, number: usize, amount: u128) {
    let to = world.address(number);
    world.run(number, &Call::Faucet { to }).await;
    let spender = Spender::Votes;
    world.run(number, &Call::Approve { spender, amount }).await;
    world.run(number, &Call::Wrap { amount }).await;
    world.run(number, &Call::Delegate { to }).await;
    // Weight counts from the second after.
    world.devnet.pass(2).await.unwrap();
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_changes_what_nodes_read() {
    let world = World::new().await;
    weight(&world, 1, 100 * UNIT).await;
    let voter = world.address(1);
    let power = world.chain.votes(voter).await.unwrap();
    assert_eq!((power.wrapped, power.votes), (100 * UNIT, 100 * UNIT));
    assert_eq!(power.delegate, Some(voter));
    let before = world.chain.params().await.unwrap();
    assert_eq!((before.audit_rate, before.fee.bps), (100, 0));

    let model = Model {
        digest: B256::repeat_byte(1),
        licence: "Apache-2.0".to_owned(),
        family: "llama".to_owned(),
        card: B256::repeat_byte(2),
    };
    let to = world.address(7);
    let changes = vec![
        Change::AuditRate(250),
        Change::Fee { bps: 50, to },
        Change::ListModel(model.clone()),
    ];
    let propose = Call::Propose {
        changes: changes.clone(),
        description: "Audit more. In truth: whatever its words say.".to_owned(),
    };
    world.run(1, &propose).await;
    let proposal = world.chain.proposals().await.unwrap().remove(0);
    assert_eq!(proposal.state, ProposalState::Pending);
    assert_eq!((proposal.proposer, proposal.quorum), (voter, None));
    let decoded: Vec<_> = proposal
        .calls
        .iter()
        .map(|call| call.change.clone().unwrap())
        .collect();
    assert_eq!(decoded, changes);

    let rules = world.chain.vote_rules().await.unwrap();
    world.devnet.pass(rules.delay_s + 1).await.unwrap();
    world.finish().await;
    let vote = Call::Vote {
        id: proposal.id,
        support: Support::For,
        reason: "yes".to_owned(),
    };
    world.run(1, &vote).await;
    let proposal = world.chain.proposals().await.unwrap().remove(0);
    assert_eq!(proposal.state, ProposalState::Active);
    // What is signed is the number: it stands for this text and no other.
    assert_eq!(proposal.motion.id(), proposal.id);
    let mut other = proposal.motion.clone();
    other.description.push('.');
    assert_ne!(other.id(), proposal.id);
    assert_eq!(
        (proposal.votes_for, proposal.quorum),
        (100 * UNIT, Some(4 * UNIT))
    );
    let standing = world.chain.standing(&proposal, voter).await.unwrap();
    assert_eq!(standing, (100 * UNIT, true));
    let twice = world.chain.preview(voter, &vote).await.unwrap();
    let Simulation::Reverted { reason } = twice.simulation else {
        panic!("once is enough");
    };
    assert!(reason.contains("AlreadyCast"), "{reason}");

    world.devnet.pass(rules.period_s).await.unwrap();
    world.finish().await;
    let proposal = world.chain.proposals().await.unwrap().remove(0);
    assert_eq!(proposal.state, ProposalState::Succeeded);
    world.run(2, &Call::Queue(proposal.motion.clone())).await;
    let proposal = world.chain.proposals().await.unwrap().remove(0);
    assert!(proposal.state == ProposalState::Queued && proposal.eta.is_some());
    world.devnet.pass(60).await.unwrap();
    world.finish().await;
    world.run(2, &Call::Execute(proposal.motion)).await;
    let after = world.chain.params().await.unwrap();
    assert_eq!(
        (after.audit_rate, after.fee.bps, after.fee.to),
        (250, 50, to)
    );
    assert_eq!(world.chain.models().await.unwrap(), [model]);
    let proposal = world.chain.proposals().await.unwrap().remove(0);
    assert_eq!(proposal.state, ProposalState::Executed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proposal_does_is_read_from_its_calls_alone() {
    let world = World::new().await;
    let network = world.network();
    let honest = Motion::new(network, &[Change::AuditRate(1)], "nothing at all");
    let mut padded = honest.clone();
    padded.calldatas[0] = [&honest.calldatas[0][..], &[0]].concat().into();
    let mut elsewhere = honest.clone();
    elsewhere.targets[0] = network.vault;
    let mut paying = honest.clone();
    paying.values[0] = U256::from(1);
    let mut nothing = honest.clone();
    nothing.calldatas[0] = Bytes::new();
    assert_eq!(honest.decode(network)[0].change, Some(Change::AuditRate(1)));
    for motion in [padded, elsewhere, paying, nothing] {
        let call = &motion.decode(network)[0];
        assert_eq!(call.change, None);
        assert!(call.text(network).contains("unknown call"));
    }
    let stranger = Motion {
        targets: vec![Address::repeat_byte(9)],
        ..honest
    };
    assert!(stranger.decode(network)[0].text(network).contains("0x0909"));
}

//! Vouchers and reservations, signed as a device signs them.

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    signers::{SignerSync, local::PrivateKeySigner},
    sol,
    sol_types::{SolStruct, eip712_domain},
};
use chain::{ClaimRow, Network, PromiseRow};

sol! {
    struct Voucher {
        address payer;
        address payee;
        uint128 cumulative;
        bytes32 work;
    }
    struct Reservation {
        address payer;
        address payee;
        uint128 upto;
        uint64 until;
        uint64 nonce;
    }
}

pub(crate) fn device(seed: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_slice(&[seed; 32]).unwrap()
}

pub(crate) fn row(
    network: &Network,
    signer: &PrivateKeySigner,
    payer: Address,
    payee: Address,
    cumulative: u128,
) -> ClaimRow {
    let work = keccak256(U256::from(cumulative).to_be_bytes::<32>());
    let voucher = Voucher {
        payer,
        payee,
        cumulative,
        work,
    };
    ClaimRow {
        payer,
        cumulative,
        work,
        signature: sign(network, signer, &voucher),
    }
}

pub(crate) fn promise(
    network: &Network,
    signer: &PrivateKeySigner,
    payer: Address,
    payee: Address,
    amount: u128,
) -> PromiseRow {
    let row = row(network, signer, payer, payee, amount);
    PromiseRow {
        payee,
        amount,
        until: 0,
        nonce: 0,
        work: row.work,
        signature: row.signature,
    }
}

pub(crate) fn reservation(
    network: &Network,
    signer: &PrivateKeySigner,
    payer: Address,
    payee: Address,
    (upto, until, nonce): (u128, u64, u64),
) -> [u8; 64] {
    let reservation = Reservation {
        payer,
        payee,
        upto,
        until,
        nonce,
    };
    sign(network, signer, &reservation)
}

fn sign<T: SolStruct>(network: &Network, signer: &PrivateKeySigner, value: &T) -> [u8; 64] {
    let domain = eip712_domain! {
        name: "DGC Pay Vault",
        version: "1",
        chain_id: network.chain_id,
        verifying_contract: network.vault,
    };
    let digest: B256 = value.eip712_signing_hash(&domain);
    let signature = signer.sign_hash_sync(&digest).unwrap();
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    bytes[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    if signature.v() {
        bytes[32] |= 0x80;
    }
    bytes
}

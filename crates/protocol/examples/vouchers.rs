//! What vouchers cost: processor time to sign and check one, beside libsecp256k1 in the same rounds, and gas in the vault by
//! real transactions. Prints one line of JSON, which `cargo xtask bench voucher` reads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../tests/vault/chain.rs"]
mod chain;
#[path = "vouchers/gas.rs"]
mod gas;

use std::time::Instant;

use alloy_primitives::keccak256;
use protocol::voucher::{
    Address, B256, SessionKey, Vault, Voucher,
    payee::{KnownSigner, STREAM_WINDOW, stride},
    payer::{Book, Grant},
};
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey, ecdsa::RecoverableSignature};
use serde_json::json;

/// Vouchers of a round: enough that a clock's grain is nothing.
const VOUCHERS: u32 = 400;
/// Rounds of each side, by turns; the fastest counts, since others can only slow one down.
const ROUNDS: usize = 15;
const NOW: u64 = 1_800_000_000;

fn main() {
    let bench = Sides::new();
    let mut fastest = [f64::INFINITY; 6];
    for _ in 0..ROUNDS {
        for (best, side) in fastest.iter_mut().zip([
            Sides::sign as fn(&Sides),
            Sides::sign_plain,
            Sides::check,
            Sides::recover_plain,
            Sides::check_known,
            Sides::verify_plain,
        ]) {
            let start = Instant::now();
            side(&bench);
            *best = best.min(start.elapsed().as_secs_f64() / f64::from(VOUCHERS));
        }
    }
    let rate = |side: usize| 1.0 / fastest[side];
    println!(
        "{}",
        json!({
            "tokens_per_voucher": stride(STREAM_WINDOW),
            "sign": [rate(0), rate(1)],
            "verify": [rate(2), rate(3)],
            "verify_known": [rate(4), rate(5)],
            "gas": gas::measured(),
        })
    );
}

/// The same vouchers for both sides. Each side hashes what it signs or checks: that is part of the work.
struct Sides {
    vault: Vault,
    key: SessionKey,
    known: KnownSigner,
    vouchers: Vec<Voucher>,
    secp: Secp256k1<secp256k1::All>,
    secret: SecretKey,
    public: PublicKey,
    plain: Vec<RecoverableSignature>,
}

impl Sides {
    fn new() -> Self {
        let vault = Vault::new(chain::CHAIN_ID, Address::repeat_byte(0xee));
        let key = SessionKey::from_secret(&[7; 32]).unwrap();
        let vouchers: Vec<Voucher> = (0..VOUCHERS).map(|n| signed(&vault, &key, n)).collect();
        let first = Voucher::decode(&vouchers[0].encode(), payee()).unwrap();
        let known = KnownSigner::of(&vault, &first).unwrap();
        let secp = Secp256k1::new();
        let secret = SecretKey::from_byte_array([7; 32]).unwrap();
        let public = PublicKey::from_secret_key(&secp, &secret);
        let mut sides = Self {
            vault,
            key,
            known,
            vouchers,
            secp,
            secret,
            public,
            plain: Vec::new(),
        };
        sides.plain = (0..VOUCHERS)
            .map(|n| sides.secp.sign_ecdsa_recoverable(message(n), &sides.secret))
            .collect();
        sides
    }

    fn sign(&self) {
        for n in 0..VOUCHERS {
            std::hint::black_box(signed(&self.vault, &self.key, n));
        }
    }

    fn sign_plain(&self) {
        for n in 0..VOUCHERS {
            std::hint::black_box(self.secp.sign_ecdsa_recoverable(message(n), &self.secret));
        }
    }

    fn check(&self) {
        for voucher in &self.vouchers {
            let read = Voucher::decode(&voucher.encode(), payee()).unwrap();
            assert_eq!(
                read.check(&self.vault).unwrap().signer(),
                self.key.address()
            );
        }
    }

    fn recover_plain(&self) {
        for (n, signature) in (0..).zip(&self.plain) {
            let found = self.secp.recover_ecdsa(message(n), signature).unwrap();
            assert_eq!(found, self.public);
        }
    }

    fn check_known(&self) {
        for voucher in &self.vouchers {
            let read = Voucher::decode(&voucher.encode(), payee()).unwrap();
            read.check_known(&self.vault, &self.known).unwrap();
        }
    }

    fn verify_plain(&self) {
        for (n, signature) in (0..).zip(&self.plain) {
            let plain = signature.to_standard();
            self.secp
                .verify_ecdsa(message(n), &plain, &self.public)
                .unwrap();
        }
    }
}

fn payee() -> Address {
    Address::repeat_byte(2)
}

fn signed(vault: &Vault, key: &SessionKey, n: u32) -> Voucher {
    let grant = Grant {
        granted: u128::MAX,
        until: u64::MAX,
    };
    let mut book = Book::new(Address::repeat_byte(1), key.address(), grant);
    let promised = book
        .promise(payee(), u128::from(n) + 1, B256::repeat_byte(9), NOW)
        .unwrap();
    key.sign(vault, promised).unwrap()
}

/// What a plain program would sign: one hash over the five words of the struct, and one with the domain before it.
fn message(n: u32) -> Message {
    let mut words = [9; 5 * 32];
    words[..4].copy_from_slice(&n.to_be_bytes());
    let mut digest = [3; 66];
    digest[34..].copy_from_slice(keccak256(words).as_slice());
    Message::from_digest(keccak256(digest).0)
}

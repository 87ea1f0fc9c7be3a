//! Vouchers: their exact bytes, who may sign what, and how long a payee serves.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::{
    price::{Price, Prices},
    voucher::{
        Address, B256, RESERVATION_BYTES, Reservation, SessionKey, VOUCHER_BYTES, Vault, Voucher,
        VoucherError,
        payee::{self, Costs, Debt, KnownSigner, LineOfJob, Next, NotServed, SignerFacts},
        payer::{Book, FIRST_RESERVATION_S, Grant, Hold, MAX_RESERVATION_S, Refused},
    },
};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 24 * 60 * 60;

fn address(byte: u8) -> Address {
    Address::repeat_byte(byte)
}

fn vault() -> Vault {
    Vault::new(31_337, address(0xee))
}

fn key() -> SessionKey {
    SessionKey::from_secret(&[7; 32]).unwrap()
}

fn book(granted: u128) -> Book {
    let grant = Grant {
        granted,
        until: NOW + 30 * DAY,
    };
    Book::new(address(1), key().address(), grant)
}

fn voucher(cumulative: u128) -> Voucher {
    let promised = book(u128::MAX)
        .promise(address(2), cumulative, B256::repeat_byte(9), NOW)
        .unwrap();
    key().sign(&vault(), promised).unwrap()
}

#[test]
fn a_voucher_is_read_back_and_knows_its_signer() {
    let signed = voucher(1_000);
    let read = Voucher::decode(&signed.encode(), address(2)).unwrap();
    assert_eq!(read.check(&vault()).unwrap(), signed);
    assert_eq!(signed.signer(), key().address());
    let known = KnownSigner::of(&vault(), &read).unwrap();
    assert_eq!(known.address(), key().address());
    assert_eq!(read.check_known(&vault(), &known).unwrap(), signed);
}

#[test]
fn a_voucher_counts_in_one_vault_on_one_chain_for_one_payee() {
    let bytes = voucher(1_000).encode();
    let signer = |vault: &Vault, payee| {
        Voucher::decode(&bytes, payee)
            .unwrap()
            .check(vault)
            .map(|voucher| voucher.signer())
    };
    let right = Ok(key().address());
    assert_eq!(signer(&vault(), address(2)), right);
    assert_ne!(signer(&Vault::new(1, address(0xee)), address(2)), right);
    assert_ne!(
        signer(&Vault::new(31_337, address(0xed)), address(2)),
        right
    );
    assert_ne!(signer(&vault(), address(3)), right);
}

/// Signatures that another program made (vouchers.py): both are deterministic, so ours are the same to the byte.
#[test]
fn signatures_are_those_of_another_program() {
    let known: serde_json::Value = serde_json::from_str(include_str!("vouchers.json")).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    assert_eq!(text(&known["signer"]), key().address().to_string());
    for row in known["vouchers"].as_array().unwrap() {
        let work = B256::from_slice(&hex::decode(text(&row["work"])).unwrap());
        let promised = book(u128::MAX)
            .promise(
                address(2),
                text(&row["cumulative"]).parse().unwrap(),
                work,
                NOW,
            )
            .unwrap();
        let signed = key().sign(&vault(), promised).unwrap();
        assert_eq!(hex::encode(signed.signature()), text(&row["signature"]));
    }
    for row in known["reservations"].as_array().unwrap() {
        let upto = text(&row["upto"]).parse().unwrap();
        let until = row["until"].as_u64().unwrap();
        let held = book(u128::MAX)
            .hold(address(2), upto, until, upto, NOW)
            .unwrap();
        let signed = key().sign_reservation(&vault(), held).unwrap();
        assert_eq!(hex::encode(signed.signature()), text(&row["signature"]));
    }
}

#[test]
fn every_flipped_bit_is_another_signer_or_none() {
    let signed = voucher(1_000);
    let known = KnownSigner::of(
        &vault(),
        &Voucher::decode(&signed.encode(), address(2)).unwrap(),
    )
    .unwrap();
    for bit in 0..VOUCHER_BYTES * 8 {
        let mut bytes = signed.encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let read = Voucher::decode(&bytes, address(2)).unwrap();
        assert_ne!(
            read.check(&vault()).map(|voucher| voucher.signer()),
            Ok(key().address()),
            "bit {bit}"
        );
        // The parity of v is not part of the signature proper, so the known key does not look at it.
        if bit != 68 * 8 + 32 * 8 + 7 {
            assert_eq!(
                read.check_known(&vault(), &known),
                Err(VoucherError::Signature),
                "bit {bit}"
            );
        }
    }
}

#[test]
fn other_lengths_are_refused() {
    for len in [0, 1, VOUCHER_BYTES - 1, VOUCHER_BYTES + 1] {
        assert_eq!(
            Voucher::decode(&vec![0; len], address(2)),
            Err(VoucherError::Length {
                expected: VOUCHER_BYTES,
                got: len
            })
        );
    }
}

#[test]
fn a_key_signs_its_own_book_alone() {
    let other = SessionKey::from_secret(&[8; 32]).unwrap();
    let promised = book(10).promise(address(2), 1, B256::ZERO, NOW).unwrap();
    assert!(matches!(
        other.sign(&vault(), promised),
        Err(VoucherError::Signer { .. })
    ));
    assert!(SessionKey::from_secret(&[0; 32]).is_err());
    assert!(SessionKey::from_secret(&[0xff; 32]).is_err());
}

#[test]
fn a_signer_stops_at_its_grant() {
    let mut book = book(100);
    let _ = book.promise(address(2), 60, B256::ZERO, NOW).unwrap();
    assert_eq!(
        book.promise(address(3), 41, B256::ZERO, NOW),
        Err(Refused::Grant {
            promised: 60,
            granted: 100,
            more: 41
        })
    );
    let _ = book.promise(address(3), 40, B256::ZERO, NOW).unwrap();
    // The same total again begins the next job of a line.
    let _ = book.promise(address(3), 40, B256::ZERO, NOW).unwrap();
    assert_eq!(
        book.promise(address(3), 39, B256::ZERO, NOW),
        Err(Refused::Lower {
            line: 40,
            cumulative: 39
        })
    );
}

#[test]
fn a_lying_endpoint_cannot_shrink_or_a_late_one_revive_a_grant() {
    let mut book = book(100);
    let until = NOW + 30 * DAY;
    book.granted(Grant { granted: 5, until });
    let _ = book.promise(address(2), 100, B256::ZERO, NOW).unwrap();
    book.granted(Grant {
        granted: 200,
        until: NOW,
    });
    assert_eq!(
        book.promise(address(2), 101, B256::ZERO, NOW),
        Err(Refused::Ended { until: NOW })
    );
}

#[test]
fn a_reservation_is_small_and_short() {
    let mut book = book(1_000);
    let soon = NOW + FIRST_RESERVATION_S;
    assert_eq!(
        book.hold(address(2), 101, soon, 1_000, NOW),
        Err(Refused::HoldsTooMuch {
            more: 101,
            most: 100
        })
    );
    assert_eq!(
        book.hold(address(2), 21, soon, 10, NOW),
        Err(Refused::HoldsTooMuch { more: 21, most: 20 })
    );
    assert_eq!(
        book.hold(address(2), 20, soon + 1, 10, NOW),
        Err(Refused::HoldsTooLong {
            seconds: FIRST_RESERVATION_S + 1,
            most: FIRST_RESERVATION_S
        })
    );
    let held = book.hold(address(2), 20, soon, 10, NOW).unwrap();
    let signed = key().sign_reservation(&vault(), held).unwrap();
    let bytes = signed.encode();
    assert_eq!(bytes.len(), RESERVATION_BYTES);
    let read = Reservation::decode(&bytes, address(2)).unwrap();
    assert_eq!(read.check(&vault()).unwrap(), signed);
    let _ = book.promise(address(2), 10, B256::ZERO, NOW).unwrap();
    let _ = book
        .hold(address(2), 40, NOW + MAX_RESERVATION_S, 100, NOW)
        .unwrap();
}

#[test]
fn what_is_held_counts_until_the_chain_says_otherwise() {
    let mut book = book(1_000);
    let held = book.hold(address(2), 100, NOW + 60, 100, NOW).unwrap();
    assert_eq!(book.promised(), 100);
    book.chain_time(NOW + 59);
    assert_eq!(book.promised(), 100);
    let mut given_up = book.clone();
    given_up.released(&address(2), held.nonce());
    assert_eq!(given_up.promised(), 0);
    book.chain_time(NOW + 60);
    assert_eq!(book.promised(), 0);
}

/// A slow, obvious account of the same: every promise that was ever made and could still be held against its signer.
#[derive(Default)]
struct Model {
    vouchers: BTreeMap<Address, u128>,
    holds: Vec<(Address, u128, u64, u64)>,
}

impl Model {
    fn worst(&self, chain: u64) -> u128 {
        let payees = self
            .vouchers
            .keys()
            .chain(self.holds.iter().map(|hold| &hold.0));
        let payees: std::collections::BTreeSet<&Address> = payees.collect();
        payees
            .into_iter()
            .map(|payee| {
                let voucher = self.vouchers.get(payee).copied().unwrap_or(0);
                let held = self
                    .holds
                    .iter()
                    .filter(|hold| hold.0 == *payee && hold.2 > chain);
                held.map(|hold| hold.1).max().unwrap_or(0).max(voucher)
            })
            .sum()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Promise(u8, u128),
    Hold(u8, u128, u64),
    Release(u8),
    Chain(u64),
    Grant(u128),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u8, 0..2_000u128).prop_map(|(payee, to)| Step::Promise(payee, to)),
        3 => (0..4u8, 0..2_000u128, 1..9 * DAY).prop_map(|(payee, to, life)| Step::Hold(payee, to, life)),
        1 => (0..4u8).prop_map(Step::Release),
        1 => (0..3 * DAY).prop_map(Step::Chain),
        1 => (0..3_000u128).prop_map(Step::Grant),
    ]
}

proptest! {
    /// Whatever is asked of it, what a book let out never sums to more than the grant, by a count that forgets nothing.
    #[test]
    fn no_order_of_steps_promises_past_the_grant(steps in prop::collection::vec(step(), 1..120)) {
        let mut granted = 1_000;
        let mut book = book(granted);
        let mut model = Model::default();
        let mut chain = NOW;
        for step in steps {
            match step {
                Step::Promise(payee, to) => {
                    if book.promise(address(payee), to, B256::ZERO, chain).is_ok() {
                        model.vouchers.insert(address(payee), to);
                    }
                }
                Step::Hold(payee, upto, life) => {
                    if let Ok(held) = book.hold(address(payee), upto, chain + life, u128::MAX, chain) {
                        model.holds.push((address(payee), upto, chain + life, held.nonce()));
                    }
                }
                Step::Release(payee) => {
                    let last = model.holds.iter().filter(|hold| hold.0 == address(payee)).map(|hold| hold.3).max();
                    if let Some(nonce) = last {
                        book.released(&address(payee), nonce);
                        model.holds.retain(|hold| hold.0 != address(payee));
                    }
                }
                Step::Chain(time) => {
                    chain += time;
                    book.chain_time(chain);
                }
                Step::Grant(to) => {
                    granted = granted.max(to);
                    book.granted(Grant { granted: to, until: NOW + 30 * DAY });
                }
            }
            prop_assert!(model.worst(chain) <= granted);
            prop_assert_eq!(model.worst(chain), book.promised());
            let lines = book.lines().map(|(payee, line)| (*payee, line.clone()));
            let grant = Grant { granted, until: NOW + 30 * DAY };
            prop_assert_eq!(&Book::restore(address(1), key().address(), grant, lines), &book);
        }
    }

    /// No bytes make a decoder panic, and none that nobody signed are somebody's.
    #[test]
    fn any_bytes_are_refused_or_checked(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(read) = Voucher::decode(&bytes, address(2)) {
            let _ = read.check(&vault());
        }
        if let Ok(read) = Reservation::decode(&bytes, address(2)) {
            let _ = read.check(&vault());
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- payees

const COSTS: Costs = Costs {
    claim: 10,
    reserve: 10,
};

fn prices() -> Prices {
    // One base unit a token.
    Prices {
        input: Price::new(1_000_000),
        cached: Price::new(1_000_000),
        output: Price::new(1_000_000),
    }
}

fn bonded() -> SignerFacts {
    SignerFacts {
        left: 1_000_000,
        until: NOW + 30 * DAY,
        bond: 10_000,
    }
}

fn next(signer: SignerFacts, debt: Debt, due: u128, vouchered: u128) -> Result<Next, NotServed> {
    let line = LineOfJob {
        base: 500,
        due,
        vouchered,
        window: payee::STREAM_WINDOW,
    };
    payee::next(&prices(), &signer, &debt, &COSTS, &line, NOW)
}

#[test]
fn a_stranger_with_a_bond_asks_without_a_transaction() {
    assert_eq!(next(bonded(), Debt::default(), 0, 0), Ok(Next::Serve));
    assert_eq!(
        payee::credit(&prices(), &bonded(), &Debt::default(), &COSTS),
        4096
    );
}

#[test]
fn without_a_bond_it_is_a_window() {
    let bare = SignerFacts {
        bond: 0,
        ..bonded()
    };
    assert_eq!(
        payee::credit(&prices(), &bare, &Debt::default(), &COSTS),
        64
    );
}

#[test]
fn the_window_stops_at_its_last_token() {
    assert_eq!(next(bonded(), Debt::default(), 163, 100), Ok(Next::Serve));
    assert_eq!(
        next(bonded(), Debt::default(), 164, 100),
        Ok(Next::Voucher { cumulative: 664 })
    );
}

#[test]
fn beyond_the_credit_a_reservation_is_asked_for() {
    let debt = Debt {
        open: 4097,
        claimed: 0,
    };
    assert_eq!(
        next(bonded(), debt, 0, 0),
        Ok(Next::Reservation { least: 1_000 })
    );
    let poor = SignerFacts {
        left: 999,
        ..bonded()
    };
    assert_eq!(
        next(poor, debt, 0, 0),
        Err(NotServed::TooDear {
            least: 1_000,
            left: 999
        })
    );
}

#[test]
fn credit_grows_with_what_was_claimed_up_to_a_bound() {
    let costs = Costs {
        claim: 1_000,
        reserve: 1_000,
    };
    let credit = |claimed| payee::credit(&prices(), &bonded(), &Debt { open: 0, claimed }, &costs);
    assert_eq!(credit(0), 4096);
    assert_eq!(credit(50_000), 50_000);
    assert_eq!(credit(u128::MAX), 100_000);
    let poor = SignerFacts {
        left: 7,
        ..bonded()
    };
    assert_eq!(
        payee::credit(
            &prices(),
            &poor,
            &Debt {
                open: 0,
                claimed: u128::MAX
            },
            &costs
        ),
        7
    );
}

#[test]
fn a_signer_near_its_end_is_not_served() {
    let ending = SignerFacts {
        until: NOW + DAY - 1,
        ..bonded()
    };
    assert_eq!(
        next(ending, Debt::default(), 0, 0),
        Err(NotServed::SignerEnds { left_s: DAY - 1 })
    );
}

#[test]
fn nothing_is_asked_for_what_is_free() {
    let line = LineOfJob {
        base: 0,
        due: 0,
        vouchered: 0,
        window: 64,
    };
    let over = SignerFacts {
        left: 0,
        until: 0,
        bond: 0,
    };
    assert_eq!(
        payee::next(&Prices::FREE, &over, &Debt::default(), &COSTS, &line, NOW),
        Ok(Next::Serve)
    );
}

#[test]
fn what_was_signed_before_is_signed_again_to_the_byte_and_nothing_else_is() {
    let mut book = book(1_000);
    let (payee, work) = (address(2), B256::repeat_byte(9));
    let promised = book.promise(payee, 100, work, NOW).unwrap();
    let signed = key().sign(&vault(), promised).unwrap();
    let held = book.hold(payee, 150, NOW + 60, 100, NOW).unwrap();
    let reserved = key().sign_reservation(&vault(), held).unwrap();
    let hold = Hold {
        upto: 150,
        until: NOW + 60,
        nonce: 1,
    };

    let again = book.again(payee, 100, work).unwrap();
    assert_eq!(key().sign(&vault(), again).unwrap(), signed);
    let again = book.hold_again(payee, hold).unwrap();
    assert_eq!(key().sign_reservation(&vault(), again).unwrap(), reserved);

    // More than was promised, to somebody else, or held otherwise: no.
    assert_eq!(book.again(payee, 101, work), None);
    assert_eq!(book.again(address(3), 1, work), None);
    let longer = Hold {
        until: NOW + 61,
        ..hold
    };
    let higher = Hold { upto: 151, ..hold };
    let next = Hold { nonce: 2, ..hold };
    for other in [longer, higher, next] {
        assert_eq!(book.hold_again(payee, other), None, "{other:?}");
    }
    assert_eq!(book.hold_again(address(3), hold), None);
    assert_eq!(book.promised(), 150, "nothing more is promised by it");

    // Given up, it may be signed again only where the line has come that far.
    book.released(&payee, 1);
    assert_eq!(book.hold_again(payee, hold), None);
    let promised = book.promise(payee, 150, work, NOW).unwrap();
    assert_eq!(promised.cumulative(), 150);
    assert!(book.hold_again(payee, hold).is_some());
    assert_eq!(book.hold_again(payee, next), None);
}

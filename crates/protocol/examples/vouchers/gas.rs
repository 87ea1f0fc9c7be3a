//! Gas of the vault's functions, each as a transaction of its own on the code that is deployed.

use alloy_primitives::keccak256;
use alloy_sol_types::{SolCall, SolValue};
use k256::ecdsa::SigningKey;
use protocol::voucher::{
    Address, B256, Reservation, SessionKey, Vault, Voucher,
    payer::{Book, Grant},
};
use revm::primitives::U256;
use serde_json::{Map, Value};

use crate::chain::{CHAIN_ID, Chain, DgcDev, FEE_SETTER, PayVault, halves};

const START: u64 = 1_800_000_000;
const DAY: u64 = 24 * 60 * 60;
const GAS_SHARE: u128 = 10_000_000_000_000_000;
const REWARD: u128 = 500_000_000_000_000_000;
/// Lines of the largest batch, each of a payer of its own.
const LINES: usize = 100;
const UNIT: u128 = 1_000_000_000_000_000_000;
const PAYEE: Address = Address::repeat_byte(0xbe);
const PAYOUT: Address = Address::repeat_byte(0xc0);
const ANYONE: Address = Address::repeat_byte(0xaa);

/// Names and gas.
pub(crate) fn measured() -> Map<String, Value> {
    let mut desk = Desk::new();
    let mut gas = Map::new();
    let mut put = |name: &str, value: f64| gas.insert(name.to_owned(), value.into());
    put("register_payee", desk.register());
    put("deposit", desk.deposit(0));
    put("set_signer", desk.set_signer(0));
    put("start", desk.start());
    put("start_for", desk.start_for());
    for line in 1..LINES {
        desk.deposit(line);
        desk.set_signer(line);
    }
    put("reserve", desk.reserve(0));
    put("release", desk.release(0));
    // Each size on lines that were never claimed before, then on the same ones again.
    for (size, from) in [(1, 0), (10, 1), (LINES, 0)] {
        let lines = from..from + size;
        let mut desk = Desk::new();
        desk.register();
        for line in 0..LINES {
            desk.deposit(line);
            desk.set_signer(line);
        }
        // Another claim has paid this payout and this vault before: it is the rows that are new.
        desk.claim(LINES - 1..LINES, 1);
        let before = size as f64;
        if size < LINES {
            put(
                &format!("row{size}_first"),
                desk.claim(lines.clone(), 1) / before,
            );
        } else {
            let mut fresh = Desk::new();
            fresh.register();
            for line in 0..LINES {
                fresh.deposit(line);
                fresh.set_signer(line);
            }
            put(
                &format!("row{size}_first"),
                fresh.claim(lines.clone(), 1) / before,
            );
            desk = fresh;
        }
        put(&format!("row{size}_repeat"), desk.claim(lines, 2) / before);
    }
    let mut joined = Desk::new();
    joined.register();
    joined.deposit(0);
    joined.set_signer(0);
    put("join", joined.join());
    joined.claim(0..1, 1);
    put("row1_joined", joined.claim(0..1, 2));
    put("unjoin", joined.unjoin());
    put("prove_overdraft", desk.prove());
    desk.chain.now += DAY;
    put("settle_overdraft", desk.settle());
    put("end_signer", desk.end_signer(1));
    desk.chain.now += 14 * DAY;
    put("thaw", desk.thaw(1));
    put("withdraw", desk.withdraw(1));
    put("set_fee", desk.set_fee());
    gas
}

struct Desk {
    chain: Chain,
    vault: Vault,
}

impl Desk {
    fn new() -> Self {
        let chain = Chain::new(START, GAS_SHARE, REWARD);
        let vault = Vault::new(CHAIN_ID, chain.vault);
        Self { chain, vault }
    }

    fn send<C: SolCall>(&mut self, from: Address, call: &C) -> f64 {
        let done = self.chain.send(from, call);
        done.unwrap_or_else(|| panic!("{} was refused", C::SIGNATURE))
            .gas as f64
    }

    fn fund(&mut self, payer: Address) {
        self.send(payer, &DgcDev::faucetCall { to: payer });
        let spender = self.chain.vault;
        let value = U256::MAX;
        self.send(payer, &DgcDev::approveCall { spender, value });
    }

    fn register(&mut self) -> f64 {
        let payout = PAYOUT;
        self.send(PAYEE, &PayVault::registerPayeeCall { payout })
    }

    /// To a signer that is new.
    fn join(&mut self) -> f64 {
        let call = PayVault::joinCall {
            payee: PAYEE,
            signer: key(0).address(),
            until: START + 30 * DAY,
        };
        self.send(PAYOUT, &call)
    }

    fn unjoin(&mut self) -> f64 {
        self.send(PAYOUT, &PayVault::unjoinCall { payee: PAYEE })
    }

    fn deposit(&mut self, line: usize) -> f64 {
        let payer = payer(line);
        self.fund(payer);
        let amount = 500 * UNIT;
        self.send(payer, &PayVault::depositCall { payer, amount })
    }

    fn set_signer(&mut self, line: usize) -> f64 {
        let call = PayVault::setSignerCall {
            signer: key(line).address(),
            add: 100 * UNIT,
            until: START + 30 * DAY,
            bond: UNIT,
            gasPot: UNIT,
        };
        self.send(payer(line), &call)
    }

    fn intent(payer: Address, relayer_fee: u128) -> PayVault::Start {
        PayVault::Start {
            payer,
            deposit: 500 * UNIT,
            signer: Address::repeat_byte(0x51),
            grant: 100 * UNIT,
            until: START + 30 * DAY,
            bond: UNIT,
            gasPot: UNIT,
            relayerFee: relayer_fee,
            nonce: U256::from(1),
            deadline: U256::from(START + DAY),
        }
    }

    /// With its permit, as a newcomer sends it.
    fn start(&mut self) -> f64 {
        let wallet = wallet(1);
        let payer = Address::from_public_key(wallet.verifying_key());
        self.send(payer, &DgcDev::faucetCall { to: payer });
        let call = PayVault::startCall {
            intent: Self::intent(payer, 0),
            permit: self.permit(&wallet),
        };
        self.send(payer, &call)
    }

    fn start_for(&mut self) -> f64 {
        let wallet = wallet(2);
        let payer = Address::from_public_key(wallet.verifying_key());
        self.send(payer, &DgcDev::faucetCall { to: payer });
        let intent = Self::intent(payer, UNIT);
        let kind = keccak256(
            "Start(address payer,uint128 deposit,address signer,uint128 grant,uint64 until,uint128 bond,uint128 gasPot,\
             uint128 relayerFee,uint256 nonce,uint256 deadline)",
        );
        let fields = keccak256((kind, intent.clone()).abi_encode());
        let (mut signature, odd) = sign(&wallet, typed(self.vault.separator(), fields));
        signature[32] |= u8::from(odd) << 7;
        let (r, vs) = halves(signature);
        let permit = self.permit(&wallet);
        let call = PayVault::startForCall {
            intent,
            permit,
            r,
            vs,
        };
        self.send(ANYONE, &call)
    }

    fn permit(&mut self, wallet: &SigningKey) -> PayVault::Permit {
        let owner = Address::from_public_key(wallet.verifying_key());
        let (value, deadline) = (U256::from(500 * UNIT), U256::from(START + DAY));
        let kind = keccak256(
            "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)",
        );
        let fields = (kind, owner, self.chain.vault, value, U256::ZERO, deadline);
        let separator = self.chain.token_domain();
        let (signature, odd) = sign(wallet, typed(separator, keccak256(fields.abi_encode())));
        let (r, s) = halves(signature);
        PayVault::Permit {
            value,
            deadline,
            v: 27 + u8::from(odd),
            r,
            s,
        }
    }

    fn reserve(&mut self, line: usize) -> f64 {
        let mut book = book(line);
        let until = START + DAY;
        let held = book
            .hold(PAYEE, UNIT, until, UNIT, START)
            .expect("a small reservation");
        let held: Reservation = key(line).sign_reservation(&self.vault, held).unwrap();
        let (r, vs) = halves(held.signature());
        let call = PayVault::reserveCall {
            payer: payer(line),
            payee: PAYEE,
            upto: held.upto,
            until,
            nonce: held.nonce,
            r,
            vs,
        };
        self.send(ANYONE, &call)
    }

    fn release(&mut self, line: usize) -> f64 {
        let call = PayVault::releaseCall {
            payer: payer(line),
            signer: key(line).address(),
            payee: PAYEE,
        };
        self.send(PAYEE, &call)
    }

    fn voucher(&self, line: usize, payee: Address, cumulative: u128) -> Voucher {
        let promised = book(line)
            .promise(payee, cumulative, B256::repeat_byte(9), START)
            .unwrap();
        key(line).sign(&self.vault, promised).unwrap()
    }

    fn claim(&mut self, lines: std::ops::Range<usize>, units: u128) -> f64 {
        let rows = lines
            .map(|line| {
                let voucher = self.voucher(line, PAYEE, units * UNIT);
                let (r, vs) = halves(voucher.signature());
                PayVault::Claim {
                    payer: voucher.payer,
                    cumulative: voucher.cumulative,
                    work: voucher.work,
                    r,
                    vs,
                }
            })
            .collect();
        self.send(PAYEE, &PayVault::claimCall { payee: PAYEE, rows })
    }

    fn prove(&mut self) -> f64 {
        let voucher = self.voucher(0, PAYEE, 101 * UNIT);
        let (r, vs) = halves(voucher.signature());
        let row = PayVault::Promise {
            payee: PAYEE,
            amount: voucher.cumulative,
            until: 0,
            nonce: 0,
            work: voucher.work,
            r,
            vs,
        };
        let call = PayVault::proveOverdraftCall {
            payer: payer(0),
            signer: key(0).address(),
            rows: vec![row],
        };
        self.send(ANYONE, &call)
    }

    fn settle(&mut self) -> f64 {
        let call = PayVault::settleOverdraftCall {
            payer: payer(0),
            signer: key(0).address(),
            payees: vec![PAYEE],
        };
        self.send(ANYONE, &call)
    }

    fn end_signer(&mut self, line: usize) -> f64 {
        let signer = key(line).address();
        self.send(payer(line), &PayVault::endSignerCall { signer })
    }

    fn thaw(&mut self, line: usize) -> f64 {
        let call = PayVault::thawCall {
            payer: payer(line),
            signer: key(line).address(),
        };
        self.send(ANYONE, &call)
    }

    fn withdraw(&mut self, line: usize) -> f64 {
        let amount = UNIT;
        self.send(payer(line), &PayVault::withdrawCall { amount })
    }

    fn set_fee(&mut self) -> f64 {
        let to = Address::repeat_byte(0xf1);
        self.send(FEE_SETTER, &PayVault::setFeeCall { bps: 100, to })
    }
}

/// Secrets in which nothing repeats, or calldata of zeros would look cheap.
fn secret(kind: u8, n: usize) -> [u8; 32] {
    keccak256([kind, u8::try_from(n).expect("a hundred lines")]).0
}

fn wallet(n: usize) -> SigningKey {
    SigningKey::from_slice(&secret(0, n)).unwrap()
}

fn key(line: usize) -> SessionKey {
    SessionKey::from_secret(&secret(1, line)).unwrap()
}

fn payer(line: usize) -> Address {
    Address::from_slice(&secret(2, line)[12..])
}

fn book(line: usize) -> Book {
    let grant = Grant {
        granted: 1_000 * UNIT,
        until: u64::MAX,
    };
    Book::new(payer(line), key(line).address(), grant)
}

fn typed(separator: B256, fields: B256) -> B256 {
    let mut text = vec![0x19, 0x01];
    text.extend_from_slice(separator.as_slice());
    text.extend_from_slice(fields.as_slice());
    keccak256(text)
}

fn sign(wallet: &SigningKey, digest: B256) -> ([u8; 64], bool) {
    let (signature, recovery) = wallet.sign_prehash_recoverable(digest.as_slice()).unwrap();
    (signature.to_bytes().into(), recovery.is_y_odd())
}

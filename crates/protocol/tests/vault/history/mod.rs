//! One random history: payers with honest and dishonest signers, payees that follow their rules, and strangers who meddle.

mod anyone;
mod compare;
mod dice;
mod payee;
mod payer;
mod tally;

use std::collections::BTreeMap;

use protocol::voucher::{
    Address, Reservation, SessionKey, Vault, Voucher,
    payee::Costs,
    payer::{Book, Grant},
};
use revm::primitives::U256;

use self::dice::Dice;
pub(crate) use self::tally::Tally;
use crate::{
    chain::{Chain, DgcDev, PayVault},
    model::{self, LineOf},
};

const START: u64 = 1_800_000_000;
const GAS_SHARE: u128 = 300;
const REPORT_REWARD: u128 = 5_000;
const PAYERS: [Address; 2] = [Address::repeat_byte(0xa1), Address::repeat_byte(0xa2)];
const PAYEES: [Address; 3] = [
    Address::repeat_byte(0xb1),
    Address::repeat_byte(0xb2),
    Address::repeat_byte(0xb3),
];
/// Signers of each payer. The last one of the second payer signs whatever it likes.
const SIGNERS: usize = 2;
/// What each payer starts with: the token's faucet gives no less.
const TOKENS: u128 = 1_000_000_000_000_000_000_000;
const COSTS: Costs = Costs {
    claim: 20,
    reserve: 30,
};
/// Everything is compared after so many steps; what a step touched, after each.
const COMPARE_ALL: u64 = 40;

struct Device {
    key: SessionKey,
    payer: Address,
    honest: bool,
    book: Book,
    /// What a dishonest one remembers instead.
    signed: BTreeMap<Address, u128>,
}

/// What a payee knows of a line.
#[derive(Clone, Default)]
struct Known {
    best: Option<Voucher>,
    accepted: u128,
}

pub(crate) struct History {
    dice: Dice,
    chain: Chain,
    model: model::Vault,
    vault: Vault,
    devices: Vec<Device>,
    known: BTreeMap<LineOf, Known>,
    /// Every voucher and reservation that was ever signed: anybody may bring any of them at any time.
    vouchers: Vec<Voucher>,
    reservations: Vec<Reservation>,
    steps: u64,
    pub(crate) tally: Tally,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chain = Chain::new(START, GAS_SHARE, REPORT_REWARD);
        let mut model = model::Vault::new(START, GAS_SHARE, REPORT_REWARD);
        for payer in PAYERS {
            chain
                .send(payer, &DgcDev::faucetCall { to: payer })
                .unwrap();
            let spender = chain.vault;
            let value = U256::MAX;
            chain
                .send(payer, &DgcDev::approveCall { spender, value })
                .unwrap();
            model.tokens.insert(payer, TOKENS);
        }
        let vault = Vault::new(crate::chain::CHAIN_ID, chain.vault);
        let separator = chain.look(&PayVault::domainSeparatorCall {});
        assert_eq!(separator, vault.separator());
        let mut devices = Vec::new();
        for (p, payer) in PAYERS.into_iter().enumerate() {
            for s in 0..SIGNERS {
                let secret = [(p * SIGNERS + s + 1) as u8; 32];
                let key = SessionKey::from_secret(&secret).unwrap();
                let book = Book::new(
                    payer,
                    key.address(),
                    Grant {
                        granted: 0,
                        until: 0,
                    },
                );
                devices.push(Device {
                    key,
                    payer,
                    honest: (p, s) != (1, SIGNERS - 1),
                    book,
                    signed: BTreeMap::new(),
                });
            }
        }
        let mut history = Self {
            dice: Dice(seed),
            chain,
            model,
            vault,
            devices,
            known: BTreeMap::new(),
            vouchers: Vec::new(),
            reservations: Vec::new(),
            steps: 0,
            tally: Tally::default(),
        };
        // The third one says later, or never, where its claims go.
        for payee in &PAYEES[..2] {
            history.register(*payee);
        }
        history
    }

    pub(crate) fn step(&mut self) {
        self.steps += 1;
        match self.dice.below(100) {
            0..6 => self.deposit(),
            6..9 => self.withdraw(),
            9..18 => self.set_signer(),
            18..19 => self.end_signer(),
            19..42 => self.promise(),
            42..50 => self.hold(),
            50..58 => self.reserve(),
            58..62 => self.release(),
            62..79 => self.claim(),
            79..81 => self.thaw(),
            81..85 => self.prove(),
            85..88 => self.settle(),
            88..89 => {
                let payee = self.payee();
                self.register(payee);
            }
            89..90 => self.set_fee(),
            90..91 => self.move_payout(),
            91..93 => self.join(),
            93..94 => self.unjoin(),
            _ => self.wait(),
        }
        if self.steps.is_multiple_of(COMPARE_ALL) {
            self.compare_all();
        }
    }

    /// What final blocks say now reaches the book of a device.
    fn tell(&mut self, device: usize) {
        let grant = self.grant(device);
        if let Some(signer) = self.model.signers.get(&grant) {
            self.devices[device].book.granted(Grant {
                granted: signer.granted,
                until: signer.until,
            });
        }
    }

    fn round(&self, device: usize) -> u32 {
        let case = self.model.overdrafts.get(&self.grant(device));
        case.map_or(0, |case| case.round)
    }

    fn note_mended(&mut self, device: usize, before: u32) {
        if self.round(device) > before {
            self.tally.count("mended", true);
            self.tell(device);
        }
    }

    fn payer(&mut self) -> Address {
        PAYERS[self.dice.below(2) as usize]
    }

    fn payee(&mut self) -> Address {
        PAYEES[self.dice.below(3) as usize]
    }

    fn device(&mut self) -> usize {
        self.dice.below(self.devices.len() as u64) as usize
    }

    /// The one that overdraws, most of the time.
    fn suspect(&mut self) -> usize {
        match self.dice.below(4) {
            0 => self.device(),
            _ => self.devices.len() - 1,
        }
    }

    fn grant(&self, device: usize) -> model::Grant {
        let device = &self.devices[device];
        (device.payer, device.key.address())
    }

    fn line(&self, device: usize, payee: Address) -> LineOf {
        let (payer, signer) = self.grant(device);
        (payer, signer, payee)
    }
}

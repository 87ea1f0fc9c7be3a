//! Each step in both, and everything that can be read of both compared.

use std::collections::BTreeMap;

use alloy_sol_types::SolCall;
use protocol::voucher::{Address, Voucher};
use revm::primitives::U256;

use super::{History, PAYEES};
use crate::{
    chain::{Done, PayVault},
    model::{self, DAY, LineOf, Refused},
};

impl History {
    /// Takes a step in both, and makes sure that both take it or neither.
    pub(super) fn both<C: SolCall, T>(
        &mut self,
        what: &'static str,
        from: Address,
        call: &C,
        step: impl FnOnce(&mut model::Vault) -> Result<T, Refused>,
    ) -> Option<(T, Done<C::Return>)> {
        let real = self.chain.send(from, call);
        let model = self.model.whole(step);
        assert_eq!(
            real.is_some(),
            model.is_ok(),
            "step {}: {what}, {}",
            self.steps,
            if real.is_some() {
                "the vault did it"
            } else {
                "the vault refused"
            }
        );
        self.tally.count(what, real.is_some());
        Some((model.ok()?, real?))
    }

    pub(super) fn compare_signer(&mut self, device: usize) {
        let (payer, signer) = self.grant(device);
        let real = self.chain.look(&PayVault::signerOfCall { payer, signer });
        let ours = self
            .model
            .signers
            .get(&(payer, signer))
            .cloned()
            .unwrap_or_default();
        let read = model::Signer {
            granted: real.granted,
            spent: real.spent,
            locked: real.locked,
            until: real.until,
            thawed: real.thawed,
            contested: real.contested,
            bond: real.bond,
            gas_pot: real.gasPot,
        };
        assert_eq!(read, ours, "step {}", self.steps);
    }

    pub(super) fn compare_line(&mut self, line: LineOf) {
        let real = self.chain.look(&PayVault::lineOfCall {
            payer: line.0,
            signer: line.1,
            payee: line.2,
        });
        let ours = self.model.lines.get(&line).cloned().unwrap_or_default();
        let read = model::Line {
            claimed: real.claimed,
            reserved_upto: real.reservedUpto,
            reserved_until: real.reservedUntil,
            nonce: real.nonce,
            gas_paid: real.gasPaid,
        };
        assert_eq!(read, ours, "step {}", self.steps);
    }

    pub(super) fn compare_payee(&mut self, payee: Address) {
        let payout = self.chain.look(&PayVault::payoutOfCall { payee });
        let joined = self.chain.look(&PayVault::joinedToCall { payee });
        let of = |map: &BTreeMap<Address, Address>| map.get(&payee).copied().unwrap_or_default();
        assert_eq!(
            (payout, joined),
            (of(&self.model.payouts), of(&self.model.joined))
        );
    }

    pub(super) fn compare_all(&mut self) {
        for payee in PAYEES {
            self.compare_payee(payee);
        }
        for device in 0..self.devices.len() {
            self.compare_signer(device);
            for payee in PAYEES {
                self.compare_line(self.line(device, payee));
            }
            let (payer, signer) = self.grant(device);
            let real = self
                .chain
                .look(&PayVault::overdraftOfCall { payer, signer });
            let ours = self
                .model
                .overdrafts
                .get(&(payer, signer))
                .cloned()
                .unwrap_or_default();
            let read = model::Overdraft {
                round: real.round,
                mend_by: real.mendBy,
                calm_until: real.calmUntil,
                reporter: real.reporter,
                promised: real.promised,
                open: real.open,
                share: real.share,
                decided: real.decided,
            };
            assert_eq!(read, ours, "step {}", self.steps);
        }
        let mut inside = U256::ZERO;
        let owners: Vec<Address> = self.model.balances.keys().copied().collect();
        for owner in owners {
            let real = self.chain.look(&PayVault::balanceOfCall { payer: owner });
            assert_eq!(real, self.model.balances[&owner], "step {}", self.steps);
            inside += U256::from(real);
        }
        let owners: Vec<Address> = self.model.tokens.keys().copied().collect();
        for owner in owners {
            let real = self.chain.tokens_of(owner);
            assert_eq!(
                real,
                U256::from(self.model.tokens[&owner]),
                "step {}",
                self.steps
            );
        }
        // The vault holds what it owes, and nothing else.
        for (grant, signer) in &self.model.signers {
            assert!(
                signer.spent + signer.locked <= signer.granted,
                "step {}: {signer:?}",
                self.steps
            );
            if !signer.thawed {
                inside += U256::from(signer.granted - signer.spent);
            }
            inside += U256::from(signer.bond) + U256::from(signer.gas_pot);
            if let Some(case) = self.model.overdrafts.get(grant) {
                inside += U256::from(case.share);
            }
        }
        let vault = self.chain.vault;
        let holds = self.chain.tokens_of(vault);
        // Shares that were paid out are gone.
        assert!(holds <= inside, "step {}: {holds} of {inside}", self.steps);
    }

    /// Every voucher of an honest signer that its payee brings in time is paid to the last unit.
    pub(crate) fn finish(&mut self) {
        for payee in PAYEES {
            self.register(payee);
        }
        // Locks that are over hold others up until somebody gives them up.
        for device in 0..self.devices.len() {
            for payee in PAYEES {
                let line = self.line(device, payee);
                let call = PayVault::releaseCall {
                    payer: line.0,
                    signer: line.1,
                    payee,
                };
                self.both("release", PAYEES[0], &call, |model| {
                    model.release(PAYEES[0], line)
                });
            }
        }
        for payee in PAYEES {
            let rows: Vec<Voucher> = (0..self.devices.len())
                .filter_map(|device| self.known.get(&self.line(device, payee))?.best)
                .collect();
            self.claim_rows(payee, &rows);
        }
        for device in 0..self.devices.len() {
            let grant = self.grant(device);
            let signer = self.model.signers.get(&grant).cloned().unwrap_or_default();
            let in_time = signer.until != 0 && self.model.now < signer.until + 14 * DAY;
            if !self.devices[device].honest || signer.thawed || !in_time {
                continue;
            }
            for payee in PAYEES {
                let line = self.line(device, payee);
                let claimed = self.model.lines.get(&line).map_or(0, |line| line.claimed);
                assert_eq!(claimed, self.devices[device].book.cumulative(&payee));
                self.tally.count("all honest vouchers paid", true);
            }
        }
        self.compare_all();
    }
}

//! The same things in the words of the chain, the books and the protocol.

use chain::{ClaimRow, Happened, VaultEvent};
use ledger::{BookRows, ChainEvent, ChainRow, HeldVoucher, Mine};
use protocol::voucher::{
    self, Address, B256, VOUCHER_BYTES,
    payer::{Book, Grant, Hold, Line},
};

/// Whose accounts are ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ours {
    pub(super) payer: Option<Address>,
    pub(super) payee: Option<Address>,
}

/// A signer's book, from what the disk says.
pub(super) fn book(payer: Address, signer: Address, rows: BookRows) -> Book {
    let grant = Grant {
        granted: rows.granted,
        until: rows.until_s,
    };
    let lines = rows.lines.into_iter().map(|line| {
        let holds = line.holds.into_iter().map(|hold| Hold {
            upto: hold.upto,
            until: hold.until_s,
            nonce: hold.nonce,
        });
        let promised = Line {
            cumulative: line.cumulative,
            holds: holds.collect(),
            nonce: line.nonce,
        };
        (Address::from(line.payee), promised)
    });
    Book::restore(payer, signer, grant, lines)
}

/// A voucher as it travels.
pub(super) fn voucher_bytes(held: &HeldVoucher) -> [u8; VOUCHER_BYTES] {
    voucher::encode(
        Address::from(held.line.payer),
        held.cumulative,
        B256::from(held.work),
        &held.signature,
    )
}

/// A voucher as the vault redeems it.
pub(super) fn claim_row(held: &HeldVoucher) -> ClaimRow {
    ClaimRow {
        payer: Address::from(held.line.payer),
        cumulative: held.cumulative,
        work: B256::from(held.work),
        signature: held.signature,
    }
}

/// An event for the books; `None` for one that moves nothing of anybody's.
#[rustfmt::skip]
pub(super) fn row(happened: &Happened, ours: &Ours) -> Option<ChainRow> {
    use VaultEvent as V;
    let is_payer = |payer: &Address| ours.payer == Some(*payer);
    let is_payee = |payee: &Address| ours.payee == Some(*payee);
    let a = |address: &Address| address.into_array();
    let (event, mine) = match &happened.event {
        V::Deposited { payer, from: _, amount } => (
            ChainEvent::Deposited { payer: a(payer), amount: *amount },
            Mine { payer: is_payer(payer), payee: false },
        ),
        V::Withdrawn { payer, amount } => (
            ChainEvent::Withdrawn { payer: a(payer), amount: *amount },
            Mine { payer: is_payer(payer), payee: false },
        ),
        V::SignerSet { payer, signer, granted, until, bond, gas_pot } => (
            ChainEvent::SignerSet { payer: a(payer), signer: a(signer), granted: *granted, until_s: *until, bond: *bond, gas_pot: *gas_pot },
            Mine { payer: is_payer(payer), payee: false },
        ),
        V::SignerEnded { payer, signer, until } => (
            ChainEvent::SignerEnded { payer: a(payer), signer: a(signer), until_s: *until },
            Mine { payer: is_payer(payer), payee: false },
        ),
        V::GrantFreed { payer, signer, amount } => (
            ChainEvent::GrantFreed { payer: a(payer), signer: a(signer), amount: *amount },
            Mine { payer: is_payer(payer), payee: false },
        ),
        V::BondFreed { payer, signer, amount } => (
            ChainEvent::BondFreed { payer: a(payer), signer: a(signer), amount: *amount },
            Mine { payer: is_payer(payer), payee: false },
        ),
        V::Reserved { payer, payee, signer, upto, until, nonce } => (
            ChainEvent::Reserved { payer: a(payer), signer: a(signer), payee: a(payee), upto: *upto, until_s: *until, nonce: *nonce },
            Mine { payer: is_payer(payer), payee: is_payee(payee) },
        ),
        V::Released { payer, payee, signer, nonce } => (
            ChainEvent::Released { payer: a(payer), signer: a(signer), payee: a(payee), nonce: *nonce },
            Mine { payer: is_payer(payer), payee: is_payee(payee) },
        ),
        V::Claimed { payer, payee, signer, claimed, paid, work } => (
            ChainEvent::Claimed { payer: a(payer), signer: a(signer), payee: a(payee), claimed: *claimed, paid: *paid, work: work.0 },
            Mine { payer: is_payer(payer), payee: is_payee(payee) },
        ),
        V::GasShared { payer, payee, signer, amount } => (
            ChainEvent::GasShared { payer: a(payer), signer: a(signer), payee: a(payee), amount: *amount },
            Mine { payer: is_payer(payer), payee: is_payee(payee) },
        ),
        V::PaidOut { payee, payout, amount, fee } => (
            ChainEvent::PaidOut { payee: a(payee), payout: a(payout), amount: *amount, fee: *fee },
            Mine { payer: false, payee: is_payee(payee) },
        ),
        V::Kept { payer, payee, signer, amount } => (
            ChainEvent::Kept { payer: a(payer), signer: a(signer), payee: a(payee), amount: *amount },
            Mine { payer: is_payer(payer), payee: is_payee(payee) },
        ),
        V::OverdraftShown { payer, signer, reporter: _, promised: _, mend_by } => (
            ChainEvent::OverdraftShown { payer: a(payer), signer: a(signer), mend_by_s: *mend_by },
            Mine { payer: is_payer(payer), payee: false },
        ),
        V::OverdraftMended { payer, signer } => (
            ChainEvent::OverdraftMended { payer: a(payer), signer: a(signer) },
            Mine { payer: is_payer(payer), payee: false },
        ),
        V::OverdraftDecided { payer, signer, share: _, burnt: _ } => (
            ChainEvent::OverdraftDecided { payer: a(payer), signer: a(signer) },
            Mine { payer: is_payer(payer), payee: false },
        ),
        V::OverdraftPaid { payer, payee, signer, amount } => (
            ChainEvent::OverdraftPaid { payer: a(payer), signer: a(signer), payee: a(payee), amount: *amount },
            Mine { payer: is_payer(payer), payee: is_payee(payee) },
        ),
        // Where claims go and what the fee is is asked of the chain, not summed.
        V::PayeeSet { .. } | V::Joined { .. } | V::Unjoined { .. } | V::FeeSet { .. } => return None,
    };
    Some(ChainRow {
        tx: happened.tx.0,
        log_index: happened.log_index,
        mine,
        event,
    })
}

//! What happened in the vault: final events, in order, each once.
//!
//! A task per stream asks for ranges of final blocks ([`ranges`]) and sends them block by block; the channel's bound holds
//! it back. What is not final is never sent, so that no reorg above finality is ever seen.

pub(crate) mod ranges;

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolEventInterface,
};
use tokio::sync::mpsc;

use crate::{
    abi::PayVault::PayVaultEvents,
    chain::{Chain, Inner},
    error::ChainError,
    health::Tip,
    rpc::wire::{Block, Event},
};

/// So many blocks wait for a slow reader; then the chain is not asked for more.
const AHEAD: usize = 16;

/// A final block, and what happened in the vault in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final {
    /// Its number. Everything before it was sent before it.
    pub block: u64,
    /// Its hash.
    pub hash: B256,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// What happened, in order. Empty where a range was looked through and nothing was found: then the block is its last.
    pub events: Vec<Happened>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// In which transaction.
    pub tx: B256,
    /// Which of the block's logs: with `tx`, what makes it this one.
    pub log_index: u64,
    /// What it was.
    pub event: VaultEvent,
}

/// What happens in the vault. Amounts in base units, times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's own events, and said there")]
pub enum VaultEvent {
    Deposited {
        payer: Address,
        from: Address,
        amount: u128,
    },
    Withdrawn {
        payer: Address,
        amount: u128,
    },
    /// All of them as they are after it.
    SignerSet {
        payer: Address,
        signer: Address,
        granted: u128,
        until: u64,
        bond: u128,
        gas_pot: u128,
    },
    SignerEnded {
        payer: Address,
        signer: Address,
        until: u64,
    },
    GrantFreed {
        payer: Address,
        signer: Address,
        amount: u128,
    },
    BondFreed {
        payer: Address,
        signer: Address,
        amount: u128,
    },
    PayeeSet {
        payee: Address,
        payout: Address,
    },
    Joined {
        payee: Address,
        payout: Address,
        signer: Address,
    },
    Unjoined {
        payee: Address,
        payout: Address,
    },
    Reserved {
        payer: Address,
        payee: Address,
        signer: Address,
        upto: u128,
        until: u64,
        nonce: u64,
    },
    /// What was signed with a higher nonce is not given up by it.
    Released {
        payer: Address,
        payee: Address,
        signer: Address,
        nonce: u64,
    },
    /// `claimed` is the line's sum after it, `paid` what this claim added.
    Claimed {
        payer: Address,
        payee: Address,
        signer: Address,
        claimed: u128,
        paid: u128,
        work: B256,
    },
    GasShared {
        payer: Address,
        payee: Address,
        signer: Address,
        amount: u128,
    },
    /// What a claim's transfer brought, all rows together, after the fee.
    PaidOut {
        payee: Address,
        payout: Address,
        amount: u128,
        fee: u128,
    },
    /// It stayed in the vault, as a balance of `payer`; a `SignerSet` after it grants it to the signer.
    Kept {
        payer: Address,
        payee: Address,
        signer: Address,
        amount: u128,
    },
    OverdraftShown {
        payer: Address,
        signer: Address,
        reporter: Address,
        promised: U256,
        mend_by: u64,
    },
    OverdraftMended {
        payer: Address,
        signer: Address,
    },
    OverdraftDecided {
        payer: Address,
        signer: Address,
        share: u128,
        burnt: u128,
    },
    OverdraftPaid {
        payer: Address,
        payee: Address,
        signer: Address,
        amount: u128,
    },
    FeeSet {
        bps: u16,
        to: Address,
    },
}

impl Chain {
    /// The vault's final events from a block on, that block within them. Zero: from the vault's beginning.
    ///
    /// The stream goes on for ever, waits where the chain is not reached, and ends with the last handle of the chain, or
    /// when the receiver is dropped. [`Final`]s come in the order of blocks; one that was handled whole is the point from
    /// which to go on after a restart (`block + 1`).
    pub fn events(&self, from_block: u64) -> mpsc::Receiver<Final> {
        let (send, receive) = mpsc::channel(AHEAD);
        let from = from_block.max(self.inner.network.gas.first_block);
        tokio::spawn(follow(
            self.inner.tips(),
            std::sync::Arc::downgrade(&self.inner),
            from,
            send,
        ));
        receive
    }
}

async fn follow(
    mut tips: tokio::sync::watch::Receiver<Option<Tip>>,
    chain: std::sync::Weak<Inner>,
    from: u64,
    send: mpsc::Sender<Final>,
) {
    let mut next = from;
    let mut length = ranges::Length::default();
    loop {
        let ready = tips.wait_for(|tip| tip.is_some_and(|tip| tip.last_final.number >= next));
        let tip = tokio::select! {
            ready = ready => match ready {
                Ok(tip) => *tip,
                // The last handle is gone.
                Err(_) => return,
            },
            () = send.closed() => return,
        };
        let (Some(tip), Some(inner)) = (tip, chain.upgrade()) else {
            return;
        };
        match range(&inner, &mut length, next, tip.last_final).await {
            Ok((finals, end)) => {
                drop(inner);
                for last in finals {
                    if send.send(last).await.is_err() {
                        return;
                    }
                }
                next = end.saturating_add(1);
            }
            Err(error) => {
                tracing::debug!(%error, next, "the vault's events wait");
                drop(inner);
                // Until the chain is looked at again: what is wrong stands in its health.
                if tips.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The blocks with events from `from` on, and the last block of the range whether it has any or not.
async fn range(
    chain: &Inner,
    length: &mut ranges::Length,
    from: u64,
    last_final: Block,
) -> Result<(Vec<Final>, u64), ChainError> {
    let vault = chain.network.vault;
    let (events, end) = ranges::next(
        &chain.endpoints,
        length,
        vault,
        &[],
        from,
        last_final.number,
    )
    .await?;
    let mut finals: Vec<Final> = Vec::new();
    for event in &events {
        if finals.last().is_none_or(|last| last.block != event.block) {
            finals.push(block(chain, event.block, last_final).await?);
        }
        let Some(last) = finals.last_mut() else {
            continue;
        };
        if last.hash != event.block_hash {
            return Err(ChainError::Answer {
                what: "events".to_owned(),
                problem: format!("block {} is another one than its events say", event.block),
            });
        }
        if let Some(happened) = happened(event) {
            last.events.push(happened);
        }
    }
    if finals.last().is_none_or(|last| last.block != end) {
        finals.push(block(chain, end, last_final).await?);
    }
    Ok((finals, end))
}

async fn block(chain: &Inner, number: u64, last_final: Block) -> Result<Final, ChainError> {
    let block = if number == last_final.number {
        last_final
    } else {
        chain.endpoints.block(number).await?
    };
    Ok(Final {
        block: block.number,
        hash: block.hash,
        time: block.time,
        events: Vec::new(),
    })
}

fn happened(event: &Event) -> Option<Happened> {
    // The vault has no other events than these: it cannot be changed.
    let decoded = PayVaultEvents::decode_log(&event.log).ok()?;
    Some(Happened {
        tx: event.tx,
        log_index: event.index,
        event: decoded.data.into(),
    })
}

impl From<PayVaultEvents> for VaultEvent {
    fn from(event: PayVaultEvents) -> Self {
        match event {
            PayVaultEvents::Deposited(e) => Self::Deposited {
                payer: e.payer,
                from: e.from,
                amount: e.amount,
            },
            PayVaultEvents::Withdrawn(e) => Self::Withdrawn {
                payer: e.payer,
                amount: e.amount,
            },
            PayVaultEvents::SignerSet(e) => Self::SignerSet {
                payer: e.payer,
                signer: e.signer,
                granted: e.granted,
                until: e.until,
                bond: e.bond,
                gas_pot: e.gasPot,
            },
            PayVaultEvents::SignerEnded(e) => Self::SignerEnded {
                payer: e.payer,
                signer: e.signer,
                until: e.until,
            },
            PayVaultEvents::GrantFreed(e) => Self::GrantFreed {
                payer: e.payer,
                signer: e.signer,
                amount: e.amount,
            },
            PayVaultEvents::BondFreed(e) => Self::BondFreed {
                payer: e.payer,
                signer: e.signer,
                amount: e.amount,
            },
            PayVaultEvents::PayeeSet(e) => Self::PayeeSet {
                payee: e.payee,
                payout: e.payout,
            },
            PayVaultEvents::Joined(e) => Self::Joined {
                payee: e.payee,
                payout: e.payout,
                signer: e.signer,
            },
            PayVaultEvents::Unjoined(e) => Self::Unjoined {
                payee: e.payee,
                payout: e.payout,
            },
            PayVaultEvents::Reserved(e) => Self::Reserved {
                payer: e.payer,
                payee: e.payee,
                signer: e.signer,
                upto: e.upto,
                until: e.until,
                nonce: e.nonce,
            },
            PayVaultEvents::Released(e) => Self::Released {
                payer: e.payer,
                payee: e.payee,
                signer: e.signer,
                nonce: e.nonce,
            },
            PayVaultEvents::Claimed(e) => Self::Claimed {
                payer: e.payer,
                payee: e.payee,
                signer: e.signer,
                claimed: e.claimed,
                paid: e.paid,
                work: e.work,
            },
            PayVaultEvents::GasShared(e) => Self::GasShared {
                payer: e.payer,
                payee: e.payee,
                signer: e.signer,
                amount: e.amount,
            },
            PayVaultEvents::PaidOut(e) => Self::PaidOut {
                payee: e.payee,
                payout: e.payout,
                amount: e.amount,
                fee: e.fee,
            },
            PayVaultEvents::Kept(e) => Self::Kept {
                payer: e.payer,
                payee: e.payee,
                signer: e.signer,
                amount: e.amount,
            },
            PayVaultEvents::OverdraftShown(e) => Self::OverdraftShown {
                payer: e.payer,
                signer: e.signer,
                reporter: e.reporter,
                promised: e.promised,
                mend_by: e.mendBy,
            },
            PayVaultEvents::OverdraftMended(e) => Self::OverdraftMended {
                payer: e.payer,
                signer: e.signer,
            },
            PayVaultEvents::OverdraftDecided(e) => Self::OverdraftDecided {
                payer: e.payer,
                signer: e.signer,
                share: e.share,
                burnt: e.burnt,
            },
            PayVaultEvents::OverdraftPaid(e) => Self::OverdraftPaid {
                payer: e.payer,
                payee: e.payee,
                signer: e.signer,
                amount: e.amount,
            },
            PayVaultEvents::FeeSet(e) => Self::FeeSet {
                bps: e.bps,
                to: e.to,
            },
        }
    }
}

//! The task that sends what is written, and settles it.
//!
//! A round reads the records, asks the chain without holding them, and writes what came of it. Nothing of a round holds up
//! a read, or another account: a transaction that waits is asked about once a round, and that is all.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Weak,
    time::{Duration, Instant},
};

use alloy::primitives::{Address, B256};
use serde_json::{Value, json};

use super::{Record, TxId, TxState};
use crate::{
    chain::Inner,
    error::ChainError,
    health::Tip,
    rpc::{endpoint::RpcError, wire::Receipt},
};

/// Nodes forget transactions that wait; one that is still waiting is sent again this often.
const AGAIN: Duration = Duration::from_secs(30);
/// Rounds in which a used nonce has no receipt before the transaction counts as lost: endpoints find receipts a little
/// later than they know of the block.
const ROUNDS_TO_LOSE: u32 = 5;
/// A refused transaction that was passed on all the same is mined within minutes; an hour is far beyond it.
const REFUSED_FOR_MS: u64 = 3_600_000;
/// Without new blocks, a round is made this often.
const ROUND: Duration = Duration::from_secs(5);

/// What this run knows beside what is on disk.
#[derive(Default)]
struct Memory {
    sent: HashMap<B256, Instant>,
    missing: BTreeMap<TxId, u32>,
}

/// What a round found out about a transaction.
struct Outcome {
    id: TxId,
    state: TxState,
    settled: bool,
    note: Option<String>,
}

/// Sends and settles until the last handle is gone.
pub(crate) async fn follow(chain: Weak<Inner>) {
    let mut memory = Memory::default();
    let Some(mut tips) = chain.upgrade().map(|chain| chain.tips()) else {
        return;
    };
    loop {
        let Some(inner) = chain.upgrade() else { return };
        if let Some(tip) = inner.tip() {
            round(&inner, tip, &mut memory).await;
        }
        let new = inner.pending.new.notified();
        tokio::pin!(new);
        // From here on a new transaction wakes the task, also while it lets go of the chain.
        new.as_mut().enable();
        tokio::select! {
            changed = tips.changed() => if changed.is_err() { return },
            () = &mut new => {}
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

async fn round(chain: &Inner, tip: Tip, memory: &mut Memory) {
    let records = chain.pending.store().records.clone();
    let mut slots: BTreeMap<(Address, u64), Vec<Record>> = BTreeMap::new();
    for record in records.into_iter().filter(|record| !record.settled) {
        slots
            .entry((record.from, record.nonce))
            .or_default()
            .push(record);
    }
    let mut used: BTreeMap<Address, (u64, u64)> = BTreeMap::new();
    for ((from, nonce), slot) in slots {
        let (at_head, at_final) = match used.get(&from) {
            Some(used) => *used,
            None => match nonces(chain, from, tip).await {
                Ok(nonces) => *used.entry(from).or_insert(nonces),
                Err(error) => {
                    tracing::debug!(%error, %from, "transactions wait");
                    continue;
                }
            },
        };
        let outcomes = if nonce < at_head {
            mined(chain, &slot, tip, nonce < at_final, memory).await
        } else {
            Ok(waiting(chain, &slot, tip, memory).await)
        };
        match outcomes {
            Ok(outcomes) => write(chain, outcomes),
            Err(error) => tracing::debug!(%error, "a transaction's receipt waits"),
        }
    }
}

/// The account's next nonce at the newest block, and at the newest final one.
async fn nonces(chain: &Inner, from: Address, tip: Tip) -> Result<(u64, u64), ChainError> {
    futures::try_join!(
        chain.endpoints.nonce(from, tip.head.number),
        chain.endpoints.nonce(from, tip.last_final.number),
    )
}

/// The slot's nonce is used in some block: one of its forms is there, or a transaction from elsewhere.
async fn mined(
    chain: &Inner,
    slot: &[Record],
    tip: Tip,
    nonce_is_final: bool,
    memory: &mut Memory,
) -> Result<Vec<Outcome>, ChainError> {
    for record in slot {
        for form in &record.forms {
            let Some(receipt) = chain.endpoints.receipt(form.hash).await? else {
                continue;
            };
            let is_final = nonce_is_final && receipt.block <= tip.last_final.number;
            return Ok(slot
                .iter()
                .map(|other| {
                    let won = other.id == record.id && !form.cancels;
                    settle(other, won, &receipt, is_final)
                })
                .collect());
        }
    }
    let mut outcomes = Vec::new();
    for record in slot {
        let missing = memory.missing.entry(record.id).or_default();
        *missing += 1;
        if nonce_is_final && *missing >= ROUNDS_TO_LOSE {
            outcomes.push(Outcome {
                id: record.id,
                state: unless_refused(record, TxState::Lost),
                settled: true,
                note: None,
            });
        }
    }
    Ok(outcomes)
}

fn settle(record: &Record, won: bool, receipt: &Receipt, is_final: bool) -> Outcome {
    let state = match (won, is_final) {
        (true, false) => TxState::Mined {
            block: receipt.block,
            reverted: !receipt.succeeded,
        },
        (true, true) if receipt.succeeded => TxState::Final {
            block: receipt.block,
        },
        (true, true) => TxState::Failed {
            why: format!("the contract refused it in block {}", receipt.block),
        },
        (false, true) => unless_refused(record, TxState::Replaced),
        // Another one is in a block that may still go: nothing is said before that block is final.
        (false, false) => record.state.clone(),
    };
    Outcome {
        id: record.id,
        state,
        settled: is_final,
        note: None,
    }
}

/// One that was refused, and of which nothing came after all, stays refused.
fn unless_refused(record: &Record, state: TxState) -> TxState {
    if matches!(record.state, TxState::Failed { .. }) {
        record.state.clone()
    } else {
        state
    }
}

/// The slot's nonce is not used: what is in it is sent, again where it was before.
async fn waiting(chain: &Inner, slot: &[Record], tip: Tip, memory: &mut Memory) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for record in slot {
        memory.missing.remove(&record.id);
        if record.state.is_over() {
            outcomes.extend(given_up(record));
            continue;
        }
        let Some(form) = record.forms.last() else {
            continue;
        };
        // A block with it was replaced by one without it: at once, since others may be waiting behind it.
        let fell_out = matches!(record.state, TxState::Mined { .. });
        let due = memory
            .sent
            .get(&form.hash)
            .is_none_or(|at| at.elapsed() > AGAIN);
        if !due && !fell_out {
            continue;
        }
        match same_chain(chain, record, tip).await {
            Ok(true) => {}
            Ok(false) => {
                outcomes.push(Outcome {
                    id: record.id,
                    state: TxState::Failed {
                        why: "it was signed for this network before that was started anew"
                            .to_owned(),
                    },
                    settled: true,
                    note: None,
                });
                continue;
            }
            Err(error) => {
                tracing::debug!(%error, "it is not known whether this is the chain that a transaction is for");
                continue;
            }
        }
        memory.sent.insert(form.hash, Instant::now());
        let answers = chain
            .endpoints
            .each("eth_sendRawTransaction", &json!([form.raw]))
            .await;
        let first = record.forms.len() == 1;
        outcomes.push(match heard(&answers) {
            Heard::Taken => Outcome {
                id: record.id,
                state: TxState::Sent,
                settled: false,
                note: None,
            },
            Heard::Nobody => Outcome {
                id: record.id,
                state: if fell_out {
                    TxState::Sent
                } else {
                    record.state.clone()
                },
                settled: false,
                note: Some("no endpoint was reached".to_owned()),
            },
            // One that was taken before, or has an older form that was, may still be mined.
            Heard::Refused(why) if !first || record.state != TxState::Prepared => Outcome {
                id: record.id,
                state: TxState::Sent,
                settled: false,
                note: Some(why),
            },
            Heard::Refused(why) => Outcome {
                id: record.id,
                state: TxState::Failed { why },
                // An endpoint that refuses may have passed it on: it is looked for until its nonce is used.
                settled: false,
                note: None,
            },
        });
    }
    outcomes
}

/// Whether the block that was final when a transaction was signed is still there.
async fn same_chain(chain: &Inner, record: &Record, tip: Tip) -> Result<bool, ChainError> {
    let Some(seen) = record.seen else {
        return Ok(true);
    };
    if seen.block > tip.last_final.number {
        // What was final once is not yet: endpoints are behind, or the chain is a young one.
        return Err(ChainError::NotYet);
    }
    Ok(chain.endpoints.block(seen.block).await?.hash == seen.hash)
}

/// One that was refused and came to nothing for this long will not come to anything.
fn given_up(record: &Record) -> Option<Outcome> {
    let age = super::unix_ms().saturating_sub(record.sent_unix_ms);
    (age > REFUSED_FOR_MS).then(|| Outcome {
        id: record.id,
        state: record.state.clone(),
        settled: true,
        note: None,
    })
}

enum Heard {
    Taken,
    Refused(String),
    Nobody,
}

/// What endpoints made of a transaction: one that took it is enough.
fn heard(answers: &[(String, Result<Value, RpcError>)]) -> Heard {
    let mut refused = None;
    for (host, answer) in answers {
        match answer {
            Ok(_) => return Heard::Taken,
            Err(RpcError::Refused(refusal)) => {
                let words = refusal.message.to_ascii_lowercase();
                // It is there, or its nonce was used in the meantime: the next round sees which.
                if words.contains("already") || words.contains("nonce too low") {
                    return Heard::Taken;
                }
                refused = Some(format!("{host}: {}", refusal.message));
            }
            Err(_) => {}
        }
    }
    refused.map_or(Heard::Nobody, Heard::Refused)
}

fn write(chain: &Inner, outcomes: Vec<Outcome>) {
    let mut store = chain.pending.store();
    let mut records = store.records.clone();
    for outcome in outcomes {
        if let Some(record) = records.iter_mut().find(|record| record.id == outcome.id) {
            record.state = outcome.state;
            record.settled = outcome.settled;
            record.note = outcome.note;
        }
    }
    if records == store.records {
        return;
    }
    match store.put(records) {
        Ok(()) => chain.pending.show(&store),
        // What is on disk is older, and no less true: the next round finds the same again.
        Err(error) => tracing::warn!(%error, "transactions cannot be written"),
    }
}

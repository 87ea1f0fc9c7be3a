//! What would be sent, shown before it is signed: the call in words, its fee, what it would do now, what is left after.
//! A digest binds all of it, and nothing else is sent.

use std::time::{Duration, Instant};

use alloy::{
    primitives::{Address, B256, Bytes, Keccak256, U256},
    sol_types::SolValue,
};
use serde_json::{Value, json};

use crate::{
    allowed,
    call::{Call, Described, Request},
    chain::Chain,
    error::ChainError,
    health::Tip,
    pending::TxId,
    reads::Account,
    reason,
    rpc::{
        endpoint::RpcError,
        wire::{self, Called},
    },
    typed::{Permit, Start},
};

/// Prices move: what was shown longer ago is shown anew.
const FRESH: Duration = Duration::from_secs(600);
/// Added to an estimate, in parts of 100: others' transactions may come first and change what it takes.
const GAS_MARGIN: u64 = 25;
/// The largest gas of a transaction that a block takes on the chains this is for.
const MAX_GAS: u64 = 15_000_000;
/// The base fee rises by an eighth a block at most: twice of it serves for six full blocks.
const BASE_FEE_ROOM: u128 = 2;
/// Where nobody asks for a tip, a unit of it is offered: some nodes refuse zero.
const LEAST_TIP: u128 = 1;
/// Nodes take a replacement that pays a tenth more; this is a little beyond, for those that ask for an eighth.
const REPLACE_PERCENT: u128 = 15;
/// What no priced unit of gas can reach: an endpoint that asks for more is wrong, or lies. 10^14 wei.
const MAX_GAS_PRICE: u128 = 100_000_000_000_000;

/// The most gas that a first deposit takes: its permit cannot be tried before it is signed. Ours takes about two thirds of it; the rest is
/// room for tokens that do more at a transfer.
const START_GAS: u64 = 360_000;

/// What the call would do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Simulation {
    /// It succeeds.
    Ok,
    /// The contract refuses.
    Reverted {
        /// Why.
        reason: String,
    },
    /// It was not tried: no endpoint tries a call under other circumstances. What is signed is tried before it is sent.
    NotTried,
}

/// A price for gas, in the coin's smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasPrice {
    /// The most that a unit of gas may cost.
    pub max_fee: u128,
    /// What of it is the block maker's; `None` on chains with one price alone.
    pub tip: Option<u128>,
}

/// What would be sent. It is sent as it stands here, or not at all.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Whose transaction.
    pub from: Address,
    /// The call in words.
    pub described: Described,
    /// The most gas that it may take.
    pub gas: u64,
    /// What a unit of it may cost.
    pub price: GasPrice,
    /// The most that it can cost, in the coin's smallest unit.
    pub fee_max: u128,
    /// What it would do now.
    pub simulation: Simulation,
    /// Of the coin, after it and its highest fee; `None` where there is not enough.
    pub coin_after: Option<u128>,
    /// Of the token; `None` where there is not enough.
    pub token_after: Option<u128>,
    /// The transaction that it takes the place of.
    pub replaces: Option<TxId>,
    /// Binds all of the above, the transaction's data and the chain.
    pub digest: B256,
    pub(crate) cancels: bool,
    /// A signature of it is still to be made: it cannot be sent.
    unsigned: bool,
    pub(crate) request: Request,
    made: Instant,
}

impl Chain {
    /// What a call would be and do, as of the newest block.
    ///
    /// # Errors
    /// [`ChainError::Call`] for one that makes no sense on this network; else as [`Chain::account`]. A call that the
    /// contract refuses is no error: the preview says so.
    pub async fn preview(&self, from: Address, call: &Call) -> Result<Preview, ChainError> {
        let request = call.encode(&self.inner.network, from)?;
        let mut described = call.describe(&self.inner.network);
        let tip = self.inner.tip().ok_or(ChainError::NotYet)?;
        if matches!(call, Call::TransferCoin { .. } | Call::TransferToken { .. }) {
            let code = self
                .inner
                .endpoints
                .code(described.to, tip.head.number)
                .await?;
            described.contract_known = code.is_empty();
        }
        let price = self.gas_price(&tip).await?;
        self.complete(Draft {
            from,
            described,
            request,
            price,
            replaces: None,
            cancels: false,
        })
        .await
    }

    /// What a first deposit would be and do, before its permit is signed: it is tried as if the account had allowed the vault exactly
    /// the deposit. It cannot be sent: [`Chain::signed_start`] makes the transaction of it.
    ///
    /// # Errors
    /// As [`Chain::preview`]. Where endpoints cannot try a call under other circumstances, it was [`Simulation::NotTried`].
    pub async fn preview_start(&self, start: &Start) -> Result<Preview, ChainError> {
        let network = &self.inner.network;
        let call = Call::Start {
            start: *start,
            permit: None,
        };
        let request = call.encode(network, start.payer)?;
        let tip = self.inner.tip().ok_or(ChainError::NotYet)?;
        let price = self.gas_price(&tip).await?;
        let tried = self
            .inner
            .endpoints
            .call_as(
                "a first deposit",
                &allowed::request(network, start, &request.input),
                &allowed::circumstances(network, start.payer),
                tip.head.number,
            )
            .await;
        let simulation = match tried {
            Ok(tried) => simulated(tried),
            // Endpoints that are there refuse it, or all but one do. Where none is there, the account is not known either.
            Err(ChainError::Offline { .. } | ChainError::Unconfirmed { .. }) => {
                Simulation::NotTried
            }
            Err(error) => return Err(error),
        };
        let draft = Draft {
            from: start.payer,
            described: call.describe(network),
            request,
            price,
            replaces: None,
            cancels: false,
        };
        let gas = START_GAS;
        let account = self.account_at(draft.from, tip.head.number).await?;
        let mut preview = self.completed(draft, account, simulation, gas);
        preview.unsigned = true;
        preview.digest = preview.computed(network.chain_id);
        Ok(preview)
    }

    /// The transaction of a first deposit that was shown, with its permit. What it does, and the most it costs, are as they were shown.
    ///
    /// # Errors
    /// [`ChainError::PreviewChanged`] where they are not any more; else as [`Chain::preview`].
    pub async fn signed_start(
        &self,
        shown: &Preview,
        start: &Start,
        permit: Permit,
    ) -> Result<Preview, ChainError> {
        self.fresh(shown)?;
        let call = Call::Start {
            start: *start,
            permit: Some(permit),
        };
        let network = &self.inner.network;
        let draft = Draft {
            from: start.payer,
            described: call.describe(network),
            request: call.encode(network, start.payer)?,
            price: shown.price,
            replaces: None,
            cancels: false,
        };
        let preview = self.complete(draft).await?;
        let same = preview.described == shown.described && preview.token_after == shown.token_after;
        if !same || preview.fee_max > shown.fee_max {
            return Err(ChainError::PreviewChanged);
        }
        Ok(preview)
    }

    /// The same transaction at a higher price, to be sent in its place.
    ///
    /// # Errors
    /// [`ChainError::UnknownTx`], [`ChainError::NotReplaceable`]; else as [`Chain::preview`].
    pub async fn speed_up(&self, id: TxId) -> Result<Preview, ChainError> {
        self.replace(id, false).await
    }

    /// Nothing, sent to oneself in the place of a transaction that waits, at a higher price. Whichever is mined first
    /// counts.
    ///
    /// # Errors
    /// As [`Chain::speed_up`].
    pub async fn cancel(&self, id: TxId) -> Result<Preview, ChainError> {
        self.replace(id, true).await
    }

    async fn replace(&self, id: TxId, cancels: bool) -> Result<Preview, ChainError> {
        let waiting = self.inner.pending.replaceable(id)?;
        let tip = self.inner.tip().ok_or(ChainError::NotYet)?;
        let now = self.gas_price(&tip).await?;
        let price = waiting.price.raised(now);
        let (described, request) = if cancels {
            let described = Described {
                title: format!("Take back: {}", waiting.described.title),
                to: waiting.from,
                contract_known: true,
                leaves: Vec::new(),
                fields: Vec::new(),
            };
            let request = Request {
                to: waiting.from,
                value: U256::ZERO,
                input: Bytes::new(),
            };
            (described, request)
        } else {
            (waiting.described, waiting.request)
        };
        self.complete(Draft {
            from: waiting.from,
            described,
            request,
            price,
            replaces: Some(id),
            cancels,
        })
        .await
    }

    async fn complete(&self, draft: Draft) -> Result<Preview, ChainError> {
        let tip = self.inner.tip().ok_or(ChainError::NotYet)?;
        let head = tip.head.number;
        let request = json!({
            "from": draft.from,
            "to": draft.request.to,
            "value": draft.request.value,
            "data": draft.request.input,
        });
        let account = self.account_at(draft.from, head).await?;
        let simulation = simulated(self.inner.endpoints.call("a call", &request, head).await?);
        let gas = match simulation {
            Simulation::Ok => self.estimate(&request).await?,
            // It is not for sending; what it would cost is not known.
            Simulation::Reverted { .. } | Simulation::NotTried => 0,
        };
        Ok(self.completed(draft, account, simulation, gas))
    }

    fn completed(
        &self,
        draft: Draft,
        account: Account,
        simulation: Simulation,
        gas: u64,
    ) -> Preview {
        let fee_max = draft.price.max_fee.saturating_mul(u128::from(gas));
        let value = u128::try_from(draft.request.value).unwrap_or(u128::MAX);
        let tokens: u128 = draft
            .described
            .leaves
            .iter()
            .filter(|asset| !asset.coin)
            .map(|asset| asset.amount)
            .fold(0, u128::saturating_add);
        let mut preview = Preview {
            from: draft.from,
            described: draft.described,
            gas,
            price: draft.price,
            fee_max,
            simulation,
            coin_after: account
                .coin
                .checked_sub(value)
                .and_then(|rest| rest.checked_sub(fee_max)),
            token_after: account.token.checked_sub(tokens),
            replaces: draft.replaces,
            digest: B256::ZERO,
            cancels: draft.cancels,
            unsigned: false,
            request: draft.request,
            made: Instant::now(),
        };
        preview.digest = preview.computed(self.inner.network.chain_id);
        preview
    }

    /// The middle of what endpoints estimate, and room above it: one that asks for absurdly much is not followed where
    /// there are three.
    async fn estimate(&self, request: &Value) -> Result<u64, ChainError> {
        let answers = self
            .inner
            .endpoints
            .each("eth_estimateGas", &json!([request]))
            .await;
        let gas = middle(answers, |value| wire::quantity(value).map(u128::from))?;
        let gas = u64::try_from(gas).unwrap_or(u64::MAX);
        Ok(gas
            .saturating_add(gas.saturating_mul(GAS_MARGIN) / 100)
            .min(MAX_GAS))
    }

    async fn gas_price(&self, tip: &Tip) -> Result<GasPrice, ChainError> {
        let endpoints = &self.inner.endpoints;
        let price = |value: &Value| match u128::try_from(wire::wide(value)?) {
            Ok(price) if price <= MAX_GAS_PRICE => Ok(price),
            _ => Err("a price of gas that nobody pays".to_owned()),
        };
        let Some(base_fee) = tip.head.base_fee else {
            let answers = endpoints.each("eth_gasPrice", &json!([])).await;
            return Ok(GasPrice {
                max_fee: middle(answers, price)?.max(1),
                tip: None,
            });
        };
        let answers = endpoints.each("eth_maxPriorityFeePerGas", &json!([])).await;
        let tip = middle(answers, price)?.max(LEAST_TIP);
        Ok(GasPrice {
            max_fee: base_fee
                .min(MAX_GAS_PRICE)
                .saturating_mul(BASE_FEE_ROOM)
                .saturating_add(tip),
            tip: Some(tip),
        })
    }

    /// Whether a preview may still be sent as it was shown.
    pub(crate) fn check_preview(&self, preview: &Preview) -> Result<(), ChainError> {
        if preview.digest != preview.computed(self.inner.network.chain_id) {
            return Err(ChainError::PreviewChanged);
        }
        if preview.unsigned {
            return Err(ChainError::PreviewChanged);
        }
        self.fresh(preview)
    }

    /// Whether it was shown of late, and can be done.
    fn fresh(&self, preview: &Preview) -> Result<(), ChainError> {
        let age = preview.made.elapsed();
        if age > FRESH {
            return Err(ChainError::PreviewOld {
                seconds: age.as_secs(),
            });
        }
        match &preview.simulation {
            Simulation::Ok | Simulation::NotTried => Ok(()),
            Simulation::Reverted { reason } => Err(ChainError::Reverted {
                what: preview.described.title.clone(),
                reason: reason.clone(),
            }),
        }
    }
}

struct Draft {
    from: Address,
    described: Described,
    request: Request,
    price: GasPrice,
    replaces: Option<TxId>,
    cancels: bool,
}

impl Preview {
    fn computed(&self, chain_id: u64) -> B256 {
        let described = &self.described;
        let leaves: Vec<_> = described
            .leaves
            .iter()
            .map(|asset| {
                (
                    asset.amount,
                    asset.symbol.clone(),
                    u16::from(asset.decimals),
                )
            })
            .collect();
        let after = |amount: Option<u128>| (amount.is_some(), amount.unwrap_or_default());
        let simulation = match &self.simulation {
            Simulation::Ok => (true, String::new()),
            Simulation::NotTried => (true, "not tried".to_owned()),
            Simulation::Reverted { reason } => (false, reason.clone()),
        };
        let shown = (
            described.title.clone(),
            described.to,
            described.contract_known,
            leaves,
            described.fields.clone(),
            simulation,
            after(self.coin_after),
            after(self.token_after),
        );
        let sent = (
            chain_id,
            self.from,
            self.request.to,
            self.request.value,
            self.request.input.clone(),
            self.gas,
            (self.price.max_fee, after(self.price.tip), self.fee_max),
            (
                self.replaces.map_or(B256::ZERO, |id| id.0),
                self.cancels,
                self.unsigned,
            ),
        );
        let mut hash = Keccak256::new();
        hash.update(shown.abi_encode());
        hash.update(sent.abi_encode());
        hash.finalize()
    }
}

impl GasPrice {
    /// What replaces a transaction of this price: more than it by what nodes ask for, and no less than is usual now.
    fn raised(self, now: Self) -> Self {
        let more = |price: u128| {
            price
                .saturating_add(price.saturating_mul(REPLACE_PERCENT).div_ceil(100))
                .saturating_add(1)
        };
        Self {
            max_fee: more(self.max_fee).max(now.max_fee),
            tip: self
                .tip
                .map(|tip| more(tip).max(now.tip.unwrap_or_default())),
        }
    }
}

fn simulated(called: Called) -> Simulation {
    match called {
        Called::Returned(_) => Simulation::Ok,
        Called::Reverted(data) => Simulation::Reverted {
            reason: reason::read(&data),
        },
    }
}

/// The middle of what endpoints say; the higher one of two.
fn middle(
    answers: Vec<(String, Result<Value, RpcError>)>,
    read: impl Fn(&Value) -> Result<u128, String>,
) -> Result<u128, ChainError> {
    let mut figures = Vec::new();
    let mut tried = Vec::new();
    for (host, answer) in answers {
        match answer
            .map_err(|error| error.to_string())
            .and_then(|value| read(&value))
        {
            Ok(figure) => figures.push(figure),
            Err(problem) => tried.push((host, problem)),
        }
    }
    figures.sort_unstable();
    figures
        .get(figures.len() / 2)
        .copied()
        .ok_or(ChainError::Offline { tried })
}

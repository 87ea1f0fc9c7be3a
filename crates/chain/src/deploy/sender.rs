//! Transactions one after another, each waited for: what a deployment is made of.

use std::time::{Duration, Instant};

use alloy::{
    consensus::{SignableTransaction, TxEnvelope, TxLegacy},
    eips::eip2718::Encodable2718,
    primitives::{Address, Bytes, TxKind, U256},
    sol_types::SolCall,
};
use serde_json::json;

use crate::{
    error::ChainError,
    key::Key,
    reason,
    rpc::{
        Endpoints,
        wire::{self, Called, Receipt},
    },
};

/// A block of a slow chain, several times over.
const MINED_WITHIN: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Added to estimates, in parts of 100: the estimate is of a moment ago.
const GAS_MARGIN: u64 = 20;

pub(super) struct Sender<'a> {
    pub(super) endpoints: Endpoints,
    pub(super) chain_id: u64,
    /// The newest block at the beginning.
    pub(super) head: u64,
    key: &'a Key,
    nonce: u64,
}

impl<'a> Sender<'a> {
    pub(super) async fn open(rpc: &[String], key: &'a Key) -> Result<Self, ChainError> {
        let chain_id = chain_id(rpc).await?;
        let endpoints = Endpoints::new(chain_id, rpc)?;
        let (head, _) = endpoints.head().await?;
        let nonce = endpoints.nonce(key.address(), head).await?;
        Ok(Self {
            endpoints,
            chain_id,
            head,
            key,
            nonce,
        })
    }

    pub(super) fn address(&self) -> Address {
        self.key.address()
    }

    pub(super) async fn latest(&self) -> Result<u64, ChainError> {
        Ok(self.endpoints.head().await?.0)
    }

    pub(super) async fn read<C: SolCall>(
        &self,
        to: Address,
        call: &C,
        block: u64,
    ) -> Result<C::Return, ChainError> {
        read(&self.endpoints, to, call, block).await
    }

    /// Makes a contract, and says where it is.
    pub(super) async fn create(
        &mut self,
        what: &'static str,
        code: Bytes,
        arguments: &[u8],
    ) -> Result<Address, ChainError> {
        let input = [&code[..], arguments].concat();
        let receipt = self.send(what, TxKind::Create, input.into()).await?;
        receipt.contract.ok_or_else(|| ChainError::Answer {
            what: what.to_owned(),
            problem: "a receipt without the contract's address".to_owned(),
        })
    }

    pub(super) async fn call<C: SolCall>(
        &mut self,
        what: &'static str,
        to: Address,
        call: &C,
    ) -> Result<(), ChainError> {
        self.send(what, TxKind::Call(to), call.abi_encode().into())
            .await
            .map(|_| ())
    }

    async fn send(
        &mut self,
        what: &'static str,
        to: TxKind,
        input: Bytes,
    ) -> Result<Receipt, ChainError> {
        let mut request = json!({ "from": self.address(), "data": input });
        if let TxKind::Call(to) = to {
            request["to"] = json!(to);
        }
        let gas = self
            .figure(what, "eth_estimateGas", json!([request]))
            .await?;
        let price = self.figure(what, "eth_gasPrice", json!([])).await?;
        let gas = u64::try_from(gas).unwrap_or(u64::MAX);
        let transaction = TxLegacy {
            chain_id: Some(self.chain_id),
            nonce: self.nonce,
            // The base fee may rise while this waits.
            gas_price: price.saturating_mul(2),
            gas_limit: gas.saturating_add(gas.saturating_mul(GAS_MARGIN) / 100),
            to,
            value: U256::ZERO,
            input,
        };
        let signature = self.key.transaction(&transaction)?;
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        let raw = Bytes::from(envelope.encoded_2718());
        let mut taken = Err(ChainError::Offline { tried: Vec::new() });
        for (host, answer) in self
            .endpoints
            .each("eth_sendRawTransaction", &json!([raw]))
            .await
        {
            match answer {
                Ok(_) => taken = Ok(()),
                Err(error) if taken.is_err() => {
                    taken = Err(ChainError::Endpoint {
                        host,
                        problem: format!("{what}: {error}"),
                    });
                }
                Err(_) => {}
            }
        }
        taken?;
        self.nonce += 1;
        self.mined(what, *envelope.tx_hash()).await
    }

    async fn mined(
        &self,
        what: &'static str,
        hash: alloy::primitives::B256,
    ) -> Result<Receipt, ChainError> {
        let since = Instant::now();
        loop {
            if let Some(receipt) = self.endpoints.receipt(hash).await? {
                if receipt.succeeded {
                    return Ok(receipt);
                }
                return Err(ChainError::Reverted {
                    what: what.to_owned(),
                    reason: format!("refused in block {}", receipt.block),
                });
            }
            if since.elapsed() > MINED_WITHIN {
                return Err(ChainError::Answer {
                    what: what.to_owned(),
                    problem: format!("not in a block within {} seconds", MINED_WITHIN.as_secs()),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The highest figure of those that endpoints give.
    async fn figure(
        &self,
        what: &'static str,
        method: &str,
        params: serde_json::Value,
    ) -> Result<u128, ChainError> {
        let mut tried = Vec::new();
        let mut highest = None;
        for (host, answer) in self.endpoints.each(method, &params).await {
            let figure = answer.map_err(|error| error.to_string()).and_then(|value| {
                u128::try_from(wire::wide(&value)?).map_err(|error| error.to_string())
            });
            match figure {
                Ok(figure) => highest = highest.max(Some(figure)),
                Err(problem) => tried.push((format!("{host} about {what}"), problem)),
            }
        }
        highest.ok_or(ChainError::Offline { tried })
    }
}

pub(super) async fn read<C: SolCall>(
    endpoints: &Endpoints,
    to: Address,
    call: &C,
    block: u64,
) -> Result<C::Return, ChainError> {
    let request = json!({ "to": to, "data": Bytes::from(call.abi_encode()) });
    match endpoints.call(C::SIGNATURE, &request, block).await? {
        Called::Returned(data) => C::abi_decode_returns(&data).map_err(|_| ChainError::Contract {
            contract: "token",
            address: to,
            problem: format!("it does not answer {}", C::SIGNATURE),
        }),
        Called::Reverted(data) => Err(ChainError::Reverted {
            what: C::SIGNATURE.to_owned(),
            reason: reason::read(&data),
        }),
    }
}

/// What the chain says of itself: every address has to say the same.
async fn chain_id(rpc: &[String]) -> Result<u64, ChainError> {
    let mut seen = None;
    for address in rpc {
        let endpoint = crate::rpc::endpoint::Endpoint::new(address)?;
        let problem = |problem: String| ChainError::Endpoint {
            host: endpoint.host.clone(),
            problem,
        };
        let id = endpoint
            .call("eth_chainId", &json!([]))
            .await
            .map_err(|error| problem(error.to_string()))
            .and_then(|value| wire::quantity(&value).map_err(problem))?;
        if seen.replace(id).is_some_and(|before| before != id) {
            return Err(problem(format!(
                "it serves chain {id}, and another one does not"
            )));
        }
    }
    seen.ok_or(ChainError::Offline { tried: Vec::new() })
}

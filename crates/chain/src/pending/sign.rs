//! From a preview to signed bytes.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy},
    eips::eip2718::Encodable2718,
    primitives::TxKind,
};

use super::store::Form;
use crate::{error::ChainError, key::Key, preview::Preview};

pub(super) fn sign(
    key: &Key,
    chain_id: u64,
    nonce: u64,
    preview: &Preview,
) -> Result<Form, ChainError> {
    let to = TxKind::Call(preview.request.to);
    let value = preview.request.value;
    let input = preview.request.input.clone();
    let envelope = match preview.price.tip {
        Some(tip) => envelope(
            key,
            TxEip1559 {
                chain_id,
                nonce,
                gas_limit: preview.gas,
                max_fee_per_gas: preview.price.max_fee,
                max_priority_fee_per_gas: tip,
                to,
                value,
                access_list: alloy::eips::eip2930::AccessList::default(),
                input,
            },
        )?,
        None => envelope(
            key,
            TxLegacy {
                chain_id: Some(chain_id),
                nonce,
                gas_price: preview.price.max_fee,
                gas_limit: preview.gas,
                to,
                value,
                input,
            },
        )?,
    };
    Ok(Form {
        hash: *envelope.tx_hash(),
        raw: envelope.encoded_2718().into(),
        gas: preview.gas,
        max_fee: preview.price.max_fee,
        tip: preview.price.tip,
        cancels: preview.cancels,
    })
}

fn envelope<T>(key: &Key, transaction: T) -> Result<TxEnvelope, ChainError>
where
    T: SignableTransaction<alloy::primitives::Signature>,
    TxEnvelope: From<alloy::consensus::Signed<T>>,
{
    let signature = key.transaction(&transaction)?;
    Ok(transaction.into_signed(signature).into())
}

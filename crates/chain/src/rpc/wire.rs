//! What endpoints answer in: numbers, hashes, blocks, events and receipts, read strictly.

use alloy::{
    primitives::{Address, B256, Bytes, Log, LogData, U256},
    sol_types::{Revert, SolError},
};
use serde_json::Value;

use super::endpoint::Refused;

/// An event has at most four topics.
const MAX_TOPICS: usize = 4;

/// A block, as far as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) hash: B256,
    /// Seconds since 1970, as whoever made the block says.
    pub(crate) time: u64,
    /// Wei for a unit of gas; none on chains without EIP-1559.
    pub(crate) base_fee: Option<u128>,
}

/// An event, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    pub(crate) block: u64,
    pub(crate) block_hash: B256,
    pub(crate) tx: B256,
    pub(crate) index: u64,
    pub(crate) log: Log,
}

/// That a transaction is in a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Receipt {
    pub(crate) tx: B256,
    pub(crate) block: u64,
    pub(crate) block_hash: B256,
    pub(crate) succeeded: bool,
    pub(crate) gas_used: u64,
    pub(crate) contract: Option<Address>,
}

/// What a contract answers to a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Called {
    Returned(Bytes),
    /// With the data of the error, which may be empty.
    Reverted(Bytes),
}

pub(crate) fn quantity(value: &Value) -> Result<u64, String> {
    let wide = wide(value)?;
    u64::try_from(wide).map_err(|_| format!("{wide} is too large"))
}

pub(crate) fn wide(value: &Value) -> Result<U256, String> {
    let digits = value
        .as_str()
        .and_then(|text| text.strip_prefix("0x"))
        .ok_or("a number is missing")?;
    U256::from_str_radix(digits, 16).map_err(|_| "a number is none".to_owned())
}

fn price(value: &Value) -> Result<u128, String> {
    let wide = wide(value)?;
    u128::try_from(wide).map_err(|_| format!("{wide} is too large"))
}

pub(crate) fn bytes(value: &Value) -> Result<Bytes, String> {
    parse(value, "bytes")
}

fn parse<T: std::str::FromStr>(value: &Value, what: &str) -> Result<T, String> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{what} is missing or malformed"))
}

fn given(value: &Value) -> Option<&Value> {
    (!value.is_null()).then_some(value)
}

/// `None` where the endpoint knows no such block.
pub(crate) fn block(value: &Value) -> Result<Option<Block>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let base_fee = given(&value["baseFeePerGas"]).map(price).transpose()?;
    Ok(Some(Block {
        number: quantity(&value["number"])?,
        hash: parse(&value["hash"], "a block's hash")?,
        time: quantity(&value["timestamp"])?,
        base_fee,
    }))
}

pub(crate) fn receipt(value: &Value) -> Result<Option<Receipt>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let contract = given(&value["contractAddress"])
        .map(|address| parse(address, "a contract's address"))
        .transpose()?;
    Ok(Some(Receipt {
        tx: parse(&value["transactionHash"], "a transaction's hash")?,
        block: quantity(&value["blockNumber"])?,
        block_hash: parse(&value["blockHash"], "a block's hash")?,
        succeeded: quantity(&value["status"])? == 1,
        gas_used: quantity(&value["gasUsed"])?,
        contract,
    }))
}

/// Events in order. What is not of `address`, or not within the range, makes the whole answer none.
pub(crate) fn events(
    value: &Value,
    address: Address,
    from: u64,
    to: u64,
) -> Result<Vec<Event>, String> {
    let list = value.as_array().ok_or("the list of events is none")?;
    let mut events = list.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    events.sort_by_key(|event| (event.block, event.index));
    for event in &events {
        if event.log.address != address || !(from..=to).contains(&event.block) {
            return Err("an event that was not asked for".to_owned());
        }
    }
    if events
        .windows(2)
        .any(|pair| (pair[0].block, pair[0].index) == (pair[1].block, pair[1].index))
    {
        return Err("an event that comes twice".to_owned());
    }
    Ok(events)
}

fn event(value: &Value) -> Result<Event, String> {
    let topics = value["topics"]
        .as_array()
        .filter(|topics| topics.len() <= MAX_TOPICS)
        .ok_or("an event's topics are missing")?
        .iter()
        .map(|topic| parse(topic, "a topic"))
        .collect::<Result<Vec<B256>, _>>()?;
    Ok(Event {
        block: quantity(&value["blockNumber"])?,
        block_hash: parse(&value["blockHash"], "a block's hash")?,
        tx: parse(&value["transactionHash"], "a transaction's hash")?,
        index: quantity(&value["logIndex"])?,
        log: Log {
            address: parse(&value["address"], "an event's address")?,
            data: LogData::new_unchecked(topics, bytes(&value["data"])?),
        },
    })
}

/// What a refused `eth_call` says of the contract; `None` where the refusal is the endpoint's own.
///
/// Endpoints agree on little here: code 3 (geth and what follows it), or words; the data as text or in an object.
pub(crate) fn reverted(refused: &Refused) -> Option<Bytes> {
    let data = refused.data.as_ref().and_then(|data| {
        let text = data.as_str().or_else(|| data["data"].as_str())?;
        let hex = text.find("0x").map(|at| &text[at..])?;
        hex.parse().ok()
    });
    let message = refused.message.to_ascii_lowercase();
    match data {
        Some(data) => Some(data),
        None if refused.code == 3 || message.contains("revert") => Some(Bytes::new()),
        None => None,
    }
}

/// The text of `require(condition, "text")`.
pub(crate) fn revert_text(data: &[u8]) -> Option<String> {
    Revert::abi_decode(data)
        .ok()
        .map(|revert| super::endpoint::words(&revert.reason))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_answer_is_none() {
        for value in [
            json!(null),
            json!(5),
            json!("5"),
            json!("0xzz"),
            json!("0x1ffffffffffffffff"),
            json!([]),
            json!({}),
        ] {
            assert!(quantity(&value).is_err(), "{value}");
        }
        assert!(wide(&json!(format!("0x1{:064x}", 0))).is_err());
        for value in [
            json!({}),
            json!([]),
            json!("0x"),
            json!({ "number": "0x1" }),
        ] {
            assert!(
                block(&value).is_err() && receipt(&value).is_err(),
                "{value}"
            );
        }
        assert_eq!(block(&json!(null)), Ok(None));
        assert_eq!(receipt(&json!(null)), Ok(None));
    }

    #[test]
    fn events_that_were_not_asked_for_make_the_answer_none() {
        let at = Address::repeat_byte(1);
        let event = |address: Address, block: u64, index: u64| {
            json!({
                "address": address, "topics": [B256::repeat_byte(2)], "data": "0x",
                "blockNumber": format!("{block:#x}"), "blockHash": B256::repeat_byte(3),
                "transactionHash": B256::repeat_byte(4), "logIndex": format!("{index:#x}"),
            })
        };
        let read = |list: Value| events(&list, at, 5, 9);
        // In whatever order they come.
        let two = read(json!([event(at, 7, 1), event(at, 6, 0)])).unwrap();
        assert_eq!((two[0].block, two[1].block), (6, 7));
        assert!(read(json!([event(at, 10, 0)])).is_err());
        assert!(read(json!([event(Address::repeat_byte(9), 6, 0)])).is_err());
        assert!(read(json!([event(at, 6, 0), event(at, 6, 0)])).is_err());
        assert!(read(json!({})).is_err());
        let mut many = event(at, 6, 0);
        many["topics"] = json!(vec![B256::ZERO; 5]);
        assert!(read(json!([many])).is_err());
    }

    #[test]
    fn a_revert_is_told_from_an_endpoints_own_refusal() {
        let refused = |code, message: &str, data| Refused {
            code,
            message: message.to_owned(),
            data,
        };
        let data = Some(Bytes::from(vec![1, 2]));
        // As geth, OpenEthereum and Ganache have said it.
        assert_eq!(
            reverted(&refused(3, "execution reverted", Some(json!("0x0102")))),
            data
        );
        assert_eq!(
            reverted(&refused(-32015, "VM error", Some(json!("Reverted 0x0102")))),
            data
        );
        assert_eq!(
            reverted(&refused(-32000, "", Some(json!({ "data": "0x0102" })))),
            data
        );
        let none = Some(Bytes::new());
        assert_eq!(reverted(&refused(-32000, "execution reverted", None)), none);
        assert_eq!(reverted(&refused(-32000, "header not found", None)), None);
    }
}

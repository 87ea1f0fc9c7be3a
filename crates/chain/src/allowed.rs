//! A call tried as if the account had allowed the vault to take its tokens: so a first deposit is shown before its permit is signed.
//!
//! `eth_call` can put code at an address for one call (geth's state overrides, which other clients took over). The account itself is given
//! a few instructions that allow the vault the deposit, and then call the vault in its name. Nothing is signed, and nothing is sent.

use alloy::{
    primitives::{Address, Bytes, U256, address},
    sol_types::SolCall,
};
use serde_json::{Value, json};

use crate::{abi::DgcDev, network::Network, typed::Start};

/// Whoever asks: an address without a key.
const ASKER: Address = address!("000000000000000000000000000000000000dEaD");
/// Bytes of a call to `approve`: its selector and two words.
const APPROVE: u8 = 4 + 2 * 32;

/// The call: what the account allows, and what it then says to the vault.
pub(crate) fn request(network: &Network, start: &Start, input: &Bytes) -> Value {
    let approve = DgcDev::approveCall {
        spender: network.vault,
        value: U256::from(start.deposit),
    };
    let mut data = approve.abi_encode();
    data.extend_from_slice(input);
    json!({ "from": ASKER, "to": start.payer, "data": Bytes::from(data) })
}

/// What is presumed beside the chain's state.
pub(crate) fn circumstances(network: &Network, payer: Address) -> Value {
    let mut presumed = serde_json::Map::new();
    presumed.insert(
        payer.to_string(),
        json!({ "code": code(network.token.address, network.vault) }),
    );
    Value::Object(presumed)
}

/// Calls the token with the first [`APPROVE`] bytes of what it is called with, then the vault with the rest, and answers as the vault does.
fn code(token: Address, vault: Address) -> Bytes {
    let mut code = Vec::with_capacity(100);
    // calldatacopy(0, 0, APPROVE); call(gas, token, 0, 0, APPROVE, 0, 0); pop
    code.extend([0x60, APPROVE, 0x60, 0, 0x60, 0, 0x37]);
    code.extend([0x60, 0, 0x60, 0, 0x60, APPROVE, 0x60, 0, 0x60, 0, 0x73]);
    code.extend(token);
    code.extend([0x5a, 0xf1, 0x50]);
    // calldatacopy(0, APPROVE, calldatasize - APPROVE); call(gas, vault, 0, 0, calldatasize - APPROVE, 0, 0)
    let rest = [0x60, APPROVE, 0x36, 0x03];
    code.extend(rest);
    code.extend([0x60, APPROVE, 0x60, 0, 0x37]);
    code.extend([0x60, 0, 0x60, 0]);
    code.extend(rest);
    code.extend([0x60, 0, 0x60, 0, 0x73]);
    code.extend(vault);
    code.extend([0x5a, 0xf1]);
    // returndatacopy(0, 0, returndatasize); jumpi to the return where it succeeded, else revert
    code.extend([0x3d, 0x60, 0, 0x60, 0, 0x3e]);
    let jump = code.len();
    code.extend([0x60, 0, 0x57, 0x3d, 0x60, 0, 0xfd]);
    // All of it is shorter than a byte can say.
    code[jump + 1] = code.len() as u8;
    code.extend([0x5b, 0x3d, 0x60, 0, 0xf3]);
    code.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jump_lands_where_the_answer_is_returned() {
        let code = code(Address::repeat_byte(1), Address::repeat_byte(2));
        let jump = code.iter().rposition(|byte| *byte == 0x57).unwrap();
        assert_eq!(code[usize::from(code[jump - 1])], 0x5b, "a jumpdest");
        assert!(code.len() < 256);
    }
}

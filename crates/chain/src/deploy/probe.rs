//! Which opcodes a chain has: asked of the chain itself, by running them.

use serde_json::json;

use crate::{
    error::ChainError,
    network::Evm,
    rpc::{Endpoints, wire::Called},
};

/// PUSH0 and a return of nothing.
const SHANGHAI: &str = "0x5f5ff3";
/// TSTORE, TLOAD and MCOPY, then the same.
const CANCUN: &str = "0x5f5f5d5f5c505f5f5f5e5f5ff3";

/// The newest opcodes that the chain has, as far as they matter here.
pub(super) async fn evm(endpoints: &Endpoints, block: u64) -> Result<Evm, ChainError> {
    for (evm, code) in [(Evm::Cancun, CANCUN), (Evm::Shanghai, SHANGHAI)] {
        // A call without a target runs its data as code.
        let request = json!({ "data": code });
        match endpoints.call("opcodes", &request, block).await {
            Ok(Called::Returned(_)) => return Ok(evm),
            // Nodes say it in different ways: as a revert, or as an error of their own.
            Ok(Called::Reverted(_)) | Err(ChainError::Offline { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Evm::Paris)
}

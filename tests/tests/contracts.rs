//! What the contracts cannot do, read off the interface and the code that are committed and deployed.
//!
//! The sources are tested by forge (`cargo xtask contracts`); this holds for what the app really reads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

/// Every function of the vault that changes anything, and who it obeys. A new one has to be argued for here.
const VAULT_MOVES: &[&str] = &[
    // The payer, over its own balance and signers.
    "deposit",
    "start",
    "startFor",
    "setSigner",
    "endSigner",
    "withdraw",
    // The payee, over its own lines; its payout, over where they go.
    "registerPayee",
    "movePayout",
    "join",
    "unjoin",
    "release",
    // Anyone, with signatures of those whom it concerns, or once a time is over.
    "reserve",
    "claim",
    "thaw",
    "proveOverdraft",
    "settleOverdraft",
    // The vote: a fee of a tenth at most on later claims.
    "setFee",
];

const STAKE_MOVES: &[&str] = &[
    "stake",
    "setOperator",
    "retireOperator",
    "thaw",
    "unstake",
    "slash",
    "takeReward",
];

const MEMORY_MOVES: &[&str] = &["point"];

/// Codes by which a contract runs foreign code as its own, or ends itself: the ways to swap what was deployed.
const SWAPPING: &[(u8, &str)] = &[
    (0xf2, "CALLCODE"),
    (0xf4, "DELEGATECALL"),
    (0xff, "SELFDESTRUCT"),
];

#[test]
fn money_and_memories_obey_their_owners_alone() {
    for (contract, moves) in [
        ("PayVault", VAULT_MOVES),
        ("ProviderStake", STAKE_MOVES),
        ("MemoryRegistry", MEMORY_MOVES),
    ] {
        let allowed: BTreeSet<&str> = moves.iter().copied().collect();
        let artifact = artifact(contract);
        let there = changing(&artifact);
        assert_eq!(
            there.iter().map(String::as_str).collect::<BTreeSet<_>>(),
            allowed,
            "{contract} can do something that nobody argued for"
        );
    }
}

#[test]
fn nothing_that_was_deployed_can_be_swapped() {
    for contract in [
        "PayVault",
        "ProviderStake",
        "NetworkParams",
        "ModelRegistry",
        "MemoryRegistry",
    ] {
        let code = code(&artifact(contract));
        let found: Vec<&str> = instructions(&code)
            .filter_map(|op| SWAPPING.iter().find(|(bad, _)| *bad == op))
            .map(|(_, name)| *name)
            .collect();
        assert!(found.is_empty(), "{contract} contains {found:?}");
        assert!(code.len() > 100, "{contract} has no code");
    }
}

#[test]
fn the_search_for_swapping_finds_it() {
    // PUSH1 0xf4 hides a byte that is no instruction; the DELEGATECALL after it is one.
    let code = [0x60, 0xf4, 0xf4];
    let found = instructions(&code).filter(|op| *op == 0xf4).count();
    assert_eq!(found, 1);
}

#[test]
fn money_runs_on_chains_without_the_newest_instructions() {
    for contract in ["PayVault", "ProviderStake"] {
        let code = code(&artifact(contract));
        // PUSH0, TLOAD, TSTORE, MCOPY: from shanghai and cancun on.
        let new: Vec<u8> = instructions(&code)
            .filter(|op| [0x5f, 0x5c, 0x5d, 0x5e].contains(op))
            .collect();
        assert!(new.is_empty(), "{contract} needs {new:x?}");
    }
}

fn artifact(contract: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../contracts/abi")
        .join(format!("{contract}.json"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{contract}: {error}"))
}

fn changing(artifact: &Value) -> BTreeSet<String> {
    let entries = artifact["abi"].as_array().expect("an ABI is a list");
    entries
        .iter()
        .filter(|entry| match entry["type"].as_str() {
            Some("function") => !matches!(entry["stateMutability"].as_str(), Some("view" | "pure")),
            // Either one would take calls that no name is known of.
            Some("fallback" | "receive") => true,
            _ => false,
        })
        .map(|entry| entry["name"].as_str().unwrap_or("(any call)").to_owned())
        .collect()
}

fn code(artifact: &Value) -> Vec<u8> {
    let text = artifact["bytecode"].as_str().expect("a contract has code");
    let text = text.trim_start_matches("0x");
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("code is hexadecimal"))
        .collect()
}

/// The instructions of EVM code in their order, without what they push.
fn instructions(code: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let op = *code.get(at)?;
        at += 1;
        // PUSH1 to PUSH32.
        if (0x60..=0x7f).contains(&op) {
            at += usize::from(op - 0x5f);
        }
        Some(op)
    })
}

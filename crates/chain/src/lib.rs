//! The chain: what the vault, the stake and the votes say, and the transactions that change it.
//!
//! What it is: a handle over several endpoints of one EVM network, whose answers are compared.
//!
//! What it owns: nonces and pending transactions, on disk before they are sent.
//!
//! What it never does: it keeps no key beyond a call, and decides nothing that costs money.

//! Bindings: refused or understood, never a panic, and nothing that only one of the two keys signed.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use protocol::{
    Clock, NetworkId, Signer,
    binding::{Binding, DOMAIN, OperatorSigner, SignedBinding},
};

const NOW: Clock = Clock { mono_ms: 1_000, unix_ms: 1_790_000_000_000 };

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    sig_node: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    sig_operator: Bytes,
}

fuzz_target!(|data: &[u8]| {
    let node = Signer::from_seed([7; 32]);
    let read = |bytes: &Bytes| SignedBinding::verify_then_decode(bytes, &node.peer_id(), &NetworkId::MAIN, NOW);
    assert!(read(&Bytes::copy_from_slice(data)).is_err(), "the fuzzer cannot find a signature");

    // The peer signs whatever comes; the account did not.
    let (operator, payload) = match data.split_at_checked(65) {
        Some((operator, payload)) => (operator, payload),
        None => (data, data),
    };
    let wire = Wire {
        payload: Bytes::copy_from_slice(payload),
        sig_node: Bytes::copy_from_slice(&node.sign(DOMAIN, payload)),
        sig_operator: Bytes::copy_from_slice(operator),
    };
    assert!(read(&Bytes::from(wire.encode_to_vec())).is_err(), "the account did not sign");

    // What both sign comes back as it was, or is refused for what it says.
    let mut numbers = data.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
    let mut number = || numbers.next().unwrap_or(1);
    let binding = Binding {
        network: NetworkId::MAIN,
        peer: node.peer_id(),
        operator: [0; 20],
        chain_id: number(),
        not_before_unix_ms: NOW.unix_ms.wrapping_add(number() % 1_000_000_000).wrapping_sub(500_000_000),
        not_after_unix_ms: NOW.unix_ms.wrapping_add(number() % 10_000_000_000),
        serial: number(),
    };
    let Some(account) = OperatorSigner::from_secret(&[9; 32]) else { return };
    if let Some(signed) = binding.sign(&node, &account)
        && let Ok(back) = read(signed.as_bytes())
    {
        assert_eq!(back, signed);
    }
});

//! Bindings: known answers from another implementation, and how each wrong one is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use protocol::{
    Clock, MAX_CLOCK_SKEW_MS, NetworkId, PeerId, SignatureError, Signer,
    binding::{
        Binding, BindingError, DOMAIN, MAX_BINDING, MAX_LIFETIME_MS, OperatorSigner, SignedBinding,
    },
};

const NOW: Clock = Clock {
    mono_ms: 5_000,
    unix_ms: 1_790_000_000_000,
};

/// Answers that `tests/vectors/binding.py` gave with the Python packages eth-account and cryptography.
const VECTORS: &str = include_str!("vectors/binding.txt");

/// The message that travels, so that a test can take it apart.
#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    sig_node: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    sig_operator: Bytes,
}

fn node() -> Signer {
    Signer::from_seed([1; 32])
}

fn operator() -> OperatorSigner {
    OperatorSigner::from_secret(&[2; 32]).unwrap()
}

fn binding() -> Binding {
    Binding {
        network: NetworkId::MAIN,
        peer: node().peer_id(),
        chain_id: 8453,
        operator: operator().account(),
        not_before_unix_ms: NOW.unix_ms - 1_000,
        not_after_unix_ms: NOW.unix_ms + 86_400_000,
        serial: 7,
    }
}

fn read(bytes: &Bytes) -> Result<Binding, BindingError> {
    SignedBinding::verify_then_decode(bytes, &node().peer_id(), &NetworkId::MAIN, NOW)
        .map(|signed| signed.binding)
}

fn signed(binding: &Binding) -> Bytes {
    let signed = binding.clone().sign(&node(), &operator()).unwrap();
    signed.as_bytes().clone()
}

fn vector(name: &str) -> Vec<u8> {
    let line = VECTORS
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .expect("a vector of this name");
    hex::decode(line.trim()).unwrap()
}

#[test]
fn what_is_signed_is_what_another_implementation_signs() {
    let binding = binding();
    assert_eq!(binding.operator.as_slice(), vector("operator"));
    assert_eq!(binding.operator_digest().as_slice(), vector("digest"));
    let wire = Wire::decode(signed(&binding)).unwrap();
    assert_eq!(wire.payload, vector("payload"));
    assert_eq!(wire.sig_node, vector("sig_node"));
    assert_eq!(wire.sig_operator, vector("sig_operator"));
    assert_eq!(read(&Bytes::from(vector("message"))), Ok(binding));
}

#[test]
fn it_comes_back_and_fits() {
    let long = Binding {
        network: NetworkId::new("x".repeat(64)).unwrap(),
        chain_id: u64::MAX,
        serial: u64::MAX,
        ..binding()
    };
    let bytes = signed(&long);
    assert!(bytes.len() <= MAX_BINDING, "{} bytes", bytes.len());
    let back =
        SignedBinding::verify_then_decode(&bytes, &node().peer_id(), &long.network, NOW).unwrap();
    assert_eq!(back.binding, long);
    assert_eq!(*back.as_bytes(), bytes);
}

#[test]
fn each_wrong_binding_has_its_own_refusal() {
    let with = |change: fn(&mut Binding)| {
        let mut binding = binding();
        change(&mut binding);
        read(&signed(&binding)).unwrap_err()
    };
    assert_eq!(
        with(|binding| binding.network = NetworkId::new("lab/1").unwrap()),
        BindingError::OtherNetwork
    );
    assert_eq!(
        with(|binding| binding.chain_id = 0),
        BindingError::Malformed("chain_id")
    );
    assert_eq!(
        with(|binding| binding.not_after_unix_ms = NOW.unix_ms),
        BindingError::Expired { ago_ms: 0 }
    );
    assert_eq!(
        with(|binding| binding.not_after_unix_ms = binding.not_before_unix_ms + MAX_LIFETIME_MS + 1),
        BindingError::LivesTooLong {
            lifetime_ms: MAX_LIFETIME_MS + 1
        }
    );
    assert_eq!(
        with(|binding| binding.not_after_unix_ms = 1),
        BindingError::Malformed("not_after")
    );
    assert_eq!(
        with(|binding| binding.not_before_unix_ms = NOW.unix_ms + MAX_CLOCK_SKEW_MS + 1),
        BindingError::NotYet {
            ahead_ms: MAX_CLOCK_SKEW_MS + 1
        }
    );
    assert_eq!(
        read(&Bytes::from(vec![0; MAX_BINDING + 1])),
        Err(BindingError::TooLarge {
            len: MAX_BINDING + 1
        })
    );
    assert_eq!(
        read(&Bytes::from_static(&[0xff])),
        Err(BindingError::Undecodable)
    );
}

#[test]
fn each_changed_byte_of_what_is_signed_is_found() {
    let good = Wire::decode(signed(&binding())).unwrap();
    let wire = |change: &dyn Fn(&mut Wire)| {
        let mut wire = good.clone();
        change(&mut wire);
        read(&Bytes::from(wire.encode_to_vec())).unwrap_err()
    };
    let changed = |bytes: &Bytes, at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    assert_eq!(
        wire(&|wire| wire.sig_node = Bytes::new()),
        BindingError::Node(SignatureError::Length { got: 0 })
    );
    for at in 0..good.payload.len() {
        assert_eq!(
            wire(&|wire| wire.payload = changed(&good.payload, at)),
            BindingError::Node(SignatureError::Mismatch)
        );
    }
    for at in [0, 31, 63] {
        assert_eq!(
            wire(&|wire| wire.sig_operator = changed(&good.sig_operator, at)),
            BindingError::Operator
        );
    }
    for len in [0, 64, 66] {
        assert_eq!(
            wire(&|wire| wire.sig_operator = Bytes::from(vec![1; len])),
            BindingError::OperatorForm
        );
    }
    for v in [0, 1, 29, 255] {
        assert_eq!(
            wire(&|wire| {
                let mut sig = good.sig_operator.to_vec();
                sig[64] = v;
                wire.sig_operator = Bytes::from(sig);
            }),
            BindingError::OperatorForm
        );
    }
}

#[test]
fn neither_key_alone_makes_a_binding() {
    let other_node = Signer::from_seed([66; 32]);
    let other_operator = OperatorSigner::from_secret(&[67; 32]).unwrap();
    let good = Wire::decode(signed(&binding())).unwrap();
    // A peer that claims another's account has only its own account's signature to show.
    let by_other = binding().sign(&node(), &other_operator).unwrap();
    let by_other = Wire::decode(by_other.as_bytes().clone()).unwrap();
    let claims_account = Wire {
        sig_operator: by_other.sig_operator,
        ..good.clone()
    };
    assert_eq!(
        read(&Bytes::from(claims_account.encode_to_vec())),
        Err(BindingError::Operator)
    );
    // An account that claims another's peer has only its own peer's signature to show.
    let claims_peer = Wire {
        sig_node: Bytes::copy_from_slice(&other_node.sign(DOMAIN, &good.payload)),
        ..good
    };
    let bytes = Bytes::from(claims_peer.encode_to_vec());
    assert_eq!(
        read(&bytes),
        Err(BindingError::Node(SignatureError::Mismatch))
    );
    assert_eq!(
        SignedBinding::verify_then_decode(&bytes, &other_node.peer_id(), &NetworkId::MAIN, NOW),
        Err(BindingError::OtherPeer)
    );
}

/// Every signature of secp256k1 has a twin with another `s`, and only one of the two is taken.
#[test]
fn the_other_form_of_a_signature_is_refused() {
    let mut wire = Wire::decode(signed(&binding())).unwrap();
    wire.sig_operator = Bytes::from(vector("sig_operator_high_s"));
    assert_eq!(
        read(&Bytes::from(wire.encode_to_vec())),
        Err(BindingError::OperatorForm)
    );
}

#[test]
fn what_is_no_secret_makes_no_account() {
    assert!(OperatorSigner::from_secret(&[0; 32]).is_none());
    assert!(OperatorSigner::from_secret(&[0xff; 32]).is_none());
    assert!(format!("{:?}", operator()).contains(&hex::encode(operator().account())));
}

proptest! {
    #[test]
    fn no_bytes_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&Bytes::from(data.clone()));
        // Bytes that the peer signed reach further.
        let wire = Wire {
            sig_node: Bytes::copy_from_slice(&node().sign(DOMAIN, &data)),
            payload: Bytes::from(data.clone()),
            sig_operator: Bytes::from(data),
        };
        let peer: PeerId = node().peer_id();
        let _ = SignedBinding::verify_then_decode(&Bytes::from(wire.encode_to_vec()), &peer, &NetworkId::MAIN, NOW);
    }
}
